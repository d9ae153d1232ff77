//! What every queue and every fan-out must do, written over the traits, so that each implementation runs the same
//! tests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use trace::{BatchTiming, CommandTiming, Micros, Origin};

use crate::{
    BatchPublisher, BatchSubscriber, CommandConsumer, CommandPublisher, Delivery, Hint,
    PublishOutcome, Told,
};

/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing may happen where nothing must happen.
const QUIET: Duration = Duration::from_millis(200);

/// A queue under test: empty, with a bound that is known.
#[async_trait]
pub(crate) trait QueueUnderTest {
    /// Makes a publisher to the queue.
    async fn publisher(&self) -> Box<dyn CommandPublisher>;
    /// Makes a consumer of the queue.
    async fn consumer(&self) -> Box<dyn CommandConsumer>;
    /// Returns the dead letters' bodies and reasons, oldest first.
    async fn dead_letters(&self) -> Vec<(Bytes, String)>;
    /// How many messages fit; `None` where the bound is not in messages.
    fn messages_max(&self) -> Option<usize>;
}

/// Runs every test of a queue. `fresh` makes an empty one each time.
///
/// # Panics
///
/// When the queue breaks a rule.
pub(crate) async fn commands<Q: QueueUnderTest, F: Future<Output = Q>>(fresh: impl Fn() -> F) {
    messages_come_out_in_order(&fresh().await).await;
    what_was_not_acknowledged_comes_again_in_order(&fresh().await).await;
    one_consumer_is_active_at_a_time(&fresh().await).await;
    a_dropped_wait_loses_nothing(&fresh().await).await;
    a_full_queue_refuses(&fresh().await).await;
    a_dead_letter_keeps_its_reason(&fresh().await).await;
}

fn body(number: usize) -> Bytes {
    Bytes::from(format!("message {number}"))
}

async fn publish(publisher: &dyn CommandPublisher, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(
            publisher.publish(body(number), 0).await,
            PublishOutcome::Confirmed,
            "message {number}"
        );
    }
}

async fn take(consumer: &mut dyn CommandConsumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = timeout(LIMIT, consumer.next(count - taken.len())).await;
        let some = next.expect("a waiting message comes").expect("the consumer is good");
        assert!(!some.is_empty(), "next returns something");
        taken.extend(some);
    }
    assert_eq!(taken.len(), count, "no more than was asked for");
    taken
}

fn assert_bodies(deliveries: &[Delivery], numbers: std::ops::Range<usize>) {
    let bodies: Vec<&Bytes> = deliveries.iter().map(|delivery| &delivery.body).collect();
    let wanted: Vec<Bytes> = numbers.map(body).collect();
    assert_eq!(bodies, wanted.iter().collect::<Vec<_>>());
}

async fn messages_come_out_in_order(queue: &impl QueueUnderTest) {
    let publisher = queue.publisher().await;
    let mut consumer = queue.consumer().await;
    publish(&*publisher, 0..30).await;
    let mut taken = take(&mut *consumer, 7).await;
    publish(&*publisher, 30..40).await;
    taken.extend(take(&mut *consumer, 33).await);
    assert_bodies(&taken, 0..40);
    assert!(taken.windows(2).all(|pair| pair[0].tag + 1 == pair[1].tag), "tags rise by one");
    assert!(taken.iter().all(|delivery| !delivery.redelivered), "nothing was taken before");
    assert!(timeout(QUIET, consumer.next(1)).await.is_err(), "nothing comes twice");
}

async fn what_was_not_acknowledged_comes_again_in_order(queue: &impl QueueUnderTest) {
    let publisher = queue.publisher().await;
    publish(&*publisher, 0..20).await;
    let mut first = queue.consumer().await;
    let taken = take(&mut *first, 12).await;
    first.ack(taken[4].tag).await.expect("the consumer is good");
    drop(first);
    let mut second = queue.consumer().await;
    let again = take(&mut *second, 15).await;
    assert_bodies(&again, 5..20);
    assert!(again[..7].iter().all(|delivery| delivery.redelivered), "it was taken before");
    second.ack(again[14].tag).await.expect("the consumer is good");
    drop(second);
    let mut third = queue.consumer().await;
    assert!(
        timeout(QUIET, third.next(1)).await.is_err(),
        "what was acknowledged does not come again"
    );
}

