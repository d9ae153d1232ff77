//! Commands that come again when they are forgotten, rows that wait too long, and sequencers that are behind another.

use engine::{Action, Event, Side};
use journal::{Batch, Entry, seal};
use store::journal::{Appender, head};
use units::CommandId;

use crate::common::{LIMIT, Stand, order, wait_until};

const WINDOW_MICROS: u64 = 4_000_000;

async fn with_a_short_window() -> Stand {
    let mut stand = Stand::new().await;
    stand.limits.dedup_window_micros = WINDOW_MICROS;
    stand
}

/// How often a command stands in the journal.
async fn times(stand: &Stand, id: u128) -> usize {
    let journal = stand.journal().await;
    journal.iter().filter(|(_, _, entry)| entry.command.id == CommandId::new(id)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_forgotten_and_not_projected_is_not_decided_again() {
    let stand = with_a_short_window().await;
    let _sequencer = stand.started().await;
    stand.fund().await;
    let mut message = stand.message(500, order(1_000, Side::Buy, 900, 1));
    message.command.expires_at = stand.live.journal_now().plus_micros(WINDOW_MICROS / 2);
    let mut waiter = stand.live.expect(CommandId::new(500));
    stand.publish(&message).await;
    let decided = waiter.outcome(LIMIT).await.expect("it is decided").applied.batch.time;
    let forgotten = decided.plus_micros(WINDOW_MICROS).max(message.command.expires_at);
    wait_until("the end of its window", || stand.live.read(engine::State::time) > forgotten).await;
    assert!(stand.live.read(|state| state.known(CommandId::new(500)).is_none()));
    stand.publish(&message).await;
    stand.send(501, order(1_000, Side::Buy, 900, 1)).await;
    assert_eq!(times(&stand, 500).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_waits_too_long_for_its_commit_is_given_up_and_settled_by_a_takeover() {
    let stand = with_a_short_window().await;
    let _sequencer = stand.started().await;
    stand.fund().await;
    let client = stand.db.get().await.expect("the database answers");
    // Whoever appends waits for this lock, and so does whoever raises the epoch.
    client.batch_execute("BEGIN; SELECT FROM epoch FOR UPDATE").await.expect("it is locked");
    let mut waiter = stand.live.expect(CommandId::new(500));
    stand.publish(&stand.message(500, order(1_000, Side::Buy, 900, 1))).await;
    wait_until("the end of its patience", || !stand.status.is_active()).await;
    let epoch = stand.status.epoch();
    client.batch_execute("COMMIT").await.expect("it is unlocked");
    wait_until("the takeover", || stand.status.is_active() && stand.status.epoch() > epoch).await;
    // The append that was given up may have gone through by itself; the command is in the journal once all the same.
    waiter.outcome(LIMIT).await.expect("it is decided");
    stand.publish(&stand.message(500, order(1_000, Side::Buy, 900, 1))).await;
    stand.send(501, order(1_000, Side::Buy, 900, 1)).await;
    assert_eq!(times(&stand, 500).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_that_is_behind_another_stands_by() {
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    stand.fund().await;
    let mut other = Appender::claim(&stand.db, "another").await.expect("the epoch can be raised");
    let (last, hash, time) = head(&stand.db).await.expect("it can be read").expect("a row");
    let command = engine::internal_command(Action::Tick);
    let batch = Batch {
        sequence: last.next(),
        time,
        incarnation: 77,
        epoch: other.epoch(),
        rules: journal::RULES,
        entries: vec![Entry { command, event: Event::Done }],
    };
    other.append(&seal(&batch, hash)).await.expect("the epoch is the other's");
    let mut message = stand.message(500, order(1_000, Side::Buy, 900, 1));
    message.seen = batch.sequence;
    let mut waiter = stand.live.expect(CommandId::new(500));
    stand.publish(&message).await;
    wait_until("the end of its rule", || !stand.status.is_active()).await;
    let outcome = waiter.outcome(LIMIT).await.expect("it is decided after all");
    assert!(outcome.applied.batch.epoch > other.epoch());
    assert!(!sequencer.is_finished(), "nobody has restored the database");
}
