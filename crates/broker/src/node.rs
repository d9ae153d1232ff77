//! The node: started, watched until it takes connections, killed, stopped.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::settings::{Settings, USER};
use crate::{BrokerError, Guard, Options, Programs, administrator};

/// How long a start may take: some seconds on a quiet machine, and a noisy one must not fail.
const START_MAX: Duration = Duration::from_secs(120);
/// How long a clean stop may take before it is killed, which loses nothing that it has confirmed.
const STOP_MAX: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Lines of its log that an error shows.
const LINES: usize = 8;

/// A RabbitMQ node that this process owns. Dropped, it is gone.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    programs: Programs,
    node: Option<Child>,
    port_mapper: Child,
    guard: Guard,
}

impl Broker {
    /// Makes a node under `directory` if there is none, starts it, and returns when it takes connections.
    ///
    /// # Errors
    ///
    /// [`BrokerError`], which says what to do about it.
    pub fn start(directory: &Path, options: Options) -> Result<Self, BrokerError> {
        let programs = Programs::find()?;
        let settings = Settings::prepare(directory, options)?;
        let guard = Guard::start(&settings.directory, settings.options.throwaway)?;
        // In the foreground and ours: one that Erlang starts by itself would stay behind.
        let port_mapper = settings
            .command(programs.port_mapper())
            .args(["-port", &settings.ports.port_mapper.to_string(), "-address", "127.0.0.1"])
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(BrokerError::files("cannot start", programs.port_mapper()))?;
        let mut broker = Self { settings, programs, node: None, port_mapper, guard };
        broker.guard.note("port_mapper", Some(broker.port_mapper.id()));
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts the node after [`Broker::kill`] or [`Broker::stop`], and returns when it takes connections. One that runs is
    /// left alone.
    ///
    /// # Errors
    ///
    /// [`BrokerError`].
    pub fn start_again(&mut self) -> Result<(), BrokerError> {
        self.begin()?;
        self.wait_until_ready()
    }

    /// Starts the node like [`Broker::start_again`], and does not wait.
    ///
    /// # Errors
    ///
    /// [`BrokerError`].
    pub fn begin(&mut self) -> Result<(), BrokerError> {
        if self.is_running() {
            return Ok(());
        }
        let log = self.settings.file("said.log");
        let said = File::options().create(true).append(true).open(&log);
        let said = said.map_err(BrokerError::files("cannot open", &log))?;
        let errors = said.try_clone().map_err(BrokerError::files("cannot open", &log))?;
        let program = self.programs.script("rabbitmq-server");
        let node = self
            .settings
            .command(&program)
            // The script then becomes the node instead of watching it, so that our child is the node.
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .arg("-noinput")
            .process_group(0)
            .stdout(said)
            .stderr(errors)
            .spawn()
            .map_err(BrokerError::files("cannot start", &program))?;
        self.guard.note("node", Some(node.id()));
        self.node = Some(node);
        Ok(())
    }

    /// Waits until the node takes connections.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Node`] when it ends, or does not come up in time.
    pub fn wait_until_ready(&mut self) -> Result<(), BrokerError> {
        let began = Instant::now();
        while began.elapsed() < START_MAX {
            if !self.is_running() {
                return Err(self.failed("has ended"));
            }
            let http = [self.management_port(), self.metrics_port()];
            let answers = http.iter().flatten().all(|port| connect(*port).is_some());
            if answers && greets(self.port()) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(self.failed("does not come up"))
    }

    /// Kills the node with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            // It may have ended by itself.
            let _ = node.kill();
            let _ = node.wait();
        }
        self.guard.note("node", None);
    }

    /// Stops the node cleanly, or kills it where that takes too long.
    pub fn stop(&mut self) {
        if let Some(node) = &mut self.node {
            let _ = kill_process(Pid::from_child(node), Signal::TERM);
            let began = Instant::now();
            while began.elapsed() < STOP_MAX && matches!(node.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        self.kill();
    }

    /// Runs `rabbitmqctl` on the node and returns what it said.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Control`].
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, BrokerError> {
        let program = self.programs.script("rabbitmqctl");
        let output = self
            .settings
            .command(&program)
            .args(["-q", "-n", &self.settings.name, "--timeout", "60"])
            .args(arguments)
            .output()
            .map_err(BrokerError::files("cannot start", &program))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = format!("{} {}", text(&output.stdout), text(&output.stderr));
        Err(BrokerError::Control { arguments: arguments.join(" "), said })
    }

    /// Returns whether the node's process runs.
    pub fn is_running(&mut self) -> bool {
        self.node.as_mut().is_some_and(|node| matches!(node.try_wait(), Ok(None)))
    }

    /// Returns the node's process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.node.as_ref().map(Child::id)
    }

    /// Returns the port of AMQP on the local host.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.settings.ports.amqp
    }

    /// Returns the port of the management API on the local host, where it runs.
    #[must_use]
    pub fn management_port(&self) -> Option<u16> {
        self.settings.ports.management
    }

    /// Returns the port of the metrics on the local host, where they are served.
    #[must_use]
    pub fn metrics_port(&self) -> Option<u16> {
        self.settings.ports.metrics
    }

    /// Makes a user who may do everything, or gives one that is there this password. Needs the management API.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Management`].
    pub fn administrator(&self, name: &str, password: &str) -> Result<(), BrokerError> {
        let port = self
            .management_port()
            .ok_or_else(|| BrokerError::Management { what: "does not run".to_owned() })?;
        administrator::make(port, (USER, &self.settings.password), (name, password))
    }

    /// Returns the address to connect to over TLS, the password in it, where the node has an identity. The name is that of the
    /// machine itself, for the certificate to say.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        let port = self.settings.ports.tls?;
        Some(format!("amqps://{USER}:{}@localhost:{port}/%2f", self.settings.password))
    }

    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> &str {
        USER
    }

    /// Returns the user's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.settings.password
    }

    /// Returns the address to connect to, the password in it, through `port` of the local host, which may be a proxy's.
    #[must_use]
    pub fn url_through(&self, port: u16) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{port}/%2f", self.settings.password)
    }

    /// Returns the address to connect to, the password in it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_through(self.port())
    }

    /// Returns the end of what the node has said and logged.
    #[must_use]
    pub fn said(&self) -> String {
        let mut text = fs::read_to_string(self.settings.file("said.log")).unwrap_or_default();
        let log = self.settings.file("log").join(format!("{}.log", self.settings.name));
        text += &fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn failed(&self, what: &'static str) -> BrokerError {
        BrokerError::Node { what, said: self.said() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.port_mapper.kill();
        let _ = self.port_mapper.wait();
        self.guard.note("port_mapper", None);
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, LOOK_MAX).ok()
}

/// Tells whether an AMQP broker answers: to the protocol's header it says `Connection.Start`, a method frame.
fn greets(port: u16) -> bool {
    let Some(mut stream) = connect(port) else {
        return false;
    };
    let mut frame = [0; 11];
    stream.set_read_timeout(Some(LOOK_MAX)).is_ok()
        && stream.write_all(b"AMQP\0\0\x09\x01").is_ok()
        && stream.read_exact(&mut frame).is_ok()
        && frame[0] == 1
        && frame[7..] == [0, 10, 0, 10]
}
