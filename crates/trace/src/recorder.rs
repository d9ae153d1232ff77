//! Where stage times wait until they are written: bounded, so that a dead store costs memory up to a limit and no time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::clock::Micros;
use crate::latency::Latency;
use crate::record::Request;
use crate::timing::BatchTiming;

/// Requests that may wait: a few seconds of full load.
const REQUESTS_MAX: usize = 65_536;
/// Journal rows that may wait.
const BATCHES_MAX: usize = 8_192;
/// Projections' transactions that may wait.
const PROJECTIONS_MAX: usize = 8_192;

/// The times of a journal row, with what names its spans.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// The row.
    pub sequence: u64,
    /// The journal that it is of.
    pub incarnation: u64,
    /// Its times.
    pub timing: Arc<BatchTiming>,
    /// Trace and id of each command in `timing`, in the same order.
    pub commands: Vec<(u128, u128)>,
}

/// One transaction of a part of the projections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionRecord {
    /// The part.
    pub part: &'static str,
    /// The first journal row in it.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When it began.
    pub begun: Micros,
    /// How long it took.
    pub micros: u32,
}

/// What has been noted since it was last asked.
#[derive(Debug, Default)]
pub struct Noted {
    /// Requests.
    pub requests: Vec<Request>,
    /// Journal rows.
    pub batches: Vec<BatchRecord>,
    /// Projections.
    pub projections: Vec<ProjectionRecord>,
    /// What found no room.
    pub dropped: u64,
}

impl Noted {
    /// Tells whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.batches.is_empty() && self.projections.is_empty()
    }
}

/// Notes stage times. Share it as an [`Arc`].
#[derive(Debug, Default)]
pub struct Recorder {
    requests: Mutex<Vec<Request>>,
    batches: Mutex<Vec<BatchRecord>>,
    projections: Mutex<Vec<ProjectionRecord>>,
    dropped: AtomicU64,
    is_off: bool,
    latency: Latency,
}

impl Recorder {
    /// Makes one that notes nothing: to measure what noting costs.
    #[must_use]
    pub fn off() -> Self {
        Self { is_off: true, ..Self::default() }
    }

    /// Returns how long the stages take.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Notes an answered request.
    pub fn request(&self, request: Request) {
        self.push(&self.requests, REQUESTS_MAX, request);
    }

    /// Notes a committed row.
    pub fn batch(&self, batch: BatchRecord) {
        self.push(&self.batches, BATCHES_MAX, batch);
    }

    /// Notes a committed transaction of the projections.
    pub fn projection(&self, projection: ProjectionRecord) {
        self.push(&self.projections, PROJECTIONS_MAX, projection);
    }

    fn push<T>(&self, all: &Mutex<Vec<T>>, max: usize, one: T) {
        if self.is_off {
            return;
        }
        let mut all = all.lock();
        if all.len() < max {
            all.push(one);
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Takes what has been noted.
    #[must_use]
    pub fn take(&self) -> Noted {
        Noted {
            requests: std::mem::take(&mut *self.requests.lock()),
            batches: std::mem::take(&mut *self.batches.lock()),
            projections: std::mem::take(&mut *self.projections.lock()),
            dropped: self.dropped.swap(0, Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projection(last: u64) -> ProjectionRecord {
        ProjectionRecord { part: "orders", first: last, last, begun: Micros(1), micros: 2 }
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let recorder = Recorder::default();
        for number in 0..PROJECTIONS_MAX as u64 + 3 {
            recorder.projection(projection(number));
        }
        let noted = recorder.take();
        assert_eq!((noted.projections.len(), noted.dropped), (PROJECTIONS_MAX, 3));
        assert!(recorder.take().is_empty());
        let off = Recorder::off();
        off.projection(projection(1));
        assert!(off.take().is_empty());
    }
}
