//! A command that makes `decide` panic.

use crate::common::{Stand, order, wait_until};
use engine::{Event, Reject, Side};
use units::CommandId;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_makes_decide_panic_is_rejected_as_internal() {
    let stand = Stand::new().await;
    let _sequencer = stand.started().await;
    stand.fund().await;
    processor::failpoint::poison(CommandId::new(500));
    let outcome = stand.send(500, order(1_000, Side::Buy, 900, 1)).await;
    assert_eq!(outcome, Event::Rejected(Reject::Internal));
    let dead = stand.queue.dead_letters();
    assert_eq!(dead.len(), 1, "a copy is put aside");
    assert_eq!(dead[0].1, "internal");
    // The sequencer goes on, and the state is whole.
    assert!(matches!(
        stand.send(501, order(1_000, Side::Buy, 900, 1)).await,
        Event::OrderPlaced(_)
    ));
    stand.live.read(|state| state.check().expect("every invariant holds"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequencer_that_dies_after_the_append_decides_nothing_twice() {
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
