//! PostgreSQL: the journal, snapshots, projections and ordinary rows.
//!
//! Invariant: all SQL of the project lives here, and all of it is fixed text with parameters; no value from outside
//! is ever pasted into a statement (only names of our own making are: databases and generations).

pub mod admin;
pub mod anomalies;
pub mod audit;
pub mod auditor;
pub mod cluster;
pub mod credentials;
mod db;
mod error;
pub mod flags;
pub mod journal;
pub mod keys;
pub mod leases;
pub mod lookup;
pub mod market_data;
pub mod migrate;
mod notices;
mod numbers;
pub mod operations;
pub mod outbox;
pub mod outgoing;
pub mod projections;
pub mod roles;
pub mod sessions;
pub mod snapshots;
pub mod suspects;
pub mod traces;
pub mod two_factor;
pub mod users;

pub use db::{Connection, Db, DbConfig, PoolUse, Secret};
pub use error::StoreError;
pub use numbers::{Numeric, Timestamp};
