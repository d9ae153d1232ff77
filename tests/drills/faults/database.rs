//! PostgreSQL restarted, away, slow, out of connections.

use std::time::{Duration, Instant};

use e2e::wait_for;

use super::broker::{sign_in, unready_but_alive};
use crate::drill::Run;
use crate::process::{PATIENCE, Process};
use crate::proxy::Mode;

/// How soon orders must flow again after the database has come back.
const BACK: Duration = Duration::from_secs(15);
const CONNECTIONS_MAX: u32 = 100;

pub(super) fn restart(run: &mut Run<'_>) {
    let load = run.load();
    for round in 0..run.or_long(2, 20) {
        run.random_pause(500);
        run.stand.stop_database(round % 2 == 1);
        run.stand.start_database(CONNECTIONS_MAX);
        run.faults += 1;
        run.recovered(&load, Instant::now(), BACK);
    }
    run.end_and_check(load);
}

pub(super) fn away(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 50);
    let set = |run: &Run<'_>, mode: Mode| {
        let processes = run.stand.servers.iter().chain(&run.stand.processors);
        processes.for_each(|process| process.database.set(mode));
    };
    sign_in(run);
    set(run, Mode::Cut);
    run.faults += 1;
    unready_but_alive(run);
    std::thread::sleep(Duration::from_secs(run.or_long(2, 60)));
    set(run, Mode::Open);
    run.recovered(&load, Instant::now(), BACK);
    run.stand.wait_ready();
    every_process_says_that_it_is_back(run);
    run.end_and_check(load);
}

/// Under load, when each row is told before it could be read.
fn every_process_says_that_it_is_back(run: &Run<'_>) {
    let processes = || run.stand.servers.iter().chain(&run.stand.processors);
    let is_up =
        |process: &Process| process.metric("kx_database_up", &[]).is_some_and(|is_up| is_up > 0.5);
    wait_for("every process to say that the database answers", run.or_long(PATIENCE, BACK), || {
        processes().all(is_up).then_some(())
    });
}

pub(super) fn slow(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 50);
    let delay = |run: &Run<'_>, by: Duration| {
        let processes = run.stand.servers.iter().chain(&run.stand.processors);
        processes.for_each(|process| process.database.delay(by));
    };
    delay(run, Duration::from_millis(500));
    run.faults += 1;
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(run.or_long(6, 60)));
    let latencies = load.journal.latencies_since(began);
    if let (Some(median), Some(longest)) = (latencies.get(latencies.len() / 2), latencies.last()) {
        let count = latencies.len();
        run.note(format!("meanwhile {count} orders, p50 {median:.0} ms, longest {longest:.0} ms"));
    }
    delay(run, Duration::ZERO);
    run.recovered(&load, Instant::now(), BACK);
    run.stand.wait_ready();
    run.end_and_check(load);
}

pub(super) fn connections(run: &mut Run<'_>) {
    // Few, so that others can hold them all.
    const FEW: u32 = 40;
    let load = run.load();
    run.wait_orders(&load, 50);
    run.stand.stop_database(false);
    run.stand.start_database(FEW);
    run.recovered(&load, Instant::now(), BACK);
    sign_in(run);
    let mut others = Vec::new();
    run.stand.hold_free_connections(&mut others);
    run.faults += 1;
    // Whoever has its own goes on.
    run.recovered(&load, Instant::now(), BACK);
    run.stand.hold_all_connections(&mut others);
    run.faults += 1;
    unready_but_alive(run);
    std::thread::sleep(Duration::from_secs(run.or_long(3, 30)));
    drop(others);
    run.recovered(&load, Instant::now(), BACK);
    run.end_and_check(load);
}

pub(super) fn migrate_thrice(run: &mut Run<'_>) {
    for round in 0..run.or_long(1, 10) {
        let database = format!("thrice_{}_{round}", run.random.below(1_000_000));
        let made = run.stand.psql().try_run_alone(&format!("CREATE DATABASE {database}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let stand = &*run.stand;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..3).map(|_| scope.spawn(|| migrate(stand, &["migrate"], &database))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("each succeeds"));
        });
        migrate(stand, &["migrate", "--status"], &database);
        run.faults += 3;
    }
    run.check();
}

fn migrate(stand: &crate::stand::Stand, arguments: &[&str], database: &str) {
    let output = stand.tool_on(arguments, database);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
}
