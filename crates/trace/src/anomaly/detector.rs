//! Finds anomalies: counts what was noted, and judges each stage of each operation at the end of a minute.
//!
//! Invariant: memory is bounded; what was unusual is never learned as usual until it has lasted for hours.

use std::collections::HashMap;

use super::baseline::{Baseline, Figures, Window};
use super::severity::severity;
use super::{Part, Sketch};
use crate::record::Request;
use crate::waterfall::{Stage, Timed};

/// Operations that are told apart; the rest is one.
pub const OPERATIONS_MAX: usize = 128;
const OTHER: &str = "other";
/// Each stage, and the whole.
const PARTS: usize = Stage::ALL.len() + 1;
/// Usual minutes after which an anomaly is over.
const QUIET: u32 = 3;
/// Minutes without enough requests after which it cannot be told any more.
const IDLE: u32 = 10;
/// Minutes after which it is what is usual now.
const ADOPTED: u32 = 360;
/// From this severity on one minute suffices; else two of three must be far from usual.
const AT_ONCE: u8 = 2;

/// Names what a request asks for: its command's action, or its method and route.
#[must_use]
pub fn operation(request: &Request) -> String {
    match &request.sent {
        Some(sent) => sent.action.to_string(),
        None => format!("{} {}", method(&request.method), request.route),
    }
}

/// HTTP's own methods; a caller may send any other.
fn method(text: &str) -> &str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    if KNOWN.contains(&text) { text } else { OTHER }
}

/// Why an anomaly is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is as usual again.
    Usual,
    /// There are too few requests to tell.
    Idle,
    /// It has lasted so long that it is what is usual now.
    Adopted,
}

impl Ended {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Idle => "idle",
            Self::Adopted => "adopted",
        }
    }
}

/// What is new of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has begun.
    Opened,
    /// It goes on, and is more severe.
    Worsened,
    /// It goes on.
    Lasting,
    /// It is over.
    Closed(Ended),
}

/// A stage of an operation that is far from usual. Times are in microseconds, minutes are those since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// The operation.
    pub operation: String,
    /// The stage.
    pub stage: Stage,
    /// The worst that it was: 1 to 5, 1 is the worst.
    pub severity: u8,
    /// The first minute that was far from usual.
    pub begun: u64,
    /// The last minute that was judged.
    pub judged: u64,
    /// Unusual minutes until now.
    pub windows: u32,
    /// What the last unusual minute's figure was.
    pub observed: u64,
    /// What the worst minute's was.
    pub worst: u64,
    /// What was usual when it began.
    pub usual: Figures,
    /// Requests of its unusual minutes.
    pub requests: u64,
    /// The slowest one's trace in the worst minute.
    pub trace_id: u128,
}

/// A baseline, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The operation.
    pub operation: String,
    /// The stage, or the whole.
    pub part: Part,
    /// What is usual.
    pub baseline: Baseline,
}

/// One part of one operation.
#[derive(Debug, Default)]
struct Track {
    window: Window,
    baseline: Baseline,
    /// The last minutes, the newest in the lowest bit: 1 was unusual.
    unusual: u8,
    quiet: u32,
    idle: u32,
    /// The first of the unusual minutes that have not become an anomaly yet.
    suspected: Option<Anomaly>,
    open: Option<Anomaly>,
    is_changed: bool,
}

#[derive(Debug, Default)]
struct Operation {
    parts: [Option<Box<Track>>; PARTS],
}

/// Finds anomalies.
#[derive(Debug, Default)]
pub struct Detector {
    operations: HashMap<String, Operation>,
    name: String,
}

fn place(part: Part) -> usize {
    part.and_then(|part| Stage::ALL.iter().position(|stage| *stage == part))
        .unwrap_or(Stage::ALL.len())
}

fn part(place: usize) -> Part {
    Stage::ALL.get(place).copied()
}

impl Detector {
    /// Counts an answered request and its stages in the current minute.
    pub fn note(&mut self, request: &Request, stages: &[Timed]) {
        self.name.clear();
        match &request.sent {
            Some(sent) => self.name.push_str(&sent.action),
            None => {
                self.name.push_str(method(&request.method));
                self.name.push(' ');
                self.name.push_str(&request.route);
            }
        }
        let name = std::mem::take(&mut self.name);
        let of = self.operation(&name);
        for timed in stages {
            of.track(Some(timed.stage)).window.add(timed.micros.into(), request.trace_id);
        }
        of.track(None).window.add(request.ended.into(), request.trace_id);
        self.name = name;
    }

    fn operation(&mut self, name: &str) -> &mut Operation {
        let is_full = self.operations.len() >= OPERATIONS_MAX;
        let name = if is_full && !self.operations.contains_key(name) { OTHER } else { name };
        if !self.operations.contains_key(name) {
            self.operations.insert(name.to_owned(), Operation::default());
        }
        self.operations.get_mut(name).expect("it was put there if it was not")
    }

    /// Takes up what a process before this one knew.
    pub fn restore(&mut self, saved: Vec<Saved>, open: Vec<Anomaly>) {
        for each in saved {
            let track = self.operation(&each.operation).track(each.part);
            track.window.bind(each.baseline.bound());
            track.baseline = each.baseline;
        }
        for anomaly in open {
            let track = self.operation(&anomaly.operation).track(Some(anomaly.stage));
            track.open = Some(anomaly);
        }
    }

    /// Returns the durations of a stage in the current minute, of all operations together.
    #[must_use]
    pub fn together(&self, stage: Stage) -> Sketch {
        let mut all = Sketch::default();
        let tracks = self.operations.values().filter_map(|of| of.parts.get(place(Some(stage))));
        for track in tracks.flatten() {
            all.merge(track.window.sketch(), 1.0, u64::MAX);
        }
        all
    }

