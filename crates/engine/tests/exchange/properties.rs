//! Random programs through both exchanges.

use std::collections::BTreeSet;

use engine::{Action, CancelReason, Decision, Ending, Event, PlacedOrder, Reject, State, Step};
use journal::{Batch, SnapshotReader, state_hash, write_snapshot};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use units::Hash32;

use crate::program::{Line, Runner, World, line, world};

fn run(world: World, lines: &[Line]) -> Runner {
    let mut runner = Runner::new(world);
    for line in lines {
        runner.run(line);
    }
    runner.pair.close_batch();
    runner
}

/// Follows a journal's rows, through their bytes, from a state on.
fn follow(mut state: State, batches: &[Batch]) -> State {
    for batch in batches {
        let row = journal::seal(batch, Hash32::default());
        let read = journal::read(&row).expect("a sealed row can be read");
        assert_eq!(&read, batch, "a row says what was sealed");
        journal::apply(&mut state, &read);
    }
    state
}

/// Writes a snapshot and reads it back.
pub(crate) fn through_snapshot(state: &State) -> State {
    let mut chunks = Vec::new();
    let hash = write_snapshot(state, &mut |chunk| chunks.push(chunk));
    assert_eq!(hash, state_hash(state), "a snapshot's hash is the state's");
    let mut reader = SnapshotReader::new();
    for chunk in &chunks {
        reader.push_chunk(chunk).expect("a written chunk can be read");
    }
    reader.finish(hash).expect("a written snapshot is a state")
}

/// Decides a journal's commands again: the same events must come out.
fn decide_again(mut state: State, batches: &[Batch]) {
    for batch in batches {
        state.open_batch(engine::Stamp { sequence: batch.sequence, time: batch.time });
        for entry in &batch.entries {
            let decision = engine::run(&mut state, &entry.command, &mut ());
            assert_eq!(decision, Decision::Event(entry.event.clone()), "for {:?}", entry.command);
        }
    }
}

proptest! {
    /// Whatever is asked, in whatever order: the engine's answer, its fills, its fees, its balances and its books are those of
    /// the naive exchange, its invariants hold, and who follows it comes to the same state.
    #[test]
    fn prop_the_engine_agrees_with_the_naive_exchange(
        world in world(), lines in vec(line(), 1..120)
    ) {
        run(world, &lines);
    }

    /// A snapshot of any moment and the rows after it give the state that the whole journal gives; and whoever goes on
    /// from a snapshot decides as if there had been none.
    #[test]
    fn prop_a_snapshot_and_its_tail_are_the_whole_journal(
        world in world(), lines in vec(line(), 1..120), cut: prop::sample::Index
    ) {
        let runner = run(world, &lines);
        let batches = &runner.pair.journal;
        let hash = state_hash(&runner.pair.state);
        let (before, tail) = batches.split_at(cut.index(batches.len() + 1));

        let snapshot = through_snapshot(&follow(State::new(), before));
        decide_again(snapshot.clone(), tail);
        prop_assert_eq!(state_hash(&follow(snapshot, tail)), hash);
        prop_assert_eq!(state_hash(&follow(State::new(), batches)), hash);
        prop_assert_eq!(state_hash(&through_snapshot(&runner.pair.state)), hash);
    }
}

fn placed(event: &Event) -> Option<&PlacedOrder> {
    match event {
        Event::OrderPlaced(placed)
        | Event::OrderReplaced { placed, .. }
        | Event::StopTriggered { placed, .. } => Some(placed),
        _ => None,
    }
}

/// A property says nothing about what its programs never do.
#[test]
fn the_programs_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let (mut rejects, mut reasons, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..600 {
        let lines = vec(line(), 1..120).new_tree(&mut runner).unwrap().current();
        let world = world().new_tree(&mut runner).unwrap().current();
        for batch in run(world, &lines).pair.journal {
            for entry in batch.entries {
                seen.insert(name(&entry.event));
                match &entry.event {
                    Event::Rejected(reject) => rejects.insert(reject.code()),
                    Event::OrderCancelled { reason, .. } => reasons.insert(format!("{reason:?}")),
                    _ => false,
                };
                if let Action::HaltMarket { .. } = entry.command.action {
                    seen.insert("halt".into());
                }
                let Some(placed) = placed(&entry.event) else {
                    continue;
                };
                seen.insert(format!("{:?}", placed.ending));
                if let Ending::Cancelled(reason) = placed.ending {
                    reasons.insert(format!("{reason:?}"));
                }
                let cancels =
                    placed.steps.iter().any(|step| matches!(step, Step::MakerCancelled { .. }));
                if cancels {
                    seen.insert("maker cancelled".into());
                }
                if placed.steps.len() > 2 {
                    seen.insert("sweep".into());
                }
            }
        }
    }
    // What no program here can come to: defects, bad definitions, amounts beyond 10^30.
    let never = [
        Reject::Internal,
        Reject::AssetInvalid,
        Reject::MarketInvalid,
        Reject::TooMany,
        Reject::NotSandbox,
        Reject::NotionalTooLarge,
        Reject::Genesis,
    ];
    let missing: Vec<_> = Reject::ALL
        .iter()
        .filter(|reject| !never.contains(reject) && !rejects.contains(reject.code()))
        .collect();
    assert!(missing.is_empty(), "rejections that no program causes: {missing:?}");
    for reason in [
        CancelReason::Requested,
        CancelReason::CancelledBeforeArrival,
        CancelReason::ImmediateOrCancel,
        CancelReason::FillOrKill,
        CancelReason::NoLiquidity,
        CancelReason::Band,
        CancelReason::QuoteAmountSpent,
        CancelReason::SelfTrade,
        CancelReason::TooManySteps,
        CancelReason::Expired,
        CancelReason::TriggerRefused,
    ] {
        assert!(reasons.contains(&format!("{reason:?}")), "no program causes {reason:?}");
    }
    for outcome in [
        "OrderPlaced",
        "OrderCancelled",
        "CancelRemembered",
        "OrdersCancelled",
        "OrderReduced",
        "OrderReplaced",
        "StopTriggered",
        "Filled",
        "Rests",
        "Waits",
        "halt",
        "maker cancelled",
        "sweep",
    ] {
        assert!(seen.contains(outcome), "no program causes {outcome}; seen: {seen:?}");
    }
}

/// An event's kind.
fn name(event: &Event) -> String {
    let text = format!("{event:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
