//! A real RabbitMQ node: it comes up, answers, survives being killed with what it has, and leaves nothing running.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use broker::{Broker, BrokerError, Options, Programs, free_port};

/// Generous: two noisy cores.
const END_MAX: Duration = Duration::from_secs(60);

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Waits until nothing listens on a port.
fn wait_until_silent(port: u16) {
    let began = Instant::now();
    while listens(port) {
        assert!(began.elapsed() < END_MAX, "something still listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn users(broker: &Broker) -> String {
    broker.ctl(&["list_users", "--silent"]).expect("rabbitmqctl works")
}

#[test]
fn a_node_is_killed_and_stopped_and_comes_back_with_what_it_had() {
    let directory = tempfile::tempdir().expect("there is room for it");
    let mut broker = Broker::start(directory.path(), Options::default()).expect("it starts");
    let port = broker.port();
    assert!(broker.url().ends_with(&format!("@127.0.0.1:{port}/%2f")), "{}", broker.url().len());
    assert!(users(&broker).contains(broker.user()), "the node's own user alone");
    assert!(!users(&broker).contains("guest"), "no user with a known password");

    broker.ctl(&["add_vhost", "kept"]).expect("rabbitmqctl works");
    let first = broker.pid();
    broker.kill();
    assert!(!broker.is_running());
    wait_until_silent(port);
    assert!(
        matches!(broker.ctl(&["list_vhosts"]), Err(BrokerError::Control { .. })),
        "nobody there"
    );

    broker.start_again().expect("it starts again on its port");
    assert_ne!(broker.pid(), first);
    assert!(broker.ctl(&["list_vhosts"]).expect("it answers").contains("kept"));
    broker.stop();
    wait_until_silent(port);
    broker.start_again().expect("it starts again after a clean stop");
    drop(broker);
    wait_until_silent(port);
}

#[test]
fn ports_of_a_node_are_not_given_to_others_by_chance() {
    let port = free_port().expect("there is one");
    assert!((15_000..31_000).contains(&port), "{port} is one that outgoing connections get");
}

/// Not a test: the process that the next test kills, when its environment says so.
#[test]
fn owner() {
    let Some(directory) = std::env::var_os("KX_BROKER_OWNER") else {
        return;
    };
    let options = Options { throwaway: true, ..Options::default() };
    let broker = Broker::start(directory.as_ref(), options).expect("it starts");
    println!("node {} {}", broker.pid().expect("it runs"), broker.port());
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_runs_on_when_the_owner_is_killed() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().expect("there is room for it");
    let node = directory.path().join("node");
    let mut owner = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args(["--exact", "owner", "--nocapture", "--test-threads=1"])
        .env("KX_BROKER_OWNER", &node)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(owner.stdout.take().expect("it is piped")).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("node "));
    let line = line.expect("it says what it has started");
    let port = line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    assert!(listens(port), "the node runs");
    owner.kill().expect("it is ours");
    owner.wait().expect("it is ours");
    wait_until_silent(port);
    let began = Instant::now();
    while node.exists() {
        assert!(began.elapsed() < END_MAX, "the directory of a throwaway node stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_programs_are_found_where_they_are_installed() {
    let programs = Programs::find().expect("./kx test installs RabbitMQ");
    assert!(programs.script("rabbitmqctl").is_file() && programs.port_mapper().is_file());
}
