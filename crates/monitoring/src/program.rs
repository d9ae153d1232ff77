//! One program: started, watched until it is ready, killed, stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Guard;
use rustix::process::{Pid, Signal, kill_process};

use crate::MonitoringError;

/// How long a start may take: a second on a quiet machine, longer where a long log is read again.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a clean stop may take before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Lines of what it said that an error shows.
const LINES: usize = 8;
/// What a program may have said before its file begins anew at a start.
const SAID_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a program is.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(&'static str, OsString)>,
    pub port: u16,
    /// Answers 200 when it is ready.
    pub ready: &'static str,
}

/// A program that this process owns. Dropped, it is gone.
#[derive(Debug)]
pub struct Program {
    recipe: Recipe,
    said: PathBuf,
    child: Option<Child>,
    guard: Arc<Guard>,
}

impl Program {
    pub(crate) fn new(recipe: Recipe, directory: &Path, guard: Arc<Guard>) -> Self {
        let said = directory.join(format!("{}.log", recipe.name));
        Self { recipe, said, child: None, guard }
    }

    /// Starts it, unless it runs, and does not wait.
    ///
    /// # Errors
    ///
    /// [`MonitoringError::Files`].
    pub fn begin(&mut self) -> Result<(), MonitoringError> {
        if self.is_running() {
            return Ok(());
        }
        let too_long = fs::metadata(&self.said).is_ok_and(|found| found.len() > SAID_BYTES_MAX);
        let mut options = File::options();
        let options = options.create(true).append(!too_long).write(true).truncate(too_long);
        let said =
            options.open(&self.said).map_err(MonitoringError::files("cannot open", &self.said))?;
        let errors = said.try_clone().map_err(MonitoringError::files("cannot open", &self.said))?;
        let child = Command::new(&self.recipe.program)
            .args(&self.recipe.arguments)
            .envs(self.recipe.environment.iter().map(|(name, value)| (name, value)))
            // Away from the terminal: Ctrl-C ends the owner, who then ends this.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(errors)
            .spawn()
            .map_err(MonitoringError::files("cannot start", &self.recipe.program))?;
        self.guard.note(self.recipe.name, Some(child.id()));
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`MonitoringError::Program`] when it ends, or does not become ready in time.
    pub fn wait_until_ready(&mut self) -> Result<(), MonitoringError> {
        let began = Instant::now();
        while began.elapsed() < START_MAX {
            if !self.is_running() {
                return Err(self.failed("has ended"));
            }
            if self.is_ready() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(self.failed("does not become ready"))
    }

    /// Starts it after [`Program::kill`] or [`Program::stop`], and returns when it is ready.
    ///
    /// # Errors
    ///
    /// [`MonitoringError`].
    pub fn start_again(&mut self) -> Result<(), MonitoringError> {
        self.begin()?;
        self.wait_until_ready()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.guard.note(self.recipe.name, None);
    }

    /// Stops it cleanly, or kills it where that takes too long.
    pub fn stop(&mut self) {
        self.tell_to_end();
        if let Some(child) = &mut self.child {
            let began = Instant::now();
            while began.elapsed() < STOP_MAX && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.kill();
    }

    /// Sends SIGTERM.
    pub(crate) fn tell_to_end(&self) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// Returns whether its process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.recipe.name
    }

    /// Returns its port on the local host.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.recipe.port
    }

    /// Returns its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the end of what it has said.
    #[must_use]
    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.said).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn failed(&self, what: &'static str) -> MonitoringError {
        MonitoringError::Program { name: self.recipe.name, what, said: self.said() }
    }

    fn is_ready(&self) -> bool {
        answers(self.recipe.port, self.recipe.ready)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tells whether a path is answered with 200.
fn answers(port: u16, path: &str) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, LOOK_MAX) else {
        return false;
    };
    let mut status = [0; 12];
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.set_read_timeout(Some(LOOK_MAX)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut status).is_ok()
        && status.ends_with(b" 200")
}
