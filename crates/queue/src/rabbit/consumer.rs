//! Step 3 of the order's way: commands are taken from RabbitMQ.
//!
//! The broker does not tell a consumer that it is the active one; it brings it the next message. So a consumer is named by
//! its first message, and a nudge, a message without commands, makes the broker name one where nobody sends anything.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};

use super::connection::{Address, close, failed};
use super::{bundle, topology};
use crate::{CommandConsumer, CommandSource, DEAD_LETTERS, Delivery, ORDERS, QueueError};

/// Messages that the broker brings ahead of their acknowledgement.
const PREFETCH: u16 = 256;
/// How long a dead letter may take to be confirmed.
const CONFIRM_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// AMQP's word for a message that survives the broker.
const PERSISTENT: u8 = 2;

/// The queue `orders` at a broker.
#[derive(Clone, Debug)]
pub struct RabbitQueue {
    address: Address,
    service: String,
}

impl RabbitQueue {
    /// Names the queue; nothing is connected yet. `service` is who takes from it.
    #[must_use]
    pub fn new(address: Address, service: &str) -> Self {
        Self { address, service: service.to_owned() }
    }

    /// Declares what there must be at the broker.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; [`QueueError::WrongQueue`] where there is a queue of ours that is not as it must be.
    pub async fn declare(&self) -> Result<(), QueueError> {
        let connection = self.address.connect(&format!("{} declare", self.service)).await?;
        let declared = topology::declare_queues(&connection).await;
        close(connection);
        declared
    }
}

#[async_trait]
impl CommandSource for RabbitQueue {
    async fn consumer(&self) -> Result<Box<dyn CommandConsumer>, QueueError> {
        let connection = self.address.connect(&format!("{} consume", self.service)).await?;
        match RabbitConsumer::consume(&connection).await {
            Ok((channel, incoming)) => Ok(Box::new(RabbitConsumer {
                connection: Some(connection),
                channel,
                incoming,
                fetched: VecDeque::new(),
                unacknowledged: VecDeque::new(),
                tags: 0,
                acknowledged: 0,
                is_named: false,
            })),
            Err(error) => {
                close(connection);
                Err(error)
            }
        }
    }
}

/// A consumer of `orders`, with a connection of its own. Dropping it gives back what it had taken and not acknowledged.
struct RabbitConsumer {
    /// `None` only while this is dropped.
    connection: Option<Connection>,
    channel: Channel,
    incoming: Consumer,
    /// Commands that have come and were not asked for yet.
    fetched: VecDeque<Delivery>,
    /// The broker's messages that are not acknowledged, oldest first: the number of the last command in each, and the
    /// broker's own number.
    unacknowledged: VecDeque<(u64, u64)>,
    /// The number of the last command that has come.
    tags: u64,
    /// The number of the last command that is acknowledged.
    acknowledged: u64,
    /// Whether anything has ever come.
    is_named: bool,
}

impl RabbitConsumer {
    async fn consume(connection: &Connection) -> Result<(Channel, Consumer), QueueError> {
        topology::declare_queues(connection).await?;
        let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.map_err(|error| failed(&error))?;
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        qos.await.map_err(|error| failed(&error))?;
        let options = BasicConsumeOptions::default();
        let incoming =
            channel.basic_consume(ORDERS.into(), "".into(), options, FieldTable::default());
        let incoming = incoming.await.map_err(|error| failed(&error))?;
        Ok((channel, incoming))
    }

    /// Waits for one message of the broker.
    async fn fetch(&mut self) -> Result<(), QueueError> {
        let message = self.incoming.next().await;
        self.take_apart(message)?;
        // A nudge that nothing is before: no later acknowledgement may ever come to cover it.
        if self.acknowledged == self.tags { self.acknowledge(self.tags).await } else { Ok(()) }
    }

    /// Takes one message of the broker apart.
    fn take_apart(
        &mut self,
        message: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<(), QueueError> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(failed(&error)),
            // Cancelled: the queue was deleted, or the connection is gone.
            None => return Err(QueueError::Closed),
        };
        self.is_named = true;
        let kind = message.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
        let body = Bytes::from(message.data);
        let redelivered = message.redelivered;
        let unpacked = match bundle::unpack(kind.as_deref(), body.clone()) {
            Ok(commands) => commands.into_iter().map(|body| (body, None)).collect(),
            Err(reason) => vec![(body, Some(reason))],
        };
        for (body, unreadable) in unpacked {
            self.tags += 1;
            self.fetched.push_back(Delivery { tag: self.tags, body, redelivered, unreadable });
        }
        self.unacknowledged.push_back((self.tags, message.delivery_tag));
        Ok(())
    }

    /// Acknowledges the broker's messages whose last command is at most `through`.
    async fn acknowledge(&mut self, through: u64) -> Result<(), QueueError> {
        self.acknowledged = self.acknowledged.max(through);
        let mut last = None;
        while self.unacknowledged.front().is_some_and(|(tag, _)| *tag <= through) {
            last = self.unacknowledged.pop_front();
        }
        let Some((_, message)) = last else { return Ok(()) };
        let acknowledged = self.channel.basic_ack(message, BasicAckOptions { multiple: true });
        acknowledged.await.map_err(|error| failed(&error))
    }
}

#[async_trait]
impl CommandConsumer for RabbitConsumer {
    async fn named(&mut self) -> Result<(), QueueError> {
        while !self.is_named {
            self.fetch().await?;
        }
        Ok(())
    }

    async fn nudge(&mut self) -> Result<(), QueueError> {
        let properties = BasicProperties::default().with_type(bundle::BUNDLE.into());
        let options = BasicPublishOptions { mandatory: false, immediate: false };
        let published =
            self.channel.basic_publish("".into(), ORDERS.into(), options, &[], properties);
        // Whether it arrives, the next message tells.
        published.await.map(drop).map_err(|error| failed(&error))
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        while self.fetched.is_empty() {
            self.fetch().await?;
        }
        while self.fetched.len() < max {
            let Some(message) = self.incoming.next().now_or_never() else { break };
            self.take_apart(message)?;
        }
        let count = self.fetched.len().min(max);
        Ok(self.fetched.drain(..count).collect())
    }

    async fn ack(&mut self, through: u64) -> Result<(), QueueError> {
        self.acknowledge(through).await
    }

    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), QueueError> {
        let mut headers = FieldTable::default();
        headers.insert("reason".into(), AMQPValue::LongString(reason.into()));
        let properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let body = &delivery.body;
        let publishing = async {
            let published = self.channel.basic_publish(
                "".into(),
                DEAD_LETTERS.into(),
                options,
                body,
                properties,
            );
            published.await?.await
        };
        match tokio::time::timeout(CONFIRM_MAX, publishing).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(_)) => Err(QueueError::Failed("a dead letter was not taken".to_owned())),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(QueueError::Failed("a dead letter was not confirmed in time".to_owned())),
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            close(connection);
        }
    }
}
