//! The stages of a command, from a request's first byte to its answer.
//!
//! Invariant: the stages follow one another without gap or overlap, so their sum is the whole; none is negative. What is
//! worked out from the clocks of two machines is marked as estimated; what nobody has measured is not split.

use crate::record::{Request, Sent};

/// A stage of a command's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Finding out who asks, and whether they may.
    Authenticate,
    /// Reading the request against the rules.
    Validate,
    /// Giving the command to the queue.
    Publish,
    /// Waiting in the queue.
    Queue,
    /// Deciding it, and waiting for those before it that were taken at once.
    Decide,
    /// Committing its row to the journal, and waiting for the row in flight before it.
    Append,
    /// Telling the server of the row, and following it there.
    Broadcast,
    /// Queue to broadcast in one piece: the row came without its times.
    Journal,
    /// Writing the answer.
    Answer,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 9] = [
        Self::Authenticate,
        Self::Validate,
        Self::Publish,
        Self::Queue,
        Self::Decide,
        Self::Append,
        Self::Broadcast,
        Self::Journal,
        Self::Answer,
    ];

    /// Returns its name, as answers, metrics and spans have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Validate => "validate",
            Self::Publish => "publish",
            Self::Queue => "queue",
            Self::Decide => "decide",
            Self::Append => "append",
            Self::Broadcast => "broadcast",
            Self::Journal => "journal",
            Self::Answer => "answer",
        }
    }
}

/// A stage with its place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Which.
    pub stage: Stage,
    /// When it began, in microseconds after the request.
    pub begun: u32,
    /// How long it took, in microseconds.
    pub micros: u32,
    /// Whether its ends were worked out from two machines' clocks.
    pub estimated: bool,
}

/// Puts stages one after the other.
struct Line {
    stages: Vec<Timed>,
    at: u32,
    end: u32,
}

impl Line {
    fn until(&mut self, stage: Stage, at: u32, estimated: bool) {
        let at = at.clamp(self.at, self.end);
        self.stages.push(Timed { stage, begun: self.at, micros: at - self.at, estimated });
        self.at = at;
    }
}

/// Returns a request's stages.
#[must_use]
pub fn stages(request: &Request) -> Vec<Timed> {
    let mut line = Line { stages: Vec::with_capacity(8), at: 0, end: request.ended };
    line.until(Stage::Authenticate, request.authenticated, false);
    if let Some(sent) = &request.sent {
        line.until(Stage::Validate, sent.submitted, false);
        on_the_way(&mut line, request, sent);
    }
    line.until(Stage::Answer, request.ended, false);
    line.stages
}

