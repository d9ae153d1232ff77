//! PostgreSQL: the journal, snapshots, projections and ordinary rows.
