//! Step 5 of the order's way: followers are told of committed rows.
//!
//! Everything here may be lost: the journal in PostgreSQL is the truth, and a follower that misses a row reads it there.
//! So nothing is persistent, nothing is confirmed, and nobody waits.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tokio::sync::mpsc;
use trace::BatchTiming;

use super::connection::{Address, Backoff, close, failed};
use super::row;
use super::topology::{JOURNAL, declare_exchange};
use crate::{BatchPublisher, BatchSubscriber, Hint, QueueError, Told};

/// The header with the times of a row's commands.
const TIMING: &str = "kx-timing";
/// Rows that may wait to be published; more are a gap.
const WAITING_MAX: usize = 256;
/// Rows that the broker keeps for one follower; the oldest give way, which is a gap.
const FOLLOWER_ROWS_MAX: i64 = 1_024;
/// Rows that the broker brings ahead: what a slow follower has not taken stays with the broker, where it is bounded.
const PREFETCH: u16 = 64;
/// Rows that are acknowledged together.
const ROWS_PER_ACK: u16 = PREFETCH / 4;
/// Rows that have come and that the follower has not taken.
const ARRIVED_MAX: usize = 256;

/// The fan-out at a broker. Publishing goes over one connection that is made anew when it is lost; each subscriber has
/// one of its own.
#[derive(Clone)]
pub struct RabbitFanOut {
    sender: mpsc::Sender<Told>,
    address: Address,
    service: String,
}

impl RabbitFanOut {
    /// Makes a fan-out and starts its publishing task, which ends with the last clone. Must be called within a tokio
    /// runtime.
    #[must_use]
    pub fn start(address: Address, service: &str) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let purpose = format!("{service} broadcast");
        tokio::spawn(publish(address.clone(), purpose, receiver));
        Self { sender, address, service: service.to_owned() }
    }

    /// Makes a subscriber that hears of every row from now on, as far as the broker lets it; a time without the broker is
    /// told as a gap.
    #[must_use]
    pub fn subscriber(&self) -> RabbitSubscriber {
        RabbitSubscriber::start(self.address.clone(), &self.service)
    }
}

impl BatchPublisher for RabbitFanOut {
    fn publish(&self, told: Told) {
        // A row that does not fit is a gap, which its followers see by the next row's number.
        let _ = self.sender.try_send(told);
    }
}

async fn publish(address: Address, purpose: String, mut receiver: mpsc::Receiver<Told>) {
    let mut backoff = Backoff::new();
    loop {
        if let Ok(connection) = address.connect(&purpose).await {
            if let Ok(channel) = open(&connection).await {
                backoff.reset();
                loop {
                    let Some(told) = receiver.recv().await else {
                        close(connection);
                        return;
                    };
                    if let Err(error) = publish_row(&channel, &told).await {
                        tracing::warn!(broker = %address, reason = %error, "broadcasting has ended");
                        break;
                    }
                }
            }
            close(connection);
        }
        backoff.pause().await;
        if receiver.is_closed() && receiver.is_empty() {
            return;
        }
        // What has waited longer than the broker was away is of no use to anybody.
        while receiver.try_recv().is_ok() {}
    }
}

async fn open(connection: &Connection) -> Result<Channel, QueueError> {
    let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
    declare_exchange(&channel).await?;
    Ok(channel)
}

async fn publish_row(channel: &Channel, told: &Told) -> Result<(), QueueError> {
    let options = BasicPublishOptions::default();
    let body = row::encode(&told.row);
    let mut properties = BasicProperties::default();
    if let Some(timing) = &told.timing {
        let mut headers = FieldTable::default();
        headers.insert(TIMING.into(), AMQPValue::ByteArray(timing.encode().into()));
        properties = properties.with_headers(headers);
    }
    let published = channel.basic_publish(JOURNAL.into(), "".into(), options, &body, properties);
    published.await.map(drop).map_err(|error| failed(&error))
}

/// A subscriber of a [`RabbitFanOut`]. Its task ends with it.
pub struct RabbitSubscriber {
    receiver: mpsc::Receiver<Hint>,
}

impl RabbitSubscriber {
    fn start(address: Address, service: &str) -> Self {
        let (sender, receiver) = mpsc::channel(ARRIVED_MAX);
        tokio::spawn(subscribe(address, format!("{service} follow"), sender));
        Self { receiver }
    }
}

#[async_trait]
impl BatchSubscriber for RabbitSubscriber {
    async fn next(&mut self) -> Result<Hint, QueueError> {
        self.receiver.recv().await.ok_or(QueueError::Closed)
    }
}

async fn subscribe(address: Address, purpose: String, sender: mpsc::Sender<Hint>) {
    let mut backoff = Backoff::new();
    let mut was_up = true;
    while !sender.is_closed() {
        match address.connect(&purpose).await {
            Ok(connection) => {
                match follow(&connection, &sender).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(broker = %address, reason = %error, "the fan-out has ended; the journal is read instead");
                    }
                }
                close(connection);
                (was_up, backoff) = (true, Backoff::new());
            }
            Err(error) if was_up => {
                tracing::warn!(broker = %address, reason = %error, "there is no fan-out; the journal is read instead");
                was_up = false;
            }
            Err(_) => {}
        }
        backoff.pause().await;
    }
}

/// Hands rows on until the connection is lost, or the subscriber is gone.
async fn follow(connection: &Connection, sender: &mpsc::Sender<Hint>) -> Result<(), QueueError> {
    let mut rows = consume(connection).await?;
    // Whatever went by before this is in the journal.
    if sender.send(Hint::Gap).await.is_err() {
        return Ok(());
    }
    let mut unacknowledged = 0;
    loop {
        let message = tokio::select! {
            message = rows.next() => message,
            () = sender.closed() => return Ok(()),
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(QueueError::Closed),
        };
        let timing = timing(message.properties.headers().as_ref());
        unacknowledged += 1;
        if unacknowledged == ROWS_PER_ACK {
            unacknowledged = 0;
            let acknowledged = message.acker.ack(BasicAckOptions { multiple: true }).await;
            acknowledged.map_err(|error| failed(&error))?;
        }
        // A row in a form that is not known stands in the journal in one that is, or following stops there.
        let hint = match row::decode(Bytes::from(message.data)) {
            Some(row) => Hint::Row(Told { row: Arc::new(row), timing }),
            None => Hint::Gap,
        };
        if sender.send(hint).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads a row's times; none where they are in a form that is not known, for they are no part of the truth.
fn timing(headers: Option<&FieldTable>) -> Option<Arc<BatchTiming>> {
    match headers?.inner().get(TIMING)? {
        AMQPValue::ByteArray(bytes) => BatchTiming::decode(bytes.as_slice()).map(Arc::new),
        _ => None,
    }
}

async fn consume(connection: &Connection) -> Result<Consumer, QueueError> {
    let channel = open(connection).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(FOLLOWER_ROWS_MAX));
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare("".into(), options, arguments).await;
    let queue = declared.map_err(|error| failed(&error))?.name().clone();
    let (bind, nothing) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.queue_bind(queue.clone(), JOURNAL.into(), "".into(), bind, nothing).await;
    bound.map_err(|error| failed(&error))?;
    let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default()).await;
    qos.map_err(|error| failed(&error))?;
    let options = BasicConsumeOptions::default();
    let consumed = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await;
    consumed.map_err(|error| failed(&error))
}
