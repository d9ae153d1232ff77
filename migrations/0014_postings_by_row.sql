-- Postings are told apart by their row of the journal and their place in it, and by nothing else: they are added at the end
-- of that index, where one of accounts had to be searched from its root six times for every trade. No part of the exchange
-- looks for the postings of one account. Whoever does finds the rows by what moved the money, of which each has an index of
-- accounts: trades, deposits, transfers and withdrawals.

DO $$
DECLARE
    generation text;
BEGIN
    FOR generation IN SELECT p.generation FROM projection_parts p WHERE p.part = 'money' LOOP
        EXECUTE format('ALTER TABLE %I.postings DROP CONSTRAINT postings_pkey', generation);
        EXECUTE format('ALTER TABLE %I.postings ADD PRIMARY KEY (sequence, posting)', generation);
    END LOOP;
END
$$;

-- The tables of a generation to come are made as at first, with that key, and without the index of accounts.
CREATE OR REPLACE FUNCTION projection_tables_create(generation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projection_tables_create_1(generation);
    EXECUTE format('DROP INDEX %I.postings_account', generation);
END
$$;
DROP FUNCTION projection_postings_by_account(text);