fn on_the_way(line: &mut Line, request: &Request, sent: &Sent) {
    let confirmed = sent.confirmed.unwrap_or(sent.submitted);
    let Some(outcome) = sent.outcome else {
        // It was given up while it was in the queue, or before.
        line.until(Stage::Publish, confirmed, false);
        line.until(Stage::Journal, sent.given_up.unwrap_or(confirmed), false);
        return;
    };
    let timing = request.timing.as_deref();
    let command = timing.and_then(|timing| timing.command(outcome.index as usize));
    let (Some(timing), Some(command)) = (timing, command) else {
        line.until(Stage::Publish, confirmed.min(outcome.seen), false);
        line.until(Stage::Journal, outcome.seen, false);
        return;
    };
    if timing.origin.boot == request.origin.boot {
        let at = |after: u32| timing.begun.plus(after).since(request.begun);
        // What the sequencer has received was in the queue, whenever the broker says so.
        line.until(Stage::Publish, confirmed.min(at(command.received)), false);
        line.until(Stage::Queue, at(command.received), false);
        line.until(Stage::Decide, at(command.done()), false);
        line.until(Stage::Append, at(timing.committed), false);
        line.until(Stage::Broadcast, outcome.seen, false);
        return;
    }
    let decided = command.done() - command.received;
    let appended = timing.committed.saturating_sub(command.done());
    let whole = outcome.seen.saturating_sub(sent.submitted);
    let others = whole.saturating_sub(decided.saturating_add(appended));
    let published = confirmed.saturating_sub(sent.submitted).min(others);
    let queued = sent.queued_by_journal_time.unwrap_or(0).min(others - published);
    line.until(Stage::Publish, sent.submitted + published, true);
    line.until(Stage::Queue, line.at + queued, true);
    line.until(Stage::Decide, line.at.saturating_add(decided), true);
    line.until(Stage::Append, line.at.saturating_add(appended), true);
    line.until(Stage::Broadcast, outcome.seen, true);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Micros, Origin};
    use crate::record::Outcome;
    use crate::record::tests::request;
    use crate::timing::tests::timing;
    use crate::timing::{BatchTiming, CommandTiming};

    fn micros(stages: &[Timed], stage: Stage) -> Option<u32> {
        stages.iter().find(|timed| timed.stage == stage).map(|timed| timed.micros)
    }

    #[test]
    fn one_machines_times_are_exact() {
        let request = Request { timing: Some(timing().into()), ..request() };
        let all = stages(&request);
        let expected = [
            (Stage::Authenticate, 40),
            (Stage::Validate, 20),
            (Stage::Publish, 30),
            (Stage::Queue, 930),
            (Stage::Decide, 9),
            (Stage::Append, 891),
            (Stage::Broadcast, 80),
            (Stage::Answer, 50),
        ];
        let got: Vec<_> = all.iter().map(|timed| (timed.stage, timed.micros)).collect();
        assert_eq!(got, expected);
        assert!(all.iter().all(|timed| !timed.estimated));
    }

    #[test]
    fn two_machines_times_are_estimated_and_a_row_without_times_is_not_split() {
        let mut other = timing();
        other.origin.boot = 8;
        let request = Request { timing: Some(other.into()), ..request() };
        let all = stages(&request);
        assert_eq!(micros(&all, Stage::Queue), Some(500), "by journal time");
        assert_eq!(
            (micros(&all, Stage::Decide), micros(&all, Stage::Append)),
            (Some(9), Some(891))
        );
        assert_eq!(micros(&all, Stage::Broadcast), Some(510));
        assert_eq!(all.iter().filter(|timed| timed.estimated).count(), 5);
        let all = stages(&Request { timing: None, ..request });
        assert_eq!(micros(&all, Stage::Journal), Some(1_910));
        assert_eq!(micros(&all, Stage::Append), None);
    }

    proptest! {
        #[test]
        fn stages_add_up_to_the_whole_whatever_the_clocks_say(
            numbers in proptest::collection::vec(0_u32..3_000_000, 12),
            boot in 7_u64..9,
            begun in 0_u64..3_000_000,
            has_timing in any::<bool>(),
        ) {
            let mut request = request();
            (request.authenticated, request.ended) = (numbers[0], numbers[1]);
            if let Some(sent) = &mut request.sent {
                sent.submitted = numbers[2];
                sent.confirmed = Some(numbers[3]);
                sent.queued_by_journal_time = Some(numbers[4]);
                sent.outcome = Some(Outcome { sequence: 9, index: 0, seen: numbers[5] });
            }
            let timing = BatchTiming {
                origin: Origin { boot, wall: 0 },
                begun: Micros(begun),
                commands: vec![CommandTiming {
                    index: 0, received: numbers[6], waited: numbers[7],
                    decided: numbers[8], settled: numbers[9],
                }],
                append_begun: numbers[10],
                committed: numbers[11],
            };
            request.timing = has_timing.then(|| timing.into());
            let all = stages(&request);
            let sum: u64 = all.iter().map(|timed| u64::from(timed.micros)).sum();
            prop_assert_eq!(sum, u64::from(request.ended));
            let mut at = 0;
            for timed in &all {
                prop_assert_eq!(timed.begun, at);
                at += timed.micros;
            }
        }
    }
}
