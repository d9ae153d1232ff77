//! A drill: a name, what it shows, and what it does to a stand.

use std::time::{Duration, Instant};

use e2e::{Random, wait_for};

use crate::checker::{Verdict, judge};
use crate::gather;
use crate::load::{Load, Plan};
use crate::process::PATIENCE;
use crate::stand::Stand;

/// Steps of one user in a second. Sixteen users make a load that two busy cores carry beside everything else.
const STEPS_PER_SECOND: u64 = 12;

/// A drill.
#[derive(Clone, Copy)]
pub(crate) struct Drill {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Whether it is only run when it is named with `--long`.
    pub(crate) long_only: bool,
    pub(crate) run: fn(&mut Run<'_>),
}

/// A drill on its way.
pub(crate) struct Run<'a> {
    pub(crate) stand: &'a mut Stand,
    pub(crate) random: Random,
    pub(crate) long: bool,
    pub(crate) faults: u64,
    pub(crate) recoveries: Vec<Duration>,
    pub(crate) notes: Vec<String>,
    pub(crate) verdict: Verdict,
    pub(crate) skipped: Option<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(stand: &'a mut Stand, seed: u64, long: bool) -> Self {
        Self {
            stand,
            random: Random::new(seed),
            long,
            faults: 0,
            recoveries: Vec::new(),
            notes: Vec::new(),
            verdict: Verdict::default(),
            skipped: None,
        }
    }

    /// Returns one number for CI and another for a long run.
    pub(crate) fn or_long<T>(&self, bounded: T, long: T) -> T {
        if self.long { long } else { bounded }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Leaves the drill out, and says why.
    pub(crate) fn skip(&mut self, why: impl Into<String>) {
        self.skipped = Some(why.into());
    }

    /// Waits a random time: the moment of a fault is the random part of a drill.
    pub(crate) fn random_pause(&mut self, max_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(max_ms.max(1))));
    }

    pub(crate) fn plan(&mut self) -> Plan {
        Plan { seed: self.random.next(), steps_per_second: STEPS_PER_SECOND, repeats: true }
    }

    /// Starts the load and waits until orders flow.
    pub(crate) fn load(&mut self) -> Load {
        self.stand.cancel_all();
        let plan = self.plan();
        let load = self.stand.load(&plan);
        wait_for("the first acknowledgement", PATIENCE, || {
            (load.journal.acknowledged() > 0).then_some(())
        });
        load
    }

    /// Waits until so many more orders are acknowledged.
    pub(crate) fn wait_orders(&self, load: &Load, more: usize) {
        let wanted = load.journal.acknowledged() + more;
        wait_for("orders to be acknowledged", PATIENCE, || {
            (load.journal.acknowledged() >= wanted).then_some(())
        });
    }

    /// Waits until an order is decided that was sent after the fault, and notes how long that took. What is promised is held
    /// against it in a long run alone: a bounded one shares its cores with others, and fails only beyond several times that.
    pub(crate) fn recovered(
        &mut self,
        load: &Load,
        fault: Instant,
        promised: Duration,
    ) -> Duration {
        let bound = if self.long { promised } else { (6 * promised).max(Duration::from_secs(60)) };
        let decided = wait_for("an order to be decided after the fault", PATIENCE, || {
            load.journal.first_decided_after(fault)
        });
        let took = decided.duration_since(fault);
        self.recoveries.push(took);
        assert!(took <= bound, "orders flow again after {took:?}, promised are {promised:?}");
        took
    }

    /// Ends the load.
    pub(crate) fn end(&mut self, load: Load) {
        self.stand.end(load);
    }

    /// Ends the load and checks every promise.
    pub(crate) fn end_and_check(&mut self, load: Load) {
        self.end(load);
        self.check();
    }

    /// Checks every promise made to a user since the stand was made.
    pub(crate) fn check(&mut self) {
        self.stand.heal();
        let facts = gather::facts(self.stand, &self.stand.known, &mut self.random);
        self.verdict = judge(&self.stand.known, &facts);
        let findings = &self.verdict.findings;
        assert!(findings.is_empty(), "promises broken:\n{}", findings.join("\n"));
    }
}
