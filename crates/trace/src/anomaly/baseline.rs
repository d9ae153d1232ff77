//! How long something usually takes: mean, standard deviation and percentiles of the last hours, what is older fading.
//!
//! Invariant: one minute has a bounded influence on it, however many requests it had and however slow they were.

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;

/// The version of the bytes.
const VERSION: u8 = 1;
/// Minutes with enough requests before anything is judged.
pub const WARM_UP: u32 = 15;
/// Requests that a minute must have for it to be judged, or learned from.
pub(crate) const COUNT_MIN: u32 = 30;
/// From here on a twentieth must be slow; below it a tenth.
const COUNT_MANY: u32 = 200;
/// What a minute weighs in requests, at most.
const WEIGHT_MAX: f64 = 1_000.0;
/// What a minute still weighs one minute later: half after 120.
const FADE: f64 = 0.994_240_5;
/// So many standard deviations beyond the mean of the minutes before are far.
const SIGMAS: f64 = 6.0;
/// So many times the p99 are far.
const FACTOR: u64 = 2;
/// Less than so many microseconds beyond the p50 is nobody's problem.
const EXCESS_MIN: u64 = 5_000;

/// Mean and variance of weighted numbers, one after the other.
///
/// B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962);
/// with weights as D. H. D. West has it, "Updating mean and variance estimates", CACM 22 (1979).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Welford {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    /// Adds a number with a weight above 0.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        let from_mean = value - self.mean;
        self.mean += from_mean * weight / self.weight;
        self.squares += weight * from_mean * (value - self.mean);
    }

    /// Adds all of another one's numbers, each with its weight times `scale`.
    ///
    /// T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    /// Stanford STAN-CS-79-773 (1979).
    pub fn merge(&mut self, other: &Self, scale: f64) {
        let added = other.weight * scale;
        let weight = self.weight + added;
        if added <= 0.0 {
            return;
        }
        let apart = other.mean - self.mean;
        self.mean += apart * added / weight;
        self.squares += other.squares * scale + apart * apart * self.weight * added / weight;
        self.weight = weight;
    }

    /// Lets every number weigh less.
    pub fn fade(&mut self, factor: f64) {
        self.weight *= factor;
        self.squares *= factor;
    }

    /// Returns the mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns the standard deviation of what was added, as a whole and no sample.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        if self.weight > 0.0 { (self.squares.max(0.0) / self.weight).sqrt() } else { 0.0 }
    }

    fn is_sound(&self) -> bool {
        [self.weight, self.mean, self.squares].iter().all(|each| each.is_finite() && *each >= 0.0)
    }
}

/// One minute of one part.
#[derive(Clone, Debug)]
pub struct Window {
    limit: u64,
    count: u32,
    times: Welford,
    sketch: Sketch,
    worst: Option<(u64, u128)>,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Window {
    /// Makes an empty one; what is longer than `limit` will count as `limit` for the mean.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, count: 0, times: Welford::default(), sketch: Sketch::default(), worst: None }
    }

    /// Counts one.
    pub fn add(&mut self, micros: u64, trace_id: u128) {
        self.count = self.count.saturating_add(1);
        self.times.add(real(micros.min(self.limit)), 1.0);
        self.sketch.add(micros, 1.0);
        if self.worst.is_none_or(|(worst, _)| micros > worst) {
            self.worst = Some((micros, trace_id));
        }
    }

    /// Sets what is counted as at most for the mean.
    pub fn bind(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Returns how many there were.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns what the slowest took, and its trace.
    #[must_use]
    pub fn worst(&self) -> Option<(u64, u128)> {
        self.worst
    }

    /// Tells whether it had enough requests to say anything.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.count >= COUNT_MIN
    }

    /// Returns what stands for the minute: a tenth of its requests took longer, or a twentieth where there were many.
    #[must_use]
    pub fn figure(&self) -> u64 {
        self.sketch.quantile(if self.count < COUNT_MANY { 0.90 } else { 0.95 })
    }

    /// Returns its durations.
    #[must_use]
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }
}

/// What is usual, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Half take at most this.
    pub p50: u64,
    /// 99 of 100 take at most this.
    pub p99: u64,
    /// The mean.
    pub mean: u64,
    /// The standard deviation.
    pub sigma: u64,
    /// Minutes that it was learned from.
    pub windows: u32,
}

impl Figures {
    /// Tells whether it was learned from enough to be compared with.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.windows >= WARM_UP
    }
}

/// How long something usually takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    times: Welford,
    sketch: Sketch,
    /// The minutes' own figures: how much one minute differs from another.
    minutes: Welford,
    windows: u32,
}

impl Baseline {
    /// Learns from a minute that was as usual. What is beyond the limit counts as the limit.
    pub fn learn(&mut self, window: &Window) {
        if window.count == 0 {
            return;
        }
        let limit = self.bound();
        let scale = (WEIGHT_MAX / f64::from(window.count)).min(1.0);
        self.sketch.fade(single(FADE));
        self.sketch.merge(&window.sketch, single(scale), limit);
        self.times.fade(FADE);
        self.times.merge(&window.times, scale);
        self.minutes.fade(FADE);
        self.minutes.add(real(window.figure().min(limit)), 1.0);
        self.windows = self.windows.saturating_add(1);
    }

    /// Returns what is usual.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            p50: self.sketch.quantile(0.50),
            p99: self.sketch.quantile(0.99),
            mean: whole(self.times.mean()),
            sigma: whole(self.times.sigma()),
            windows: self.windows,
        }
    }

    /// Returns from where on a minute's figure is far from usual: twice what only one of 100 exceeds, six standard
    /// deviations beyond the minutes before, and enough to matter; whichever is most.
    #[must_use]
    pub fn limit(&self) -> u64 {
        let figures = self.figures();
        let by_percentile = figures.p99.saturating_mul(FACTOR);
        let by_minutes = whole(self.minutes.mean() + SIGMAS * self.minutes.sigma());
        by_percentile.max(by_minutes).max(figures.p50.saturating_add(EXCESS_MIN))
    }

    /// Returns what a duration counts as at most: the limit, once there is one.
    #[must_use]
    pub fn bound(&self) -> u64 {
        if self.windows >= WARM_UP { self.limit() } else { u64::MAX }
    }

    /// Packs it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        crate::pack(VERSION, self)
    }

    /// Reads what [`Self::encode`] has written; `None` where it is anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let read: Self = crate::unpack(VERSION, bytes)?;
        let is_sound = read.sketch.is_sound() && read.times.is_sound() && read.minutes.is_sound();
        is_sound.then_some(read)
    }
}

fn real(micros: u64) -> f64 {
    micros as f64
}

fn whole(micros: f64) -> u64 {
    micros.round() as u64
}

fn single(weight: f64) -> f32 {
    weight as f32
}
