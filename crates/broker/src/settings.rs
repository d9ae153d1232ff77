//! A node's directory: its configuration, cookie, password, and the environment that its programs run in.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

use crate::{BrokerError, Options, free_port};

/// The user that the node is born with.
pub(crate) const USER: &str = "krystalinex";
/// Free disk below which the node takes no more messages.
const DISK_FREE_MIN: &str = "50MB";
/// The write-ahead log of quorum queues, per file; the default of 512 MB is kept in memory too.
const WAL_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The ports of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub amqp: u16,
    pub distribution: u16,
    pub port_mapper: u16,
    pub management: Option<u16>,
    pub metrics: Option<u16>,
    pub tls: Option<u16>,
}

/// What a node is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub directory: PathBuf,
    pub name: String,
    pub password: String,
    pub ports: Ports,
    pub options: Options,
}

impl Settings {
    /// Makes the directory, or reads what is there: a node that is started again has its old name and password.
    pub(crate) fn prepare(directory: &Path, options: Options) -> Result<Self, BrokerError> {
        let make = |path: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(BrokerError::files("cannot make", path))
        };
        make(directory)?;
        let canonical = directory.canonicalize();
        let directory = canonical.map_err(BrokerError::files("cannot find", directory))?;
        for name in ["data", "log"] {
            make(&directory.join(name))?;
        }
        let name = kept(&directory.join("name"), || format!("kx{}", &random()[..12]))?;
        let password = kept(&directory.join("password"), || random() + &random())?;
        // Erlang looks for the cookie in the home directory, and wants it readable for its owner alone.
        kept(&directory.join(".erlang.cookie"), || random() + &random())?;
        let fixed = options.ports;
        let named = |port: Option<u16>| port.map_or_else(free_port, Ok);
        let ports = Ports {
            amqp: named(fixed.amqp)?,
            distribution: free_port()?,
            port_mapper: free_port()?,
            management: options.management.then(|| named(fixed.management)).transpose()?,
            metrics: options.metrics.then(|| named(fixed.metrics)).transpose()?,
            tls: options.identity.is_some().then(free_port).transpose()?,
        };
        let name = format!("{name}@localhost");
        let settings = Self { directory, name, password, ports, options };
        settings.write()?;
        Ok(settings)
    }

    fn write(&self) -> Result<(), BrokerError> {
        let Ports { amqp, management, metrics, tls, .. } = self.ports;
        let mut lines = vec![
            format!("listeners.tcp.local = 127.0.0.1:{amqp}"),
            format!("default_user = {USER}"),
            format!("default_pass = {}", self.password),
            "default_user_tags.administrator = true".to_owned(),
            format!("vm_memory_high_watermark.absolute = {}", self.options.memory_bytes_max),
            format!("disk_free_limit.absolute = {DISK_FREE_MIN}"),
            format!("raft.wal_max_size_bytes = {WAL_BYTES_MAX}"),
            "log.file.level = info".to_owned(),
            "log.console = false".to_owned(),
        ];
        let mut plugins = Vec::new();
        if let Some(port) = management {
            plugins.push("rabbitmq_management");
            lines.push("management.tcp.ip = 127.0.0.1".to_owned());
            lines.push(format!("management.tcp.port = {port}"));
        }
        if let Some(port) = metrics {
            plugins.push("rabbitmq_prometheus");
            lines.push("prometheus.tcp.ip = 127.0.0.1".to_owned());
            lines.push(format!("prometheus.tcp.port = {port}"));
        }
        if let (Some(port), Some(identity)) = (tls, &self.options.identity) {
            lines.push(format!("listeners.ssl.local = 127.0.0.1:{port}"));
            lines.push(format!("ssl_options.certfile = {}", identity.certificate.display()));
            lines.push(format!("ssl_options.keyfile = {}", identity.key.display()));
            // Clients prove who they are by password.
            lines.push("ssl_options.verify = verify_none".to_owned());
        }
        private(&self.file("rabbitmq.conf"), &(lines.join("\n") + "\n"))?;
        private(&self.file("enabled_plugins"), &format!("[{}].\n", plugins.join(",")))?;
        // The machine's own file of this kind would be read in its place.
        private(&self.file("environment.conf"), "")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Begins a command of this node: with its own environment, away from our terminal.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("RABBITMQ_") || text.starts_with("ERL_") {
                command.env_remove(name);
            }
        }
        let schedulers = self.options.schedulers.max(1);
        command
            .env("HOME", &self.directory)
            .env("LC_ALL", "C.UTF-8")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_CONFIG_FILE", self.file("rabbitmq"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.file("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", self.file("environment.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.file("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.file("data"))
            .env("RABBITMQ_LOG_BASE", self.file("log"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", self.file("data"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("+S {schedulers}:{schedulers} +sbwt none +sbwtdcpu none +sbwtdio none"),
            )
            .env("RABBITMQ_CTL_ERL_ARGS", "+S 1:1 +sbwt none")
            .env("ERL_EPMD_PORT", self.ports.port_mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Without it the node would write a dump of its memory into our directory when it is killed.
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }
}

fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Reads a file's only line, or makes it.
fn kept(path: &Path, make: impl FnOnce() -> String) -> Result<String, BrokerError> {
    if let Ok(text) = fs::read_to_string(path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let text = make();
    private(path, &text)?;
    Ok(text)
}

/// Writes a file that its owner alone can read.
fn private(path: &Path, text: &str) -> Result<(), BrokerError> {
    let open = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(BrokerError::files("cannot write", path))
}
