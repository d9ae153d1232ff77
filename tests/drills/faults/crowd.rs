//! Several servers behind one address, and several payment-processors that share the work.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::{limit, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::processes::FAILOVER;
use crate::drill::Run;
use crate::gather;
use crate::process::{PATIENCE, Process, Role};
use crate::stream::Stream;
use crate::user::{Client, accepted, ask};

/// A running haproxy.
struct Balancer {
    port: u16,
    child: Child,
}

impl Balancer {
    fn start(program: &Path, directory: &Path, servers: &[Process]) -> Self {
        let port = broker::free_port().expect("there is a free port");
        let mut text = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n  option redispatch\n\
             frontend all\n  bind 127.0.0.1:{port}\n  default_backend servers\n\
             backend servers\n  balance roundrobin\n  option httpchk GET /ready\n  default-server check inter 250ms fall 1 rise 1\n"
        );
        for server in servers {
            let _ = writeln!(text, "  server {} 127.0.0.1:{}", server.name, server.port);
        }
        let file = directory.join("haproxy.cfg");
        fs::write(&file, text).expect("the stand's directory is writable");
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy starts");
        Self { port, child }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn haproxy_program() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join("haproxy")).find(|file| file.is_file())
}

pub(super) fn haproxy(run: &mut Run<'_>) {
    let Some(program) = haproxy_program() else {
        run.skip("haproxy is not installed (Debian: apt-get install haproxy)");
        return;
    };
    let third = run.stand.process(Role::Server);
    run.stand.servers.push(third);
    run.stand.servers[2].spawn();
    run.stand.wait_ready();
    let balancer = Balancer::start(&program, &run.stand.directory, &run.stand.servers);
    let address = balancer.address();
    wait_for("haproxy to see the servers", PATIENCE, || {
        let mut http = e2e::Http::new(address).with_patience(Duration::from_secs(5));
        http.get("/ready").ok().filter(|answer| answer.status == 200)
    });
    run.stand.cancel_all();
    one_user_on_all(run, address);
    let plan = run.plan();
    let load = run.stand.load_on(vec![address], &plan);
    run.wait_orders(&load, 100);
    for victim in 0..3 {
        let fault = Instant::now();
        let mut from = None;
        if victim == 1 {
            // It answers what it has taken while it stops: orders count from the signal on.
            from = Some(fault);
            let (status, _) = run.stand.servers[victim].terminate();
            assert!(status.success(), "the server ended with {status}");
        } else {
            run.stand.servers[victim].kill();
        }
        run.faults += 1;
        run.recovered_from(&load, fault, from.unwrap_or_else(Instant::now), FAILOVER);
        run.stand.servers[victim].spawn();
        run.stand.wait_ready();
    }
    run.end(load);
    drop(balancer);
    run.check();
}

