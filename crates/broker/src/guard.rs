//! The process that outlives the owner by a moment, to end what the owner has started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt as _;

use crate::BrokerError;

/// Waits for the end of its input, which comes when the process that holds the other end is gone, kills what the files
/// name, and removes the directory where it is told to.
const SCRIPT: &str = r#"
cat >/dev/null
for file in "$0"/*.pid; do
  if read -r pid <"$file"; then kill -KILL "$pid"; fi
done 2>/dev/null
if [ "$1" = remove ]; then sleep 0.2; rm -rf "$0"; fi
"#;

/// Kills what is noted in a directory, as soon as the process that made it is gone. Dropped, it does so too.
#[derive(Debug)]
pub struct Guard {
    directory: PathBuf,
    child: Child,
}

impl Guard {
    /// Starts the guard of a directory, which must be there; `remove`: the directory goes with the owner.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Files`].
    pub fn start(directory: &Path, remove: bool) -> Result<Self, BrokerError> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(directory)
            .arg(if remove { "remove" } else { "keep" })
            // Away from the terminal: Ctrl-C ends the owner, and the guard must see that.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(BrokerError::files("cannot guard", directory))?;
        Ok(Self { directory: directory.to_owned(), child })
    }

    /// Notes the number of a process that must not stay behind, or that it has ended.
    pub fn note(&self, name: &str, pid: Option<u32>) {
        let file = self.directory.join(format!("{name}.pid"));
        // Where this fails, the guard knows less; dropping still ends it.
        let _ = match pid {
            Some(pid) => fs::write(file, format!("{pid}\n")),
            None => fs::remove_file(file),
        };
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
