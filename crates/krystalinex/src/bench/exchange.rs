//! A whole exchange as a child process: `krystalinex up` with its own ports, on a database that is given or its own.
//!
//! Invariant: the child ends with this value, however the bench goes on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use store::DbConfig;
use tokio::process::{Child, Command};

use super::http::{self, Connection, Reply};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(600);
/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(120);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The signing key of access tokens: no secret, since the exchange is gone with the bench.
pub(crate) const JWT_SECRET: &str = "of-a-throwaway-exchange-0123456789-abcdef";

/// Limits that no load reaches, though all of it comes from one address: counting is measured, being refused is not.
const RATE_LIMITS: &str = "anonymous=1000000,user=1000000,address=10000000";

/// What is started.
#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    /// Everything in one process.
    Up,
    /// One role, with its broker's address.
    Role(&'static str, &'a str),
}

impl Kind<'_> {
    fn is_processor(self) -> bool {
        matches!(self, Self::Role("payment-processor", _))
    }
}

/// A running exchange, or one role of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    child: Child,
    log: PathBuf,
    address: SocketAddr,
    ready_after: Duration,
}

impl Exchange {
    /// Starts one and waits until it is ready. Without a database it has its own under `data`.
    ///
    /// # Errors
    ///
    /// It ends, or does not become ready: with the end of its log.
    pub(crate) async fn start(data: &Path, db: Option<&DbConfig>) -> anyhow::Result<Self> {
        Self::start_with(data, db, &[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Errors
    ///
    /// It ends, or does not become ready: with the end of its log.
    pub(crate) async fn start_with(
        data: &Path,
        db: Option<&DbConfig>,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_as(Kind::Up, data, db, settings).await
    }

    /// Starts one role alone, on a database and a broker, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It ends, or does not become ready: with the end of its log.
    pub(crate) async fn start_role(
        role: &'static str,
        data: &Path,
        db: &DbConfig,
        broker: &str,
    ) -> anyhow::Result<Self> {
        Self::start_as(Kind::Role(role, broker), data, Some(db), &[]).await
    }

    async fn start_as(
        kind: Kind<'_>,
        data: &Path,
        db: Option<&DbConfig>,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let (port, processor_port, inbox_port) = (free_port()?, free_port()?, free_port()?);
        std::fs::create_dir_all(data)?;
        let log = data.join("exchange.log");
        let out = std::fs::File::create(&log)?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DB_", "KX_", "PG", "OTEL_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        for name in ["NODE_ENV", "RABBITMQ_URL", "SMTP_URL"] {
            command.env_remove(name);
        }
        match kind {
            Kind::Up => command.args(["up", "--no-demo", "--data-dir"]).arg(data),
            Kind::Role(role, broker) => command.arg(role).env("RABBITMQ_URL", broker),
        };
        command
            .env("PORT", port.to_string())
            .env("PROCESSOR_PORT", processor_port.to_string())
            .env("INBOX_PORT", inbox_port.to_string())
            .env("JAEGER_PORT", "0")
            .env("OTLP_PORT", "0")
            .env("KX_LISTEN", "127.0.0.1")
            .env("JWT_SECRET", JWT_SECRET)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true);
        // One with a database of its own is started and looked at as anybody's: no load comes to it.
        if let Some(db) = db {
            command
                .env("KX_RATE_LIMITS", RATE_LIMITS)
                .env("DB_HOST", &db.host)
                .env("DB_PORT", db.port.to_string())
                .env("DB_USER", &db.user)
                .env("DB_NAME", &db.database)
                .env("DB_PASSWORD", db.password.as_ref().map_or("", |password| password.expose()));
        }
        command.envs(settings.iter().copied());
        let child = command.spawn().context("cannot start the exchange")?;
        let port = if kind.is_processor() { processor_port } else { port };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut exchange = Self { child, log, address, ready_after: Duration::ZERO };
        exchange.wait_until_ready(started).await?;
        exchange.ready_after = started.elapsed();
        Ok(exchange)
    }

    async fn wait_until_ready(&mut self, started: Instant) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the exchange ended with {status}:\n{}", self.said());
            }
            if started.elapsed() > START_MAX {
                bail!("the exchange did not become ready:\n{}", self.said());
            }
            if self.get("/ready").await.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks without a token.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        let mut connection = Connection::open(self.address).await?;
        Ok(connection.call(&http::request("GET", path, self.address, None, None)).await?)
    }

    /// Reads one of its metrics.
    ///
    /// # Errors
    ///
    /// It does not answer, or has no such metric.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let reply = self.get("/metrics").await?;
        let text = String::from_utf8_lossy(&reply.body);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("there is no metric {name}"))?.parse().context("no number")
    }

    /// Ends it as the system would: with nothing said.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Returns where its server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how long it took to become ready.
    pub(crate) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Returns its process id; 0 when it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Returns the end of what it has said.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Stops it as an operator would.
    ///
    /// # Errors
    ///
    /// It does not end, or ends with an error.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        let status = status.context("the exchange does not stop")??;
        if !status.success() {
            bail!("the exchange stopped with {status}:\n{}", self.said());
        }
        Ok(())
    }
}

/// Finds a free port. Somebody else may take it before it is used; then the start says so.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
