-- API keys, what may leave an account, roles, and the audit log's hash chain: ordinary rows, no part of the journal.

ALTER TABLE users
    ADD COLUMN role text NOT NULL DEFAULT 'user'
        CONSTRAINT users_role CHECK (role IN ('user', 'support', 'operator', 'admin')),
    -- Whether money may leave to listed destinations alone.
    ADD COLUMN withdrawal_allow_list boolean NOT NULL DEFAULT false;
CREATE INDEX users_staff ON users (role) WHERE role <> 'user';

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    label text NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    -- Bits: 1 read, 2 trade, 4 withdraw.
    scopes smallint NOT NULL CHECK (scopes BETWEEN 1 AND 7),
    -- Networks such as 192.0.2.0/24 that it may be used from; empty: from anywhere.
    networks text[] NOT NULL DEFAULT '{}' CHECK (cardinality(networks) <= 32),
    -- Encrypted: signatures are checked with it, so a hash would not do.
    secret_sealed bytea NOT NULL CHECK (length(secret_sealed) BETWEEN 40 AND 256),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    last_used_at timestamptz,
    last_address inet,
    revoked_at timestamptz,
    revoked_reason text CHECK ((revoked_reason IS NULL) = (revoked_at IS NULL))
);
CREATE INDEX api_keys_user ON api_keys (user_id, created_at DESC);

-- Where money may go, for who wants it to go nowhere else.
CREATE TABLE withdrawal_addresses (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    label text NOT NULL CHECK (length(label) BETWEEN 1 AND 64),
    destination text NOT NULL CHECK (length(destination) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The end of the cooling-off time.
    usable_at timestamptz NOT NULL,
    removed_at timestamptz
);
CREATE UNIQUE INDEX withdrawal_addresses_unique ON withdrawal_addresses (user_id, destination)
    WHERE removed_at IS NULL;

-- What was let out towards the journal: written under a lock of the user's row before the command is sent, so that two
-- servers cannot let the same allowance out twice. The id is the command's.
CREATE TABLE outgoing_admissions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('withdrawal', 'transfer')),
    asset_id int NOT NULL,
    amount numeric(39) NOT NULL CHECK (amount > 0),
    destination text NOT NULL CHECK (length(destination) BETWEEN 1 AND 128),
    admitted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outgoing_admissions_user ON outgoing_admissions (user_id, asset_id, admitted_at);

-- Each row covers the one before and one row of the audit log. Positions are gapless; the log's ids need not be.
CREATE TABLE audit_chain (
    position bigint PRIMARY KEY CHECK (position >= 1),
    audit_id bigint NOT NULL UNIQUE REFERENCES audit_log,
    previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    chained_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_chain_no_truncate BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
