//! The process that outlives the owner by a moment, to end what the owner has started.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt as _;

use crate::BrokerError;

/// Waits for the end of its input, which comes when the process that holds the other end is gone, kills what the files
/// name, and removes the directory where it is told to.
const SCRIPT: &str = r#"
cat >/dev/null
for name in node port_mapper; do
  if read -r pid <"$0/$name.pid"; then kill -KILL "$pid"; fi
done 2>/dev/null
if [ "$1" = remove ]; then sleep 0.2; rm -rf "$0"; fi
"#;

/// Starts the guard of a directory.
pub(crate) fn start(directory: &Path, remove: bool) -> Result<Child, BrokerError> {
    Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(directory)
        .arg(if remove { "remove" } else { "keep" })
        // Away from the terminal: Ctrl-C ends the owner, and the guard must see that.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(BrokerError::files("cannot guard", directory))
}
