//! One exchange: the process, its directory, its ports, what it said.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use crate::{Http, Psql, wait_for};

/// A cold start makes a cluster first.
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);

/// Returns the binary: `KX_BINARY`, else the one beside this test.
///
/// # Panics
///
/// When it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().expect("a program knows its own file");
        // A test lies in deps/, a program beside the binary.
        let near = own.ancestors().skip(1).take(2).map(|directory| directory.join("krystalinex"));
        near.filter(|path| path.is_file()).last().unwrap_or_default()
    };
    let path = std::env::var_os("KX_BINARY").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "{} is not built: cargo build --release --workspace", path.display());
    path
}

/// Runs the binary to its end, with nothing of our own environment's configuration.
///
/// # Panics
///
/// When it cannot be started.
#[must_use]
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    clean(&mut command);
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().expect("the binary starts")
}

/// Finds a free port. Somebody else may take it before it is used; that has to be lived with.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    broker::free_port().expect("there is a free port")
}

/// Asks the system for a user's number.
fn id(flag: &str, user: &str) -> u32 {
    let output = Command::new("id").args([flag, user]).output().expect("id runs");
    let number = String::from_utf8_lossy(&output.stdout).trim().parse();
    number.unwrap_or_else(|_| panic!("there is no user {user}"))
}

