//! Which user PostgreSQL's programs run as: ourselves, or, since they refuse root, somebody else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command as Blocking;

use tokio::process::Command;

use super::ClusterError;

/// Another user to run PostgreSQL as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunAs {
    uid: u32,
    gid: u32,
}

impl RunAs {
    /// Chooses: nobody else unless we are root.
    pub(super) fn choose() -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::named(name));
        found.map(Some).ok_or(ClusterError::NoUser)
    }

    /// Asks the system, however it keeps its users.
    fn named(name: &str) -> Option<Self> {
        let id = |flag: &str| {
            let output = Blocking::new("id").args([flag, name]).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            text.trim().parse::<u32>().ok().filter(|&id| output.status.success() && id != 0)
        };
        Some(Self { uid: id("-u")?, gid: id("-g")? })
    }

    /// Gives a file or directory to the user.
    pub(super) fn give(self, path: &Path) -> Result<(), ClusterError> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(ClusterError::files("cannot give away", path))
    }

    /// Returns the first directory on the way to `path` that the user may not pass.
    pub(super) fn barred_at(self, path: &Path) -> Option<&Path> {
        path.ancestors().skip(1).find(|directory| {
            fs::metadata(directory).is_ok_and(|found| {
                let bit = if found.uid() == self.uid {
                    0o100
                } else if found.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                found.mode() & bit == 0
            })
        })
    }
}

/// Begins a command that runs as the right user, away from our terminal: Ctrl-C reaches us alone, and we stop the
/// cluster when everything that needs it has ended.
pub(super) fn command(program: impl AsRef<OsStr>, run_as: Option<&RunAs>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).stdin(std::process::Stdio::null()).current_dir("/");
    // The environment of a person's own psql must not lead the cluster astray.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(RunAs { uid, gid }) = run_as {
        command.uid(*uid).gid(*gid);
    }
    command
}
