-- The projections in three parts, each with a progress and a writer of its own: 'orders' (the table of orders), 'money'
-- (accounts, balances, postings, deposits, transfers, withdrawals) and 'market_data' (assets, markets, trades, candles).
--
-- Readers go by projection_progress, now a view, which has each generation's slowest part. A writer of the release before
-- this one cannot write through it: it waits, and writes nothing.

ALTER TABLE projection_progress RENAME TO projection_parts;
ALTER TABLE projection_parts DROP CONSTRAINT projection_progress_pkey;
DROP INDEX projection_progress_active;
ALTER TABLE projection_parts ADD COLUMN part text NOT NULL DEFAULT 'orders'
    CHECK (part IN ('orders', 'money', 'market_data'));
ALTER TABLE projection_parts ALTER COLUMN part DROP DEFAULT;
INSERT INTO projection_parts (generation, active, sequence, time, hash, updated_at, part)
    SELECT p.generation, p.active, p.sequence, p.time, p.hash, p.updated_at, others.part
    FROM projection_parts p CROSS JOIN (VALUES ('money'), ('market_data')) others (part);
ALTER TABLE projection_parts ADD PRIMARY KEY (generation, part);
CREATE UNIQUE INDEX projection_parts_active ON projection_parts (part) WHERE active;
COMMENT ON TABLE projection_parts IS
    'Up to which journal row each part of each generation says what the journal says; moved in the writing transaction.';

CREATE VIEW projection_progress AS
    SELECT generation, bool_and(active) AS active, min(sequence) AS sequence, min(time) AS time,
        (array_agg(hash ORDER BY sequence))[1] AS hash, max(updated_at) AS updated_at
    FROM projection_parts GROUP BY generation;
COMMENT ON VIEW projection_progress IS 'Up to which journal row all parts of a generation say what the journal says.';

-- The view of orders still has the renamed table in it: made anew, it finds the view of that name.
DO $$ BEGIN
    PERFORM projection_views_point(generation) FROM projection_parts WHERE active AND part = 'orders';
END $$;

-- Which processes live.
CREATE TABLE processes (
    id text PRIMARY KEY,
    role text NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Who writes which part. A lease saves double work, no more: the progress is what keeps a part right.
CREATE TABLE projection_leases (
    part text PRIMARY KEY CHECK (part IN ('orders', 'money', 'market_data')),
    holder text,
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO projection_leases (part) VALUES ('orders'), ('money'), ('market_data');

-- Notes that a process lives, and returns the parts that it holds from now on: what it held, less what is above its share,
-- and what is free up to its share.
CREATE FUNCTION projection_leases_renew(process text, process_role text, lasts interval)
RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
    share bigint;
BEGIN
    -- One process after the other.
    PERFORM FROM projection_leases ORDER BY part FOR UPDATE;
    moment := clock_timestamp();
    INSERT INTO processes AS p (id, role, seen_at) VALUES (process, process_role, moment)
        ON CONFLICT (id) DO UPDATE SET role = excluded.role, seen_at = excluded.seen_at;
    DELETE FROM processes WHERE seen_at < moment - interval '1 day';
    share := (SELECT ceil((SELECT count(*) FROM projection_leases)::numeric / count(*)) FROM processes
        WHERE role = process_role AND seen_at > moment - lasts);
    UPDATE projection_leases SET holder = NULL, until = '-infinity'
        WHERE part IN (SELECT l.part FROM projection_leases l WHERE l.holder = process ORDER BY l.part OFFSET share);
    UPDATE projection_leases SET holder = process, until = moment + lasts
        WHERE part IN (SELECT l.part FROM projection_leases l
            WHERE l.holder = process OR l.holder IS NULL OR l.until < moment
            ORDER BY l.holder IS NOT DISTINCT FROM process DESC, l.part LIMIT share);
    RETURN QUERY SELECT l.part FROM projection_leases l WHERE l.holder = process ORDER BY l.part;
END
$$;
