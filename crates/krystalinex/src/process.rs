//! What every long-running role needs: logs, signals, the files of the data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use server::JwtSecret;
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
    telemetry::set_labelled(Metric::BuildInfo, &[VERSION, COMMIT.unwrap_or("unknown")], 1.0);
    roles.iter().for_each(|role| telemetry::set_labelled(Metric::Role, &[role], 1.0));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    telemetry::set(Metric::StartTime, now.as_secs_f64());
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: Option<&str> = option_env!("KX_COMMIT");

/// Says what was built: release and commit.
#[must_use]
pub fn build() -> String {
    format!("{VERSION} {}", COMMIT.unwrap_or("unknown"))
}

/// Measures the process every few seconds, for as long as the runtime lives.
pub async fn measure_process() {
    let mut interval = tokio::time::interval(Duration::from_secs(5));
    loop {
        interval.tick().await;
        if let Some(bytes) = resident_bytes() {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            telemetry::set(Metric::ResidentBytes, bytes as f64);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            telemetry::set(Metric::OpenFiles, files.count() as f64);
        }
    }
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
    let name = path.display();
    let mut text = String::new();
    match File::open(&path) {
        Ok(mut file) => {
            file.read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            text = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
            let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
            let mut file = file.with_context(|| format!("cannot make {name}"))?;
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {name}"))?;
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    }
    JwtSecret::new(&text)
        .with_context(|| format!("{name} is no signing key: remove it, and a new one is made"))
}

/// Starts the log of a tool, where one is asked for: its output is for people and pipes, and errors are told in words.
pub fn start_tool_log(config: &Config) {
    if config.log != "info" {
        telemetry::init(config.log_format.unwrap_or(LogFormat::Text), "kx-tool", &config.log);
    }
}