async fn one_consumer_is_active_at_a_time(queue: &impl QueueUnderTest) {
    let publisher = queue.publisher().await;
    let mut first = queue.consumer().await;
    let mut second = queue.consumer().await;
    publish(&*publisher, 0..4).await;
    assert!(timeout(QUIET, second.next(10)).await.is_err(), "the second waits");
    let taken = take(&mut *first, 2).await;
    first.ack(taken[0].tag).await.expect("the consumer is good");
    assert!(timeout(QUIET, second.named()).await.is_err(), "the second still waits");
    drop(first);
    timeout(LIMIT, second.named()).await.expect("it is named").expect("the consumer is good");
    assert_bodies(&take(&mut *second, 3).await, 1..4);
}

async fn a_dropped_wait_loses_nothing(queue: &impl QueueUnderTest) {
    let publisher = queue.publisher().await;
    let mut consumer = queue.consumer().await;
    let mut taken = Vec::new();
    for number in 0..50 {
        // A wait that is given up at once, and a message that comes while nobody waits.
        let _ = timeout(Duration::from_micros(1), consumer.next(1))
            .await
            .map(|next| taken.extend(next.expect("good")));
        publish(&*publisher, number..number + 1).await;
    }
    let missing = 50 - taken.len();
    taken.extend(take(&mut *consumer, missing).await);
    assert_bodies(&taken, 0..50);
}

async fn a_full_queue_refuses(queue: &impl QueueUnderTest) {
    let Some(max) = queue.messages_max() else { return };
    let publisher = queue.publisher().await;
    let mut consumer = queue.consumer().await;
    publish(&*publisher, 0..max).await;
    assert_eq!(
        publisher.publish(body(max), 0).await,
        PublishOutcome::Unroutable,
        "a full queue refuses"
    );
    assert!(!publisher.ready(), "a full queue is not ready");
    let taken = take(&mut *consumer, max).await;
    assert_bodies(&taken, 0..max);
    consumer.ack(taken[max - 1].tag).await.expect("the consumer is good");
    publish(&*publisher, max..max + 1).await;
    assert!(publisher.ready(), "there is room again");
    assert_bodies(&take(&mut *consumer, 1).await, max..max + 1);
}

async fn a_dead_letter_keeps_its_reason(queue: &impl QueueUnderTest) {
    let publisher = queue.publisher().await;
    let mut consumer = queue.consumer().await;
    publish(&*publisher, 0..3).await;
    let taken = take(&mut *consumer, 3).await;
    consumer.dead_letter(&taken[1], "not a command").await.expect("the consumer is good");
    consumer.ack(taken[2].tag).await.expect("the consumer is good");
    assert_eq!(queue.dead_letters().await, [(body(1), "not a command".to_owned())]);
    assert!(
        timeout(QUIET, consumer.next(1)).await.is_err(),
        "a dead letter is not delivered again"
    );
}

/// A fan-out under test.
#[async_trait]
pub(crate) trait FanOutUnderTest {
    /// Makes a publisher.
    async fn publisher(&self) -> Box<dyn BatchPublisher>;
    /// Makes a subscriber.
    async fn subscriber(&self) -> Box<dyn BatchSubscriber>;
}

/// Times by which a row is known again.
fn timing(number: u64) -> Arc<BatchTiming> {
    let command = CommandTiming { index: 1, received: 2, waited: 3, decided: 4, settled: 5 };
    Arc::new(BatchTiming {
        origin: Origin { boot: number, wall: -7 },
        begun: Micros(9),
        commands: vec![command],
        append_begun: 20,
        committed: 30,
    })
}

/// Every subscriber hears of every row that is published after it was made, in order, with its times. `row` makes a row by its number.
///
/// # Panics
///
/// When the fan-out breaks a rule.
pub(crate) async fn fan_out(fan_out: &impl FanOutUnderTest, row: impl Fn(u64) -> Told) {
    let publisher = fan_out.publisher().await;
    let told = |number| Told { timing: (number == 3).then(|| timing(number)), ..row(number) };
    publisher.publish(told(1));
    let mut one = fan_out.subscriber().await;
    let mut two = fan_out.subscriber().await;
    for number in 2..6 {
        publisher.publish(told(number));
    }
    for subscriber in [&mut one, &mut two] {
        for number in 2..6 {
            let hint = timeout(LIMIT, subscriber.next())
                .await
                .expect("a row comes")
                .expect("the fan-out is open");
            let expected = told(number).timing;
            assert!(
                matches!(&hint, Hint::Row(got) if got.row.sequence.get() == number && got.timing == expected),
                "{number}: {hint:?}"
            );
        }
    }
}
