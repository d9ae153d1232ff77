//! Processes that are killed, stopped, paused, deposed and started.

use std::time::{Duration, Instant};

use e2e::wait_for;

use crate::drill::Run;
use crate::process::{PATIENCE, Role};
use crate::proxy::Mode;
use crate::stand::is_active;

/// How soon orders must flow again after the active payment-processor is gone.
pub(crate) const FAILOVER: Duration = Duration::from_secs(10);
/// The same where it was paused or cut off, which takes the broker some heartbeats to see.
pub(crate) const FAILOVER_UNSEEN: Duration = Duration::from_secs(15);
/// How long a process may take from SIGTERM to its end.
const STOP: Duration = Duration::from_secs(30);

pub(super) fn kill_processor(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(3, 50) {
        run.random_pause(600);
        let active = run.stand.wait_active();
        let fault = Instant::now();
        run.stand.processors[active].kill();
        run.faults += 1;
        run.recovered(&load, fault, FAILOVER);
        run.stand.processors[active].spawn();
    }
    run.end_and_check(load);
}

pub(super) fn kill_server(run: &mut Run<'_>) {
    let load = run.load();
    for round in 0..run.or_long(4, 20) {
        run.random_pause(600);
        let victim = round % run.stand.servers.len();
        let fault = Instant::now();
        run.stand.servers[victim].kill();
        run.faults += 1;
        run.recovered(&load, fault, FAILOVER);
        run.stand.servers[victim].spawn();
        run.stand.wait_ready();
    }
    run.end_and_check(load);
}

pub(super) fn kill_all(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(2, 20) {
        run.random_pause(600);
        let stand = &mut *run.stand;
        stand
            .servers
            .iter_mut()
            .chain(&mut stand.processors)
            .for_each(crate::process::Process::kill);
        run.faults += 1;
        let fault = Instant::now();
        stand
            .servers
            .iter_mut()
            .chain(&mut stand.processors)
            .for_each(crate::process::Process::spawn);
        run.recovered(&load, fault, FAILOVER_UNSEEN);
    }
    run.end_and_check(load);
}

/// Kills the active payment-processor while one of its ways is shut in a certain manner, so that it dies at a certain
/// step without being told to.
fn die_with(run: &mut Run<'_>, shut: &[(bool, Mode)]) {
    /// Rounds until a command was caught at the step: one kill in a few may find nothing there.
    const ROUNDS_MAX: usize = 8;
    let load = run.load();
    let wanted = run.or_long(2, 20);
    let (mut round, mut repeated) = (0, 0);
    while round < wanted || (repeated == 0 && round < wanted + ROUNDS_MAX) {
        let (of_database, mode) = shut[round % shut.len()];
        run.random_pause(300);
        let active = run.stand.wait_active();
        let processor = &run.stand.processors[active];
        let way = if of_database { &processor.database } else { &processor.broker };
        way.set(mode);
        // Long enough for every user to have an order under way, short enough for nobody to notice the shut way.
        std::thread::sleep(Duration::from_millis(100));
        run.random_pause(300);
        let fault = Instant::now();
        run.stand.processors[active].kill();
        run.faults += 1;
        let processor = &run.stand.processors[active];
        for way in [&processor.database, &processor.broker] {
            way.close_all();
            way.set(Mode::Open);
        }
        run.recovered(&load, fault, FAILOVER);
        repeated += repeats(run);
        run.stand.processors[active].spawn();
        round += 1;
    }
    run.note(format!("{repeated} commands came again that were in the journal already"));
    run.end_and_check(load);
}

/// Returns how many commands the active payment-processor was brought again since it started, although they were decided.
fn repeats(run: &Run<'_>) -> u64 {
    let active = run.stand.wait_active();
    let count = run.stand.processors[active].metric("kx_commands_repeated_total", &[]);
    format!("{:.0}", count.unwrap_or(0.0)).parse().unwrap_or(0)
}

pub(super) fn after_append(run: &mut Run<'_>) {
    die_with(run, &[(false, Mode::Hole)]);
}

pub(super) fn before_ack(run: &mut Run<'_>) {
    die_with(run, &[(false, Mode::Mute)]);
}

pub(super) fn between_decide_and_commit(run: &mut Run<'_>) {
    // The row does not arrive; the row arrives, and its answer does not.
    die_with(run, &[(true, Mode::Hole), (true, Mode::Deaf)]);
}

