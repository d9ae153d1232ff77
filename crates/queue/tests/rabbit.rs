//! RabbitMQ itself keeps every rule of a queue and of a fan-out; and what only a broker can do: go away, be full of
//! strangers' messages, have a queue of another kind.

// The same rules as for the queue inside a process, and the same tests.
#[path = "../src/suite.rs"]
mod suite;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Options};
use bytes::Bytes;
use journal::Row;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use queue::{
    Address, BatchPublisher, BatchSubscriber, CommandConsumer, CommandPublisher, CommandSource,
    DEAD_LETTERS, Delivery, Hint, ORDERS, PublishOutcome, QueueError, RabbitFanOut,
    RabbitPublisher, RabbitQueue, Told,
};
use suite::{FanOutUnderTest, QueueUnderTest};
use tokio::time::{sleep, timeout};
use units::{Hash32, Sequence, Time};

/// How long anything that must happen may take: a broker may have to start first.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// A virtual host of its own at a broker: empty, and of this test alone.
struct Place {
    url: String,
}

/// The broker, and how many places were made.
struct Stand {
    broker: Broker,
    made: AtomicUsize,
    _directory: tempfile::TempDir,
}

impl Stand {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let broker = Broker::start(directory.path(), Options::default());
        let broker = broker.unwrap_or_else(|error| panic!("RabbitMQ is installed: {error}"));
        Self { broker, made: AtomicUsize::new(0), _directory: directory }
    }

    fn place(&self) -> Place {
        let name = format!("place{}", self.made.fetch_add(1, Relaxed));
        let ctl = |arguments: &[&str]| {
            self.broker.ctl(arguments).unwrap_or_else(|error| panic!("{error}"));
        };
        ctl(&["add_vhost", &name]);
        ctl(&["set_permissions", "-p", &name, self.broker.user(), ".*", ".*", ".*"]);
        let url = self.broker.url();
        let (address, _) = url.rsplit_once('/').expect("an address has a virtual host");
        Place { url: format!("{address}/{name}") }
    }
}

impl Place {
    fn address(&self) -> Address {
        Address::parse(&self.url).expect("it is an address")
    }

    fn queue(&self) -> RabbitQueue {
        RabbitQueue::new(self.address(), "test")
    }

    async fn ready(&self) -> RabbitPublisher {
        let publisher = RabbitPublisher::start(self.address(), "test");
        wait_for("the publisher", || publisher.ready()).await;
        publisher
    }

    async fn connection(&self) -> Connection {
        let connecting = Connection::connect(&self.url, ConnectionProperties::default());
        connecting.await.expect("the broker answers")
    }

    /// Publishes something as a stranger would.
    async fn publish_raw(&self, kind: Option<&str>, body: &[u8]) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("it answers");
        let properties = match kind {
            Some(kind) => BasicProperties::default().with_type(kind.into()),
            None => BasicProperties::default(),
        };
        channel.confirm_select(Default::default()).await.expect("it answers");
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let published = channel.basic_publish("".into(), ORDERS.into(), options, body, properties);
        published.await.expect("it is sent").await.expect("it is confirmed");
        connection.close(200, "done".into()).await.expect("it answers");
    }
}

async fn wait_for(what: &str, mut until: impl FnMut() -> bool) {
    let waited = async {
        while !until() {
            sleep(LOOK).await;
        }
    };
    timeout(LIMIT, waited).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[async_trait]
impl QueueUnderTest for Place {
    async fn publisher(&self) -> Box<dyn CommandPublisher> {
        Box::new(self.ready().await)
    }
    async fn consumer(&self) -> Box<dyn CommandConsumer> {
        self.queue().consumer().await.expect("the broker answers")
    }
    async fn dead_letters(&self) -> Vec<(Bytes, String)> {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("it answers");
        let mut letters = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) =
            channel.basic_get(DEAD_LETTERS.into(), options).await.expect("it answers")
        {
            let headers = got.delivery.properties.headers().clone().unwrap_or_default();
            let reason = match headers.inner().get("reason") {
                Some(AMQPValue::LongString(reason)) => reason.to_string(),
                other => panic!("a dead letter without a reason: {other:?}"),
            };
            letters.push((Bytes::from(got.delivery.data), reason));
        }
        letters
    }
    fn messages_max(&self) -> Option<usize> {
        None
    }
}

