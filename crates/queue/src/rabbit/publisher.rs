//! Step 2 of the order's way: publish.
//!
//! One task owns the connection. It sends what is waiting as one message while fewer than two are unconfirmed, so that the
//! size of a message follows the load by itself, and answers each command by its message's confirmation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::connection::{Address, Backoff, close, failed};
use super::{bundle, topology};
use crate::{CommandPublisher, ORDERS, PublishOutcome, QueueError};

/// Commands that may wait to be written.
const WAITING_MAX: usize = 8_192;
/// Messages that may be unconfirmed; what comes meanwhile fills the next. With more of them each is smaller, and a
/// message costs the broker, the journal and every thread between them nearly the same whatever is in it.
const UNCONFIRMED_MAX: usize = 2;
/// How long a command waits to be written; then nothing has happened, and its client is told so.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// How long a message may be unconfirmed before the connection counts as lost.
const CONFIRM_MAX: Duration = Duration::from_secs(10);
/// AMQP's word for a message that survives the broker.
const PERSISTENT: u8 = 2;

/// A command on its way.
struct Asked {
    body: Bytes,
    trace_id: u128,
    until: Instant,
    answer: oneshot::Sender<PublishOutcome>,
}

/// Publishes commands to RabbitMQ, over one connection that is made anew when it is lost.
#[derive(Clone)]
pub struct RabbitPublisher {
    sender: mpsc::Sender<Asked>,
    ready: Arc<AtomicBool>,
}

impl RabbitPublisher {
    /// Makes a publisher and starts its task, which ends with the last clone. `service` is who it publishes for. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn start(address: Address, service: &str) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let ready = Arc::new(AtomicBool::new(false));
        let purpose = format!("{service} publish");
        let task = Task { address, purpose, receiver, ready: Arc::clone(&ready) };
        tokio::spawn(task.run());
        Self { sender, ready }
    }
}

#[async_trait]
impl CommandPublisher for RabbitPublisher {
    async fn publish(&self, message: Bytes, trace_id: u128) -> PublishOutcome {
        if !self.ready() {
            return PublishOutcome::Unroutable;
        }
        let (answer, answered) = oneshot::channel();
        let asked = Asked { body: message, trace_id, until: Instant::now() + WRITE_MAX, answer };
        if self.sender.try_send(asked).is_err() {
            return PublishOutcome::Unroutable;
        }
        // Whoever drops the other end had written it, and does not know more.
        answered.await.unwrap_or(PublishOutcome::Unknown)
    }

    fn ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

/// The owner of the connection.
struct Task {
    address: Address,
    purpose: String,
    receiver: mpsc::Receiver<Asked>,
    ready: Arc<AtomicBool>,
}

/// A message whose confirmation is awaited: what became of it, and who asked.
type Unconfirmed = BoxFuture<'static, (Vec<Asked>, Result<Confirmation, QueueError>)>;

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut was_up = true;
        loop {
            match self.connect().await {
                Ok((connection, channel)) => {
                    tracing::info!(broker = %self.address, "publishing is possible");
                    was_up = true;
                    backoff.reset();
                    self.ready.store(true, Relaxed);
                    let ended = self.publish(&connection, &channel).await;
                    self.ready.store(false, Relaxed);
                    close(connection);
                    match ended {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(broker = %self.address, reason = %error, "publishing has ended");
                        }
                    }
                }
                Err(error) => {
                    if was_up {
                        tracing::warn!(broker = %self.address, reason = %error, "publishing is not possible");
                        was_up = false;
                    }
                }
            }
            // What has come between a look at `ready` and the loss was never written.
            let mut late = Vec::new();
            while let Ok(asked) = self.receiver.try_recv() {
                late.push(asked);
            }
            answer(late, PublishOutcome::Unroutable);
            if self.receiver.is_closed() && self.receiver.is_empty() {
                return;
            }
            backoff.pause().await;
        }
    }

    async fn connect(&self) -> Result<(Connection, Channel), QueueError> {
        let connection = self.address.connect(&self.purpose).await?;
        topology::declare_queues(&connection).await?;
        let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        let confirm = ConfirmSelectOptions::default();
        channel.confirm_select(confirm).await.map_err(|error| failed(&error))?;
        Ok((connection, channel))
    }

    /// Publishes until the connection is lost, or nobody is left to ask.
    async fn publish(
        &mut self,
        connection: &Connection,
        channel: &Channel,
    ) -> Result<(), QueueError> {
        let mut events = Box::pin(connection.events_listener());
        let mut unconfirmed: FuturesUnordered<Unconfirmed> = FuturesUnordered::new();
        let mut waiting: Vec<Asked> = Vec::new();
        let (mut blocked, mut open) = (false, true);
        let ended = loop {
            while !blocked && unconfirmed.len() < UNCONFIRMED_MAX && !waiting.is_empty() {
                let rest = waiting.split_off(fitting(&waiting));
                unconfirmed.push(send(channel.clone(), std::mem::replace(&mut waiting, rest)));
            }
            if !open && (blocked || (waiting.is_empty() && unconfirmed.is_empty())) {
                break Ok(());
            }
            let oldest =
                waiting.first().map_or_else(|| Instant::now() + WRITE_MAX, |asked| asked.until);
            let room = bundle::COMMANDS_MAX.saturating_sub(waiting.len());
            tokio::select! {
                biased;
                Some((asked, confirmed)) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                    if let Err(error) = confirm(asked, confirmed) {
                        break Err(error);
                    }
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "RabbitMQ takes no messages now");
                        blocked = true;
                        self.ready.store(false, Relaxed);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("RabbitMQ takes messages again");
                        blocked = false;
                        self.ready.store(true, Relaxed);
                    }
                    Some(Event::Error(error)) => break Err(failed(&error)),
                    Some(_) => {}
                    None => break Err(QueueError::Closed),
                },
                count = self.receiver.recv_many(&mut waiting, room), if open && room > 0 => {
                    open = count > 0;
                }
                () = sleep_until(oldest) => refuse_old(&mut waiting),
            }
        };
        answer(waiting, PublishOutcome::Unroutable);
        // Those of a message that was written and is not confirmed hear that nothing is known: their ends are dropped.
        ended
    }
}

