//! Real programs: they come up with the project's configuration, answer, are killed and stopped, and leave nothing running.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use monitoring::{
    Database, Intervals, Job, Monitoring, MonitoringError, Plan, Ports, Programs, Receivers,
};

/// Generous: two noisy cores.
const END_MAX: Duration = Duration::from_secs(60);

/// A plan that watches nothing of an exchange; the exporter finds no database, which it must say and live with.
fn plan() -> Plan {
    Plan {
        ports: Ports::default(),
        jobs: vec![Job::local("krystalinex-server", 9)],
        database: Database {
            host: "127.0.0.1".to_owned(),
            port: 9,
            user: "exchange".to_owned(),
            database: "crypto_exchange".to_owned(),
            password: "password-of-a-test".to_owned(),
        },
        receivers: Receivers { relay: Some("127.0.0.1:9".to_owned()), goalert: None },
        intervals: Intervals { scrape: Some("2s"), ..Intervals::default() },
        keep: "1h",
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Waits until something is so.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < END_MAX, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_three_come_up_watch_each_other_and_come_back_after_a_kill() {
    let directory = tempfile::tempdir().expect("there is room for it");
    let mut monitoring = Monitoring::start(directory.path(), &plan()).expect("it starts");
    let port = monitoring.prometheus.port();
    let up = |job: &str| format!("/api/v1/query?query=up%7Bjob%3D%22{job}%22%7D");
    for job in ["prometheus", "alertmanager", "postgres"] {
        wait_until(job, || get(port, &up(job)).contains(",\"1\"]"));
    }
    wait_until("a server that is not there", || {
        get(port, &up("krystalinex-server")).contains(",\"0\"]")
    });
    let jobs = get(port, "/api/v1/targets?state=active");
    assert!(!jobs.contains("rabbitmq"), "a job that nothing was said of is left out: {jobs}");
    let rules = get(port, "/api/v1/rules");
    assert!(rules.contains("PaymentProcessorDown"), "the project's rules are loaded: {rules}");
    let managers = get(port, "/api/v1/alertmanagers");
    let alertmanager = monitoring.alertmanager.port();
    assert!(managers.contains(&format!("127.0.0.1:{alertmanager}/")), "{managers}");

    let first = monitoring.prometheus.pid();
    monitoring.prometheus.kill();
    assert!(!monitoring.prometheus.is_running() && !listens(port));
    monitoring.prometheus.start_again().expect("it starts again on its port");
    assert_ne!(monitoring.prometheus.pid(), first);
    let ports = monitoring.all().map(|program| program.port());
    monitoring.stop();
    ports.iter().for_each(|port| assert!(!listens(*port), "{port} is still listened on"));
}

#[test]
fn what_was_said_and_written_has_no_password_but_for_its_own_file() {
    let directory = tempfile::tempdir().expect("there is room for it");
    let plan = plan();
    assert!(!format!("{plan:?}").contains("password-of-a-test"));
    let mut monitoring = Monitoring::start(directory.path(), &plan).expect("it starts");
    // The exporter tries, and cannot.
    let exporter = monitoring.postgres_exporter.port();
    wait_until("its figures", || get(exporter, "/metrics").contains("pg_up 0"));
    let command = format!("/proc/{}/cmdline", monitoring.postgres_exporter.pid().expect("it runs"));
    if let Ok(line) = std::fs::read_to_string(command) {
        assert!(!line.contains("password-of-a-test"), "{line}");
    }
    monitoring.stop();
    for entry in std::fs::read_dir(directory.path()).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.file_name().is_some_and(|name| name == "database-password") || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(!text.contains("password-of-a-test"), "{}", path.display());
    }
    use std::os::unix::fs::PermissionsExt as _;
    let file = directory.path().join("database-password");
    let mode = file.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads it: {mode:o}");
}

/// Not a test: the process that the next test kills, when its environment says so.
#[test]
fn owner() {
    let Some(directory) = std::env::var_os("KX_MONITORING_OWNER") else {
        return;
    };
    let mut monitoring = Monitoring::start(Path::new(&directory), &plan()).expect("it starts");
    let ports = monitoring.all().map(|program| program.port().to_string());
    println!("ports {}", ports.join(" "));
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_runs_on_when_the_owner_is_killed() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().expect("there is room for it");
    let mut owner = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args(["--exact", "owner", "--nocapture", "--test-threads=1"])
        .env("KX_MONITORING_OWNER", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(owner.stdout.take().expect("it is piped")).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("ports "));
    let line = line.expect("it says what it has started");
    let (_, ports) = line.split_once("ports ").expect("it says so");
    let ports: Vec<u16> = ports.split(' ').filter_map(|port| port.parse().ok()).collect();
    assert_eq!(ports.len(), 3, "{line}");
    ports.iter().for_each(|port| assert!(listens(*port), "{port} is listened on"));
    owner.kill().expect("it is ours");
    owner.wait().expect("it is ours");
    for port in ports {
        wait_until("silence", || !listens(port));
    }
}

#[test]
fn a_job_that_the_configuration_does_not_have_is_an_error() {
    let directory = tempfile::tempdir().expect("there is room for it");
    let mut plan = plan();
    plan.jobs.push(Job::local("no-such-job", 9));
    let error = Monitoring::start(directory.path(), &plan).expect_err("it cannot be watched");
    assert!(matches!(error, MonitoringError::Configuration { .. }), "{error}");
    assert!(error.to_string().contains("no-such-job"), "{error}");
}

#[test]
fn the_programs_are_found_where_they_are_installed() {
    let programs = Programs::find().expect("./kx test installs them");
    assert!(programs.prometheus.is_file() && programs.alertmanager.is_file());
}
