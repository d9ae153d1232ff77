//! A connection's way out: a bounded queue that nobody waits for.
//!
//! Invariant: whoever publishes never waits. A connection that does not read fast enough is cut off, and misses
//! nothing silently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{Notify, mpsc};

/// Messages that may wait for one connection.
pub const MESSAGES_MAX: usize = 1_024;

/// The sending end for one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: mpsc::Sender<Utf8Bytes>,
    slow: AtomicBool,
    cut: Notify,
}

impl Outbox {
    /// Makes a queue.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Utf8Bytes>) {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let inner = Inner { sender, slow: AtomicBool::new(false), cut: Notify::new() };
        (Self(Arc::new(inner)), receiver)
    }

    /// Queues a message; tells whether the connection still takes any.
    pub fn send(&self, message: Utf8Bytes) -> bool {
        if self.0.slow.load(Ordering::Relaxed) {
            return false;
        }
        match self.0.sender.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.0.slow.store(true, Ordering::Relaxed);
                self.0.cut.notify_one();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Returns when the connection has been found too slow.
    pub async fn cut(&self) {
        self.0.cut.notified().await;
    }

    /// Tells whether two ends are of one connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Who hears a channel.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Outbox>);

impl Listeners {
    /// Adds a connection, once.
    pub fn add(&mut self, outbox: &Outbox) {
        if !self.0.iter().any(|known| known.is(outbox)) {
            self.0.push(outbox.clone());
        }
    }

    /// Removes a connection; tells whether it was there.
    pub fn remove(&mut self, outbox: &Outbox) -> bool {
        let before = self.0.len();
        self.0.retain(|known| !known.is(outbox));
        self.0.len() < before
    }

    /// Tells whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends a message to everybody, and forgets who does not take it any more.
    pub fn publish(&mut self, message: &Utf8Bytes) {
        self.0.retain(|outbox| outbox.send(message.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_does_not_read_is_cut_off_and_nobody_waits() {
        let (slow, _unread) = Outbox::new();
        let (quick, mut read) = Outbox::new();
        let mut listeners = Listeners::default();
        listeners.add(&slow);
        listeners.add(&slow);
        listeners.add(&quick);
        for _ in 0..=MESSAGES_MAX {
            listeners.publish(&Utf8Bytes::from_static("x"));
            assert_eq!(read.recv().await, Some(Utf8Bytes::from_static("x")));
        }
        slow.cut().await;
        assert!(!slow.send(Utf8Bytes::from_static("x")));
        assert!(!listeners.remove(&slow), "it has been forgotten");
        assert!(listeners.remove(&quick));
        assert!(listeners.is_empty());
    }
}
