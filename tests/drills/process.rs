//! One process of the exchange: a server or a payment-processor, with its own ways to the database and to the broker.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use e2e::{Http, binary, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::guard::Notes;
use crate::proxy::Proxy;

/// Longer than anything that a process does by itself: what does not happen in this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Processor,
    Relay,
}

impl Role {
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Processor => "payment-processor",
            Self::Relay => "alert-relay",
        }
    }
}

/// A process of the exchange.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// The port that it answers on: the API, or the processor's health.
    pub(crate) port: u16,
    /// The port of a server's traces, in Jaeger's API.
    pub(crate) jaeger_port: u16,
    /// The port on which a server takes others' spans.
    pub(crate) otlp_port: u16,
    /// Its way to the database.
    pub(crate) database: Proxy,
    /// Its way to the broker.
    pub(crate) broker: Proxy,
    environment: Vec<(String, String)>,
    program: PathBuf,
    log: PathBuf,
    notes: Notes,
    child: Option<Child>,
    paused: bool,
}

impl Process {
    /// Makes a process that is not started yet. `environment` is what all processes have in common.
    pub(crate) fn new(
        role: Role,
        number: usize,
        ways: (Proxy, Proxy),
        environment: &[(String, String)],
        directory: &std::path::Path,
        notes: Notes,
    ) -> Self {
        let (database, broker) = ways;
        let port = broker::free_port().expect("there is a free port");
        let name = format!("{}-{number}", role.subcommand());
        let mut environment = environment.to_vec();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        match role {
            Role::Server => set("PORT", port.to_string()),
            Role::Processor => set("PROCESSOR_PORT", port.to_string()),
            Role::Relay => set("ALERT_RELAY_PORT", port.to_string()),
        }
        let own = || broker::free_port().expect("there is a free port");
        set("INBOX_PORT", own().to_string());
        let (jaeger_port, otlp_port) = (own(), own());
        set("JAEGER_PORT", jaeger_port.to_string());
        set("OTLP_PORT", otlp_port.to_string());
        set("DB_PORT", database.port().to_string());
        let log = directory.join(format!("{name}.log"));
        Self {
            role,
            name,
            port,
            jaeger_port,
            otlp_port,
            database,
            broker,
            environment,
            program: binary(),
            log,
            notes,
            child: None,
            paused: false,
        }
    }

    /// Sets a variable of its environment for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable out of its environment for the next start.
    pub(crate) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Takes another build of the program from the next start on.
    pub(crate) fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the stand's directory is writable");
        let errors = log.try_clone().expect("a file can be shared");
        let mut command = Command::new(&self.program);
        e2e::clean(&mut command);
        let child = command
            .arg(self.role.subcommand())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C ends the drill; the guard then ends this.
            .process_group(0)
            .spawn()
            .expect("the binary starts");
        self.notes.add(child.id());
        self.child = Some(child);
        self.paused = false;
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Returns how it has ended, if it has by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("it is our child")
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.notes.remove(child.id());
        }
        self.paused = false;
    }

    /// Kills it and starts it anew, without waiting.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is our child");
    }

    /// Stops it in its tracks, as a pause of its machine would.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self) {
        if self.paused && self.is_running() {
            self.signal(Signal::CONT);
        }
        self.paused = false;
    }

    /// Sends SIGTERM and returns how it ended and how long that took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it runs");
        let status = wait_for(&format!("the end of {}", self.name), PATIENCE, || {
            child.try_wait().expect("it is our child")
        });
        self.notes.remove(child.id());
        (status, began.elapsed())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it runs")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(self.address()).with_patience(Duration::from_secs(10))
    }

    /// Asks for a status without a token.
    pub(crate) fn status(&self, path: &str) -> Option<u16> {
        self.http().get(path).ok().map(|answer| answer.status)
    }

    /// Returns the body of `/ready`, whatever the status.
    pub(crate) fn readiness(&self) -> Option<(u16, Value)> {
        let answer = self.http().get("/ready").ok()?;
        let body = serde_json::from_str(&answer.body).unwrap_or_default();
        Some((answer.status, body))
    }

    /// Returns the sum of a metric's series whose line has all of `parts`.
    pub(crate) fn metric(&self, name: &str, parts: &[&str]) -> Option<f64> {
        let answer = self.http().get("/metrics").ok()?;
        let lines = answer.body.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && parts.iter().all(|part| line.contains(part))
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