/// A fan-out whose subscribers are there when they say so: the broker answers on its own time.
struct FanOutPlace {
    fan_out: RabbitFanOut,
}

#[async_trait]
impl FanOutUnderTest for FanOutPlace {
    async fn publisher(&self) -> Box<dyn BatchPublisher> {
        // The task connects on its own time; only what it publishes then is heard.
        let mut probe = self.fan_out.subscriber();
        let hint = timeout(LIMIT, probe.next()).await.expect("it connects").expect("it is open");
        assert!(matches!(hint, Hint::Gap), "a subscriber begins with a gap");
        let heard = async {
            loop {
                self.fan_out.publish(row(0));
                if let Ok(Ok(Hint::Row(_))) = timeout(LOOK * 5, probe.next()).await {
                    return;
                }
            }
        };
        timeout(LIMIT, heard).await.expect("a row comes");
        Box::new(self.fan_out.clone())
    }
    async fn subscriber(&self) -> Box<dyn BatchSubscriber> {
        let mut inner = self.fan_out.subscriber();
        let hint = timeout(LIMIT, inner.next()).await.expect("it connects").expect("it is open");
        assert!(matches!(hint, Hint::Gap), "a subscriber begins with a gap");
        Box::new(inner)
    }
}

fn row(number: u64) -> Told {
    Told::from(Row {
        sequence: Sequence::new(number),
        time: Time::ZERO,
        incarnation: 1,
        epoch: 1,
        format: journal::FORMAT,
        rules: journal::RULES,
        commands: 0,
        payload: Vec::new(),
        previous_hash: Hash32::default(),
        hash: Hash32::default(),
    })
}

async fn taken(consumer: &mut dyn CommandConsumer, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let next = timeout(LIMIT, consumer.next(count - all.len())).await.expect("it comes");
        all.extend(next.expect("the consumer is good"));
    }
    all
}

fn numbered(number: usize) -> Bytes {
    Bytes::from(format!("command {number}"))
}

/// One broker for all of it: starting one takes longer than any of these.
#[test]
fn rabbitmq_keeps_every_rule() {
    let mut stand = Stand::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    runtime.block_on(async {
        suite::commands(|| async { stand.place() }).await;
        println!("the suite of queues: kept");
        let fan_out = RabbitFanOut::start(stand.place().address(), "test");
        suite::fan_out(&FanOutPlace { fan_out }, row).await;
        println!("the suite of fan-outs: kept");
        many_commands_travel_together_and_come_out_in_order(&stand.place()).await;
        a_nudge_names_the_active_consumer(&stand.place()).await;
        a_strangers_message_is_told_apart(&stand.place()).await;
        a_deleted_queue_is_unroutable_and_declared_again(&stand, &stand.place()).await;
        a_queue_of_another_kind_is_refused_with_its_name(&stand.place()).await;
    });
    runtime.block_on(a_broker_that_comes_back_is_used_again(&mut stand));
}

async fn many_commands_travel_together_and_come_out_in_order(place: &Place) {
    let publisher = place.ready().await;
    let mut consumer = place.consumer().await;
    let publishing = (0..1_000).map(|number| publisher.publish(numbered(number), 7));
    let outcomes = futures::future::join_all(publishing).await;
    assert!(outcomes.iter().all(|outcome| *outcome == PublishOutcome::Confirmed));
    let first = taken(&mut *consumer, 600).await;
    consumer.ack(first[100].tag).await.expect("the consumer is good");
    drop(consumer);
    let mut next = place.consumer().await;
    // Whatever was in the same bundle as something that is not acknowledged comes again with it.
    let again = taken(&mut *next, 1).await;
    let begins = (0..1_000).find(|number| numbered(*number) == again[0].body);
    let begins = begins.expect("it is one of ours");
    assert!(begins <= 101, "{begins} is after the first that was not acknowledged");
    let rest = taken(&mut *next, 999 - begins).await;
    for (at, delivery) in rest.iter().enumerate() {
        assert_eq!(delivery.body, numbered(begins + 1 + at), "in order, and none missing");
    }
}

