-- Postings are told apart by their account, their row of the journal and their place in it: one index instead of two, for
-- the keeping of which every trade paid six times. Nobody looks for postings by the journal's rows alone but `verify`, which
-- reads them all.

CREATE FUNCTION projection_postings_by_account(generation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I.postings DROP CONSTRAINT postings_pkey', generation);
    EXECUTE format('DROP INDEX %I.postings_account', generation);
    EXECUTE format('ALTER TABLE %I.postings ADD PRIMARY KEY (account_id, sequence, posting)', generation);
END
$$;

-- The tables of a generation to come are made as before, and then changed likewise.
ALTER FUNCTION projection_tables_create(text) RENAME TO projection_tables_create_1;
CREATE FUNCTION projection_tables_create(generation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projection_tables_create_1(generation);
    PERFORM projection_postings_by_account(generation);
END
$$;

SELECT projection_postings_by_account(generation) FROM projection_parts WHERE part = 'money';
