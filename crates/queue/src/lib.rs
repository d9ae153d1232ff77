//! The commands' queue and the journal's fan-out, as traits, and an implementation inside one process.
//!
//! Invariants that every implementation keeps, and that `suite` tests:
//! - Messages come out in the order in which they went in. One consumer is active at a time; another waits.
//! - What was taken but not acknowledged comes out again, in order and before anything else, when its consumer is gone.
//! - An outcome of [`PublishOutcome::Confirmed`] means that the message is in the queue; `Unroutable` means that it is
//!   not and never will be.
//! - The fan-out is a hint: publishing never waits for a follower, and what a follower missed is told as a gap.

mod in_process;
mod rabbit;
#[cfg(test)]
mod suite;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use journal::Row;
use trace::BatchTiming;

pub use in_process::{InProcessFanOut, InProcessQueue};
pub use rabbit::{
    Address, BadAddress, RabbitFanOut, RabbitPublisher, RabbitQueue, RabbitSubscriber,
};

/// Name of the queue of commands.
pub const ORDERS: &str = "orders";
/// Name of the queue of what was put aside, each with its reason.
pub const DEAD_LETTERS: &str = "orders.dead";

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// It is in the queue.
    Confirmed,
    /// It is not in the queue and never will be: nothing has happened.
    Unroutable,
    /// It may be in the queue or not.
    Unknown,
}

/// Gives commands to the queue.
#[async_trait]
pub trait CommandPublisher: Send + Sync {
    /// Publishes one message, persistent and mandatory, and waits for the queue's confirmation. Dropping the future
    /// after its first poll leaves the outcome unknown. `trace_id` is the trace that the message belongs to.
    async fn publish(&self, message: Bytes, trace_id: u128) -> PublishOutcome;

    /// Tells whether a message would be taken now, for readiness.
    fn ready(&self) -> bool;

    /// Returns how many messages wait, where that is known without asking anybody.
    fn depth(&self) -> Option<u64> {
        None
    }
}

/// A message as it was taken from the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number within this consumer, rising by one.
    pub tag: u64,
    /// What was published.
    pub body: Bytes,
    /// Whether it was taken before by a consumer that is gone.
    pub redelivered: bool,
    /// Why what it came in cannot be read, where that is so: it is no command then, and belongs to the dead letters.
    pub unreadable: Option<&'static str>,
}

/// The queue cannot be used any more through this consumer; a new one must be made.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is closed, or the connection to it is gone.
    #[error("the queue is closed")]
    Closed,
    /// The queue's side failed.
    #[error("the queue failed: {0}")]
    Failed(String),
    /// There is a queue of that name, and it is not as ours must be: somebody has to delete it, or change its policy.
    #[error("{0}")]
    WrongQueue(String),
}

impl QueueError {
    /// Tells whether waiting may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::WrongQueue(_))
    }
}

/// Where consumers come from.
#[async_trait]
pub trait CommandSource: Send + Sync {
    /// Makes a consumer. It is active when those before it are gone.
    ///
    /// # Errors
    ///
    /// [`QueueError`] where the queue cannot be reached, or is not as ours must be.
    async fn consumer(&self) -> Result<Box<dyn CommandConsumer>, QueueError>;
}

/// Takes commands from the queue.
#[async_trait]
pub trait CommandConsumer: Send {
    /// Waits until this consumer is the active one, and takes nothing. A queue may say so only by bringing something.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when this consumer is of no more use.
    async fn named(&mut self) -> Result<(), QueueError>;

    /// Makes the queue bring something to whichever consumer is the active one, so that it learns that it is. What it
    /// brings is no message.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when this consumer is of no more use.
    async fn nudge(&mut self) -> Result<(), QueueError>;

    /// Waits until this consumer is the active one and something waits, then takes what is waiting, at most `max`.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when this consumer is of no more use.
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError>;

    /// Acknowledges every delivery up to and including `through`: none of them will come again.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; the deliveries then come again.
    async fn ack(&mut self, through: u64) -> Result<(), QueueError>;

    /// Puts a copy of a delivery into the dead-letter queue with its reason. The delivery itself is still to be
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; there is no copy then.
    async fn dead_letter(&mut self, delivery: &Delivery, reason: &str) -> Result<(), QueueError>;
}

/// Tells followers of committed journal rows.
pub trait BatchPublisher: Send + Sync {
    /// Publishes a committed row, with the times of its commands. Never waits.
    fn publish(&self, told: Told);
}

/// A committed row, as the fan-out tells it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The row.
    pub row: Arc<Row>,
    /// When its commands were received, decided and committed, where that is known.
    pub timing: Option<Arc<BatchTiming>>,
}

impl From<Row> for Told {
    fn from(row: Row) -> Self {
        Self { row: Arc::new(row), timing: None }
    }
}

/// What the fan-out tells.
#[derive(Clone, Debug)]
pub enum Hint {
    /// A committed row.
    Row(Told),
    /// Rows were missed: read the journal.
    Gap,
}

/// Hears of committed journal rows, from the moment it was made on.
#[async_trait]
pub trait BatchSubscriber: Send {
    /// Waits for the next hint. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError::Closed`] when nothing will come any more.
    async fn next(&mut self) -> Result<Hint, QueueError>;
}
