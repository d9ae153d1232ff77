-- Accounts: what a user may change of itself, the second factor, and the mail that is to be sent.

ALTER TABLE users
    ADD COLUMN display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 50),
    -- Withdrawals are refused until then: whoever has just changed the ways in may not be the owner.
    ADD COLUMN withdrawals_frozen_until timestamptz,
    ADD COLUMN password_changed_at timestamptz,
    -- What names a person is erased by then; the row stays, because the records of money name it.
    ADD COLUMN closed_at timestamptz;

-- One of these sets a new password, once. It has 256 random bits, so that guessing it needs no counting. A new one leaves the
-- older ones as they are: whoever asks again and again for another's must not make the owner's useless.
CREATE TABLE password_resets (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX password_resets_user ON password_resets (user_id, sent_at);

-- A new e-mail address that waits for its code.
CREATE TABLE email_changes (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    email text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    code_hash bytea NOT NULL CHECK (length(code_hash) = 32),
    expires_at timestamptz NOT NULL,
    attempts_left smallint NOT NULL CHECK (attempts_left >= 0)
);

-- Secrets are sealed by the server: this table alone makes no codes.
CREATE TABLE two_factor (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    -- The one that codes are checked with; none until an enrolment was confirmed.
    secret bytea,
    -- The step of the last code that was taken. A code counts only if its step is after it.
    last_step bigint NOT NULL DEFAULT 0,
    confirmed_at timestamptz,
    -- An enrolment that waits for its first code.
    pending bytea,
    pending_expires_at timestamptz,
    CHECK ((secret IS NULL) = (confirmed_at IS NULL)),
    CHECK ((pending IS NULL) = (pending_expires_at IS NULL))
);

-- A used one stays, so that it can be told how many are left of how many.
CREATE TABLE backup_codes (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    code_hash bytea NOT NULL CHECK (length(code_hash) = 32),
    used_at timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

-- Tries of the second factor, from devices that are known to be the owner's and from others. They are counted apart, so
-- that a guesser cannot shut the owner out.
CREATE TABLE second_factor_tries (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    known_device boolean NOT NULL,
    count smallint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, known_device)
);

-- Logins whose password was right and whose second step is awaited.
CREATE TABLE login_steps (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    attempts_left smallint NOT NULL CHECK (attempts_left >= 0)
);
CREATE INDEX login_steps_user ON login_steps (user_id);
CREATE INDEX login_steps_expires_at ON login_steps (expires_at);

-- Where a user has logged in from: logins from there are not held up by the failures of others.
CREATE INDEX sessions_user_address ON sessions (user_id, address);

-- Mail that is to be sent. A row is written with what causes it, and deleted when the mail was handed over or is of no
-- use any more. What it says is sealed by the server: a code is not readable here.
CREATE TABLE mail_outbox (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    recipient text NOT NULL,
    content bytea NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- After that it is of no use.
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Set aside: it cannot be sent, and is not tried again.
    failed_at timestamptz,
    failure text,
    CHECK ((failed_at IS NULL) = (failure IS NULL))
);
CREATE INDEX mail_outbox_next ON mail_outbox (next_attempt_at) WHERE failed_at IS NULL;
CREATE INDEX mail_outbox_recipient ON mail_outbox (recipient, kind);
