//! The way to the database: the program's own cluster, or somebody else's, waited for.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use store::cluster::{Cluster, ClusterError, Options};
use store::{Db, DbConfig, Secret, StoreError};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Database};

/// The longest pause between two attempts to reach a database.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Connects to a database that may not be there yet: waits, with longer and longer pauses, until it is or `shutdown`
/// (`None` then).
///
/// # Errors
///
/// What waiting does not help: a refused login, a server that is too old.
pub async fn connect_waiting(
    config: &DbConfig,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Db>> {
    let mut pause = Duration::from_millis(250);
    loop {
        match Db::connect(config.clone()).await {
            Ok(db) => return Ok(Some(db)),
            Err(error) if error.is_transient() => {
                tracing::warn!(reason = %error, retry_ms = pause.as_millis(), "waiting for the database");
            }
            Err(error @ StoreError::Authentication { .. }) => {
                return Err(error).context("DB_HOST, DB_USER, DB_NAME or DB_PASSWORD is wrong");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Connects like [`connect_waiting`] and brings the schema up; a database that goes away meanwhile is waited for.
///
/// # Errors
///
/// What waiting does not help.
pub async fn open_waiting(
    config: &DbConfig,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Db>> {
    let Some(db) = connect_waiting(config, shutdown).await? else {
        return Ok(None);
    };
    loop {
        match store::migrate::run(&db).await {
            Ok(_) => return Ok(Some(db)),
            Err(error) if error.is_transient() => {
                tracing::warn!(reason = %error, "the schema cannot be migrated yet");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

/// A database that a tool works with, and the cluster if the tool had to start it.
pub struct Opened {
    /// The database.
    pub db: Db,
    cluster: Option<Cluster>,
}

impl Opened {
    /// Opens the configured database: an embedded cluster that runs is used as it is, one that does not is started.
    ///
    /// # Errors
    ///
    /// The database does not answer, or the cluster cannot be started; an embedded cluster that was never made is not
    /// made by a tool.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let directory = match &config.database {
            Database::External(config) => {
                return Ok(Self { db: Db::connect(config.clone()).await?, cluster: None });
            }
            Database::Embedded(directory) => directory,
        };
        anyhow::ensure!(
            directory.is_dir(),
            "there is no exchange in {}: `krystalinex up` makes one, and --data-dir names another place",
            config.data_dir.display()
        );
        match Cluster::start(directory, Options::default()).await {
            Ok(cluster) => {
                let db = Db::connect(cluster.config()).await?;
                Ok(Self { db, cluster: Some(cluster) })
            }
            Err(ClusterError::InUse(_)) => {
                let config = running(directory)?;
                Ok(Self { db: Db::connect(config).await?, cluster: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether somebody else runs the database, so that an exchange may be at work on it.
    pub fn is_shared(&self) -> bool {
        self.cluster.is_none()
    }

    /// Closes it again: a cluster that was started for the tool is stopped.
    ///
    /// # Errors
    ///
    /// The cluster does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        let Self { db, cluster } = self;
        drop(db);
        match cluster {
            Some(cluster) => Ok(cluster.stop().await?),
            None => Ok(()),
        }
    }
}

/// Returns the way to a cluster that another process runs.
fn running(directory: &Path) -> anyhow::Result<DbConfig> {
    let read = |name: &str| {
        let path = directory.join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok::<_, anyhow::Error>(text.trim().to_owned())
    };
    Ok(DbConfig {
        host: "127.0.0.1".to_owned(),
        port: read("port")?.parse().context("the cluster's port is not a number")?,
        password: Some(Secret::new(read("password")?)),
        ..DbConfig::default()
    })
}
