//! Clusters for tests and rehearsals: made in a temporary directory, and gone with the process, however it ends.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use super::{Cluster, ClusterError, Options};
use crate::{DbConfig, StoreError};

/// Ends the cluster and removes its directory when its standard input is closed, as it is when the process that
/// holds the other end is gone.
const GUARD: &str =
    r#"cat >/dev/null; kill -QUIT "$0"; while kill -0 "$0"; do sleep 0.05; done; rm -rf "$1" "$2""#;

/// A cluster that is not durable and does not outlive the process.
#[derive(Debug)]
pub struct Throwaway {
    cluster: Cluster,
    databases: AtomicU32,
    _guard: Child,
}

impl Throwaway {
    /// Makes and starts one.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub async fn start() -> Result<Self, ClusterError> {
        Self::start_with(Options { durable: false, ..Options::default() }).await
    }

    /// Makes and starts one with other options, such as a durable one to measure with.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub async fn start_with(options: Options) -> Result<Self, ClusterError> {
        let name = format!("krystalinex-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let directory: PathBuf = std::env::temp_dir().join(name);
        let cluster = Cluster::start(&directory, options).await?;
        let elsewhere = cluster.paths.data.parent().unwrap_or(&directory).to_owned();
        let guard = Command::new("sh")
            .args(["-c", GUARD, &cluster.pid().to_string()])
            .args([&directory, &elsewhere])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C, or a `timeout`, ends all of the process' group at once, and this must go on.
            .process_group(0)
            .spawn()
            .map_err(ClusterError::files("cannot guard", &directory))?;
        Ok(Self { cluster, databases: AtomicU32::new(0), _guard: guard })
    }

    /// Returns the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Makes an empty database of its own and returns where it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn database(&self) -> Result<DbConfig, StoreError> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let config = self.cluster.config();
        let database = format!("exchange_{number}");
        let connection = config.connect().await?;
        connection.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE template0")).await?;
        Ok(DbConfig { database, ..config })
    }
}
