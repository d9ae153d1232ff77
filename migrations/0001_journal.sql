-- The journal, the epoch that guards it, snapshots, and the commands that wait for an answer.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TABLE journal (
    sequence bigint PRIMARY KEY CHECK (sequence >= 1),
    time bigint NOT NULL CHECK (time >= 0),
    incarnation bigint NOT NULL,
    epoch bigint NOT NULL CHECK (epoch >= 1),
    format smallint NOT NULL CHECK (format >= 1),
    rules smallint NOT NULL CHECK (rules >= 1),
    commands int NOT NULL CHECK (commands >= 0),
    payload bytea NOT NULL,
    previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
-- The payload is compressed already; compressing it again would only cost time.
ALTER TABLE journal ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON TABLE journal IS 'One row per committed batch, append-only, each hash covering the one before.';
COMMENT ON COLUMN journal.time IS 'Journal time, microseconds since 1970-01-01 00:00:00 UTC.';
COMMENT ON COLUMN journal.incarnation IS 'The 64 bits of the journal''s random number, as a signed integer.';

CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE ON journal
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_no_truncate BEFORE TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    owner text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE epoch IS 'One row: who may append to the journal. Raising the epoch deposes the one before.';
INSERT INTO epoch (epoch, owner) VALUES (0, 'nobody');

CREATE TABLE snapshots (
    id uuid PRIMARY KEY,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    time bigint NOT NULL CHECK (time >= 0),
    incarnation bigint NOT NULL,
    journal_hash bytea NOT NULL CHECK (octet_length(journal_hash) = 32),
    state_hash bytea NOT NULL CHECK (octet_length(state_hash) = 32),
    format smallint NOT NULL CHECK (format >= 1),
    chunks int NOT NULL CHECK (chunks >= 0),
    bytes bigint NOT NULL CHECK (bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX snapshots_newest ON snapshots (sequence DESC);
COMMENT ON TABLE snapshots IS 'A row makes the chunks of its id visible; it is written after them.';

CREATE TABLE snapshot_chunks (
    snapshot uuid NOT NULL,
    chunk int NOT NULL CHECK (chunk >= 0),
    data bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (snapshot, chunk)
);
ALTER TABLE snapshot_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE pending_commands (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    account_id bigint,
    market_id int,
    side text,
    order_type text,
    time_in_force text,
    good_till timestamptz,
    post_only boolean,
    price_ticks numeric(20),
    quantity_lots numeric(20),
    quote_amount numeric(39),
    trigger_ticks numeric(20),
    display_lots numeric(20),
    self_trade_prevention text,
    client_order_id text,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX pending_commands_account ON pending_commands (account_id, created_at DESC);
COMMENT ON TABLE pending_commands IS 'Commands that were answered 202: sent, and not known to be decided.';
