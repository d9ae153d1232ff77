//! The acts: what is done to the exchange so that an alert must fire, and how it is undone.

mod around;
mod database;
mod money;
mod orders;
mod roles;
mod watching;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::Psql;

use super::{Act, Scene, critical, held_back, info, lasting, warning, within_minutes};
use crate::process::Process;
use crate::proxy::Mode;

/// The acts of a bounded run.
pub(super) const BOUNDED: &[Act] = &[orders::LETTERS, roles::PROCESSOR];

/// Those that are told of within minutes, in an order in which none makes an alert of a later one fire before its time: what
/// looks back for minutes comes first.
pub(super) const ALL: &[Act] = &[
    orders::SLOW,
    orders::NO_ORDERS,
    orders::CUT_OFF,
    roles::PROCESSOR,
    orders::LETTERS,
    roles::DEPOSED,
    roles::ASIDE,
    money::TAMPERED,
    money::BROKEN_ROW,
    around::STALE_FEED,
    around::NO_FEED,
    roles::DESCRIPTORS,
    orders::SOME_FAIL,
    database::SESSIONS,
    database::NO_CONNECTION_LEFT,
    database::POOL,
    database::BEHIND,
    orders::NOBODY_DECIDES,
    orders::STUCK,
    orders::ALARMS,
    watching::NTFY_BROKEN,
    watching::GOALERT_BROKEN,
    watching::BAD_RULE,
    roles::SERVERS,
    orders::BROKER,
    database::DATABASE,
    roles::RESTARTS,
];

/// Those that last until they are told of: first what leaves trading alone, so that meanwhile is learned what is usual.
pub(super) const LASTING: &[Act] =
    &[around::UNHEARD, around::A_LITTLE_SLOW, around::FAR_TOO_SLOW, around::NOBODY_COMES];

/// A session at the database that somebody else holds.
pub(super) struct Session(Child);

impl Session {
    /// Says something and stays in its transaction, idle.
    fn start(psql: &Psql, sql: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-h", "127.0.0.1", "-U", "exchange", "-d", "crypto_exchange"])
            .env("PGPORT", psql.port.to_string())
            .env("PGPASSWORD", &psql.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql is installed with PostgreSQL");
        // It waits for more until it is killed.
        let input = child.stdin.as_mut().expect("it is piped");
        writeln!(input, "BEGIN; {sql};").expect("psql reads");
        Self(child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something that is done again and again, beside everything else.
pub(super) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                work();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Scene<'_, '_> {
    fn ctl(&self, arguments: &[&str]) {
        self.run.stand.broker.ctl(arguments).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lets RabbitMQ say that it has no memory left, or that it has.
    fn memory_alarm(&self, on: bool) {
        let mark = if on { &["0"][..] } else { &["absolute", "1GB"] };
        self.ctl(&[&["set_vm_memory_high_watermark"][..], mark].concat());
    }

    /// Lets RabbitMQ say that its disk is full, or that it is not.
    fn disk_alarm(&self, on: bool) {
        self.ctl(&["set_disk_free_limit", if on { "900000GB" } else { "50MB" }]);
    }

    fn change(&self, sql: &str) {
        let done = self.run.stand.psql().try_run(sql);
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Changes what only the journal may change, as its superuser could.
    fn tamper(&self, sql: &str) {
        self.change(&format!("SET LOCAL session_replication_role = replica; {sql}"));
    }

    fn hold(&mut self, sql: &str) {
        let session = Session::start(&self.run.stand.psql(), sql);
        self.props.sessions.push(session);
    }

    fn release(&mut self) {
        self.props.busy.clear();
        self.props.sessions.clear();
        // What a killed client had begun ends with it, where nothing holds that up: then it is ended.
        self.change(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql' \
             AND pid <> pg_backend_pid()",
        );
    }

    fn servers_way(&self, mode: Mode) {
        self.run.stand.servers.iter().for_each(|server| server.broker.set(mode));
    }

    fn slow_servers(&self, by: Duration) {
        self.run.stand.servers.iter().for_each(|server| server.broker.delay(by));
    }

    fn processors_way(&self, mode: Mode) {
        self.run.stand.processors.iter().for_each(|processor| processor.broker.set(mode));
    }

    /// Stops the servers cleanly, and starts them with other settings.
    fn restart_servers(&mut self, change: impl Fn(&mut Process)) {
        for server in &mut self.run.stand.servers {
            server.terminate();
            change(server);
            server.spawn();
        }
        self.run.stand.wait_ready();
    }
}
