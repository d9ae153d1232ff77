//! Finds the machine's own RabbitMQ and Erlang.

use std::path::{Path, PathBuf};

use crate::BrokerError;

/// The programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    scripts: PathBuf,
    port_mapper: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    ///
    /// [`BrokerError::NotInstalled`].
    pub fn find() -> Result<Self, BrokerError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let missing = |missing| BrokerError::NotInstalled { missing };
        let scripts = scripts(&on_path).ok_or_else(|| missing("rabbitmq-server"))?;
        if !on_path.iter().any(|directory| directory.join("erl").is_file()) {
            return Err(missing("erl (Erlang)"));
        }
        let port_mapper = port_mapper(&on_path).ok_or_else(|| missing("epmd (Erlang)"))?;
        Ok(Self { scripts, port_mapper })
    }

    /// Returns the path of one of RabbitMQ's scripts.
    #[must_use]
    pub fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    /// Returns the path of Erlang's port mapper.
    #[must_use]
    pub fn port_mapper(&self) -> &Path {
        &self.port_mapper
    }
}

/// The directory of RabbitMQ's own scripts. What Debian and Fedora put into /usr/sbin are wrappers that change to the
/// user `rabbitmq` and its directory, which is not what a private node needs.
fn scripts(on_path: &[PathBuf]) -> Option<PathBuf> {
    let mut candidates = vec![
        PathBuf::from("/usr/lib/rabbitmq/bin"),
        PathBuf::from("/opt/homebrew/opt/rabbitmq/sbin"),
        PathBuf::from("/usr/local/opt/rabbitmq/sbin"),
    ];
    candidates.extend(versions("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin"));
    candidates.extend(on_path.iter().filter(|directory| !directory.ends_with("usr/sbin")).cloned());
    candidates.into_iter().find(|directory| {
        ["rabbitmq-server", "rabbitmqctl", "rabbitmq-env"]
            .iter()
            .all(|name| directory.join(name).is_file())
    })
}

fn port_mapper(on_path: &[PathBuf]) -> Option<PathBuf> {
    let mut candidates = on_path.to_vec();
    for root in ["/usr/lib/erlang", "/usr/local/lib/erlang", "/usr/lib64/erlang"] {
        candidates.push(Path::new(root).join("bin"));
        candidates.extend(versions(root, "erts-", "bin"));
    }
    candidates.into_iter().map(|directory| directory.join("epmd")).find(|file| file.is_file())
}

/// The subdirectories `root/prefix…/leaf`, newest last by name, reversed so that the newest is first.
fn versions(root: &str, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(leaf))
        .collect();
    found.sort();
    found.reverse();
    found
}
