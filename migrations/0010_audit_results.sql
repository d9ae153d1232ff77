-- What the online auditor last saw: one row, for whoever asks how the exchange is. The findings themselves are in its log.
CREATE TABLE audit_results (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    looked_at timestamptz NOT NULL,
    imbalances bigint NOT NULL,
    negative_accounts bigint NOT NULL,
    projection_differences bigint NOT NULL,
    journal_breaks bigint NOT NULL,
    balances bigint NOT NULL,
    journal_rows bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN audit_results.balances IS 'Balances compared in the last look; large exchanges are compared piece by piece.';
COMMENT ON COLUMN audit_results.journal_rows IS 'Journal rows checked in the last look.';
