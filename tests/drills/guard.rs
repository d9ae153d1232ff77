//! The process that ends what a drill has started, if the drill is killed itself.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, kills whatever has a file with its number in the directory, and removes what it is
/// told to.
const SCRIPT: &str = r#"
cat >/dev/null
for file in "$0"/pids/*; do
  if [ -e "$file" ]; then kill -KILL "$(basename "$file")"; kill -KILL "-$(basename "$file")"; fi
done 2>/dev/null
sleep 0.2
umount -l "$0/postgres" 2>/dev/null
rm -rf "$0"
"#;

/// Kills what is noted in a directory, and removes it, when the process that made it is gone.
#[derive(Debug)]
pub(crate) struct Guard {
    directory: PathBuf,
    child: Child,
}

impl Guard {
    pub(crate) fn start(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("pids")).expect("the stand's directory is writable");
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(directory)
            // Away from the terminal: Ctrl-C ends the drill, and the guard must see that.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Self { directory: directory.to_owned(), child }
    }

    /// Returns where a process notes its number.
    pub(crate) fn notes(&self) -> Notes {
        Notes(self.directory.join("pids"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The numbers of the processes that must not stay behind.
#[derive(Clone, Debug)]
pub(crate) struct Notes(PathBuf);

impl Notes {
    pub(crate) fn add(&self, pid: u32) {
        let _ = fs::write(self.0.join(pid.to_string()), "");
    }

    pub(crate) fn remove(&self, pid: u32) {
        let _ = fs::remove_file(self.0.join(pid.to_string()));
    }
}
