//! How long the stages of orders take, per market: percentiles of the last minutes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::waterfall::{Stage, Timed};

/// How long one window lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// Windows that are kept, the current one included.
const WINDOWS: usize = 5;
/// The longest time that is told from longer ones, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// Digits that a percentile is exact to.
const DIGITS: u8 = 2;

/// What is measured of a market: each stage, and the whole.
type Key = Option<Stage>;

/// The stages' times of the last five minutes.
pub struct Latency {
    windows: Mutex<Windows>,
}

struct Windows {
    all: Vec<BTreeMap<String, BTreeMap<u8, Histogram<u32>>>>,
    begun: Instant,
}

impl Default for Latency {
    fn default() -> Self {
        Self { windows: Mutex::new(Windows { all: vec![BTreeMap::new()], begun: Instant::now() }) }
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").finish_non_exhaustive()
    }
}

/// Percentiles of one stage, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The stage; `None`: the whole, from request to answer.
    pub stage: Option<Stage>,
    /// How many were measured.
    pub count: u64,
    /// Half took at most this.
    pub p50: u64,
    /// 95 of 100 took at most this.
    pub p95: u64,
    /// 99 of 100 took at most this.
    pub p99: u64,
}

impl Latency {
    /// Counts a command's stages for its market.
    pub fn observe(&self, market: &str, stages: &[Timed]) {
        let mut windows = self.windows.lock();
        windows.turn(Instant::now());
        let Some(current) = windows.all.last_mut() else { return };
        let of_market = match current.get_mut(market) {
            Some(known) => known,
            None => current.entry(market.to_owned()).or_default(),
        };
        let mut count = |key: Key, micros: u64| {
            let histogram = of_market.entry(number(key)).or_insert_with(histogram);
            histogram.saturating_record(micros.max(1));
        };
        let mut whole = 0;
        for timed in stages {
            whole += u64::from(timed.micros);
            count(Some(timed.stage), timed.micros.into());
        }
        count(None, whole);
    }

    /// Returns the percentiles of the last five minutes, by market, in the order of the way, the whole last.
    #[must_use]
    pub fn percentiles(&self) -> BTreeMap<String, Vec<Percentiles>> {
        let mut windows = self.windows.lock();
        windows.turn(Instant::now());
        let mut sums: BTreeMap<String, BTreeMap<u8, Histogram<u32>>> = BTreeMap::new();
        for (market, stages) in windows.all.iter().flatten() {
            let of_market = sums.entry(market.clone()).or_default();
            for (key, counted) in stages {
                let sum = of_market.entry(*key).or_insert_with(histogram);
                // Both have the same bounds.
                let _ = sum.add(counted);
            }
        }
        drop(windows);
        let percentiles = |(key, counted): (u8, Histogram<u32>)| Percentiles {
            stage: Stage::ALL.get(usize::from(key)).copied(),
            count: counted.len(),
            p50: counted.value_at_quantile(0.50),
            p95: counted.value_at_quantile(0.95),
            p99: counted.value_at_quantile(0.99),
        };
        let of_market = |(market, stages): (String, BTreeMap<u8, Histogram<u32>>)| {
            (market, stages.into_iter().map(percentiles).collect())
        };
        sums.into_iter().map(of_market).collect()
    }
}

impl Windows {
    /// Begins new windows as time goes on, and forgets the oldest.
    fn turn(&mut self, now: Instant) {
        while now.saturating_duration_since(self.begun) >= WINDOW {
            if now.saturating_duration_since(self.begun) >= WINDOW * 5 {
                // Nothing of what is there counts any more.
                self.all.clear();
                self.begun = now;
            } else {
                self.begun += WINDOW;
            }
            self.all.push(BTreeMap::new());
            let over = self.all.len().saturating_sub(WINDOWS);
            self.all.drain(..over);
        }
    }
}

/// Stages in their order, the whole behind them.
fn number(key: Key) -> u8 {
    let place = key.and_then(|stage| Stage::ALL.iter().position(|each| *each == stage));
    u8::try_from(place.unwrap_or(Stage::ALL.len())).unwrap_or(u8::MAX)
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, MICROS_MAX, DIGITS).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(stage: Stage, micros: u32) -> Timed {
        Timed { stage, begun: 0, micros, estimated: false }
    }

    #[test]
    fn percentiles_are_by_market_and_stage_and_of_the_last_minutes() {
        let latency = Latency::default();
        for micros in 1..=100 {
            latency.observe("BTC-USD", &[timed(Stage::Decide, micros), timed(Stage::Append, 5)]);
        }
        latency.observe("ETH-USD", &[timed(Stage::Append, 7)]);
        let all = latency.percentiles();
        let of = &all["BTC-USD"];
        assert_eq!(of.iter().map(|each| each.count).collect::<Vec<_>>(), [100, 100, 100]);
        assert_eq!((of[0].stage, of[0].p50, of[0].p99), (Some(Stage::Decide), 50, 99));
        assert_eq!((of[1].p95, of[2].stage, of[2].p50), (5, None, 55));
        assert_eq!(all["ETH-USD"][0].p50, 7);
        let mut windows = latency.windows.lock();
        let later = |minutes| Instant::now() + WINDOW * minutes;
        windows.turn(later(4));
        assert!(windows.all.iter().any(|window| !window.is_empty()), "four minutes are not five");
        windows.turn(later(5) + WINDOW);
        assert!(windows.all.iter().all(BTreeMap::is_empty));
    }
}
