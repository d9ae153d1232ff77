//! The checker: what the exchange says at the end of a drill, against what its users were told.
//!
//! Invariant: [`judge`] looks at facts alone, so that it can itself be tested: the drill `checker` feeds it broken
//! promises, and each must be found.

use std::collections::{BTreeMap, HashMap};

use crate::journal::{Known, Order, Told};

/// Findings of one kind that are told in words; more are counted.
const TOLD_MAX: usize = 5;

/// An order as the exchange's tables have it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) account: u64,
    pub(crate) market: String,
    pub(crate) side: String,
    pub(crate) quantity_lots: u64,
    pub(crate) filled_lots: u64,
    pub(crate) status: String,
}

/// An order as its user sees it over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) id: String,
    /// Its status, or none where it is not there.
    pub(crate) status: Option<String>,
}

/// Everything that is judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The accounts of the load's users: they have these orders and no other.
    pub(crate) accounts: Vec<u64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) seen: Vec<Seen>,
    /// Orders whose fills do not sum up to what they say is filled.
    pub(crate) fills: Vec<String>,
    /// Assets that do not sum to zero over all accounts, the outside world included.
    pub(crate) sums: Vec<String>,
    /// Wallets that are not the sum of their postings.
    pub(crate) wallets: Vec<String>,
    /// Holds that are not the sum of the open orders and withdrawals.
    pub(crate) holds: Vec<String>,
    /// What `krystalinex verify` said, where it is not clean.
    pub(crate) verify: Option<String>,
}

/// What it came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) findings: Vec<String>,
}

/// Collects findings, each kind counted.
#[derive(Default)]
struct Findings(BTreeMap<&'static str, Vec<String>>);

impl Findings {
    fn add(&mut self, kind: &'static str, what: impl Into<String>) {
        self.0.entry(kind).or_default().push(what.into());
    }

    fn add_all(&mut self, kind: &'static str, all: &[String]) {
        all.iter().for_each(|what| self.add(kind, what));
    }

    fn count(&self, kind: &str) -> usize {
        self.0.get(kind).map_or(0, Vec::len)
    }

    fn lines(&self) -> Vec<String> {
        let line = |(kind, all): (&&str, &Vec<String>)| {
            let told = all.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
            format!("{kind} ({}): {told}", all.len())
        };
        self.0.iter().map(line).collect()
    }
}

const LOST: &str = "acknowledged and gone";
const DOUBLED: &str = "there more than once";

/// Judges what the exchange says by what its users were told.
pub(crate) fn judge(known: &Known, facts: &Facts) -> Verdict {
    let mut findings = Findings::default();
    let mut by_name: HashMap<(u64, u64), Vec<&Row>> = HashMap::new();
    for row in &facts.rows {
        by_name.entry((row.account, row.quantity_lots)).or_default().push(row);
    }
    for order in &known.orders {
        let rows = by_name.remove(&(order.account, order.quantity_lots)).unwrap_or_default();
        if rows.len() > 1 {
            let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
            findings.add(DOUBLED, format!("{} as {}", order.key, ids.join(", ")));
        }
        judge_order(order, rows.first().copied(), &mut findings);
    }
    for row in by_name.into_values().flatten() {
        if facts.accounts.contains(&row.account) {
            findings.add("an order that nobody sent", row.id.clone());
        }
    }
    judge_cancels(known, facts, &mut findings);
    judge_seen(known, facts, &mut findings);
    findings.add_all("answered with a defect", &known.defects);
    findings.add_all("fills that do not sum up", &facts.fills);
    findings.add_all("an asset that does not sum to zero", &facts.sums);
    findings.add_all("a wallet that is not the sum of its postings", &facts.wallets);
    findings.add_all("holds that are not the open orders", &facts.holds);
    if let Some(said) = &facts.verify {
        findings.add("verify", said);
    }
    Verdict {
        acknowledged: known.acknowledged(),
        lost: findings.count(LOST),
        doubled: findings.count(DOUBLED),
        findings: findings.lines(),
    }
}

fn judge_order(order: &Order, row: Option<&Row>, findings: &mut Findings) {
    let key = &order.key;
    if let Some(row) = row {
        if row.status == "pending" {
            findings.add("without a final state", format!("{key}: {}", row.id));
        }
        if row.market != order.market || row.side != order.side {
            findings.add("another order than was sent", format!("{key}: {}", row.id));
        }
    }
    match (&order.told, row) {
        (Told::Accepted { id, .. }, None) => findings.add(LOST, format!("{key}: {id}")),
        (Told::Accepted { id, filled_lots }, Some(row)) => {
            if row.id != *id {
                findings.add("under another id than was told", format!("{key}: {id}"));
            }
            if matches!(row.status.as_str(), "rejected" | "pending") {
                findings.add(LOST, format!("{key}: {id} is {}", row.status));
            }
            if row.filled_lots < *filled_lots {
                findings.add("with fewer fills than were told", format!("{key}: {id}"));
            }
        }
        (Told::Pending { id }, None) => {
            findings.add("told to be pending, and never seen again", format!("{key}: {id}"));
        }
        (Told::Refused { .. }, Some(row))
            if !matches!(row.status.as_str(), "rejected" | "expired") =>
        {
            findings.add("refused, and there all the same", format!("{key}: {}", row.id));
        }
        (Told::Refused { .. } | Told::Pending { .. } | Told::Nothing, _) => {}
    }
}

/// An order whose cancellation was acknowledged is closed.
fn judge_cancels(known: &Known, facts: &Facts, findings: &mut Findings) {
    let by_id: HashMap<&str, &Row> = facts.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    for cancel in known.cancels.iter().filter(|cancel| matches!(cancel.status, 200 | 409)) {
        let status = by_id.get(cancel.id.as_str()).map_or("not there", |row| row.status.as_str());
        if !matches!(status, "cancelled" | "filled" | "expired") {
            findings.add("cancelled, and not closed", format!("{}: {status}", cancel.id));
        }
    }
}

/// What users see is what the tables say.
fn judge_seen(known: &Known, facts: &Facts, findings: &mut Findings) {
    let by_id: HashMap<&str, &Row> = facts.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let promised = known.orders.iter().filter_map(|order| match &order.told {
        Told::Accepted { id, .. } | Told::Pending { id } => Some(id.as_str()),
        Told::Refused { .. } | Told::Nothing => None,
    });
    let promised: std::collections::HashSet<&str> = promised.collect();
    for Seen { id, status } in &facts.seen {
        let row = by_id.get(id.as_str()).map(|row| row.status.as_str());
        match (status.as_deref(), row) {
            (None, _) if promised.contains(id.as_str()) => {
                findings.add("not visible to its user", id.clone());
            }
            (Some("pending"), _) => findings.add("still pending to its user", id.clone()),
            (Some(status), Some(row)) if status != row => {
                findings.add("another status to its user", format!("{id}: {status}, {row}"));
            }
            _ => {}
        }
    }
}
