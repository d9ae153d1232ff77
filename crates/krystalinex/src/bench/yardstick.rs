//! The yardstick: `pgbench -N` on the same cluster, in the same run, so that the machine's mood divides out.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use store::DbConfig;
use tokio::process::Command;

use super::machine;

/// The database that pgbench has for itself.
const DATABASE: &str = "yardstick";

/// pgbench on one cluster.
#[derive(Debug)]
pub(crate) struct Yardstick {
    program: PathBuf,
    config: DbConfig,
    logs: tempfile::TempDir,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    /// Transactions a second.
    pub rate: f64,
    /// The average latency, in milliseconds.
    pub average_ms: f64,
    /// The median latency.
    pub p50_ms: f64,
    /// The latency that 99 % stay below.
    pub p99_ms: f64,
}

impl Yardstick {
    /// Finds pgbench and fills a database of its own, of scale 20.
    ///
    /// # Errors
    ///
    /// pgbench is not installed, or the database cannot be made.
    pub(crate) async fn new(config: &DbConfig) -> anyhow::Result<Self> {
        let program = find().context("pgbench was not found beside PostgreSQL's programs")?;
        let logs = tempfile::tempdir().context("cannot make a temporary folder")?;
        let connection = config.connect().await?;
        // Another section may have had one.
        connection.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE}")).await?;
        connection.batch_execute(&format!("CREATE DATABASE {DATABASE} TEMPLATE template0")).await?;
        let config = DbConfig { database: DATABASE.to_owned(), ..config.clone() };
        let yardstick = Self { program, config, logs };
        yardstick.pgbench(&["-i", "-s", "20", "-q"]).await?;
        Ok(yardstick)
    }

    /// Runs `pgbench -N -M prepared` with `clients` for `time`.
    ///
    /// # Errors
    ///
    /// pgbench fails.
    pub(crate) async fn run(&self, clients: u32, time: Duration) -> anyhow::Result<Run> {
        let prefix = self.logs.path().join("latency");
        let jobs = clients.min(2).to_string();
        let (clients, seconds) = (clients.to_string(), time.as_secs().max(1).to_string());
        let log = format!("--log-prefix={}", prefix.display());
        let arguments =
            ["-N", "-M", "prepared", "-c", &clients, "-j", &jobs, "-T", &seconds, "-l", &log];
        let text = self.pgbench(&arguments).await?;
        let number = |key: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once('=')?.1.split_whitespace().next()?.parse().ok()
        };
        let latencies = self.latencies()?;
        Ok(Run {
            rate: number("tps").with_context(|| format!("pgbench does not say tps: {text}"))?,
            average_ms: number("latency average").unwrap_or(0.0),
            p50_ms: machine::median(&latencies),
            p99_ms: machine::quantile(&latencies, 0.99),
        })
    }

    /// Reads and removes the logs of the last run: the third field is the latency in microseconds.
    fn latencies(&self) -> anyhow::Result<Vec<f64>> {
        let mut latencies = Vec::new();
        for entry in std::fs::read_dir(self.logs.path())?.flatten() {
            let text = std::fs::read_to_string(entry.path())?;
            let micros =
                text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok());
            latencies.extend(micros.map(|micros| micros / 1e3));
            std::fs::remove_file(entry.path())?;
        }
        Ok(latencies)
    }

    async fn pgbench(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let DbConfig { host, port, user, database, password, .. } = &self.config;
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["-h", host, "-p", &port.to_string(), "-U", user, database])
            .env("PGPASSWORD", password.as_ref().map_or("", |password| password.expose()))
            .current_dir(self.logs.path())
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pgbench failed: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Finds pgbench on the path or where the system's packages put it; the newest first.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::split_paths(&path));
    folders.iter().map(|folder| folder.join("pgbench")).find(|program| program.is_file())
}