async fn a_nudge_names_the_active_consumer(place: &Place) {
    let mut first = place.consumer().await;
    let mut second = place.consumer().await;
    first.nudge().await.expect("the consumer is good");
    timeout(LIMIT, first.named()).await.expect("it is named").expect("the consumer is good");
    drop(first);
    second.nudge().await.expect("the consumer is good");
    timeout(LIMIT, second.named()).await.expect("it is named").expect("the consumer is good");
    let publisher = place.ready().await;
    assert_eq!(publisher.publish(numbered(1), 0).await, PublishOutcome::Confirmed);
    let taken = taken(&mut *second, 1).await;
    assert_eq!((taken[0].tag, &taken[0].body), (1, &numbered(1)), "a nudge is no command");
}

async fn a_strangers_message_is_told_apart(place: &Place) {
    let mut consumer = place.consumer().await;
    place.publish_raw(None, b"anything").await;
    place.publish_raw(Some("kx.bundle.1"), b"\xff\xff\xff\xffx").await;
    place.publish_raw(Some("kx.bundle.9"), b"of a newer release").await;
    let taken = taken(&mut *consumer, 3).await;
    let reasons: Vec<_> = taken.iter().map(|delivery| delivery.unreadable).collect();
    assert_eq!(reasons, [None, Some("unreadable"), Some("unknown_version")]);
    assert_eq!(taken[2].body, Bytes::from_static(b"of a newer release"));
}

async fn a_deleted_queue_is_unroutable_and_declared_again(stand: &Stand, place: &Place) {
    let publisher = place.ready().await;
    assert_eq!(publisher.publish(numbered(1), 0).await, PublishOutcome::Confirmed);
    let (_, name) = place.url.rsplit_once('/').expect("it has a virtual host");
    stand.broker.ctl(&["delete_queue", "-p", name, ORDERS]).expect("it is there");
    assert_eq!(publisher.publish(numbered(2), 0).await, PublishOutcome::Unroutable);
    let mut declared = PublishOutcome::Unroutable;
    let again = async {
        while declared != PublishOutcome::Confirmed {
            sleep(LOOK).await;
            declared = publisher.publish(numbered(3), 0).await;
        }
    };
    timeout(LIMIT, again).await.expect("the queue is declared again");
    let mut consumer = place.consumer().await;
    assert_eq!(taken(&mut *consumer, 1).await[0].body, numbered(3));
}

async fn a_queue_of_another_kind_is_refused_with_its_name(place: &Place) {
    let connection = place.connection().await;
    let channel = connection.create_channel().await.expect("it answers");
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(ORDERS.into(), durable, FieldTable::default()).await;
    declared.expect("a classic queue can be made");
    let error = place.queue().declare().await.expect_err("it is of another kind");
    assert!(matches!(error, QueueError::WrongQueue(_)) && !error.is_passing(), "{error}");
    assert!(error.to_string().contains("`orders`"), "{error}");
    assert!(place.queue().consumer().await.is_err());
}

async fn a_broker_that_comes_back_is_used_again(stand: &mut Stand) {
    let place = stand.place();
    let publisher = place.ready().await;
    let mut consumer = place.consumer().await;
    for number in 0..3 {
        assert_eq!(publisher.publish(numbered(number), 0).await, PublishOutcome::Confirmed);
    }
    taken(&mut *consumer, 1).await;
    stand.broker.kill();
    // What had come before it is handed over first, at once or one by one.
    let mut rest = 0;
    let lost = async {
        while let Ok(some) = consumer.next(10).await {
            rest += some.len();
        }
    };
    timeout(LIMIT, lost).await.expect("the loss is noticed");
    assert!(rest <= 2, "{rest} more than were published");
    wait_for("the loss", || !publisher.ready()).await;
    assert_eq!(publisher.publish(numbered(9), 0).await, PublishOutcome::Unroutable);
    stand.broker.start_again().expect("it starts again");
    wait_for("the publisher", || publisher.ready()).await;
    assert_eq!(publisher.publish(numbered(3), 0).await, PublishOutcome::Confirmed);
    let mut consumer = place.consumer().await;
    let all = taken(&mut *consumer, 4).await;
    let bodies: Vec<Bytes> = all.into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies, (0..4).map(numbered).collect::<Vec<_>>(), "what was confirmed is there");
}
