//! What every long-running role needs: logs, signals, the files of the data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use server::{JwtSecret, ServerConfig};
use store::Db;
use telemetry::{LogFormat, Metric};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// Starts the logs and the metrics of the process itself.
pub fn start_telemetry(
    config: &Config,
    service: &'static str,
    roles: &[&str],
    words_in_a_terminal: bool,
) {
    let terminal = words_in_a_terminal && std::io::stdout().is_terminal();
    let format =
        config.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    telemetry::init(format, service, &config.log);
    telemetry::install_panic_hook();
    telemetry::set_labelled(Metric::BuildInfo, &[VERSION, COMMIT], 1.0);
    roles.iter().for_each(|role| telemetry::set_labelled(Metric::Role, &[role], 1.0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    telemetry::set(Metric::StartTime, now.as_secs_f64());
}

/// Files beside clients' connections: the database, the broker, logs, the data directory.
const FILES_RESERVED: u64 = 256;

/// Takes as many open files as the system lets this process have: the soft limit is often 1,024, which clients alone would use
/// up. A server takes no more connections than there is room for then, so that none of its own files is refused.
pub fn fit_connections(config: &mut ServerConfig) {
    let room = raise_open_files();
    if let Some(room) = room.filter(|room| *room < config.connections_max) {
        let wanted = config.connections_max;
        tracing::warn!(
            room,
            wanted,
            "the system's limit of open files leaves room for fewer connections"
        );
        config.connections_max = room;
    }
}

/// Returns how many connections of clients there is room for; `None` where there is no limit.
fn raise_open_files() -> Option<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot have more files open at once");
            limit = getrlimit(Resource::Nofile);
        }
    }
    let room = limit.current?.saturating_sub(FILES_RESERVED).max(1);
    Some(usize::try_from(room).unwrap_or(usize::MAX))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("KX_COMMIT");

/// What was built: release and commit.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " ", env!("KX_COMMIT"));

/// Measures the process every few seconds, for as long as the runtime lives.
pub async fn measure_process() {
    let mut interval = tokio::time::interval(Duration::from_secs(5));
    loop {
        interval.tick().await;
        if let Some(bytes) = resident_bytes() {
            telemetry::set_count(Metric::ResidentBytes, bytes);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            telemetry::set_count(Metric::OpenFiles, files.count());
        }
        if let Some(files_max) = rustix::process::getrlimit(Resource::Nofile).current {
            telemetry::set_count(Metric::OpenFilesMax, files_max);
        }
        if let Some(micros) = cpu_micros() {
            telemetry::set_total(Metric::CpuSeconds, micros);
        }
    }
}

/// Shows every second what the connections of a process' pool do, for as long as the runtime lives.
pub async fn measure_pool(db: Db) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    loop {
        interval.tick().await;
        let pool = db.pool_use();
        for (state, count) in [("idle", pool.idle), ("used", pool.used), ("waiting", pool.waiting)]
        {
            telemetry::set_count_labelled(Metric::PoolConnections, &[state], count);
        }
    }
}

/// Returns the processor time used, where the system tells, in microseconds.
fn cpu_micros() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may have anything in it; behind it, user and system time are the 12th and 13th.
    let (_, fields) = status.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1))
}

/// Returns the resident memory, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Says something to whoever has started the process, on standard error; nobody may be listening any more, and that is no
/// reason to fail.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Cancels `shutdown` at the first SIGINT or SIGTERM and ends the process at the second.
///
/// # Errors
///
/// The system does not let signals be caught.
pub fn catch_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if second {
                say("Stopped at once, as asked; nothing that was answered is lost.");
                std::process::exit(130);
            }
            shutdown.cancel();
            say("Stopping. Once more stops at once.");
        }
    });
    Ok(())
}

/// Takes a data directory for this process; held for as long as the file lives.
///
/// # Errors
///
/// Another process has it, or it cannot be made.
pub fn lock_data_dir(directory: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join("up.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("KrystalineX is already running with the data directory {}", directory.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Returns the signing key that is kept in the data directory; makes it the first time, readable by its owner alone.
///
/// # Errors
///
/// The file cannot be read or made, or what is in it is no key.
pub fn own_jwt_secret(directory: &Path) -> anyhow::Result<JwtSecret> {
    let path = directory.join("jwt-secret");
    JwtSecret::new(&own_secret(&path)?).with_context(|| {
        format!("{} is no signing key: remove it, and a new one is made", path.display())
    })
}

/// Returns the secret that is kept in a file; makes it the first time, readable by its owner alone.
///
/// # Errors
///
/// The file cannot be read or made.
pub fn own_secret(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => {
            file.read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            text = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
            let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
            let mut file = file.with_context(|| format!("cannot make {name}"))?;
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {name}"))?;
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    }
    Ok(text)
}

/// Starts the log of a tool, where one is asked for: its output is for people and pipes, and errors are told in words.
pub fn start_tool_log(config: &Config) {
    if config.log != "info" {
        telemetry::init(config.log_format.unwrap_or(LogFormat::Text), "kx-tool", &config.log);
    }
}
