//! Wall clocks that jump, as when somebody sets a machine's time or a virtual machine goes on after a pause. The monotonic
//! clock goes on as it does then.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use e2e::wait_for;

use super::processes::FAILOVER_UNSEEN;
use crate::drill::Run;
use crate::process::{PATIENCE, Process, Role};

/// What a process needs to have a wall clock of its own, which it looks up whenever it asks for the time.
const VARIABLES: [&str; 4] =
    ["LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE", "FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC"];
const RIGHT: &str = "+0";
const A_DAY_AHEAD: &str = "+1d";
const JUMPS: [&str; 3] = [A_DAY_AHEAD, "-1h", RIGHT];
/// Orders that must be acknowledged after each jump.
const ORDERS: usize = 40;

/// Returns where Debian has libfaketime, for programs with threads.
fn library() -> Option<PathBuf> {
    let machines = fs::read_dir("/usr/lib").ok()?.flatten();
    machines
        .map(|machine| machine.path().join("faketime/libfaketimeMT.so.1"))
        .find(|at| at.exists())
}

/// The wall clocks of a stand's processes, by their names.
struct Clocks(PathBuf);

impl Clocks {
    /// Starts every process anew on a clock that is right so far.
    fn put_under(run: &mut Run<'_>, library: &std::path::Path) -> Self {
        let clocks = Self(run.stand.directory.clone());
        let stand = &mut *run.stand;
        for process in stand.servers.iter_mut().chain(&mut stand.processors) {
            clocks.set(&process.name, RIGHT);
            let file = clocks.file(&process.name);
            let values = [&*library.to_string_lossy(), &*file.to_string_lossy(), "1", "1"];
            for (name, value) in VARIABLES.into_iter().zip(values) {
                process.set(name, value);
            }
            process.restart();
        }
        stand.wait_ready();
        clocks
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.clock"))
    }

    /// Sets a clock, relative to the right time.
    fn set(&self, name: &str, offset: &str) {
        let (file, new) = (self.file(name), self.file(&format!("{name}.new")));
        fs::write(&new, offset).expect("the stand's directory is writable");
        fs::rename(new, file).expect("it is the same directory");
    }

    /// Gives every process the machine's clock again.
    fn take_away(run: &mut Run<'_>) {
        let stand = &mut *run.stand;
        for process in stand.servers.iter_mut().chain(&mut stand.processors) {
            VARIABLES.into_iter().for_each(|name| process.unset(name));
            process.restart();
        }
        stand.wait_ready();
    }
}

pub(super) fn clocks(run: &mut Run<'_>) {
    let library = library().expect("`./kx drill` and `./kx test` install libfaketime");
    let clocks = Clocks::put_under(run, &library);
    let load = run.load();
    for _ in 0..run.or_long(1, 5) {
        for role in [Role::Processor, Role::Server] {
            for offset in JUMPS {
                let process = match role {
                    Role::Processor => &run.stand.processors[run.stand.wait_active()],
                    Role::Server | Role::Relay => &run.stand.servers[0],
                };
                clocks.set(&process.name, offset);
                if offset == A_DAY_AHEAD {
                    wait_for("the jump to be seen", PATIENCE, || {
                        is_a_day_ahead(run, process).then_some(())
                    });
                }
                run.faults += 1;
                run.wait_orders(&load, ORDERS);
            }
        }
    }
    assert_eq!(rows_out_of_time(run), "0", "the journal's time goes on as PostgreSQL's does");
    wrong_from_the_start(run, &clocks, &load);
    assert_eq!(rows_out_of_time(run), "0", "the journal's time goes on as PostgreSQL's does");
    Clocks::take_away(run);
    run.end_and_check(load);
}

/// Tells whether a process dates its answers tomorrow. (Of a jump back they say nothing: the date is not looked up before the
/// one that was sent last is over.)
fn is_a_day_ahead(run: &Run<'_>, process: &Process) -> bool {
    let Ok(answer) = process.http().get("/health") else { return false };
    let date = answer.headers.iter().find(|(name, _)| name == "date").map(|(_, date)| date);
    date.is_some_and(|date| {
        let later = "> clock_timestamp() + interval '23 hours'";
        run.stand.psql().value(&format!("SELECT '{date}'::timestamptz {later}")) == "t"
    })
}

/// Counts the journal's rows whose time is before that of the row before, or in the future.
fn rows_out_of_time(run: &Run<'_>) -> String {
    run.stand.psql().value(
        "SELECT count(*) FROM (SELECT time, lag(time) OVER (ORDER BY sequence) AS before FROM journal) rows \
         WHERE time < before OR time > (extract(epoch FROM clock_timestamp()) + 5) * 1000000",
    )
}

/// A payment-processor whose clock is wrong when it is named does not become active: it ends, and says why.
fn wrong_from_the_start(run: &mut Run<'_>, clocks: &Clocks, load: &crate::load::Load) {
    let active = run.stand.wait_active();
    let wrong = 1 - active;
    let name = run.stand.processors[wrong].name.clone();
    clocks.set(&name, "+1h");
    run.stand.processors[wrong].restart();
    wait_for("a standby", PATIENCE, || {
        (run.stand.processors[wrong].status("/health") == Some(200)).then_some(())
    });
    let fault = Instant::now();
    run.stand.processors[active].kill();
    run.faults += 1;
    let ended = wait_for("the end of who has the wrong time", PATIENCE, || {
        run.stand.processors[wrong].ended()
    });
    assert!(!ended.success(), "it ended with {ended}");
    let log = fs::read_to_string(run.stand.directory.join(format!("{name}.log")));
    let log = log.expect("a process writes its log");
    assert!(log.contains("s off PostgreSQL's: it must be set"), "it does not say why it ended");
    run.stand.processors[active].spawn();
    run.recovered(load, fault, 2 * FAILOVER_UNSEEN);
    clocks.set(&name, RIGHT);
    run.stand.processors[wrong].restart();
    run.stand.wait_ready();
}