    /// Returns how many requests the current minute has had.
    #[must_use]
    pub fn requests(&self) -> u64 {
        let whole = self.operations.values().filter_map(|of| of.parts.get(place(None))?.as_ref());
        whole.map(|track| u64::from(track.window.count())).sum()
    }

    /// Ends a minute: judges it, learns from what was usual, and says what is new, in the order of names.
    pub fn turn(&mut self, minute: u64) -> Vec<(News, Anomaly)> {
        let mut news = Vec::new();
        let mut names: Vec<String> = self.operations.keys().cloned().collect();
        names.sort();
        for name in names {
            let Some(of) = self.operations.get_mut(&name) else { continue };
            let mut is_usual = true;
            // The whole is the last of the parts.
            for (place, track) in of.parts.iter_mut().enumerate() {
                let Some(track) = track else { continue };
                let window = std::mem::take(&mut track.window);
                match part(place) {
                    Some(stage) => {
                        news.extend(track.judge(&name, stage, minute, &window));
                        is_usual &= track.unusual & 1 == 0;
                    }
                    // What is slow in a stage is slow in the whole: that is told once, and not learned either.
                    None if is_usual && window.is_enough() => track.learn(&window),
                    None => {}
                }
                track.window = Window::new(track.baseline.bound());
            }
        }
        news
    }

    /// Returns the anomalies that are open.
    pub fn open(&self) -> impl Iterator<Item = &Anomaly> {
        let tracks = self.operations.values().flat_map(|of| of.parts.iter().flatten());
        tracks.filter_map(|track| track.open.as_ref())
    }

    /// Returns the baselines that have changed since they were last asked for.
    #[must_use]
    pub fn changed(&mut self) -> Vec<Saved> {
        let mut changed = Vec::new();
        for (name, of) in &mut self.operations {
            for (place, track) in of.parts.iter_mut().enumerate() {
                let Some(track) = track.as_mut().filter(|track| track.is_changed) else { continue };
                track.is_changed = false;
                let baseline = track.baseline.clone();
                changed.push(Saved { operation: name.clone(), part: part(place), baseline });
            }
        }
        changed
    }
}

impl Operation {
    fn track(&mut self, part: Part) -> &mut Track {
        let track = self.parts.get_mut(place(part)).expect("there is a place for every part");
        track.get_or_insert_default()
    }
}

impl Track {
    fn learn(&mut self, window: &Window) {
        self.baseline.learn(window);
        self.is_changed = true;
    }

    /// Judges a minute of a stage.
    fn judge(
        &mut self,
        operation: &str,
        stage: Stage,
        minute: u64,
        window: &Window,
    ) -> Option<(News, Anomaly)> {
        if !window.is_enough() {
            self.idle = self.idle.saturating_add(1);
            self.unusual <<= 1;
            self.forget_suspicion();
            return if self.idle >= IDLE { self.close(minute, Ended::Idle) } else { None };
        }
        self.idle = 0;
        let usual = self.baseline.figures();
        let observed = window.figure();
        let windows = self.open.as_ref().map_or(1, |open| open.windows.saturating_add(1));
        let severe = severity(observed, usual.p50, usual.p99, windows);
        let severe = severe.filter(|_| usual.is_known() && observed > self.baseline.limit());
        let Some(severe) = severe else {
            self.unusual <<= 1;
            self.forget_suspicion();
            self.learn(window);
            self.quiet = self.quiet.saturating_add(1);
            return if self.quiet >= QUIET { self.close(minute, Ended::Usual) } else { None };
        };
        self.quiet = 0;
        self.unusual = self.unusual << 1 | 1;
        let (_, trace_id) = window.worst().unwrap_or_default();
        let one = Anomaly {
            operation: operation.to_owned(),
            stage,
            severity: severe,
            begun: minute,
            judged: minute,
            windows: 1,
            observed,
            worst: observed,
            usual,
            requests: window.count().into(),
            trace_id,
        };
        self.unusually(one)
    }

    fn unusually(&mut self, one: Anomaly) -> Option<(News, Anomaly)> {
        let (judged, severe) = (one.judged, one.severity);
        if let Some(open) = &mut self.open {
            let before = open.severity;
            open.add(&one);
            if open.windows >= ADOPTED {
                let closed = self.close(judged, Ended::Adopted);
                (self.baseline, self.unusual) = (Baseline::default(), 0);
                self.is_changed = true;
                return closed;
            }
            let news = if open.severity < before { News::Worsened } else { News::Lasting };
            return Some((news, open.clone()));
        }
        let suspected = match self.suspected.take() {
            Some(mut before) => {
                before.add(&one);
                before
            }
            None => one,
        };
        if severe > AT_ONCE && (self.unusual & 0b111).count_ones() < 2 {
            self.suspected = Some(suspected);
            return None;
        }
        self.open = Some(suspected.clone());
        Some((News::Opened, suspected))
    }

    fn close(&mut self, minute: u64, ended: Ended) -> Option<(News, Anomaly)> {
        let mut closed = self.open.take()?;
        closed.judged = minute;
        self.unusual = 0;
        Some((News::Closed(ended), closed))
    }

    fn forget_suspicion(&mut self) {
        if self.unusual & 0b111 == 0 {
            self.suspected = None;
        }
    }
}

impl Anomaly {
    fn add(&mut self, minute: &Self) {
        self.judged = minute.judged;
        self.windows = self.windows.saturating_add(1);
        self.severity = self.severity.min(minute.severity);
        self.observed = minute.observed;
        self.requests = self.requests.saturating_add(minute.requests);
        if minute.observed > self.worst {
            (self.worst, self.trace_id) = (minute.observed, minute.trace_id);
        }
    }
}
