//! Where the database is, a pool of connections to it, and dedicated connections beside the pool.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use telemetry::Metric;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::StoreError;

/// How long a connection may take to be made, and how long a call waits for one of the pool.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one who must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DbConfig {
    /// A host name, an address, or the directory of a socket.
    pub host: String,
    /// The port; also part of the socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The role's password.
    pub password: Option<Secret>,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// Connections of the pool, dedicated ones not counted.
    pub pool_max: usize,
}

impl Default for DbConfig {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 5432,
            user: "exchange".to_owned(),
            database: "crypto_exchange".to_owned(),
            password: None,
            application_name: "krystalinex".to_owned(),
            pool_max: 16,
        }
    }
}

impl DbConfig {
    /// Returns the address for messages: no secret in it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(crate) fn driver(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        if self.host.starts_with('/') {
            config.host_path(&self.host);
        } else {
            config.host(&self.host);
        }
        config
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name(&self.application_name)
            .options("-c timezone=UTC")
            .connect_timeout(CONNECT_MAX)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }

    /// Makes one connection of its own.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreachable`], [`StoreError::Authentication`], [`StoreError::Busy`].
    pub async fn connect(&self) -> Result<Connection, StoreError> {
        let connecting = self.driver();
        let made = tokio::time::timeout(CONNECT_MAX, connecting.connect(NoTls)).await;
        let (client, connection) = match made {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Err(self.connect_error(error)),
            Err(_) => {
                return Err(StoreError::Unreachable { address: self.address(), source: None });
            }
        };
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        Ok(Connection { client, task })
    }

    /// Sorts what came of connecting.
    fn connect_error(&self, error: tokio_postgres::Error) -> StoreError {
        let address = self.address();
        let Some(db) = error.as_db_error() else {
            return if error.to_string().contains("password") {
                StoreError::Authentication { address, message: error.to_string() }
            } else {
                StoreError::Unreachable { address, source: Some(error) }
            };
        };
        match *db.code() {
            SqlState::INVALID_PASSWORD
            | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            | SqlState::INVALID_CATALOG_NAME => {
                StoreError::Authentication { address, message: db.message().to_owned() }
            }
            SqlState::TOO_MANY_CONNECTIONS => StoreError::Busy,
            _ => StoreError::Unreachable { address, source: Some(error) },
        }
    }
}

/// A connection that nobody shares. Dropping it closes it.
pub struct Connection {
    client: tokio_postgres::Client,
    task: JoinHandle<()>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.client.is_closed()).finish()
    }
}

impl Deref for Connection {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The database: a pool, and the way to dedicated connections. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    config: Arc<DbConfig>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Db {
    /// Makes the pool and proves that the database answers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreachable`], [`StoreError::Authentication`], [`StoreError::Busy`]; and
    /// [`StoreError::Schema`] for a server older than PostgreSQL 15.
    pub async fn connect(config: DbConfig) -> Result<Self, StoreError> {
        let db = Self::lazy(config);
        let client = db.get().await?;
        let row =
            client.query_one("SELECT current_setting('server_version_num')::int", &[]).await?;
        let version: i32 = row.get(0);
        if version < 150_000 {
            let major = version / 10_000;
            return Err(StoreError::Schema(format!(
                "PostgreSQL {major} at {} is too old: 15 or newer is needed",
                db.config.address()
            )));
        }
        Ok(db)
    }

    /// Makes the pool without asking whether anybody answers: connections are made when they are needed.
    #[must_use]
    pub fn lazy(config: DbConfig) -> Self {
        let recycling_method = RecyclingMethod::Fast;
        let manager =
            Manager::from_config(config.driver(), NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(config.pool_max)
            .wait_timeout(Some(CONNECT_MAX))
            .create_timeout(Some(CONNECT_MAX))
            .recycle_timeout(Some(CONNECT_MAX))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime and its timeouts is complete");
        Self { pool, config: Arc::new(config) }
    }

    /// Returns where the database is.
    #[must_use]
    pub fn config(&self) -> &DbConfig {
        &self.config
    }

    /// Takes a connection of the pool; dropping it gives it back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when none becomes free in time, and what connecting may say.
    pub async fn get(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| {
            counted(match error {
                PoolError::Backend(error) => self.config.connect_error(error),
                PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => StoreError::Busy,
                _ => StoreError::Unreachable { address: self.config.address(), source: None },
            })
        })
    }

    /// Makes a connection beside the pool, for who must not wait for others: the appender, the projector.
    ///
    /// # Errors
    ///
    /// Those of [`DbConfig::connect`].
    pub async fn dedicated(&self) -> Result<Connection, StoreError> {
        self.config.connect().await.map_err(counted)
    }

    /// Returns what the pool's connections do.
    #[must_use]
    pub fn pool_use(&self) -> PoolUse {
        let status = self.pool.status();
        let used = status.size.saturating_sub(status.available);
        PoolUse { idle: status.available, used, waiting: status.waiting, max: status.max_size }
    }
}

/// What the connections of a pool do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that nobody uses.
    pub idle: usize,
    /// Connections that somebody uses.
    pub used: usize,
    /// Callers that wait for one.
    pub waiting: usize,
    /// The most connections there may be.
    pub max: usize,
}

/// Counts a connection that was not to be had.
fn counted(error: StoreError) -> StoreError {
    if matches!(error, StoreError::Busy) {
        telemetry::add(Metric::DatabaseRefused, 1);
    }
    error
}
