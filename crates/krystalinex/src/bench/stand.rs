//! What the sections that need PostgreSQL stand on: one durable throwaway cluster, and exchanges on it.
//!
//! Invariant: the exchange and the yardstick are on the same cluster, tuned the same. Its write-ahead log has the room that
//! one gets which has been under load for a while.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use server::config::JwtSecret;
use server::token::Tokens;
use store::cluster::{Options, Throwaway, make_wal_ahead};
use store::{Db, DbConfig};

use super::exchange::{Exchange, JWT_SECRET};
pub(crate) use super::orders::now_seconds;
use super::orders::{self, User};
use super::seed;

/// Users of a loaded exchange.
const USERS: usize = 800;
/// Room for the write-ahead log, in MiB: as much as a cluster under load comes to (`max_wal_size`).
const WAL_MIB: u32 = 4096;

/// The cluster.
#[derive(Debug)]
pub(crate) struct Stand {
    cluster: Throwaway,
}

impl Stand {
    /// Makes and starts a cluster that is as durable as the exchange's own.
    ///
    /// # Errors
    ///
    /// PostgreSQL is not there, or does not start.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let options = Options { durable: true, wal_kept_mib: WAL_MIB, ..Options::default() };
        let cluster = Throwaway::start_with(options).await.context("no cluster to measure on")?;
        make_wal_ahead(&cluster.cluster().config(), Duration::ZERO).await?;
        Ok(Self { cluster })
    }

    /// Returns where the cluster is.
    pub(crate) fn config(&self) -> DbConfig {
        self.cluster.cluster().config()
    }

    /// Makes an empty database.
    ///
    /// # Errors
    ///
    /// The cluster does not.
    pub(crate) async fn database(&self) -> anyhow::Result<DbConfig> {
        Ok(self.cluster.database().await?)
    }

    /// Returns the postmaster's process id.
    pub(crate) fn postmaster(&self) -> u32 {
        u32::try_from(self.cluster.cluster().pid()).unwrap_or(0)
    }
}

/// An exchange with users who have money, in a database of its own.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The exchange.
    pub exchange: Exchange,
    /// Its database.
    pub db: Db,
    /// Its users; the first has a market maker's limits.
    pub users: Vec<User>,
    /// Whatever works beside it, by name: what its processor time is counted for.
    pub others: Vec<(&'static str, u32)>,
}

impl Loaded {
    /// Makes the journal and the users, and starts the exchange on them.
    ///
    /// # Errors
    ///
    /// The database or the exchange does not start.
    pub(crate) async fn start(stand: &Stand, data: &Path) -> anyhow::Result<Self> {
        Self::start_with(stand, data, &[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Errors
    ///
    /// The database or the exchange does not start.
    pub(crate) async fn start_with(
        stand: &Stand,
        data: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::on(Ground::lay(stand).await?, data, settings).await
    }

    /// The same on a ground that is laid already.
    ///
    /// # Errors
    ///
    /// The exchange does not start.
    pub(crate) async fn on(
        ground: Ground,
        data: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let Ground { config, db, users } = ground;
        let exchange = Exchange::start_with(data, Some(&config), settings).await?;
        Ok(Self { exchange, db, users, others: Vec::new() })
    }
}

/// A database with a journal and funded users, before an exchange is started on it.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Where it is.
    pub config: DbConfig,
    /// It.
    pub db: Db,
    /// Its users; the first has a market maker's limits.
    pub users: Vec<User>,
}

impl Ground {
    /// Makes the journal and the users, who cannot log in.
    ///
    /// # Errors
    ///
    /// The database does not take them.
    pub(crate) async fn lay(stand: &Stand) -> anyhow::Result<Self> {
        Self::lay_for(stand, seed::NO_PASSWORD).await
    }

    /// The same, where the users have a password: this is its hash.
    ///
    /// # Errors
    ///
    /// The database does not take them.
    pub(crate) async fn lay_for(stand: &Stand, password_hash: &str) -> anyhow::Result<Self> {
        let config = stand.database().await?;
        let db = Db::connect(config.clone()).await?;
        store::migrate::run(&db).await?;
        let users = seed::users(&db, USERS, password_hash).await?;
        let actions = orders::opening(&users, users.first().map(|user| user.account));
        let incarnation = orders::incarnation(&actions);
        let commands = actions.into_iter().map(seed::command);
        seed::journal(&db, incarnation, commands).await?;
        Ok(Self { config, db, users })
    }
}

/// Returns the signer of the exchanges' access tokens.
///
/// # Errors
///
/// The bench's own key is refused: a defect.
pub(crate) fn tokens() -> anyhow::Result<Tokens> {
    Ok(Tokens::new(&JwtSecret::new(JWT_SECRET)?))
}
