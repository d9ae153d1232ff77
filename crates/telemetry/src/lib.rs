//! Logs and metrics: one registry of names.
