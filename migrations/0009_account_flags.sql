-- What the core has to be told of users, and what the journal does not say of withdrawals.

-- Since when (or from when on) the core has to be told whether a user is locked out or closed: written together with the
-- change, taken away once the account's flags say so.
ALTER TABLE users ADD COLUMN flags_due_at timestamptz;
CREATE INDEX users_flags_due ON users (flags_due_at) WHERE flags_due_at IS NOT NULL;
-- Locks from the command line were not told before.
UPDATE users SET flags_due_at = clock_timestamp() WHERE locked_at IS NOT NULL;

-- When an operator has rejected it. To the journal it is one that was taken back.
ALTER TABLE withdrawal_destinations ADD COLUMN rejected_at timestamptz;
