//! The state machine, without a clock of its own: time comes with each question, so that a test can play any day.

use std::time::Duration;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The last calls that are looked back at: 1 to 64.
    pub calls_max: u32,
    /// So many bad ones among them open it.
    pub bad_max: u32,
    /// A call that takes longer than this is bad even if it succeeds.
    pub slow: Duration,
    /// Good probes, one after the other, that close it again.
    pub probes: u32,
    /// How long it stays open at first. Each bad probe doubles it.
    pub open: Duration,
    /// How long it stays open at most.
    pub open_max: Duration,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go through.
    Closed,
    /// One call at a time goes through, as a probe.
    HalfOpen,
    /// No call goes through.
    Open,
}

impl State {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The right to one call. What became of it is to be recorded.
#[derive(Debug)]
pub struct Ticket {
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Duration },
    HalfOpen { probing: bool, good: u32 },
}

/// A breaker's memory.
#[derive(Debug)]
pub struct Core {
    rules: Rules,
    phase: Phase,
    /// The last calls, the newest in the lowest bit; 1: bad.
    calls: u64,
    /// Times that it has opened since it was last closed.
    openings: u32,
    /// Rises with each change of phase, so that a call that was let through before says nothing of after.
    generation: u64,
}

impl Core {
    /// Makes a closed one. Numbers outside their bounds are taken as the nearest within.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let calls_max = rules.calls_max.clamp(1, u64::BITS);
        let rules = Rules {
            calls_max,
            bad_max: rules.bad_max.clamp(1, calls_max),
            probes: rules.probes.max(1),
            ..rules
        };
        Self { rules, phase: Phase::Closed, calls: 0, openings: 0, generation: 0 }
    }

    /// Returns the rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns how it stands. Open goes on until somebody asks after its time.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Asks for a call.
    ///
    /// # Errors
    ///
    /// It is not let through; the time after which asking again may help.
    pub fn ask(&mut self, now: Duration) -> Result<Ticket, Duration> {
        match self.phase {
            Phase::Closed => {}
            Phase::Open { until } if now < until => return Err(until.saturating_sub(now)),
            Phase::Open { .. } => self.enter(Phase::HalfOpen { probing: true, good: 0 }),
            Phase::HalfOpen { probing: true, .. } => return Err(self.rules.slow),
            Phase::HalfOpen { good, .. } => self.phase = Phase::HalfOpen { probing: true, good },
        }
        Ok(Ticket { generation: self.generation })
    }

    /// Returns how many calls would be let through now, at most `most`.
    #[must_use]
    pub fn room(&self, now: Duration, most: usize) -> usize {
        match self.phase {
            Phase::Closed => most,
            Phase::Open { until } if now < until => 0,
            Phase::HalfOpen { probing: true, .. } => 0,
            Phase::Open { .. } | Phase::HalfOpen { .. } => most.min(1),
        }
    }

    /// Records what became of a call. Tells whether it opened by that.
    pub fn record(&mut self, now: Duration, ticket: Ticket, good: bool) -> bool {
        if ticket.generation != self.generation {
            return false;
        }
        match self.phase {
            Phase::Closed => {
                self.calls = (self.calls << 1) | u64::from(!good);
                let seen = u64::MAX >> (u64::BITS - self.rules.calls_max);
                let bad = (self.calls & seen).count_ones();
                if bad < self.rules.bad_max {
                    return false;
                }
            }
            Phase::HalfOpen { good: before, .. } if good => {
                let good = before + 1;
                if good < self.rules.probes {
                    self.phase = Phase::HalfOpen { probing: false, good };
                } else {
                    self.openings = 0;
                    self.enter(Phase::Closed);
                }
                return false;
            }
            Phase::HalfOpen { .. } => {}
            // A ticket of this generation would be one that was given while open: there is none.
            Phase::Open { .. } => return false,
        }
        self.open(now);
        true
    }

    fn open(&mut self, now: Duration) {
        let doubled = self.rules.open.saturating_mul(1 << self.openings.min(20));
        self.openings = self.openings.saturating_add(1);
        let until = now.saturating_add(doubled.min(self.rules.open_max));
        self.enter(Phase::Open { until });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.calls = 0;
        self.generation += 1;
    }
}