pub(super) fn rolling_restart(run: &mut Run<'_>) {
    let load = run.load();
    for round in 0..run.or_long(1, 5) {
        for number in 0..2 {
            for role in [Role::Processor, Role::Server] {
                let at = Instant::now();
                let processes = match role {
                    Role::Server => &mut run.stand.servers,
                    Role::Processor | Role::Relay => &mut run.stand.processors,
                };
                let process = &mut processes[number];
                let (status, took) = process.terminate();
                assert!(status.success(), "{} ended with {status}", process.name);
                let bound = if run.long { STOP } else { 2 * STOP };
                assert!(took <= bound, "{} took {took:?} to stop", process.name);
                process.spawn();
                let name = process.name.clone();
                run.faults += 1;
                // It takes orders or hands them on while it stops: they count from the signal on.
                let flow = run.recovered_from(&load, at, at, FAILOVER).as_secs_f64();
                let took = took.as_secs_f64();
                run.note(format!(
                    "round {round}: {name} stopped in {took:.2} s; orders flow after {flow:.2} s"
                ));
                run.stand.wait_ready();
            }
        }
    }
    run.end_and_check(load);
}

pub(super) fn two_active(run: &mut Run<'_>) {
    let load = run.load();
    for _ in 0..run.or_long(2, 20) {
        run.random_pause(500);
        run.stand.wait_active();
        let before = deposed(run);
        // What another one would do that believes to be the active one: claim the journal.
        let claim =
            "UPDATE epoch SET epoch = epoch + 1, owner = 'a drill', raised_at = clock_timestamp()";
        let fault = Instant::now();
        let claimed = run.stand.psql().try_run(claim);
        assert!(claimed.status.success(), "{}", String::from_utf8_lossy(&claimed.stderr));
        run.faults += 1;
        // The older one's append is refused, it stands by, and an alertable metric says so.
        wait_for("the older one to be deposed", PATIENCE, || (deposed(run) > before).then_some(()));
        run.recovered(&load, fault, FAILOVER_UNSEEN);
    }
    run.end_and_check(load);
}

/// Returns how often the processors have lost the journal since they started.
fn deposed(run: &Run<'_>) -> u64 {
    let counts = run.stand.processors.iter().filter_map(|one| one.metric("kx_deposed_total", &[]));
    format!("{:.0}", counts.sum::<f64>()).parse().unwrap_or(0)
}

pub(super) fn zombie(run: &mut Run<'_>) {
    let load = run.load();
    let active = run.stand.wait_active();
    let fault = Instant::now();
    run.stand.processors[active].pause();
    run.faults += 1;
    let took = run.recovered(&load, fault, FAILOVER_UNSEEN);
    let others: Vec<usize> = (0..run.stand.processors.len()).filter(|n| *n != active).collect();
    wait_for("another to be active", PATIENCE, || {
        others.iter().copied().find(|number| is_active(&run.stand.processors[*number]))
    });
    if run.long {
        std::thread::sleep(Duration::from_secs(60).saturating_sub(took));
    }
    run.stand.processors[active].resume();
    // On waking it finds that it was replaced: it must stand by, and never append as what it was.
    wait_for("the one that woke to notice", PATIENCE, || {
        let woken = &run.stand.processors[active];
        let deposed = woken.metric("kx_deposed_total", &[]).is_some_and(|count| count > 0.5);
        (deposed || !is_active(woken)).then_some(())
    });
    run.wait_orders(&load, 50);
    run.end_and_check(load);
}

pub(super) fn late_server(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 100);
    let mut late = run.stand.process(Role::Server);
    late.spawn();
    let began = Instant::now();
    wait_for("the late server to be ready", PATIENCE, || {
        (late.status("/ready") == Some(200)).then_some(())
    });
    run.note(format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    run.faults += 1;
    // From now on users ask it as well: what others have told them, it must know.
    run.end(load);
    run.stand.servers.push(late);
    run.stand.wait_ready();
    let facts = crate::gather::facts(run.stand, &run.stand.known, &mut run.random);
    let verdict = crate::checker::judge(&run.stand.known, &facts);
    assert!(verdict.findings.is_empty(), "promises broken:\n{}", verdict.findings.join("\n"));
    let load = run.load();
    run.wait_orders(&load, 50);
    run.end_and_check(load);
}
