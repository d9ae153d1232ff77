//! A private Prometheus, Alertmanager and postgres exporter: configured from the project's own files, started on ports of
//! their own, killed, started again and stopped by the program that needs them.
//!
//! Invariant: nothing of them outlives its owner (see [`broker::Guard`]), and the machine's own are not touched. Of the
//! project's files nothing is changed but where things are, and, for tests, how often is looked.

mod configuration;
mod program;
mod programs;
mod watch;

use std::path::PathBuf;

use broker::BrokerError;

pub use configuration::{GoAlert, Intervals, Job, Receivers};
pub use program::Program;
pub use programs::Programs;
pub use watch::{Database, Monitoring, Plan, Ports};

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitoringError {
    /// A program is not installed.
    #[error(
        "{missing} was not found: install it (Debian, Ubuntu: apt-get install {package}; \
         macOS: brew install {missing}), or put it on the PATH"
    )]
    NotInstalled {
        /// The program that is missing.
        missing: &'static str,
        /// Its package in Debian.
        package: &'static str,
    },
    /// A file or directory could not be made, or a program not started.
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
    /// A configuration is not as it must be.
    #[error("{file}: {what}")]
    Configuration {
        /// Which.
        file: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A program ended, or does not become ready.
    #[error("{name} {what}; it said last: {said}")]
    Program {
        /// Which.
        name: &'static str,
        /// What is wrong.
        what: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// No port, or no guard.
    #[error(transparent)]
    Guard(#[from] BrokerError),
}

impl MonitoringError {
    fn files(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { what, path, source }
    }
}
