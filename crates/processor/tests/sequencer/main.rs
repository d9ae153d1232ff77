//! The sequencer on a real PostgreSQL: order, crashes, deposition, what is put aside.

mod common;
mod window;

use std::collections::HashMap;

use bytes::Bytes;
use common::{LIMIT, Stand, order, wait_until};
use engine::{Action, Event, Origin, Side};
use follower::{HEAD, catch_up, load_snapshot, recover};
use processor::ProcessorError;
use queue::{CommandPublisher as _, PublishOutcome};
use store::journal::Appender;
use units::{CommandId, Sequence, Time};

const COMMANDS: u128 = 3_000;

fn nth_order(number: u128) -> Action {
    let (account, side) =
        if number.is_multiple_of(2) { (1_000, Side::Buy) } else { (1_001, Side::Sell) };
    let price = 1_000 + u64::try_from(number * 7 % 21).expect("it is small");
    order(account, side, price, 1 + u64::try_from(number % 5).expect("it is small"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_decided_in_the_order_of_the_queue_and_in_few_rows() {
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    stand.fund().await;
    let first = 1_000_000;
    let mut last = stand.live.expect(CommandId::new(first + COMMANDS - 1));
    for number in 0..COMMANDS {
        stand.publish(&stand.message(first + number, nth_order(number))).await;
    }
    let outcome = last.outcome(LIMIT).await.expect("all are decided");
    let entries = stand.journal().await;
    let ids: Vec<u128> = entries
        .iter()
        .map(|(_, _, entry)| entry.command.id.get())
        .filter(|id| *id >= first)
        .collect();
    assert_eq!(
        ids,
        (first..first + COMMANDS).collect::<Vec<_>>(),
        "the order of the queue is kept"
    );
    let rows = outcome.applied.batch.sequence.get();
    assert!(rows < 1_000, "commands that wait go into one row: {rows} rows");
    assert!(entries.windows(2).all(|pair| pair[0].1 <= pair[1].1), "journal time never goes back");
    let (sequence, followed) =
        stand.live.read(|state| (state.sequence(), journal::state_hash(state)));
    let mut recovered = load_snapshot(&stand.db, sequence).await.expect("it can be read");
    catch_up(&stand.db, &mut recovered, sequence, &mut |_| ()).await.expect("it can be followed");
    assert_eq!(recovered.state.sequence(), sequence);
    assert_eq!(journal::state_hash(&recovered.state), followed);
    stand.live.read(|state| state.check().expect("every invariant holds"));
    stand.stop.cancel();
    sequencer.await.expect("it does not panic").expect("it stops cleanly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sequencer_loses_nothing_and_does_nothing_twice() {
    let stand = Stand::new().await;
    let mut sequencer = stand.started().await;
    stand.fund().await;
    let first = 1_000_000;
    for number in 0..COMMANDS {
        stand.publish(&stand.message(first + number, nth_order(number))).await;
        if number % 500 == 499 {
            // Some of what was published is decided by now, some is in flight, some waits.
            let before = stand.live.sequence();
            stand.live.wait_for(before.next(), LIMIT).await;
            sequencer.abort();
            let _ = sequencer.await;
            sequencer = stand.sequencer(false);
        }
    }
    let last = CommandId::new(first + COMMANDS - 1);
    wait_until("the last command", || stand.live.read(|state| state.known(last).is_some())).await;
    let mut times: HashMap<u128, u32> = HashMap::new();
    for (_, _, entry) in stand.journal().await {
        if entry.command.origin == Origin::Client {
            *times.entry(entry.command.id.get()).or_default() += 1;
        }
    }
    assert!(
        (first..first + COMMANDS).all(|id| times.get(&id) == Some(&1)),
        "each command is in the journal once"
    );

    stand.stop.cancel();
    sequencer.await.expect("it does not panic").expect("it stops cleanly");
    stand.follower.await.expect("it does not panic").expect("it stops cleanly");
    let whole = recover(&stand.db, HEAD, |_| ()).await.expect("the journal is good");
    let hash = journal::state_hash(&whole.state);
    // A snapshot of the live state, and what comes after it, lead to the same state.
    let followed =
        recover(&stand.db, stand.live.sequence(), |_| ()).await.expect("the journal is good");
    follower::final_snapshot(&stand.db, stand.live.clone()).await.expect("it can be written");
    let from_snapshot = recover(&stand.db, HEAD, |_| ()).await.expect("the snapshot is good");
    assert_eq!(from_snapshot.snapshot, stand.live.sequence(), "the snapshot is used");
    assert_eq!(journal::state_hash(&from_snapshot.state), hash);
    assert_eq!(journal::state_hash(&followed.state), hash);
    whole.state.check().expect("every invariant holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_journal_goes_on_with_time() {
    let stand = Stand::new().await;
    let _sequencer = stand.started().await;
    let time = || stand.live.read(engine::State::time);
    let (before, sequence) = (time(), stand.live.sequence());
    wait_until("two ticks", || stand.live.sequence() >= sequence.next().next()).await;
    let micros = time().micros_since(before);
    assert!((900_000..10_000_000).contains(&micros), "two ticks took {micros} µs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_sequencer_stands_by_and_what_it_had_not_committed_comes_again() {
    let stand = Stand::new().await;
    let _sequencer = stand.started().await;
    stand.fund().await;
    let status = &stand.status;
    let other = Appender::claim(&stand.db, "another").await.expect("the epoch can be raised");
    let mut waiter = stand.live.expect(CommandId::new(500));
    stand.publish(&stand.message(500, order(1_000, Side::Buy, 900, 1))).await;
    wait_until("the end of its rule", || !status.is_active()).await;
    assert!(
        stand.journal().await.iter().all(|(_, _, entry)| entry.command.id != CommandId::new(500))
    );
    wait_until("its standby", || status.is_standby() && status.is_ready()).await;
    // The other one stays silent, so it takes the journal back, and the command with it.
    let outcome = waiter.outcome(LIMIT).await.expect("it is decided after all");
    assert!(matches!(outcome.entry().event, Event::OrderPlaced(_)));
    assert!(outcome.applied.batch.epoch > other.epoch());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decided_is_put_aside_with_its_reason() {
    let stand = Stand::new().await;
    let _sequencer = stand.started().await;
    stand.fund().await;
    let good = order(1_000, Side::Buy, 900, 1);
    let mut elsewhere = stand.message(501, good.clone());
    elsewhere.incarnation = 78;
    let mut internal = stand.message(502, Action::Tick);
    internal.command.origin = Origin::Internal;
    let bad = Bytes::from_static(b"{\"not\": \"a command\"}");
    let whole = Bytes::from(stand.message(505, good.clone()).encode());
    let strangers = [bad.clone(), whole.slice(..whole.len() - 1), Bytes::from(vec![1; 1_000_000])];
    for stranger in strangers {
        assert_eq!(stand.queue.publish(stranger, 0).await, PublishOutcome::Confirmed);
    }
    stand.publish(&elsewhere).await;
    stand.publish(&internal).await;
    // A neighbour is not affected.
    assert!(matches!(stand.send(503, good.clone()).await, Event::OrderPlaced(_)));
    // The same id with another body is put aside; a repeat is nothing.
    stand.publish(&stand.message(503, good.clone())).await;
    let mut reused = stand.message(503, good.clone());
    reused.command.body_hash = 2;
    stand.publish(&reused).await;
    assert!(matches!(stand.send(504, good).await, Event::OrderPlaced(_)));
    let dead = stand.queue.dead_letters();
    let reasons: Vec<&str> = dead.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["unknown_version", "unreadable", "too_long", "incarnation", "forbidden", "id_reused",]
    );
    assert_eq!(dead[0].0, bad);
    let orders = stand.live.read(|state| state.open_orders(units::AccountId::new(1_000)).count());
    assert_eq!(orders, 2, "503 and 504 stand, each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_has_seen_beyond_the_head_stops_the_sequencer() {
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    let mut message = stand.message(501, Action::Tick);
    message.seen = Sequence::new(1_000_000);
    stand.publish(&message).await;
    let ended =
        tokio::time::timeout(LIMIT, sequencer).await.expect("it ends").expect("it does not panic");
    assert!(matches!(ended, Err(ProcessorError::SeenBeyondHead { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_journal_takes_nothing_that_was_meant_for_the_lost_one() {
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    stand.fund().await;
    let good = order(1_000, Side::Buy, 900, 1);
    let Event::OrderPlaced(before) = stand.send(503, good.clone()).await else {
        panic!("it is accepted");
    };
    sequencer.abort();
    let _ = sequencer.await;
    let lost = Some(Sequence::new(1_000));
    let restored = processor::restore(&stand.db, "a test", 78, lost).await.expect("it is begun");
    assert!(stand.live.wait_for(restored.sequence, LIMIT).await, "followers go on");
    assert_eq!(stand.live.incarnation(), 78);

    // Meant for the lost journal, and even for rows that are lost: undecided.
    let mut late = stand.message(504, good.clone());
    late.seen = Sequence::new(900);
    stand.publish(&late).await;
    let _sequencer = stand.sequencer(false);
    let mut message = stand.message(505, good);
    message.incarnation = 78;
    let mut waiter = stand.live.expect(CommandId::new(505));
    stand.publish(&message).await;
    let outcome = waiter.outcome(LIMIT).await.expect("it is decided");
    let Event::OrderPlaced(after) = &outcome.entry().event else {
        panic!("it is accepted: {:?}", outcome.entry().event);
    };
    assert!(
        after.order_id.get() > before.order_id.get() + 1_000_000_000,
        "an id that the lost rows gave away is not given again"
    );
    let dead: Vec<_> = stand.queue.dead_letters().into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(dead, ["incarnation"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_opens_no_sandbox() {
    let stand = Stand::new().await;
    let ended = stand.sequencer(true).await.expect("it does not panic");
    assert!(matches!(ended, Err(ProcessorError::Sandbox)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_unknown_format_stops_the_follower() {
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    sequencer.abort();
    let _ = sequencer.await;
    let mut appender =
        Appender::claim(&stand.db, "a newer release").await.expect("the epoch can be raised");
    let (sequence, previous_hash, time) =
        store::journal::head(&stand.db).await.expect("it can be read").expect("it has rows");
    let mut row = journal::Row {
        sequence: sequence.next(),
        time: time.max(Time::from_micros(1)),
        incarnation: 77,
        epoch: appender.epoch(),
        format: journal::FORMAT + 1,
        rules: journal::RULES,
        commands: 0,
        payload: vec![1, 2, 3],
        previous_hash,
        hash: units::Hash32::default(),
    };
    row.hash = journal::row_hash(&row);
    appender.append(&row).await.expect("the database takes any format");
    wait_until("the follower's end", || stand.live.stopped().is_some()).await;
    let reason = stand.live.stopped().expect("it has stopped");
    assert!(reason.contains("format"), "{reason}");
    assert_eq!(
        stand.live.sequence(),
        sequence,
        "the state stays at the last row that it could read"
    );
    assert!(stand.follower.await.expect("it does not panic").is_err());
}
