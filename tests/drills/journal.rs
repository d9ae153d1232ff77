//! What was sent and what was answered: the harness's own journal, against which the exchange is checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};

/// What a user was told of an order in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// 200 or 201: it is accepted, with this id and this many lots filled.
    Accepted { id: String, filled_lots: u64 },
    /// 202: it is pending.
    Pending { id: String },
    /// A refusal, which is final.
    Refused { status: u16, code: String },
    /// 503, or no answer, as often as it was asked.
    Nothing,
}

/// An order as its user knows it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) user: usize,
    pub(crate) account: u64,
    pub(crate) key: String,
    pub(crate) market: &'static str,
    pub(crate) side: &'static str,
    /// In lots. No two orders of a user have the same: it is how an order is known again, whatever became of its id.
    pub(crate) quantity_lots: u64,
    pub(crate) told: Told,
}

/// A cancellation that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Cancel {
    pub(crate) id: String,
    pub(crate) status: u16,
}

/// One answer to one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
    /// The status, or none where the connection broke.
    pub(crate) status: Option<u16>,
}

/// Everything that a load has sent and was answered.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) orders: Vec<Order>,
    pub(crate) cancels: Vec<Cancel>,
    /// By status; 0 where no answer came.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Answers 5xx other than 503, as they were.
    pub(crate) defects: Vec<String>,
}

impl Known {
    pub(crate) fn acknowledged(&self) -> usize {
        self.orders.iter().filter(|order| matches!(order.told, Told::Accepted { .. })).count()
    }

    pub(crate) fn pending(&self) -> usize {
        self.orders.iter().filter(|order| matches!(order.told, Told::Pending { .. })).count()
    }

    pub(crate) fn untold(&self) -> usize {
        self.orders.iter().filter(|order| order.told == Told::Nothing).count()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.orders.extend(other.orders);
        self.cancels.extend(other.cancels);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.defects.extend(other.defects);
    }
}

/// The journal while it is written, by all clients at once, and its file.
pub(crate) struct Journal {
    began: Instant,
    file: Mutex<BufWriter<File>>,
    known: Mutex<Known>,
    /// When orders were decided: when the request was sent, and when its 201 came.
    decided: Mutex<Vec<Answered>>,
}

impl Journal {
    pub(crate) fn create(path: &Path) -> Self {
        let file = File::create(path).expect("the stand's directory is writable");
        Self {
            began: Instant::now(),
            file: Mutex::new(BufWriter::new(file)),
            known: Mutex::default(),
            decided: Mutex::default(),
        }
    }

    /// Notes one answer, or that none came.
    pub(crate) fn answer(
        &self,
        what: (&str, &str, usize, usize),
        request: Option<&Value>,
        answered: Answered,
        body: &str,
    ) {
        let (method, key, user, server) = what;
        let millis = |at: Instant| at.duration_since(self.began).as_secs_f64() * 1_000.0;
        let line = json!({
            "sentMs": millis(answered.sent), "answeredMs": millis(answered.answered), "method": method, "key": key,
            "user": user, "server": server, "request": request, "status": answered.status, "body": body,
        });
        let _ = writeln!(self.file.lock().expect("no client panics"), "{line}");
        let status = answered.status.unwrap_or(0);
        let mut known = self.known.lock().expect("no client panics");
        *known.statuses.entry(status).or_default() += 1;
        if status >= 500 && status != 503 {
            known.defects.push(format!("{method} {key} was answered {status}: {body}"));
        }
        drop(known);
        if method == "POST" && status == 201 {
            self.decided.lock().expect("no client panics").push(answered);
        }
    }

    pub(crate) fn order(&self, order: Order) {
        self.known.lock().expect("no client panics").orders.push(order);
    }

    pub(crate) fn cancel(&self, cancel: Cancel) {
        self.known.lock().expect("no client panics").cancels.push(cancel);
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.decided.lock().expect("no client panics").len()
    }

    /// Returns when the first order that was sent after `moment` was decided.
    pub(crate) fn first_decided_after(&self, moment: Instant) -> Option<Instant> {
        let decided = self.decided.lock().expect("no client panics");
        decided.iter().filter(|one| one.sent >= moment).map(|one| one.answered).min()
    }

    /// Returns how long the orders that were sent since `moment` and were decided took, sorted, in milliseconds.
    pub(crate) fn latencies_since(&self, moment: Instant) -> Vec<f64> {
        let decided = self.decided.lock().expect("no client panics");
        let since = decided.iter().filter(|one| one.sent >= moment);
        let mut millis: Vec<f64> = since
            .map(|one| one.answered.duration_since(one.sent).as_secs_f64() * 1_000.0)
            .collect();
        millis.sort_by(f64::total_cmp);
        millis
    }

    /// Ends the journal and returns what is known.
    pub(crate) fn close(&self) -> Known {
        let _ = self.file.lock().expect("no client panics").flush();
        std::mem::take(&mut *self.known.lock().expect("no client panics"))
    }
}
