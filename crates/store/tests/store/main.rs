//! The store against a real PostgreSQL: one cluster for all of them, a database for each.

mod cluster;
mod common;
mod exchange;
mod journal;
mod leases;
mod parts;
mod projections;
mod snapshots;
mod writers;
