//! What happened in a run: always as a digest, and as lines to read where somebody asked for them.

use std::collections::BTreeMap;
use std::fmt;

use units::{mix, mix_bytes};

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client(usize),
    Server(usize),
    Processor(usize),
    Projector(usize),
    Broker,
    Store,
    Fault,
}

impl Who {
    fn number(self) -> u64 {
        let (kind, index) = match self {
            Self::Client(index) => (1, index),
            Self::Server(index) => (2, index),
            Self::Processor(index) => (3, index),
            Self::Projector(index) => (4, index),
            Self::Broker => (5, 0),
            Self::Store => (6, 0),
            Self::Fault => (7, 0),
        };
        kind << 32 | u64::try_from(index).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(index) => write!(f, "client {index}"),
            Self::Server(index) => write!(f, "server {index}"),
            Self::Processor(index) => write!(f, "processor {index}"),
            Self::Projector(index) => write!(f, "projector {index}"),
            Self::Broker => f.write_str("broker"),
            Self::Store => f.write_str("database"),
            Self::Fault => f.write_str("FAULT"),
        }
    }
}

/// The trace of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    digest: u64,
    /// How often each thing happened.
    counts: BTreeMap<&'static str, u64>,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(recorded: bool) -> Self {
        Self { lines: recorded.then(Vec::new), ..Self::default() }
    }

    /// Notes that somebody did something to number `number`; `detail` is made where lines are wanted alone.
    pub(crate) fn note(
        &mut self,
        now: u64,
        who: Who,
        what: &'static str,
        number: u64,
        detail: impl FnOnce() -> String,
    ) {
        let happened = mix(now ^ self.digest, who.number()) ^ mix_bytes(what.as_bytes(), number);
        self.digest = mix(happened, self.digest);
        *self.counts.entry(what).or_default() += 1;
        if let Some(lines) = &mut self.lines {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            let (who, detail) = (who.to_string(), detail());
            let line = format!("{seconds:>4}.{micros:06}  {who:<12} {what} {detail}");
            lines.push(line.trim_end().to_owned());
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns how often each thing happened, and the lines.
    pub(crate) fn into_parts(self) -> (BTreeMap<&'static str, u64>, Vec<String>) {
        (self.counts, self.lines.unwrap_or_default())
    }
}
