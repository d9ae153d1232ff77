-- Commands that were in a batch whose application failed by a defect. Each is decided alone the next time; one that fails
-- again is refused unread.

CREATE TABLE suspects (
    command uuid PRIMARY KEY,
    failures int NOT NULL DEFAULT 1 CHECK (failures >= 1),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
