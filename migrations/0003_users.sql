-- Users, credentials, sessions and the audit log: ordinary rows, no part of the journal. Personal data is here alone.

-- Customer accounts begin above the exchange's own.
CREATE SEQUENCE account_ids AS bigint START WITH 1000 MINVALUE 1000;

CREATE TABLE users (
    id uuid PRIMARY KEY,
    account_id bigint NOT NULL UNIQUE DEFAULT nextval('account_ids'),
    -- Folded: lower case, ASCII. The one spelling is what makes it unique.
    email text NOT NULL CONSTRAINT users_email_unique UNIQUE
        CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    -- Argon2id, PHC string format.
    password_hash text NOT NULL,
    -- Goes into the hashes that the journal has of this user's references, so that erasing it breaks the link.
    reference_salt bytea NOT NULL CHECK (length(reference_salt) = 16),
    verified_at timestamptz,
    locked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX users_created_at ON users (created_at);

CREATE TABLE verification_codes (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    code_hash bytea NOT NULL CHECK (length(code_hash) = 32),
    expires_at timestamptz NOT NULL,
    attempts_left smallint NOT NULL CHECK (attempts_left >= 0),
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_reason text CHECK ((revoked_reason IS NULL) = (revoked_at IS NULL)),
    user_agent text NOT NULL DEFAULT '',
    address inet
);
CREATE INDEX sessions_user ON sessions (user_id, created_at DESC);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- One row for each refresh token of a session; a used one stays, so that a second use is found out.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- Where withdrawals go. The journal has the salted hash alone.
CREATE TABLE withdrawal_destinations (
    withdrawal_id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    destination text NOT NULL CHECK (length(destination) BETWEEN 1 AND 128),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What was done, by whom, from where. Rows are added and never changed.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    action text NOT NULL,
    user_id uuid,
    address inet,
    trace_id uuid,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_level ON audit_log (level, created_at DESC);
CREATE INDEX audit_log_user ON audit_log (user_id, created_at DESC);

CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