/// Sends commands as one message, and waits for its confirmation.
fn send(channel: Channel, asked: Vec<Asked>) -> Unconfirmed {
    Box::pin(async move {
        let confirming = confirmation(&channel, &asked);
        let confirmed = match tokio::time::timeout(CONFIRM_MAX, confirming).await {
            Ok(confirmed) => confirmed.map_err(|error| failed(&error)),
            Err(_) => Err(QueueError::Failed("a message was not confirmed in time".to_owned())),
        };
        (asked, confirmed)
    })
}

async fn confirmation(channel: &Channel, asked: &[Asked]) -> lapin::Result<Confirmation> {
    let (kind, body) = match asked {
        [one] => (bundle::COMMAND, one.body.clone()),
        many => (bundle::BUNDLE, bundle::pack(many.iter().map(|asked| &asked.body))),
    };
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let mut properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_type(kind.into());
    // Every command has its trace inside; the header is for whoever looks at the message from outside.
    if let Some(trace_id) = asked.iter().map(|asked| asked.trace_id).find(|id| *id != 0) {
        let mut headers = FieldTable::default();
        let parent = traceparent(trace_id);
        headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
        properties = properties.with_headers(headers);
    }
    let published = channel.basic_publish("".into(), ORDERS.into(), options, &body, properties);
    published.await?.await
}

/// The W3C header of a trace; the publishing server's part in it is named after the trace.
fn traceparent(trace_id: u128) -> String {
    let span = u64::try_from(trace_id >> 64).unwrap_or(0).max(1);
    format!("00-{trace_id:032x}-{span:016x}-01")
}

/// Returns how many of those that wait go into one message: at least one.
fn fitting(waiting: &[Asked]) -> usize {
    let mut bytes = 0;
    let fits = waiting.iter().take(bundle::COMMANDS_MAX).take_while(|asked| {
        let fits = bytes < bundle::BYTES_MAX;
        bytes += asked.body.len();
        fits
    });
    fits.count().max(1)
}

/// Answers those who asked for one message.
fn confirm(
    asked: Vec<Asked>,
    confirmed: Result<Confirmation, QueueError>,
) -> Result<(), QueueError> {
    let (outcome, error) = match confirmed {
        Ok(Confirmation::Ack(None)) => (PublishOutcome::Confirmed, None),
        // Returned: there is no such queue any more. A new connection declares it again.
        Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => {
            let error = QueueError::Failed("the queue `orders` is gone".to_owned());
            (PublishOutcome::Unroutable, Some(error))
        }
        Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => {
            (PublishOutcome::Unknown, None)
        }
        Err(error) => (PublishOutcome::Unknown, Some(error)),
    };
    answer(asked, outcome);
    error.map_or(Ok(()), Err)
}

/// Answers those who have waited too long to be written.
fn refuse_old(waiting: &mut Vec<Asked>) {
    let now = Instant::now();
    let young = waiting.split_off(waiting.partition_point(|asked| asked.until <= now));
    answer(std::mem::replace(waiting, young), PublishOutcome::Unroutable);
}

fn answer(asked: Vec<Asked>, outcome: PublishOutcome) {
    for asked in asked {
        // Whoever asked may have given it up.
        let _ = asked.answer.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_named_as_the_w3c_writes_it() {
        let id = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
        assert_eq!(traceparent(id), "00-0af7651916cd43dd8448eb211c80319c-0af7651916cd43dd-01");
    }

    #[test]
    fn a_message_takes_as_many_commands_as_fit() {
        let asked = |bytes: usize| {
            let (answer, _) = oneshot::channel();
            Asked { body: vec![0; bytes].into(), trace_id: 0, until: Instant::now(), answer }
        };
        let small: Vec<Asked> = (0..2 * bundle::COMMANDS_MAX).map(|_| asked(100)).collect();
        assert_eq!(fitting(&small), bundle::COMMANDS_MAX);
        let large: Vec<Asked> = (0..10).map(|_| asked(bundle::BYTES_MAX)).collect();
        assert_eq!(fitting(&large), 1);
    }
}
