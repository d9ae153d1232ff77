//! What can go wrong with the database, one variant per different reaction.

use tokio_postgres::error::SqlState;

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nobody answers at the address: wait, or check the address.
    #[error("ECONNREFUSED: no PostgreSQL answers at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// The user or the password is wrong, or the database is not there.
    #[error("PostgreSQL at {address} refused the login: {message}")]
    Authentication {
        /// Where.
        address: String,
        /// What PostgreSQL said; it never repeats the password.
        message: String,
    },
    /// The schema is not the one that this program works with.
    #[error("{0}")]
    Schema(String),
    /// A row with this key exists already.
    #[error("the constraint {constraint} allows one such row only")]
    Unique {
        /// The constraint's name.
        constraint: String,
    },
    /// All connections are in use; try again later.
    #[error("the database has no connection free")]
    Busy,
    /// What is stored is not what was written: never guessed around.
    #[error("{0}")]
    Corrupt(String),
    /// Anything else that PostgreSQL said.
    #[error("the database failed: {}", describe(.0))]
    Query(#[source] tokio_postgres::Error),
}

impl StoreError {
    /// Tells whether the same call may succeed later without anybody's doing: a lost connection, a restart, a full
    /// disk, a serialization failure.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy => true,
            Self::Query(error) => is_transient(error),
            _ => false,
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) if *db.code() == SqlState::UNIQUE_VIOLATION => {
                Self::Unique { constraint: db.constraint().unwrap_or("unique").to_owned() }
            }
            Some(db) if *db.code() == SqlState::TOO_MANY_CONNECTIONS => Self::Busy,
            _ => Self::Query(error),
        }
    }
}

/// Says what PostgreSQL said, its code first; the driver's own text is "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}

/// Tells whether an error passes by itself. Errors without a code are of the connection.
pub(crate) fn is_transient(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        // 08 connection, 40 serialization and deadlock, 53 resources (disk full, memory, connections), 55P03 lock
        // timeout, 57 shutdown and cancel, 58 system, 25006 read-only after a failover.
        Some(code) => {
            let code = code.code();
            ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                || code == "55P03"
                || code == "25006"
        }
    }
}
