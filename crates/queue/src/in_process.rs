//! The queue and the fan-out inside one process, for `up` and for tests.
//!
//! Invariant: a message is in exactly one of `waiting` and `taken` until it is acknowledged. Both together are bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::{
    BatchPublisher, BatchSubscriber, CommandConsumer, CommandPublisher, CommandSource, Delivery,
    Hint, PublishOutcome, QueueError, Told,
};

/// Dead letters that are kept; the oldest give way.
const DEAD_LETTERS_MAX: usize = 1_000;

/// A bounded queue in memory. Cheap to clone: all clones are the same queue.
#[derive(Clone)]
pub struct InProcessQueue {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    messages_max: usize,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Message>,
    /// Taken by the active consumer, by tag.
    taken: VecDeque<(u64, Message)>,
    /// Consumers in the order in which they came, with what wakes each; the first is active.
    consumers: VecDeque<(u64, Arc<Notify>)>,
    consumers_made: u64,
    dead: VecDeque<(Bytes, String)>,
    closed: bool,
}

impl Inner {
    fn is_active(&self, number: u64) -> bool {
        self.consumers.front().is_some_and(|(first, _)| *first == number)
    }

    fn wake_active(&self) {
        if let Some((_, wake)) = self.consumers.front() {
            wake.notify_one();
        }
    }
}

struct Message {
    body: Bytes,
    redelivered: bool,
}

impl InProcessQueue {
    /// Makes an empty queue for at most `messages_max` messages, taken ones included.
    #[must_use]
    pub fn new(messages_max: usize) -> Self {
        let shared = Shared { inner: Mutex::default(), messages_max };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a consumer. It is active when those before it are gone.
    #[must_use]
    pub fn consumer(&self) -> InProcessConsumer {
        let mut inner = self.shared.inner.lock();
        inner.consumers_made += 1;
        let number = inner.consumers_made;
        let wake = Arc::new(Notify::new());
        inner.consumers.push_back((number, Arc::clone(&wake)));
        InProcessConsumer { shared: Arc::clone(&self.shared), number, wake, tags: 0 }
    }

    /// Takes no more messages and wakes every consumer; what is waiting can still be taken.
    pub fn close(&self) {
        let mut inner = self.shared.inner.lock();
        inner.closed = true;
        inner.consumers.iter().for_each(|(_, wake)| wake.notify_one());
    }

    /// Returns the newest dead letters, oldest first, with their reasons.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<(Bytes, String)> {
        self.shared.inner.lock().dead.iter().cloned().collect()
    }
}

#[async_trait]
impl CommandPublisher for InProcessQueue {
    async fn publish(&self, message: Bytes, _trace_id: u128) -> PublishOutcome {
        let mut inner = self.shared.inner.lock();
        if inner.closed || inner.waiting.len() + inner.taken.len() >= self.shared.messages_max {
            return PublishOutcome::Unroutable;
        }
        inner.waiting.push_back(Message { body: message, redelivered: false });
        inner.wake_active();
        PublishOutcome::Confirmed
    }

    fn ready(&self) -> bool {
        let inner = self.shared.inner.lock();
        !inner.closed && inner.waiting.len() + inner.taken.len() < self.shared.messages_max
    }

    fn depth(&self) -> Option<u64> {
        u64::try_from(self.shared.inner.lock().waiting.len()).ok()
    }
}

/// A consumer of an [`InProcessQueue`]. Dropping it gives back what it had taken and not acknowledged.
pub struct InProcessConsumer {
    shared: Arc<Shared>,
    number: u64,
    wake: Arc<Notify>,
    tags: u64,
}

impl InProcessConsumer {
    /// Takes what is waiting; `None` where there is nothing for this consumer now.
    fn take(&mut self, max: usize) -> Option<Result<Vec<Delivery>, QueueError>> {
        let mut inner = self.shared.inner.lock();
        if !inner.is_active(self.number) {
            return inner.closed.then_some(Err(QueueError::Closed));
        }
        if inner.waiting.is_empty() {
            return inner.closed.then_some(Err(QueueError::Closed));
        }
        let count = inner.waiting.len().min(max);
        let mut deliveries = Vec::with_capacity(count);
        for _ in 0..count {
            let message = inner.waiting.pop_front().expect("as many wait as were counted");
            self.tags += 1;
            let (body, redelivered) = (message.body.clone(), message.redelivered);
            deliveries.push(Delivery { tag: self.tags, body, redelivered, unreadable: None });
            inner.taken.push_back((self.tags, message));
        }
        Some(Ok(deliveries))
    }
}

#[async_trait]
impl CommandSource for InProcessQueue {
    async fn consumer(&self) -> Result<Box<dyn CommandConsumer>, QueueError> {
        Ok(Box::new(Self::consumer(self)))
    }
}

