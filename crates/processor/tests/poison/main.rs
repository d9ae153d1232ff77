//! Points at which the sequencer is made to fail.

#[path = "../sequencer/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;

use common::{Stand, order, wait_until};
use engine::{Event, Side};
use tokio::sync::Mutex;
use units::CommandId;

/// Failpoints are the whole process': one test at a time.
static ONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_that_dies_after_the_append_decides_nothing_twice() {
    let _one = ONE.lock().await;
    let stand = Stand::new().await;
    let sequencer = stand.started().await;
    stand.fund().await;
    processor::failpoint::set("after_append", processor::failpoint::Action::Panic, 1);
    stand.publish(&stand.message(600, order(1_000, Side::Buy, 900, 1))).await;
    assert!(sequencer.await.expect_err("it panics").is_panic());
    let _second = stand.sequencer(false);
    let status = &stand.status;
    wait_until("the second's rule", || status.epoch() >= 2 && status.is_active()).await;
    let known = || stand.live.read(|state| state.known(CommandId::new(600)).is_some());
    wait_until("the command", known).await;
    assert!(matches!(
        stand.send(601, order(1_000, Side::Buy, 900, 1)).await,
        Event::OrderPlaced(_)
    ));
    let times = stand
        .journal()
        .await
        .iter()
        .filter(|(_, _, entry)| entry.command.id == CommandId::new(600))
        .count();
    assert_eq!(times, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_cannot_be_applied_is_found_out_and_refused_unread() {
    let _one = ONE.lock().await;
    let stand = Stand::new().await;
    let mut sequencer = stand.started().await;
    stand.fund().await;
    processor::failpoint::envenom(CommandId::new(701));
    let waiters: Vec<_> = (700..703).map(|id| stand.live.expect(CommandId::new(id))).collect();
    for id in 700..703 {
        stand.publish(&stand.message(id, order(1_000, Side::Buy, 900, 1))).await;
    }
    // It dies once with the batch, and once more with the one command alone.
    for _ in 0..2 {
        let ended = sequencer.await.expect("it is caught");
        assert!(matches!(ended, Err(processor::ProcessorError::Evolve { .. })), "{ended:?}");
        sequencer = stand.sequencer(false);
    }
    let mut outcomes = Vec::new();
    for mut waiter in waiters {
        outcomes.push(
            waiter.outcome(common::LIMIT).await.expect("it is decided").entry().event.clone(),
        );
    }
    assert!(matches!(outcomes[0], Event::OrderPlaced(_)), "{:?}", outcomes[0]);
    assert_eq!(outcomes[1], Event::Rejected(Reject::Internal));
    assert!(matches!(outcomes[2], Event::OrderPlaced(_)), "{:?}", outcomes[2]);
    let started = std::time::Instant::now();
    while !store::suspects::all(&stand.db).await.expect("they can be read").is_empty() {
        assert!(started.elapsed() < common::LIMIT, "what was decided is suspected no more");
        tokio::task::yield_now().await;
    }
}
