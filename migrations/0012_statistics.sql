-- No statement looks for any of these by its content, and reading them for statistics (ANALYZE) takes the processor from
-- the orders: in a young exchange, whose tables grow fast, several times a minute.
ALTER TABLE journal
    ALTER COLUMN payload SET STATISTICS 0,
    ALTER COLUMN previous_hash SET STATISTICS 0,
    ALTER COLUMN hash SET STATISTICS 0;
ALTER TABLE snapshot_chunks ALTER COLUMN data SET STATISTICS 0;
ALTER TABLE trace_requests ALTER COLUMN payload SET STATISTICS 0;
ALTER TABLE trace_batches ALTER COLUMN payload SET STATISTICS 0;
ALTER TABLE trace_spans ALTER COLUMN attributes SET STATISTICS 0;
ALTER TABLE anomaly_baselines ALTER COLUMN payload SET STATISTICS 0;
ALTER TABLE anomaly_context ALTER COLUMN signals SET STATISTICS 0;
