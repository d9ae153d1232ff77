//! A database restored from a backup while the broker, or a payment-processor, is ahead of it.

use std::time::Duration;

use e2e::wait_for;

use crate::drill::Run;
use crate::gather;
use crate::management::{DEAD_LETTERS, Management, ORDERS};
use crate::process::{PATIENCE, Process};

/// Puts a backup in the place of the database, whoever uses it.
fn put_back(run: &Run<'_>, file: &std::path::Path) {
    let server = run.stand.psql().with_database("postgres");
    let dropped = server.try_run_alone("DROP DATABASE crypto_exchange WITH (FORCE)");
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    let _ = server.restore("crypto_exchange", file);
}

/// Loads the exchange, makes a backup of which everything is known, and loads it further.
fn back_up(run: &mut Run<'_>) -> std::path::PathBuf {
    let load = run.load();
    run.wait_orders(&load, 150);
    run.end_and_check(load);
    gather::settle(&run.stand.psql());
    let file = run.stand.directory.join("backup.sql");
    std::fs::write(&file, run.stand.psql().dump()).expect("the stand's directory is writable");
    file
}

/// Starts a load whose users do not ask again: nobody will know what they were told.
fn careless(run: &mut Run<'_>) -> crate::load::Load {
    let plan = crate::load::Plan { repeats: false, ..run.plan() };
    run.stand.load(&plan)
}

/// Returns every order that the tables have.
fn orders(run: &Run<'_>) -> Vec<String> {
    run.stand.psql().rows("SELECT id FROM orders_projected ORDER BY id")
}

fn verify(run: &Run<'_>) {
    let verified = run.stand.tool(&["verify"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "verify ended with {}: {said}", verified.status);
}

/// What an operator does after a restore: everything is stopped, the journal is told, everything starts. What the broker
/// still has for the lost rows stays there.
fn begin_anew(run: &mut Run<'_>) {
    let stand = &mut *run.stand;
    stand.servers.iter_mut().chain(&mut stand.processors).for_each(Process::kill);
    let restored = stand.tool(&["restore"]);
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "restore ended with {}: {said}", restored.status);
    stand.heal();
}

pub(super) fn restore(run: &mut Run<'_>) {
    let file = back_up(run);
    let refused = run.stand.tool(&["restore"]);
    assert!(!refused.status.success(), "a payment-processor is at work: no journal begins anew");
    let before = orders(run);
    // What users are told from here on is lost with the database that knew it: that is what restoring a backup means.
    // So it is not held against the exchange; what must hold is that nothing of it happens half.
    let known = std::mem::take(&mut run.stand.known);
    let load = careless(run);
    run.wait_orders(&load, 100);
    run.stand.processors.iter_mut().for_each(Process::kill);
    let mut management = Management::of(&run.stand.broker);
    wait_for("commands to wait in the queue", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        (management.depth(ORDERS) >= 5).then_some(())
    });
    run.stand.servers.iter_mut().for_each(Process::kill);
    run.end(load);
    run.stand.known = known;
    put_back(run, &file);
    run.faults += 1;
    // The payment-processors meet commands that have seen more than the journal has.
    run.stand.processors.iter_mut().for_each(Process::spawn);
    let ended = wait_for("a payment-processor to refuse them", PATIENCE, || {
        run.stand.processors.iter_mut().find_map(Process::ended)
    });
    run.note(format!("a payment-processor that met a newer command ended with {ended}"));
    assert!(!ended.success(), "it must not end as if all were well");
    run.stand.processors.iter_mut().for_each(Process::kill);
    assert_eq!(orders(run), before, "none of the newer commands was executed");
    let dead = management.depth(DEAD_LETTERS);
    begin_anew(run);
    wait_for("the newer commands to be put aside", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        (management.depth(DEAD_LETTERS) > dead).then_some(())
    });
    assert_eq!(orders(run), before, "none of the newer commands was executed");
    verify(run);
    let load = run.load();
    run.wait_orders(&load, 50);
    run.end_and_check(load);
}

pub(super) fn restore_running(run: &mut Run<'_>) {
    let file = back_up(run);
    let known = std::mem::take(&mut run.stand.known);
    let load = careless(run);
    run.wait_orders(&load, 100);
    // Nobody stops anything: sessions are ended, and the database is another one when they come back.
    put_back(run, &file);
    run.faults += 1;
    std::thread::sleep(Duration::from_secs(run.or_long(3, 20)));
    let stand = &mut *run.stand;
    stand.servers.iter_mut().chain(&mut stand.processors).for_each(Process::kill);
    run.end(load);
    run.stand.known = known;
    // Whatever was appended then, it continues the restored journal, or was refused.
    verify_journal(run);
    put_back(run, &file);
    begin_anew(run);
    verify(run);
    let load = run.load();
    run.wait_orders(&load, 50);
    run.end_and_check(load);
}

/// Nobody projects any more: the journal alone must be whole.
fn verify_journal(run: &Run<'_>) {
    let verified = run.stand.tool(&["verify", "--journal-only"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "verify ended with {}: {said}", verified.status);
}
