-- What was far from usual, what is usual, and what each process saw of itself every minute. It may be emptied at any time:
-- nothing stands on it, and what is usual is learned anew.

CREATE TABLE anomalies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    instance text NOT NULL,
    operation text NOT NULL,
    stage text NOT NULL,
    severity smallint NOT NULL CHECK (severity BETWEEN 1 AND 5),
    begun_at timestamptz NOT NULL,
    judged_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_because text CHECK ((ended_because IS NULL) = (ended_at IS NULL)),
    minutes integer NOT NULL,
    requests bigint NOT NULL,
    observed_micros bigint NOT NULL,
    worst_micros bigint NOT NULL,
    usual_p50_micros bigint NOT NULL,
    usual_p99_micros bigint NOT NULL,
    usual_mean_micros bigint NOT NULL,
    usual_sigma_micros bigint NOT NULL,
    usual_minutes integer NOT NULL,
    trace_id uuid NOT NULL
);
CREATE UNIQUE INDEX anomalies_open ON anomalies (source, operation, stage) WHERE ended_at IS NULL;
CREATE INDEX anomalies_begun ON anomalies (begun_at);
COMMENT ON TABLE anomalies IS 'Stages of operations that took far longer than usual, from the first such minute to the last.';

CREATE TABLE anomaly_baselines (
    source text NOT NULL,
    operation text NOT NULL,
    stage text NOT NULL,
    updated_at timestamptz NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (source, operation, stage)
);
COMMENT ON TABLE anomaly_baselines IS 'How long each stage of each operation usually takes at a server, packed; the stage total is the whole.';

CREATE TABLE anomaly_context (
    minute timestamptz NOT NULL,
    instance text NOT NULL,
    service text NOT NULL,
    build text NOT NULL,
    started_at timestamptz NOT NULL,
    epoch bigint NOT NULL,
    signals jsonb NOT NULL,
    PRIMARY KEY (minute, instance)
);
COMMENT ON TABLE anomaly_context IS 'What a process saw of itself in a minute: queue, database, feeds, and what was built.';
