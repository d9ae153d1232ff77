//! The three together: made in one directory, started, stopped.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::{Guard, free_port};

use crate::configuration::{self, local};
use crate::program::Recipe;
use crate::{Intervals, Job, MonitoringError, Program, Programs, Receivers};

/// Ports of the local host; one that is not named is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Prometheus.
    pub prometheus: Option<u16>,
    /// Alertmanager.
    pub alertmanager: Option<u16>,
    /// The exporter of PostgreSQL's figures.
    pub postgres_exporter: Option<u16>,
}

/// How the exporter comes into the database.
#[derive(Clone)]
pub struct Database {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, user, database, password: _ } = self;
        write!(f, "{user}@{host}:{port}/{database}")
    }
}

/// What is watched, from where, and who is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ports.
    pub ports: Ports,
    /// Where the jobs of `config/prometheus.yml` find what they watch, beside the three themselves. A job that is not here is left
    /// out.
    pub jobs: Vec<Job>,
    /// The database.
    pub database: Database,
    /// Who is told.
    pub receivers: Receivers,
    /// How often is looked, where not as shipped.
    pub intervals: Intervals,
    /// How long Prometheus keeps what it has measured, in its words.
    pub keep: &'static str,
}

/// The three programs, which this process owns. Dropped, they are gone.
#[derive(Debug)]
pub struct Monitoring {
    /// Prometheus.
    pub prometheus: Program,
    /// Alertmanager.
    pub alertmanager: Program,
    /// The exporter of PostgreSQL's figures.
    pub postgres_exporter: Program,
    // Last: whatever has not ended by then, it ends.
    _guard: Arc<Guard>,
}

impl Monitoring {
    /// Writes the configurations into `directory`, starts the three, and returns when they are ready.
    ///
    /// # Errors
    ///
    /// [`MonitoringError`], which says what to do about it.
    pub fn start(directory: &Path, plan: &Plan) -> Result<Self, MonitoringError> {
        let programs = Programs::find()?;
        let directory = make(directory)?;
        let named = |port: Option<u16>| port.map_or_else(free_port, Ok);
        let ports = [
            named(plan.ports.prometheus)?,
            named(plan.ports.alertmanager)?,
            named(plan.ports.postgres_exporter)?,
        ];
        write(&directory, plan, ports)?;
        let guard = Arc::new(Guard::start(&directory, false)?);
        let program = |recipe| Program::new(recipe, &directory, Arc::clone(&guard));
        let mut monitoring = Self {
            prometheus: program(prometheus(&programs, &directory, plan, ports[0])),
            alertmanager: program(alertmanager(&programs, &directory, ports[1])),
            postgres_exporter: program(exporter(&programs, &directory, &plan.database, ports[2])),
            _guard: Arc::clone(&guard),
        };
        for program in monitoring.all() {
            program.begin()?;
        }
        for program in monitoring.all() {
            program.wait_until_ready()?;
        }
        Ok(monitoring)
    }

    /// Returns the three, in the order in which they are started.
    pub fn all(&mut self) -> [&mut Program; 3] {
        [&mut self.postgres_exporter, &mut self.alertmanager, &mut self.prometheus]
    }

    /// Stops the three cleanly.
    pub fn stop(&mut self) {
        // All are told first: they end beside each other.
        self.all().iter().for_each(|program| program.tell_to_end());
        self.all().into_iter().for_each(Program::stop);
    }
}

/// Makes the directories.
fn make(directory: &Path) -> Result<PathBuf, MonitoringError> {
    for path in [directory.to_owned(), directory.join("prometheus"), directory.join("alertmanager")]
    {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(MonitoringError::files("cannot make", &path))?;
    }
    directory.canonicalize().map_err(MonitoringError::files("cannot find", directory))
}

/// Writes what the programs read.
fn write(directory: &Path, plan: &Plan, ports: [u16; 3]) -> Result<(), MonitoringError> {
    let [prometheus, alertmanager, exporter] = ports;
    let mut jobs = plan.jobs.clone();
    for (name, port) in
        [("prometheus", prometheus), ("alertmanager", alertmanager), ("postgres", exporter)]
    {
        jobs.push(Job::local(name, port));
    }
    let texts = [
        ("prometheus.yml", configuration::prometheus(&jobs, alertmanager, plan.intervals)?),
        ("alertmanager.yml", configuration::alertmanager(&plan.receivers, plan.intervals)?),
        ("database-password", plan.database.password.clone()),
    ];
    let rules = configuration::RULES.map(|(name, text)| (name, text.to_owned()));
    for (name, text) in texts.into_iter().chain(rules) {
        private(&directory.join(name), &text)?;
    }
    Ok(())
}

fn prometheus(programs: &Programs, directory: &Path, plan: &Plan, port: u16) -> Recipe {
    Recipe {
        name: "prometheus",
        program: programs.prometheus.clone(),
        arguments: vec![
            flag("--config.file=", directory.join("prometheus.yml")),
            flag("--storage.tsdb.path=", directory.join("prometheus")),
            flag("--storage.tsdb.retention.time=", plan.keep),
            flag("--web.listen-address=", local(port)),
            flag("--log.format=", "json"),
        ],
        environment: Vec::new(),
        port,
        ready: "/-/ready",
    }
}

fn alertmanager(programs: &Programs, directory: &Path, port: u16) -> Recipe {
    Recipe {
        name: "alertmanager",
        program: programs.alertmanager.clone(),
        arguments: vec![
            flag("--config.file=", directory.join("alertmanager.yml")),
            flag("--storage.path=", directory.join("alertmanager")),
            flag("--web.listen-address=", local(port)),
            // There is one.
            flag("--cluster.listen-address=", ""),
            flag("--log.format=", "json"),
        ],
        environment: Vec::new(),
        port,
        ready: "/-/ready",
    }
}

fn exporter(programs: &Programs, directory: &Path, database: &Database, port: u16) -> Recipe {
    let Database { host, port: at, user, database, password: _ } = database;
    // A directory is that of a socket.
    let (host, socket) = match host.starts_with('/') {
        true => ("localhost", format!("&host={host}")),
        false => (host.as_str(), String::new()),
    };
    let uri = format!(
        "{host}:{at}/{database}?sslmode=disable&application_name=kx-postgres-exporter{socket}"
    );
    Recipe {
        name: "postgres_exporter",
        program: programs.postgres_exporter.clone(),
        arguments: vec![flag("--web.listen-address=", local(port)), flag("--log.format=", "json")],
        environment: vec![
            ("DATA_SOURCE_URI", uri.into()),
            ("DATA_SOURCE_USER", user.into()),
            // In a file: an environment can be read by whoever lists processes as us.
            ("DATA_SOURCE_PASS_FILE", directory.join("database-password").into()),
        ],
        port,
        ready: "/",
    }
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value.into());
    flag
}

/// Writes a file that its owner alone can read.
fn private(path: &Path, text: &str) -> Result<(), MonitoringError> {
    let open = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(MonitoringError::files("cannot write", path))
}
