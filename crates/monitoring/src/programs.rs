//! Finds the machine's own programs.

use std::path::{Path, PathBuf};

use crate::MonitoringError;

/// Where else than on the PATH programs lie: Debian's and Homebrew's places, and that of what is installed by hand.
const PLACES: [&str; 6] = [
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
    "/opt/prometheus",
    "/opt/alertmanager",
];

/// The programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Prometheus.
    pub prometheus: PathBuf,
    /// Alertmanager.
    pub alertmanager: PathBuf,
    /// The exporter of PostgreSQL's figures.
    pub postgres_exporter: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// [`MonitoringError::NotInstalled`].
    pub fn find() -> Result<Self, MonitoringError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        directories.extend(PLACES.iter().map(PathBuf::from));
        // Debian puts `prometheus-` before the names of what belongs to it.
        let find = |names: &[&'static str], package| {
            let missing = names.first().copied().unwrap_or_default();
            let mut files =
                names.iter().flat_map(|name| directories.iter().map(move |place| place.join(name)));
            let found = files.find(|file| is_program(file));
            found.ok_or(MonitoringError::NotInstalled { missing, package })
        };
        Ok(Self {
            prometheus: find(&["prometheus"], "prometheus")?,
            alertmanager: find(
                &["alertmanager", "prometheus-alertmanager"],
                "prometheus-alertmanager",
            )?,
            postgres_exporter: find(
                &["postgres_exporter", "prometheus-postgres-exporter"],
                "prometheus-postgres-exporter",
            )?,
        })
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