/// What one user may expect who never knows which server answers.
fn one_user_on_all(run: &mut Run<'_>, address: SocketAddr) {
    let user = Arc::clone(&run.stand.own_users[1]);
    let mut anywhere = Client::new(&user, &Arc::new(vec![address]));
    let tag = run.random.next();
    // A key used at every server is one order.
    let order = limit("BTC/USD", "buy", "0.01", "64000.00");
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let key = format!("{tag:x}-once");
        let answer = ask(&mut anywhere, "POST", "/api/v1/orders", &key, Some(&order));
        ids.insert(accepted(&answer)["id"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(ids.len(), 1, "one key, one order");
    // What was written is read, whichever server is asked.
    for number in 0..12 {
        let key = format!("{tag:x}-{number}");
        let placed = ask(&mut anywhere, "POST", "/api/v1/orders", &key, Some(&order));
        let sequence = placed.headers.iter().find(|(name, _)| name == "x-sequence");
        let sequence = sequence.map(|(_, value)| value.clone()).expect("an answer has a sequence");
        let id = accepted(&placed)["id"].as_str().unwrap_or_default().to_owned();
        let page = wait_for("a server that is not behind", PATIENCE, || {
            let headers = [("x-min-sequence", sequence.as_str())];
            let answer = anywhere.send("GET", "/api/v1/orders?limit=500", &headers, None).ok()?;
            (answer.status == 200).then_some(answer)
        });
        assert!(page.body.contains(&id), "the order that was just placed is in the list");
    }
    // A private stream goes on at another server.
    wait_for("a new token", PATIENCE, || anywhere.log_in().ok());
    let token = anywhere.token();
    let servers = run.stand.server_addresses();
    let mut stream = Stream::open(servers[0], &token);
    stream.subscribe();
    for number in 1..4 {
        let first = place(&mut anywhere, &format!("{tag:x}-before-{number}"));
        stream.wait_for(|message| message.to_string().contains(&first));
        let (last, incarnation) = (stream.last, stream.incarnation.clone());
        drop(stream);
        let missed = place(&mut anywhere, &format!("{tag:x}-away-{number}"));
        stream = Stream::open(servers[number % servers.len()], &token);
        stream.resume(last, &incarnation);
        stream.wait_for(|message| message.to_string().contains(&missed));
    }
}

fn place(client: &mut Client, key: &str) -> String {
    let order = limit("BTC/USD", "buy", "0.01", "64000.00");
    accepted(&ask(client, "POST", "/api/v1/orders", key, Some(&order)))["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Limits processes to a share of a core, by stopping them most of the time.
struct Throttle {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Throttle {
    /// Lets each process run for a fifth of the time, not all at the same moment.
    fn start(processes: &[Process]) -> Self {
        const RUNS: Duration = Duration::from_millis(10);
        const STANDS: Duration = Duration::from_millis(40);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = processes.iter().enumerate().map(|(number, process)| {
            let (stop, pid) = (Arc::clone(&stop), process.pid());
            let pid = Pid::from_raw(pid.cast_signed()).expect("a process has a number");
            std::thread::spawn(move || {
                std::thread::sleep(RUNS * u32::try_from(number % 5).unwrap_or(0));
                while !stop.load(Ordering::SeqCst) && kill_process(pid, Signal::STOP).is_ok() {
                    std::thread::sleep(STANDS);
                    let _ = kill_process(pid, Signal::CONT);
                    std::thread::sleep(RUNS);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it only sends signals"));
    }
}

pub(super) fn replicas(run: &mut Run<'_>) {
    let third = run.stand.process(Role::Processor);
    run.stand.processors.push(third);
    run.stand.processors[2].spawn();
    run.stand.wait_ready();
    // Killing any of them stops nothing.
    let load = run.load();
    let throttle = Throttle::start(&run.stand.processors);
    run.wait_orders(&load, 50);
    throttle.end();
    for victim in 0..3 {
        let fault = Instant::now();
        run.stand.processors[victim].kill();
        run.faults += 1;
        run.recovered(&load, fault, FAILOVER);
        run.stand.processors[victim].spawn();
    }
    run.end(load);
    if run.long {
        let three = catch_up(run);
        run.stand.processors.truncate(1);
        run.stand.wait_ready();
        let one = catch_up(run);
        let ratio = one.as_secs_f64() / three.as_secs_f64();
        run.note(format!(
            "a backlog caught up in {:.1} s by three replicas and in {:.1} s by one: {ratio:.2} times as fast",
            three.as_secs_f64(),
            one.as_secs_f64()
        ));
        assert!(ratio >= 1.5, "three replicas are {ratio:.2} times as fast as one");
    }
    run.check();
}

/// Makes a backlog of the projections by keeping them from writing, and returns how long replicas with a fifth of a core
/// each take to catch up.
fn catch_up(run: &mut Run<'_>) -> Duration {
    let psql = run.stand.psql();
    let load = run.load();
    let mut lock = Command::new("sh");
    let mut lock = lock
        .args([
            "-c",
            "exec psql -X -q -h 127.0.0.1 -U exchange -d crypto_exchange \
            -c 'BEGIN; LOCK TABLE projection_progress IN EXCLUSIVE MODE; SELECT pg_sleep(600)'",
        ])
        .env("PGPORT", psql.port.to_string())
        .env("PGPASSWORD", &psql.password)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("psql is installed with PostgreSQL");
    // Whoever reads what is not projected waits for it: the load is slower than it is otherwise.
    for _ in 0..8 {
        run.wait_orders(&load, 1_000);
    }
    run.end(load);
    let throttle = Throttle::start(&run.stand.processors);
    let head = psql.value("SELECT max(sequence) FROM journal");
    let began = Instant::now();
    let _ = lock.kill();
    let _ = lock.wait();
    let _ = psql.try_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
    let behind =
        format!("SELECT count(*) FROM projection_progress WHERE active AND sequence < {head}");
    wait_for("the projections to catch up", 5 * PATIENCE, || {
        (psql.try_value(&behind)? == "0").then_some(())
    });
    let took = began.elapsed();
    throttle.end();
    gather::settle(&psql);
    took
}
