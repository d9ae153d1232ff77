//! The stand: a private PostgreSQL and RabbitMQ, servers and payment-processors as processes, users with play money.
//!
//! It is made once and used by one drill after the other: [`Stand::heal`] brings everything back to what a drill expects.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Options as BrokerOptions};
use e2e::{Psql, run, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use store::cluster::{Cluster, Options as ClusterOptions};
use store::{Connection, StoreError};

use crate::flow::{self, Recorded};
use crate::guard::Guard;
use crate::journal::{Journal, Known};
use crate::load::{Load, Plan};
use crate::process::{PATIENCE, Process, Role};
use crate::proxy::{Mode, Proxy};
use crate::user::{Client, PASSWORD_HASH, User};

/// Users of the load.
pub(crate) const USERS: usize = 16;
/// Users beside those of the load, for what a drill does by itself.
pub(crate) const OWN_USERS: usize = 4;
/// The signing key of every server of a stand.
const SECRET: &str = "drills sign with this key: 0123456789 abcdef";
/// What every user is given.
const FUNDS: [(&str, &str); 3] = [("USD", "50000000"), ("BTC", "2000"), ("ETH", "20000")];

/// A stand.
pub(crate) struct Stand {
    pub(crate) servers: Vec<Process>,
    pub(crate) processors: Vec<Process>,
    pub(crate) broker: Broker,
    /// The load's users.
    pub(crate) users: Vec<Arc<User>>,
    /// Users that the load leaves alone.
    pub(crate) own_users: Vec<Arc<User>>,
    /// Everything that users were told since the stand was made.
    pub(crate) known: Known,
    numbers: Vec<u64>,
    recorded: Vec<Vec<Recorded>>,
    cluster: Option<Cluster>,
    connections_max: u32,
    environment: Vec<(String, String)>,
    runtime: tokio::runtime::Runtime,
    pub(crate) directory: PathBuf,
    // Last: whatever has not ended by then, it ends.
    guard: Guard,
}

impl Stand {
    /// Makes a stand with two servers, a payment-processor and a standby.
    pub(crate) fn start() -> Self {
        Self::start_in(Self::new_directory())
    }

    /// Makes a directory for a stand.
    pub(crate) fn new_directory() -> PathBuf {
        let name = format!("kx-drill-{}-{}", std::process::id(), broker::free_port().unwrap_or(0));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        // PostgreSQL runs as another user when we are root, and must be able to pass.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
        directory
    }

    /// Makes a stand in a directory.
    pub(crate) fn start_in(directory: PathBuf) -> Self {
        let guard = Guard::start(&directory);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("there is room for a thread");
        let options = BrokerOptions { management: true, metrics: true, ..BrokerOptions::default() };
        let at = directory.join("rabbitmq");
        let broker = std::thread::spawn(move || Broker::start(&at, options));
        let connections_max = 100;
        let cluster = start_cluster(&runtime, &directory, connections_max);
        guard.notes().add(cluster.pid().unsigned_abs());
        let broker = broker.join().expect("no thread panics");
        let broker = broker.unwrap_or_else(|error| panic!("{error}"));
        let password = fs::read_to_string(cluster.password_file()).expect("the cluster has one");
        let data = directory.join("data").to_string_lossy().into_owned();
        let environment = [
            ("NODE_ENV", "development"),
            ("DB_HOST", "127.0.0.1"),
            ("DB_USER", "exchange"),
            ("DB_NAME", "crypto_exchange"),
            ("DB_PASSWORD", password.trim()),
            ("JWT_SECRET", SECRET),
            ("KX_LISTEN", "127.0.0.1"),
            ("KX_TRUSTED_PROXIES", "127.0.0.1"),
            ("KX_DATA_DIR", &data),
            ("KX_LOG_FORMAT", "json"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut stand = Self {
            servers: Vec::new(),
            processors: Vec::new(),
            broker,
            users: Vec::new(),
            own_users: Vec::new(),
            known: Known::default(),
            numbers: vec![0; USERS],
            recorded: flow::recording(USERS),
            cluster: Some(cluster),
            connections_max,
            environment: environment.to_vec(),
            runtime,
            directory,
            guard,
        };
        stand.populate();
        stand
    }

    fn populate(&mut self) {
        let migrated = self.tool(&["migrate"]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        for _ in 0..2 {
            let (server, processor) = (self.process(Role::Server), self.process(Role::Processor));
            self.servers.push(server);
            self.processors.push(processor);
        }
        self.processors.iter_mut().chain(&mut self.servers).for_each(Process::spawn);
        self.wait_ready();
        self.make_users();
    }

    /// Makes one more process, not started yet.
    pub(crate) fn process(&self, role: Role) -> Process {
        let number = match role {
            Role::Server => self.servers.len(),
            Role::Processor => self.processors.len(),
            Role::Relay => 0,
        };
        let ways = (Proxy::start(self.database_port()), Proxy::start(self.broker.port()));
        let url = self.broker.url_through(ways.1.port());
        let notes = self.guard.notes();
        let (environment, directory) = (&self.environment, &self.directory);
        let mut process = Process::new(role, number, ways, environment, directory, notes);
        process.set("RABBITMQ_URL", &url);
        process
    }

    /// Makes users in the database, logs them in, and gives them play money.
    fn make_users(&mut self) {
        let psql = self.psql();
        for number in 0..USERS + OWN_USERS {
            let email = format!("drill-{number}@drill.example");
            let account = psql.value(&format!(
                "INSERT INTO users (id, email, password_hash, reference_salt, verified_at) VALUES \
                 (gen_random_uuid(), '{email}', '{PASSWORD_HASH}', decode(md5('{email}'), 'hex'), now()) \
                 RETURNING account_id"
            ));
            let account = account.parse().expect("an account is a number");
            let user = Arc::new(User::new(number, email, account));
            self.fund(&user);
            if number < USERS { self.users.push(user) } else { self.own_users.push(user) }
        }
    }

    fn fund(&self, user: &Arc<User>) {
        let mut client = self.client(user);
        for (asset, amount) in FUNDS {
            let body = json!({"asset": asset, "amount": amount});
            let key = format!("funds-{}-{asset}", user.number);
            wait_for("a deposit", PATIENCE, || {
                let headers = [("idempotency-key", key.as_str())];
                let answer = client.send("POST", "/api/v1/wallet/deposit", &headers, Some(&body));
                let done = answer.is_ok_and(|answer| matches!(answer.status, 200 | 201));
                if !done {
                    client.move_on();
                    std::thread::sleep(Duration::from_millis(100));
                }
                done.then_some(())
            });
        }
    }

    /// Returns a client of a user that asks any server.
    pub(crate) fn client(&self, user: &Arc<User>) -> Client {
        Client::new(user, &Arc::new(self.server_addresses()))
    }

    pub(crate) fn server_addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Process::address).collect()
    }

    /// Starts the load on all servers.
    pub(crate) fn load(&self, plan: &Plan) -> Load {
        self.load_on(self.server_addresses(), plan)
    }

    /// Starts the load on some addresses.
    pub(crate) fn load_on(&self, addresses: Vec<SocketAddr>, plan: &Plan) -> Load {
        let journal = Journal::create(&self.directory.join("answers.jsonl"));
        Load::start(&self.users, &Arc::new(addresses), &self.numbers, &self.recorded, plan, journal)
    }

    /// Ends a load and keeps what it knows.
    pub(crate) fn end(&mut self, load: Load) {
        let (known, numbers) = load.finish();
        self.numbers = numbers;
        self.known.add(known);
    }

    /// Cancels what rests from the drills before.
    pub(crate) fn cancel_all(&self) {
        for user in self.users.iter().chain(&self.own_users) {
            let mut client = self.client(user);
            wait_for("the open orders to be cancelled", PATIENCE, || {
                let answer = client.send("DELETE", "/api/v1/orders", &[], None);
                let done = answer.is_ok_and(|answer| answer.status == 200);
                if !done {
                    client.move_on();
                    std::thread::sleep(Duration::from_millis(100));
                }
                done.then_some(())
            });
        }
    }

    /// Waits until every server is ready, and one processor is active.
    pub(crate) fn wait_ready(&mut self) {
        for server in &mut self.servers {
            let name = server.name.clone();
            let began = Instant::now();
            while server.status("/ready") != Some(200) {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{name} does not become ready: {:?}; running: {}",
                    server.readiness(),
                    server.is_running()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        wait_for("an active processor", PATIENCE, || self.active());
    }

    /// Returns which processor is active.
    pub(crate) fn active(&self) -> Option<usize> {
        self.processors.iter().position(is_active)
    }

    /// Waits for the active processor.
    pub(crate) fn wait_active(&self) -> usize {
        wait_for("an active processor", PATIENCE, || self.active())
    }

    /// Brings everything back: no fault, all processes running, two of each.
    pub(crate) fn heal(&mut self) {
        if self.cluster.is_none() || self.connections_max != 100 {
            self.stop_database(false);
            self.start_database(100);
        }
        self.broker.start_again().unwrap_or_else(|error| panic!("{error}"));
        self.servers.truncate(2);
        self.processors.truncate(2);
        for process in self.servers.iter_mut().chain(&mut self.processors) {
            for way in [&process.database, &process.broker] {
                way.set(Mode::Open);
                way.delay(Duration::ZERO);
            }
            process.resume();
            if !process.is_running() {
                process.restart();
            }
        }
        self.wait_ready();
    }

    // ---- the database ---------------------------------------------------------------------------------------

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the database runs")
    }

    pub(crate) fn database_port(&self) -> u16 {
        self.cluster().port()
    }

    pub(crate) fn psql(&self) -> Psql {
        let password = &self.environment.iter().find(|(name, _)| name == "DB_PASSWORD");
        let password = password.map(|(_, value)| value.clone()).unwrap_or_default();
        Psql { port: self.database_port(), password, database: "crypto_exchange".to_owned() }
    }

    /// Runs a subcommand of the binary on the database, without a proxy between.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Output {
        self.tool_on(arguments, "crypto_exchange")
    }

    /// Runs a subcommand of the binary on another database of the cluster.
    pub(crate) fn tool_on(&self, arguments: &[&str], database: &str) -> Output {
        let port = self.database_port().to_string();
        let mut environment: Vec<(&str, &str)> = self
            .environment
            .iter()
            .filter(|(name, _)| name.starts_with("DB_") && name != "DB_NAME")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        environment.extend([("DB_PORT", port.as_str()), ("DB_NAME", database)]);
        run(arguments, &environment)
    }

    /// Stops PostgreSQL: at once, as if it crashed, or fast, as `pg_ctl -m fast`.
    pub(crate) fn stop_database(&mut self, at_once: bool) {
        let Some(cluster) = self.cluster.take() else { return };
        let pid = cluster.pid();
        if at_once {
            let pid = Pid::from_raw(pid).expect("a process has a number");
            kill_process(pid, Signal::QUIT).expect("the database runs");
        }
        self.runtime.block_on(cluster.stop()).unwrap_or_else(|error| panic!("{error}"));
        self.guard.notes().remove(pid.unsigned_abs());
    }

    /// Starts PostgreSQL again.
    pub(crate) fn start_database(&mut self, connections_max: u32) {
        let cluster = start_cluster(&self.runtime, &self.directory, connections_max);
        self.guard.notes().add(cluster.pid().unsigned_abs());
        for process in self.servers.iter().chain(&self.processors) {
            process.database.lead_to(cluster.port());
        }
        self.cluster = Some(cluster);
        self.connections_max = connections_max;
    }

    /// Opens connections to PostgreSQL, as others would, until it refuses one.
    pub(crate) fn hold_free_connections(&self, held: &mut Vec<Connection>) {
        wait_for("a refused connection", PATIENCE, || match self.connect() {
            Ok(connection) => {
                held.push(connection);
                None
            }
            Err(StoreError::Busy) => Some(()),
            Err(error) => panic!("{error}"),
        });
    }

    /// The same until no process has one left: each loses its own, and whoever asks first gets it.
    pub(crate) fn hold_all_connections(&self, held: &mut Vec<Connection>) {
        let every = usize::try_from(self.connections_max).expect("it is small");
        wait_for("others to hold every connection", PATIENCE, || {
            let processes = self.servers.iter().chain(&self.processors);
            processes.for_each(|process| process.database.close_all());
            self.hold_free_connections(held);
            (held.len() == every).then_some(())
        });
    }

    /// Connects to PostgreSQL without a proxy between, as its superuser, for whom it keeps none back.
    fn connect(&self) -> Result<Connection, StoreError> {
        self.runtime.block_on(self.cluster().config().connect())
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.servers.clear();
        self.processors.clear();
        if let Some(cluster) = self.cluster.take() {
            let _ = self.runtime.block_on(cluster.stop());
        }
    }
}

fn start_cluster(
    runtime: &tokio::runtime::Runtime,
    directory: &Path,
    connections_max: u32,
) -> Cluster {
    // Durable: what is committed must survive when PostgreSQL is killed.
    let options = ClusterOptions { connections_max, durable: true, ..ClusterOptions::default() };
    let started = runtime.block_on(Cluster::start(&directory.join("postgres"), options));
    started.unwrap_or_else(|error| panic!("{error}"))
}

/// Tells whether a processor says that it is the active one.
pub(crate) fn is_active(processor: &Process) -> bool {
    processor.metric("kx_sequencer_active", &[]).is_some_and(|active| active > 0.5)
}
