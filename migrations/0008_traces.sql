-- The built-in trace store: a row a second and server with its requests packed, a row with the stage times of each journal
-- row; spans are built when they are read. It may be emptied at any time: nothing stands on it.

CREATE TABLE trace_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begun_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    instance text NOT NULL,
    requests integer NOT NULL,
    slowest_micros bigint NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX trace_requests_begun ON trace_requests (begun_at);
COMMENT ON TABLE trace_requests IS 'What servers noted of their requests, packed; begun_at is when the first began.';

-- A trace id of ours begins with its time; where one from elsewhere was used stands here.
CREATE TABLE trace_foreign (
    trace_id uuid NOT NULL,
    begun_at timestamptz NOT NULL
);
CREATE INDEX trace_foreign_id ON trace_foreign (trace_id);
CREATE INDEX trace_foreign_begun ON trace_foreign USING brin (begun_at);

CREATE TABLE trace_batches (
    sequence bigint NOT NULL,
    incarnation bigint NOT NULL,
    noted_at timestamptz NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (sequence, incarnation)
);
CREATE INDEX trace_batches_noted ON trace_batches USING brin (noted_at);
COMMENT ON TABLE trace_batches IS 'When a journal row''s commands were received, decided and committed, packed.';

CREATE TABLE trace_projections (
    part text NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    begun_at timestamptz NOT NULL,
    micros bigint NOT NULL
);
CREATE INDEX trace_projections_last ON trace_projections (last_sequence);
CREATE INDEX trace_projections_begun ON trace_projections USING brin (begun_at);
COMMENT ON TABLE trace_projections IS 'Which journal rows were written to a part of the projections together, and when.';

-- Spans that others have sent, a browser's for one.
CREATE TABLE trace_spans (
    trace_id uuid NOT NULL,
    span_id bigint NOT NULL,
    parent_id bigint NOT NULL,
    service text NOT NULL,
    name text NOT NULL,
    kind smallint NOT NULL,
    begun_at timestamptz NOT NULL,
    micros bigint NOT NULL,
    failed boolean NOT NULL,
    attributes jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX trace_spans_received ON trace_spans USING brin (received_at);
CREATE INDEX trace_spans_service ON trace_spans (service, begun_at);
COMMENT ON TABLE trace_spans IS 'Spans of other services, as OTLP brought them.';
