//! The postmaster: found running or started, watched until it is ready, stopped.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::Child;

use super::account::{self, RunAs};
use super::setup::tail;
use super::{ClusterError, Options, Paths, Programs, START_MAX, STOP_MAX};
use crate::Secret;

/// How often is looked whether it is ready or gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Starts with a new port before giving up: somebody else may take a free port first.
const STARTS_MAX: u32 = 3;
/// A log longer than this is moved aside at the next start.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    port: u16,
    /// Ours to reap, unless it was found running.
    child: Option<Child>,
}

impl Postmaster {
    /// Takes over the postmaster that runs on the cluster, or starts one; returns when it takes connections.
    pub(super) async fn run(
        programs: &Programs,
        paths: &Paths,
        run_as: Option<&RunAs>,
        options: Options,
        password: &Secret,
    ) -> Result<Self, ClusterError> {
        // One that does not become ready was on its way down, and is gone now.
        if let Some(mut running) = find(paths).await?
            && running.ready(paths, password).await?
        {
            tracing::info!(pid = running.pid(), "took over the PostgreSQL that was running");
            return Ok(running);
        }
        clear_stale(paths)?;
        for attempt in 1.. {
            let mut started = start(programs, paths, run_as, options)?;
            if started.ready(paths, password).await? {
                return Ok(started);
            }
            if attempt == STARTS_MAX || !log_says(paths, "could not create any TCP/IP sockets") {
                return Err(failed(paths, "does not start"));
            }
        }
        unreachable!("the last attempt returns")
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn adopted(&self) -> bool {
        self.child.is_none()
    }

    /// Waits until it takes connections; false when it ends instead.
    async fn ready(&mut self, paths: &Paths, password: &Secret) -> Result<bool, ClusterError> {
        let config = crate::DbConfig {
            database: "postgres".to_owned(),
            ..super::config(paths, self.port, password)
        };
        let began = Instant::now();
        loop {
            if self.gone() {
                return Ok(false);
            }
            // Its own file says when it is worth a try.
            if PidFile::read(paths).is_some_and(|file| file.ready) {
                match config.connect().await {
                    Ok(_) => return Ok(true),
                    Err(error @ crate::StoreError::Authentication { .. }) => {
                        return Err(error.into());
                    }
                    Err(_) => {}
                }
            }
            if began.elapsed() > START_MAX {
                return Err(failed(paths, "does not become ready"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells whether the process has ended, and reaps it.
    fn gone(&mut self) -> bool {
        match &mut self.child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
            None => test_kill_process(self.pid).is_err(),
        }
    }

    /// Stops it: fast first, at once if that takes too long.
    pub(super) async fn stop(mut self, paths: &Paths) -> Result<(), ClusterError> {
        for signal in [Signal::INT, Signal::QUIT] {
            if self.gone() {
                return Ok(());
            }
            // It may end between the look and the signal; the next look finds out.
            if let Err(error) = kill_process(self.pid, signal) {
                tracing::debug!(%error, "the postmaster took no signal");
            }
            let began = Instant::now();
            while began.elapsed() < STOP_MAX {
                if self.gone() {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Err(failed(paths, "does not stop"))
    }
}

/// What `postmaster.pid` says.
struct PidFile {
    pid: Pid,
    port: u16,
    ready: bool,
    stopping: bool,
}

impl PidFile {
    /// Reads the file: pid, data directory, start time, port, socket directory, address, shared memory, status.
    fn read(paths: &Paths) -> Option<Self> {
        let text = fs::read_to_string(paths.data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines().map(str::trim);
        let pid = lines.next()?.parse::<i32>().ok().and_then(|pid| Pid::from_raw(pid.abs()))?;
        let port = lines.nth(2)?.parse().ok()?;
        let status = lines.nth(3).unwrap_or_default();
        Some(Self { pid, port, ready: status == "ready", stopping: status == "stopping" })
    }
}

/// Finds a postmaster that runs on the cluster. One that is stopping is waited for, and is none.
async fn find(paths: &Paths) -> Result<Option<Postmaster>, ClusterError> {
    let Some(file) = PidFile::read(paths).filter(|file| is_ours(file.pid, &paths.data)) else {
        return Ok(None);
    };
    let mut found = Postmaster { pid: file.pid, port: file.port, child: None };
    let began = Instant::now();
    while file.stopping && !found.gone() {
        if began.elapsed() > STOP_MAX {
            return Err(failed(paths, "does not end its stop"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok((!file.stopping).then_some(found))
}

/// Tells whether a process is a postmaster of the cluster: after a restart of the machine or of a container its number
/// may belong to anybody.
fn is_ours(pid: Pid, data: &Path) -> bool {
    if test_kill_process(pid).is_err_and(|error| error != rustix::io::Errno::PERM) {
        return false;
    }
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    match fs::read_link(process.join("cwd")) {
        // A postmaster works in its data directory.
        Ok(directory) => directory == data,
        // Without /proc, or without the right to look: its name has to do.
        Err(_) => {
            let number = pid.as_raw_nonzero().to_string();
            let named =
                std::process::Command::new("ps").args(["-o", "comm=", "-p", &number]).output();
            named.is_ok_and(|named| String::from_utf8_lossy(&named.stdout).contains("postgres"))
        }
    }
}

/// Removes a `postmaster.pid` whose number belongs to somebody else now, which PostgreSQL itself would not dare. It
/// stays where any process still works in the cluster: PostgreSQL then waits for that one, or refuses.
fn clear_stale(paths: &Paths) -> Result<(), ClusterError> {
    let Some(file) = PidFile::read(paths) else { return Ok(()) };
    if test_kill_process(file.pid).is_err() || is_ours(file.pid, &paths.data) {
        return Ok(());
    }
    let mut processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let busy = processes
        .any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|at| at == paths.data));
    if busy {
        return Ok(());
    }
    let path = paths.data.join("postmaster.pid");
    tracing::info!(path = %path.display(), "removed a stale file of a postmaster that is gone");
    fs::remove_file(&path).map_err(ClusterError::files("cannot remove", &path))
}

/// Starts a postmaster; it is not ready yet.
fn start(
    programs: &Programs,
    paths: &Paths,
    run_as: Option<&RunAs>,
    options: Options,
) -> Result<Postmaster, ClusterError> {
    let port = free_port(paths)?;
    let log_path = paths.log();
    if fs::metadata(&log_path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        fs::rename(&log_path, log_path.with_extension("log.old"))
            .map_err(ClusterError::files("cannot move", &log_path))?;
    }
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path);
    let log = open().map_err(ClusterError::files("cannot open", &log_path))?;
    let errors = log.try_clone().map_err(ClusterError::files("cannot open", &log_path))?;
    let mut command = account::command(programs.program("postgres"), run_as);
    command.arg("-D").arg(&paths.data).stdout(log).stderr(errors);
    for (name, value) in settings(paths, port, options) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let child = command.spawn().map_err(|error| ClusterError::Program {
        program: "postgres",
        output: error.to_string(),
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(paths, "ended at once"))?;
    Ok(Postmaster { pid, port, child: Some(child) })
}

/// Returns the port of the last time if it is free, else another.
fn free_port(paths: &Paths) -> Result<u16, ClusterError> {
    let path = paths.port();
    let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match last.map(bind) {
        Some(Ok(listener)) => Ok(listener),
        _ => bind(0),
    };
    let port = listener.and_then(|listener| Ok(listener.local_addr()?.port()));
    let port = port.map_err(ClusterError::files("cannot find a free port for", &paths.data))?;
    fs::write(&path, format!("{port}\n")).map_err(ClusterError::files("cannot write", &path))?;
    Ok(port)
}

/// What the cluster runs with: one exchange on one machine that it shares with the program itself.
fn settings(paths: &Paths, port: u16, options: Options) -> Vec<(&'static str, String)> {
    let on = if options.durable { "on" } else { "off" };
    let socket = if paths.socket_fits() {
        // Quoted, so that a comma in the path is no list.
        format!("\"{}\"", paths.socket.display())
    } else {
        String::new()
    };
    let text = |value: &str| value.to_owned();
    vec![
        ("port", port.to_string()),
        ("listen_addresses", text("127.0.0.1")),
        ("unix_socket_directories", socket),
        ("max_connections", options.connections_max.to_string()),
        ("fsync", text(on)),
        ("synchronous_commit", text(on)),
        ("full_page_writes", text(on)),
        // The journal is written once and read seldom; the rows of open orders and balances are what is hot.
        ("shared_buffers", text(if options.durable { "256MB" } else { "64MB" })),
        ("wal_buffers", text("16MB")),
        ("min_wal_size", format!("{}MB", options.wal_kept_mib)),
        ("max_wal_size", text("4GB")),
        ("checkpoint_timeout", text("15min")),
        ("checkpoint_completion_target", text("0.9")),
        // What is written to tables goes to the disk in small pieces. Left to the system it goes all at once, and commits wait
        // behind it for a tenth of a second and more.
        ("backend_flush_after", text(if options.durable { "256kB" } else { "0" })),
        ("work_mem", text("16MB")),
        ("maintenance_work_mem", text("128MB")),
        ("random_page_cost", text("1.1")),
        // Compiling takes longer than any statement of ours runs.
        ("jit", text("off")),
        ("max_parallel_workers_per_gather", text("0")),
        ("autovacuum_naptime", text("20s")),
        // What is asked for is found by its key: a coarse idea of what else is in a table will do, and a finer one costs
        // processor time that the orders wait for.
        ("default_statistics_target", text("25")),
        ("timezone", text("UTC")),
        ("log_timezone", text("UTC")),
        ("log_min_messages", text("warning")),
        ("log_checkpoints", text("off")),
        // The parent decides when it ends, and a lost terminal is not the reason.
        ("restart_after_crash", text("on")),
    ]
}

fn log_says(paths: &Paths, what: &str) -> bool {
    fs::read_to_string(paths.log()).is_ok_and(|log| tail(&log).contains(what))
}

fn failed(paths: &Paths, what: &str) -> ClusterError {
    let log = fs::read_to_string(paths.log()).unwrap_or_default();
    ClusterError::Postmaster { what: what.to_owned(), log: tail(&log) }
}
