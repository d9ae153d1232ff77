//! The program's own PostgreSQL cluster: made, started, taken over and stopped under one directory.
//!
//! Invariant: one process at a time owns a cluster's directory (a lock on a file in it says so), and never do two
//! postmasters run on one: a cluster that a killed process left running is taken over as it is. What is
//! committed is on disk: `fsync` and `synchronous_commit` stay on.

mod account;
mod postmaster;
mod programs;
mod setup;
mod throwaway;
mod wal;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use programs::Programs;
pub use throwaway::Throwaway;
pub use wal::make_ahead as make_wal_ahead;

use crate::{DbConfig, Secret, StoreError};
use account::RunAs;
use postmaster::Postmaster;

/// The role that owns everything.
const ROLE: &str = "exchange";
/// The database.
const DATABASE: &str = "crypto_exchange";
/// How long a start may take before it counts as failed; recovery after a crash can take a while.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a clean stop may take before the postmaster is told to drop everything (which loses nothing: the next
/// start recovers from the write-ahead log).
const STOP_MAX: Duration = Duration::from_secs(30);

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// PostgreSQL is not installed, or too old.
    #[error(
        "no PostgreSQL {min} or newer was found ({looked}): install it (Debian, Ubuntu: apt-get install postgresql; \
         Fedora: dnf install postgresql-server; macOS: brew install postgresql), or set DB_HOST"
    )]
    NotInstalled {
        /// The oldest version that will do.
        min: u32,
        /// What was found, or where was looked.
        looked: String,
    },
    /// The cluster was made by a version of PostgreSQL that is not installed (any more).
    #[error(
        "the cluster in {directory} belongs to PostgreSQL {needed}, which is not installed: install postgresql-{needed}"
    )]
    OtherVersion {
        /// The cluster's directory.
        directory: PathBuf,
        /// Its major version.
        needed: u32,
    },
    /// Another process owns the directory.
    #[error("another KrystalineX runs with the data directory {0}")]
    InUse(PathBuf),
    /// Started as root, and no other user can run PostgreSQL.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )]
    NoUser,
    /// A directory or file could not be made, read or given away.
    #[error("{what} {path}")]
    Files {
        /// What could not be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// The postmaster does not come up, or not down.
    #[error("PostgreSQL {what}; its log ends: {log}")]
    Postmaster {
        /// What is wrong.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// It runs, and cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClusterError {
    fn files(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { what, path, source }
    }
}

/// How a cluster is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections that PostgreSQL takes.
    pub connections_max: u32,
    /// Whether what is committed survives a crash of the machine. Only throwaway clusters are not durable.
    pub durable: bool,
    /// Room for the write-ahead log that is kept for later (`min_wal_size`), in MiB; see [`make_wal_ahead`].
    pub wal_kept_mib: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections_max: 100, durable: true, wal_kept_mib: 512 }
    }
}

/// A running cluster that this process owns.
#[derive(Debug)]
pub struct Cluster {
    paths: Paths,
    password: Secret,
    postmaster: Postmaster,
    /// Held for as long as the cluster is owned; the system releases it when the process dies.
    _lock: File,
}

/// Where the parts of a cluster are.
#[derive(Clone, Debug)]
struct Paths {
    /// Ours: the password, the lock, the log.
    own: PathBuf,
    /// PostgreSQL's: the cluster.
    data: PathBuf,
    /// PostgreSQL's: the socket.
    socket: PathBuf,
}

impl Paths {
    fn log(&self) -> PathBuf {
        self.own.join("postgres.log")
    }

    fn password(&self) -> PathBuf {
        self.own.join("password")
    }

    fn port(&self) -> PathBuf {
        self.own.join("port")
    }

    /// Returns whether the socket's name is short enough for the system (107 bytes and a zero on Linux, less on
    /// others). Where it is not, TCP to the local host does.
    fn socket_fits(&self) -> bool {
        self.socket.as_os_str().len() + "/.s.PGSQL.65535".len() <= 100
    }
}

impl Cluster {
    /// Makes the cluster under `directory` if it is not there, starts it if it does not run, and waits until it takes
    /// connections and has the database.
    ///
    /// # Errors
    ///
    /// [`ClusterError`], which says what to do about it.
    pub async fn start(directory: &Path, options: Options) -> Result<Self, ClusterError> {
        fs::create_dir_all(directory).map_err(ClusterError::files("cannot make", directory))?;
        let own = directory
            .canonicalize()
            .map_err(ClusterError::files("cannot find the way to", directory))?;
        let lock = lock(&own)?;
        let run_as = RunAs::choose()?;
        let paths = setup::paths(&own, run_as.as_ref())?;
        let password = setup::password(&paths)?;
        let programs = Programs::find_for(&paths.data)?;
        let made = setup::make(&programs, &paths, run_as.as_ref(), &password).await?;
        let postmaster =
            Postmaster::run(&programs, &paths, run_as.as_ref(), options, &password).await?;
        let cluster = Self { paths, password, postmaster, _lock: lock };
        // The files that initdb has made are flushed while nobody has been promised anything yet.
        let flush = async {
            match made && options.durable {
                true => setup::flush(&programs, &cluster.paths, run_as.as_ref()).await,
                false => Ok(()),
            }
        };
        let database = async { Ok(setup::database(&cluster.config()).await?) };
        let (flushed, has_database) = futures::future::join(flush, database).await;
        let finished: Result<(), ClusterError> = flushed.and(has_database);
        match finished {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await?;
                Err(error)
            }
        }
    }

    /// Returns where the database is: the socket where it can be used, else TCP.
    #[must_use]
    pub fn config(&self) -> DbConfig {
        config(&self.paths, self.postmaster.port(), &self.password)
    }

    /// Returns the port on the local host, for `psql -h localhost -p PORT -U exchange -d crypto_exchange`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.postmaster.port()
    }

    /// Returns the file that the role's password is in.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.paths.password()
    }

    /// Returns where the cluster's files are.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.paths.data
    }

    /// Returns the postmaster's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.postmaster.pid()
    }

    /// Returns whether it was found running and taken over.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.postmaster.adopted()
    }

    /// Stops the cluster: sessions are ended, everything is written, and the postmaster is gone when this returns.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Postmaster`] when it does not end even when it is told to drop everything.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let Self { paths, postmaster, _lock, .. } = self;
        postmaster.stop(&paths).await
    }
}

fn config(paths: &Paths, port: u16, password: &Secret) -> DbConfig {
    let host = match paths.socket_fits() {
        true => paths.socket.to_string_lossy().into_owned(),
        false => "127.0.0.1".to_owned(),
    };
    DbConfig {
        host,
        port,
        user: ROLE.to_owned(),
        database: DATABASE.to_owned(),
        password: Some(password.clone()),
        ..DbConfig::default()
    }
}

/// Takes the directory for this process.
fn lock(own: &Path) -> Result<File, ClusterError> {
    let path = own.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ClusterError::files("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClusterError::InUse(own.to_owned())),
        Err(TryLockError::Error(source)) => {
            Err(ClusterError::Files { what: "cannot lock", path, source })
        }
    }
}
