//! Finds the machine's own PostgreSQL programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::ClusterError;

/// The oldest major version that will do.
const MAJOR_MIN: u32 = 15;

/// The programs of one installation of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    directory: PathBuf,
    major: u32,
}

impl Programs {
    /// Finds the newest installation that will do.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotInstalled`].
    pub fn find() -> Result<Self, ClusterError> {
        Self::choose(found(), None)
    }

    /// Finds the installation for the cluster at `data`, which is that of its version if it exists.
    pub(super) fn find_for(data: &Path) -> Result<Self, ClusterError> {
        let stated = std::fs::read_to_string(data.join("PG_VERSION")).ok();
        let needed = stated.and_then(|text| text.trim().parse::<u32>().ok());
        Self::choose(found(), needed.map(|needed| (needed, data)))
    }

    fn choose(mut found: Vec<Self>, needed: Option<(u32, &Path)>) -> Result<Self, ClusterError> {
        // Of equals the one that was looked for first.
        found.reverse();
        found.sort_by_key(|programs| programs.major);
        if let Some((needed, data)) = needed {
            let fits = found.into_iter().rfind(|programs| programs.major == needed);
            let directory = data.to_owned();
            return fits.ok_or(ClusterError::OtherVersion { directory, needed });
        }
        match found.pop() {
            Some(newest) if newest.major >= MAJOR_MIN => Ok(newest),
            Some(newest) => {
                let looked = format!("{} has {}", newest.directory.display(), newest.major);
                Err(ClusterError::NotInstalled { min: MAJOR_MIN, looked })
            }
            None => {
                let looked = "looked in /usr/lib/postgresql, pg_config and PATH".to_owned();
                Err(ClusterError::NotInstalled { min: MAJOR_MIN, looked })
            }
        }
    }

    /// Returns the directory that the programs are in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of one program: `pgbench`, `pg_dump`, …
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns the major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// Looks where systems put PostgreSQL.
fn found() -> Vec<Programs> {
    let mut directories = Vec::new();
    let roots = [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ];
    for (root, prefix) in roots {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        let fitting =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        directories.extend(fitting.map(|entry| entry.path().join("bin")));
    }
    directories.push(PathBuf::from("/usr/local/pgsql/bin"));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path));
    directories.retain(|directory| {
        ["initdb", "postgres"].iter().all(|name| directory.join(name).is_file())
    });
    directories.dedup();
    directories.into_iter().filter_map(inspect).collect()
}

/// Asks `postgres` itself: "postgres (PostgreSQL) 15.13 (Debian …)".
fn inspect(directory: PathBuf) -> Option<Programs> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let major = major(&String::from_utf8_lossy(&output.stdout))?;
    Some(Programs { directory, major })
}

fn major(version: &str) -> Option<u32> {
    let number =
        version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postgres_prints_them() {
        assert_eq!(major("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("no such thing"), None);
    }

    #[test]
    fn an_old_or_missing_postgres_is_named_with_the_package_to_install() {
        let old = Programs { directory: PathBuf::from("/old"), major: 14 };
        for found in [vec![], vec![old]] {
            let message = Programs::choose(found, None).expect_err("refused").to_string();
            assert!(message.contains("apt-get install postgresql"), "{message}");
        }
    }

    #[test]
    fn a_cluster_keeps_its_version() {
        let each = |major| Programs { directory: PathBuf::from("/x"), major };
        let data = Path::new("/data");
        let chosen = Programs::choose(vec![each(16), each(15)], Some((15, data)));
        assert_eq!(chosen.expect("15 is there").major, 15);
        let missing = Programs::choose(vec![each(16)], Some((15, data)));
        assert!(matches!(missing, Err(ClusterError::OtherVersion { needed: 15, .. })));
    }
}
