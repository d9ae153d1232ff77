//! Over a real RabbitMQ: a message of each bad kind, one that makes `decide` panic among them, comes into the dead-letter
//! queue with its reason, and its neighbours are decided as if it were not there.

#[path = "../sequencer/common.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Options};
use bytes::Bytes;
use common::{BTC, LIMIT, Stand, USD, deposit, order, wait_until};
use engine::{Action, Command, Decision, Event, Origin, Reject, Side, State};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use processor::Parts;
use queue::{
    Address, CommandPublisher, DEAD_LETTERS, ORDERS, PublishOutcome, RabbitPublisher, RabbitQueue,
};
use units::{AccountId, CommandId, Sequence};

/// The command whose decision fails, as by a defect.
const POISON: CommandId = CommandId::new(666);
/// Orders before and after each bad message.
const NEIGHBOURS: u128 = 25;

fn with_a_defect(state: &State, command: &Command) -> Decision {
    assert_ne!(command.id, POISON, "a poisoned command panics");
    engine::decide(state, command)
}

/// A bad message: its kind at the broker, its bytes, the reason that it must get.
struct Bad {
    kind: Option<&'static str>,
    body: Vec<u8>,
    reason: &'static str,
}

fn bad(stand: &Stand) -> Vec<Bad> {
    let good = order(1_000, Side::Buy, 900, 1);
    let whole = stand.message(700, good.clone()).encode();
    let mut elsewhere = stand.message(701, good.clone());
    elsewhere.incarnation = 78;
    let mut internal = stand.message(702, Action::Tick);
    internal.command.origin = Origin::Internal;
    let plain = |body: Vec<u8>, reason| Bad { kind: None, body, reason };
    vec![
        plain(b"{\"not\": \"a command\"}".to_vec(), "unknown_version"),
        plain(whole[..whole.len() - 1].to_vec(), "unreadable"),
        plain(vec![1; 1_000_000], "too_long"),
        plain(elsewhere.encode(), "incarnation"),
        plain(internal.encode(), "forbidden"),
        Bad { kind: Some("kx.bundle.9"), body: whole.clone(), reason: "unknown_version" },
        Bad { kind: Some("kx.bundle.1"), body: vec![0xff; 9], reason: "unreadable" },
        plain(stand.message(POISON.get(), good).encode(), "internal"),
    ]
}

/// What gives account 1,000 its money.
fn funds() -> Vec<Action> {
    let open = Action::OpenAccount { account: AccountId::new(1_000) };
    vec![open, deposit(1_000, USD, 1), deposit(1_000, BTC, 2)]
}

/// The broker, as a stranger uses it.
struct Stranger {
    _connection: Connection,
    channel: Channel,
}

impl Stranger {
    async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker answers");
        let channel = connection.create_channel().await.expect("it answers");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("it answers");
        Self { _connection: connection, channel }
    }

    async fn publish(&self, bad: &Bad) {
        let properties = match bad.kind {
            Some(kind) => BasicProperties::default().with_type(kind.into()),
            None => BasicProperties::default(),
        };
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let published =
            self.channel.basic_publish("".into(), ORDERS.into(), options, &bad.body, properties);
        published.await.expect("it is sent").await.expect("it is confirmed");
    }

    /// Takes the next dead letter and its reason, as soon as there is one.
    async fn dead_letter(&self) -> (Bytes, String) {
        let taken = async {
            loop {
                let got =
                    self.channel.basic_get(DEAD_LETTERS.into(), BasicGetOptions { no_ack: true });
                if let Some(got) = got.await.expect("it answers") {
                    let headers = got.delivery.properties.headers().clone().unwrap_or_default();
                    let reason = match headers.inner().get("reason") {
                        Some(AMQPValue::LongString(reason)) => reason.to_string(),
                        other => panic!("a dead letter without a reason: {other:?}"),
                    };
                    return (Bytes::from(got.delivery.data), reason);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, taken).await.expect("a dead letter comes")
    }
}

/// Sends orders one after the other; returns the longest that one took.
async fn neighbours(stand: &Stand, publisher: &RabbitPublisher, first: u128) -> Duration {
    let mut longest = Duration::ZERO;
    for id in first..first + NEIGHBOURS {
        let message = stand.message(id, order(1_000, Side::Buy, 900, 1));
        let mut waiter = stand.live.expect(CommandId::new(id));
        let begun = Instant::now();
        let outcome = publisher.publish(message.encode().into(), 0).await;
        assert_eq!(outcome, PublishOutcome::Confirmed);
        let outcome = waiter.outcome(LIMIT).await.expect("it is decided");
        assert!(matches!(outcome.entry().event, Event::OrderPlaced(_)));
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_message_is_put_aside_with_its_reason_and_its_neighbours_are_decided() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().to_owned();
    let started = tokio::task::spawn_blocking(move || Broker::start(&path, Options::default()));
    let broker = started.await.expect("no panic").expect("RabbitMQ is installed");
    let mut stand = Stand::new().await;
    stand.decide = with_a_defect;
    let address = Address::parse(&broker.url()).expect("it is an address");
    let parts = Parts {
        recorder: Arc::default(),
        db: stand.db.clone(),
        source: Arc::new(RabbitQueue::new(address.clone(), "test")),
        fan_out: Arc::new(stand.fan_out.clone()),
        live: Some(Arc::clone(&stand.live)),
        status: Arc::clone(&stand.status),
    };
    let sequencer = tokio::spawn(processor::run(parts, stand.config(false), stand.stop.clone()));
    let publisher = RabbitPublisher::start(address, "test");
    wait_until("the publisher", || publisher.ready()).await;
    assert!(stand.live.wait_for(Sequence::new(1), LIMIT).await, "the journal is opened");
    for (number, action) in (900..).zip(funds()) {
        let message = stand.message(number, action);
        let mut waiter = stand.live.expect(CommandId::new(number));
        publisher.publish(message.encode().into(), 0).await;
        waiter.outcome(LIMIT).await.expect("it is decided");
    }
    let stranger = Stranger::connect(&broker.url()).await;

    let quiet = neighbours(&stand, &publisher, 10_000).await;
    let mut first = 20_000;
    for bad in bad(&stand) {
        let begun = Instant::now();
        stranger.publish(&bad).await;
        let (loud, (body, reason)) =
            tokio::join!(neighbours(&stand, &publisher, first), stranger.dead_letter());
        assert_eq!((reason.as_str(), &body[..]), (bad.reason, &bad.body[..]));
        println!(
            "{reason}: put aside, and {NEIGHBOURS} neighbours decided, within {:.0} ms; a neighbour took {:.0} ms at most, {:.0} ms before",
            begun.elapsed().as_secs_f64() * 1e3,
            loud.as_secs_f64() * 1e3,
            quiet.as_secs_f64() * 1e3
        );
        first += 1_000;
    }
    // The one that failed has its outcome, as every command.
    let known = stand.live.read(|state| state.known(POISON)).expect("it is remembered");
    let row = store::journal::row(&stand.db, known.outcome).await.expect("read").expect("there");
    let batch = journal::read(&row).expect("it is good");
    let entry = batch.entries.iter().find(|entry| entry.command.id == POISON).expect("in it");
    assert_eq!(entry.event, Event::Rejected(Reject::Internal));
    stand.live.read(|state| state.check().expect("every invariant holds"));
    stand.stop.cancel();
    sequencer.await.expect("it does not panic").expect("it stops cleanly");
}
