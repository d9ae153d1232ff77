//! A drill: a name, what it shows, and what it does to a stand.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use e2e::{Random, wait_for};

use crate::checker::{Facts, Row, Verdict, judge};
use crate::gather;
use crate::journal::{Order, Told};
use crate::load::{Load, Plan};
use crate::process::PATIENCE;
use crate::stand::Stand;

/// Steps of one user in a second. Sixteen users make a load that two busy cores carry beside everything else.
const STEPS_PER_SECOND: u64 = 12;
/// The same in a long run, which has the machine for itself.
const STEPS_PER_SECOND_LONG: u64 = 40;

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
    /// The alerts that are wanted; none: all.
    pub(crate) alerts: Vec<String>,
    pub(crate) faults: u64,
    pub(crate) recoveries: Vec<Duration>,
    pub(crate) notes: Vec<String>,
    pub(crate) verdict: Verdict,
    pub(crate) skipped: Option<String>,
    /// How many orders were known before this drill.
    first_order: usize,
}

impl<'a> Run<'a> {
    pub(crate) fn new(stand: &'a mut Stand, seed: u64, long: bool) -> Self {
        let first_order = stand.known.orders.len();
        Self {
            stand,
            random: Random::new(seed),
            long,
            alerts: Vec::new(),
            faults: 0,
            recoveries: Vec::new(),
            notes: Vec::new(),
            verdict: Verdict::default(),
            skipped: None,
            first_order,
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
        let steps_per_second = self.or_long(STEPS_PER_SECOND, STEPS_PER_SECOND_LONG);
        Plan { seed: self.random.next(), steps_per_second, repeats: true }
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

    /// Waits until an order is decided that is sent from now on, and notes how long that is since the fault. What is promised is held
    /// against it in a long run alone: a bounded one shares its cores with others, and fails only beyond several times that.
    pub(crate) fn recovered(
        &mut self,
        load: &Load,
        fault: Instant,
        promised: Duration,
    ) -> Duration {
        // Called when the fault is done: what was sent while it was being done may have slipped through before it.
        self.recovered_from(load, fault, Instant::now(), promised)
    }

    /// The same where orders count that were sent from another moment on.
    pub(crate) fn recovered_from(
        &mut self,
        load: &Load,
        fault: Instant,
        from: Instant,
        promised: Duration,
    ) -> Duration {
        let bound = if self.long { promised } else { (6 * promised).max(Duration::from_secs(60)) };
        let decided = wait_for("an order to be decided after the fault", PATIENCE, || {
            load.journal.first_decided_after(from)
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
        let mine = self.stand.known.orders.get(self.first_order..).unwrap_or_default();
        let endings = endings(mine, &facts);
        if !endings.is_empty() {
            self.note(format!("what was answered 202 is now: {endings:?}"));
        }
        let findings = &self.verdict.findings;
        assert!(findings.is_empty(), "promises broken:\n{}", findings.join("\n"));
    }
}

/// Counts what has become of the orders that were answered 202.
fn endings(orders: &[Order], facts: &Facts) -> BTreeMap<String, usize> {
    let by_id: HashMap<&str, &Row> = facts.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let mut endings = BTreeMap::new();
    for order in orders {
        if let Told::Pending { id } = &order.told {
            let status = match by_id.get(id.as_str()) {
                Some(row) if row.decided => row.status.clone(),
                Some(row) => format!("{}, never decided", row.status),
                None => "not there".to_owned(),
            };
            *endings.entry(status).or_default() += 1;
        }
    }
    endings
}
