//! What trading does not stand on, accepting connections and never answering: the trace collector, the price feeds, the mail
//! server, and a Prometheus that asks and does not read.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use e2e::wait_for;
use serde_json::json;

use crate::drill::Run;
use crate::hole::{Hole, Outside};
use crate::process::{PATIENCE, Process};

/// Requests for metrics that nobody reads, at each process.
const DEAF_SCRAPERS: usize = 8;
/// How much worse the p99 may be, in a long run.
const WORSE_MAX: f64 = 1.10;
/// What a clock's grain and a busy neighbor may add to it.
const GRAIN_MS: f64 = 3.0;

pub(super) fn blackhole(run: &mut Run<'_>) {
    let before = measure(run, &mut |_| {});
    let holes = Outside::ALL.map(|outside| (outside, Hole::start()));
    restart(run, &mut |process| {
        holes.iter().for_each(|(outside, hole)| outside.lead(process, hole.port));
    });
    let mut deaf = Vec::new();
    let after = measure(run, &mut |run| {
        deaf = scrape_and_never_read(run);
        register(run);
        run.faults += 1;
    });
    for (outside, hole) in &holes {
        let name = outside.setting();
        wait_for(&format!("a connection to {name}"), PATIENCE, || {
            (hole.accepted() > 0).then_some(())
        });
        run.note(format!("{name}: {} connections swallowed", hole.accepted()));
    }
    run.note(format!("p99 of orders: {before:.1} ms before, {after:.1} ms with the holes"));
    drop(deaf);
    restart(run, &mut |process| {
        holes.iter().for_each(|(outside, _)| process.unset(outside.setting()));
    });
    run.check();
    if run.long {
        let bound = before * WORSE_MAX + GRAIN_MS;
        assert!(after <= bound, "p99 {after:.1} ms, without holes {before:.1} ms");
    }
}

/// Runs the load and returns the p99 of orders; none of its requests may be answered 5xx, or not at all.
///
/// What is shut in a hole stays there, so that its harm would be seen in every window. A machine that others keep busy for
/// seconds, in which RabbitMQ confirms nothing, is seen in one: a bounded run, which shares its cores, looks again then.
fn measure(run: &mut Run<'_>, beside: &mut dyn FnMut(&mut Run<'_>)) -> f64 {
    let mut looks = run.or_long(4, 1);
    loop {
        let before = failed(run);
        let load = run.load();
        beside(run);
        let began = Instant::now();
        thread::sleep(Duration::from_secs(run.or_long(15, 60)));
        let latencies = load.journal.latencies_since(began);
        run.end(load);
        let failed = failed(run) - before;
        looks -= 1;
        if failed == 0 {
            let place = (latencies.len() * 99 / 100).min(latencies.len().saturating_sub(1));
            return *latencies.get(place).expect("orders go on");
        }
        run.note(format!("a window with {failed} requests that failed"));
        assert!(looks > 0, "the error rate is not 0");
    }
}

/// How many requests were answered 5xx, or not at all.
fn failed(run: &Run<'_>) -> u64 {
    let statuses = run.stand.known.statuses.iter();
    statuses.filter(|(status, _)| **status == 0 || **status >= 500).map(|(_, count)| count).sum()
}

fn restart(run: &mut Run<'_>, change: &mut dyn FnMut(&mut Process)) {
    let stand = &mut *run.stand;
    for process in stand.processors.iter_mut().chain(&mut stand.servers) {
        process.terminate();
        change(process);
        process.spawn();
    }
    stand.wait_ready();
}

/// Asks every process for its metrics and reads nothing.
fn scrape_and_never_read(run: &Run<'_>) -> Vec<TcpStream> {
    let processes = run.stand.servers.iter().chain(&run.stand.processors);
    let each = processes.flat_map(|process| std::iter::repeat_n(process.address(), DEAF_SCRAPERS));
    each.map(|address| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        for _ in 0..4 {
            write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it reads");
        }
        stream
    })
    .collect()
}

/// Signs somebody up, who must be sent a letter.
pub(super) fn register(run: &mut Run<'_>) {
    let server = run.stand.servers.first().expect("there is one");
    let email = format!("hole-{:x}@drill.example", run.random.next());
    let body = json!({"email": email, "password": "a long password of a drill 7"});
    let answer = server.http().post("/api/v1/auth/register", &body).expect("it answers");
    assert!(answer.status < 300, "signing up does not wait for mail: {answer:?}");
}