#[async_trait]
impl CommandConsumer for InProcessConsumer {
    async fn named(&mut self) -> Result<(), QueueError> {
        loop {
            {
                let inner = self.shared.inner.lock();
                if inner.is_active(self.number) {
                    return Ok(());
                }
                if inner.closed {
                    return Err(QueueError::Closed);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Nothing: whoever is next hears of it at once.
    async fn nudge(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        loop {
            if let Some(result) = self.take(max) {
                return result;
            }
            // A permit that was stored since the look above ends the wait at once, so nothing is missed.
            self.wake.notified().await;
        }
    }

    async fn ack(&mut self, through: u64) -> Result<(), QueueError> {
        let mut inner = self.shared.inner.lock();
        if inner.is_active(self.number) {
            while inner.taken.front().is_some_and(|(tag, _)| *tag <= through) {
                inner.taken.pop_front();
            }
        }
        Ok(())
    }

    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), QueueError> {
        let mut inner = self.shared.inner.lock();
        if inner.dead.len() >= DEAD_LETTERS_MAX {
            inner.dead.pop_front();
        }
        inner.dead.push_back((delivery.body.clone(), reason.to_owned()));
        Ok(())
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        let mut inner = self.shared.inner.lock();
        if inner.is_active(self.number) {
            while let Some((_, message)) = inner.taken.pop_back() {
                inner.waiting.push_front(Message { redelivered: true, ..message });
            }
        }
        inner.consumers.retain(|(number, _)| *number != self.number);
        inner.wake_active();
    }
}

/// The fan-out inside one process. Cheap to clone.
#[derive(Clone)]
pub struct InProcessFanOut {
    sender: broadcast::Sender<Told>,
}

impl InProcessFanOut {
    /// Makes a fan-out that keeps at most `rows_max` rows for a slow follower, who then hears of a gap.
    #[must_use]
    pub fn new(rows_max: usize) -> Self {
        Self { sender: broadcast::Sender::new(rows_max) }
    }

    /// Makes a subscriber that hears of every row from now on.
    #[must_use]
    pub fn subscriber(&self) -> InProcessSubscriber {
        InProcessSubscriber { receiver: self.sender.subscribe() }
    }
}

impl BatchPublisher for InProcessFanOut {
    fn publish(&self, told: Told) {
        // Nobody listening is no failure: followers read the journal.
        let _ = self.sender.send(told);
    }
}

/// A subscriber of an [`InProcessFanOut`].
pub struct InProcessSubscriber {
    receiver: broadcast::Receiver<Told>,
}

#[async_trait]
impl BatchSubscriber for InProcessSubscriber {
    async fn next(&mut self) -> Result<Hint, QueueError> {
        match self.receiver.recv().await {
            Ok(told) => Ok(Hint::Row(told)),
            Err(broadcast::error::RecvError::Lagged(_)) => Ok(Hint::Gap),
            Err(broadcast::error::RecvError::Closed) => Err(QueueError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use journal::Row;
    use units::{Hash32, Sequence, Time};

    use super::*;
    use crate::suite::{self, FanOutUnderTest, QueueUnderTest};

    #[async_trait]
    impl QueueUnderTest for InProcessQueue {
        async fn publisher(&self) -> Box<dyn CommandPublisher> {
            Box::new(self.clone())
        }
        async fn consumer(&self) -> Box<dyn CommandConsumer> {
            Box::new(InProcessQueue::consumer(self))
        }
        async fn dead_letters(&self) -> Vec<(Bytes, String)> {
            InProcessQueue::dead_letters(self)
        }
        fn messages_max(&self) -> Option<usize> {
            Some(self.shared.messages_max)
        }
    }

    #[async_trait]
    impl FanOutUnderTest for InProcessFanOut {
        async fn publisher(&self) -> Box<dyn BatchPublisher> {
            Box::new(self.clone())
        }
        async fn subscriber(&self) -> Box<dyn BatchSubscriber> {
            Box::new(InProcessFanOut::subscriber(self))
        }
    }

    #[tokio::test]
    async fn the_queue_keeps_every_rule() {
        suite::commands(|| async { InProcessQueue::new(100) }).await;
    }

    #[tokio::test]
    async fn the_fan_out_keeps_every_rule() {
        let row = |number| {
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
        };
        suite::fan_out(&InProcessFanOut::new(64), row).await;
        a_subscriber_that_does_not_read_hears_of_a_gap(&InProcessFanOut::new(64), row).await;
    }

    /// And of the newest rows after it; the publisher never waits.
    async fn a_subscriber_that_does_not_read_hears_of_a_gap(
        fan_out: &InProcessFanOut,
        row: impl Fn(u64) -> Told,
    ) {
        let mut subscriber = fan_out.subscriber();
        for number in 1..=200 {
            fan_out.publish(row(number));
        }
        let (mut gaps, mut last) = (0, 0);
        while last < 200 {
            match subscriber.next().await.expect("the fan-out is open") {
                Hint::Row(told) => last = told.row.sequence.get(),
                Hint::Gap => gaps += 1,
            }
        }
        assert_eq!(gaps, 1, "an overflow is told as a gap");
    }

    #[tokio::test]
    async fn a_closed_queue_ends_its_consumers_after_the_last_message() {
        let queue = InProcessQueue::new(10);
        let mut consumer = queue.consumer();
        assert_eq!(queue.publish(Bytes::from_static(b"last"), 0).await, PublishOutcome::Confirmed);
        queue.close();
        assert_eq!(queue.publish(Bytes::from_static(b"late"), 0).await, PublishOutcome::Unroutable);
        assert_eq!(consumer.next(10).await.expect("one is left").len(), 1);
        assert!(matches!(consumer.next(10).await, Err(QueueError::Closed)));
    }
}