/// Keeps our own environment's configuration from a program.
pub fn clean(command: &mut Command) {
    for name in [
        "PORT",
        "PROCESSOR_PORT",
        "INBOX_PORT",
        "JAEGER_PORT",
        "OTLP_PORT",
        "NODE_ENV",
        "JWT_SECRET",
        "JWT_SECRET_PREVIOUS",
        "SMTP_URL",
        "RABBITMQ_URL",
        "RABBITMQ_PASSWORD",
        "ALERT_RELAY_PORT",
        "DATABASE_URL",
        "CI",
    ] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["DB_", "KX_", "OTEL_", "PG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// What differs from one exchange to another.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Arguments after `up --data-dir DIR`.
    pub arguments: Vec<String>,
    /// The environment, beside the ports.
    pub environment: Vec<(String, String)>,
    /// Another user to run as.
    pub user: Option<String>,
}

/// A running exchange and its directory. Dropped, both are gone.
#[derive(Debug)]
pub struct Exchange {
    directory: PathBuf,
    settings: Settings,
    port: u16,
    processor_port: u16,
    inbox_port: u16,
    child: Option<Child>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Exchange {
    /// Starts a new exchange with the demo's users and waits until it is ready.
    #[must_use]
    pub fn demo() -> Self {
        Self::with(Settings { arguments: vec!["--demo".to_owned()], ..Settings::default() })
    }

    /// Starts a new exchange and waits until it is ready.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let mut exchange = Self::unstarted(settings);
        exchange.start();
        exchange
    }

    /// Makes the directory and chooses the ports.
    ///
    /// # Panics
    ///
    /// When the directory cannot be made.
    #[must_use]
    pub fn unstarted(settings: Settings) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kx-e2e-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        // PostgreSQL runs as another user when we are root, and must be able to pass.
        let open = if settings.user.is_some() { 0o777 } else { 0o755 };
        fs::set_permissions(&directory, fs::Permissions::from_mode(open)).expect("it is ours");
        Self {
            directory,
            settings,
            port: free_port(),
            processor_port: free_port(),
            inbox_port: free_port(),
            child: None,
            said: Arc::default(),
        }
    }

    /// Starts the process and waits until `/ready` is 200.
    ///
    /// # Panics
    ///
    /// When it ends, or does not become ready.
    pub fn start(&mut self) {
        self.spawn();
        wait_for("ready", START_MAX, || {
            if let Some(status) = self.ended() {
                panic!("it ended with {status}:\n{}", self.said());
            }
            self.http().get("/ready").ok().filter(|answer| answer.status == 200)
        });
    }

    /// Starts the process and does not wait.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn spawn(&mut self) {
        let mut command = Command::new(binary());
        if let Some(user) = &self.settings.user {
            command.uid(id("-u", user)).gid(id("-g", user));
        }
        clean(&mut command);
        command
            .args(["up", "--data-dir"])
            .arg(self.data())
            .args(&self.settings.arguments)
            .env("PORT", self.port.to_string())
            .env("PROCESSOR_PORT", self.processor_port.to_string())
            .env("INBOX_PORT", self.inbox_port.to_string())
            .envs(self.settings.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        self.listen(stdout);
        self.listen(stderr);
        self.child = Some(child);
    }

    /// Keeps what a stream says; ends with it.
    fn listen(&self, stream: impl std::io::Read + Send + 'static) {
        let said = Arc::clone(&self.said);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                said.lock().expect("no listener panics").push(line);
            }
        });
    }

    /// Returns everything that it has said, on both streams.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().expect("no listener panics").join("\n")
    }

    /// Returns the exit status if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("it is our child")
    }

    /// Kills the process with SIGKILL, as a power cut would. Its PostgreSQL goes on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).expect("it is our child");
        wait_for("the end", STOP_MAX, || child.try_wait().expect("it is our child"))
    }

    /// Returns a directory of its own for whatever a test leaves; it goes with the exchange.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory of the exchange's data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Returns the server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the process id of the exchange.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns a client of the server.
    #[must_use]
    pub fn http(&self) -> Http {
        Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Returns a client of the payment processor's health port.
    #[must_use]
    pub fn processor(&self) -> Http {
        Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.processor_port)))
    }

    /// Returns a client that is logged in.
    ///
    /// # Panics
    ///
    /// When the login is refused.
    #[must_use]
    pub fn login(&self, email: &str, password: &str) -> Http {
        let body = json!({"email": email, "password": password});
        let answer = self.http().post("/api/v1/auth/login", &body).expect("it answers").expect(200);
        let token = answer["accessToken"].as_str().expect("a login gives a token");
        self.http().with_token(token)
    }

    /// Returns a way into its database.
    ///
    /// # Panics
    ///
    /// When it has none.
    #[must_use]
    pub fn psql(&self) -> Psql {
        let read = |name: &str| {
            let file = find(&self.data(), name).unwrap_or_else(|| panic!("there is a file {name}"));
            fs::read_to_string(file).expect("it is readable")
        };
        Psql {
            port: read("postmaster.pid")
                .lines()
                .nth(3)
                .and_then(|line| line.parse().ok())
                .expect("a port"),
            password: read("password").trim().to_owned(),
            database: "crypto_exchange".to_owned(),
        }
    }

    /// Runs `krystalinex verify` on a database of its running PostgreSQL.
    #[must_use]
    pub fn verify(&self, psql: &Psql) -> Output {
        self.tool(&["verify"], psql)
    }

    /// Runs a subcommand of the binary on a database of its running PostgreSQL.
    #[must_use]
    pub fn tool(&self, arguments: &[&str], psql: &Psql) -> Output {
        let environment = [
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", &psql.port.to_string()),
            ("DB_PASSWORD", &psql.password),
            ("DB_NAME", &psql.database),
        ];
        run(arguments, &environment)
    }

    /// Waits until the journal has noted the audit log's head: a few seconds after the log's first rows.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn wait_for_audit_head(&self) {
        let psql = self.psql();
        wait_for("the audit log's head", Duration::from_secs(90), || {
            let shown = self.tool(&["journal", "show", "--limit", "10000"], &psql);
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            let noted = shown.split("NoteAuditHead").nth(1)?;
            noted.lines().nth(1)?.contains("Done").then_some(())
        });
    }

    /// Returns whether its PostgreSQL runs.
    #[must_use]
    pub fn postgres_runs(&self) -> bool {
        postmaster(&self.directory).is_some_and(|pid| test_kill_process(pid).is_ok())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the exchange said:\n{}", self.said());
        }
        self.kill();
        if let Some(pid) = postmaster(&self.directory) {
            // Immediate: nobody needs the data any more. No panic here: one may be under way.
            let _ = kill_process(pid, Signal::QUIT);
            let began = Instant::now();
            while test_kill_process(pid).is_ok() && began.elapsed() < STOP_MAX {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn postmaster(directory: &Path) -> Option<Pid> {
    let text = fs::read_to_string(find(directory, "postmaster.pid")?).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Finds a file by its name, not deeper than the cluster's own directory.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_name() == name {
                return Some(entry.path());
            }
            if depth < 3 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    None
}
