//! What can happen in a run, and to whom.

use std::rc::Rc;
use std::sync::Arc;

use engine::Action;
use journal::{Applied, Row};
use store::StoreError;
use store::journal::{Attempt, Found};
use units::{CommandId, Sequence};

use crate::broker::Stored;
use crate::faults::Fault;

/// One life of one process: what is meant for a life that is over is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) index: usize,
    pub(crate) life: u32,
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    Processor(Life, ProcessorEvent),
    Server(Life, ServerEvent),
    Projector(Life, ProjectorEvent),
    Client(usize, ClientEvent),
    Broker(BrokerEvent),
    Store(StoreEvent),
    Fault(Fault),
    /// Nothing fails from now on.
    Quiet,
}

#[derive(Debug)]
pub(crate) enum ProcessorEvent {
    /// It joins the queue.
    Join,
    /// The broker names it: its consumer is the active one.
    Named(u64),
    /// It loads the state.
    Recover,
    /// It raises the epoch.
    Claim,
    /// It reads what was appended before.
    CatchUp,
    /// Something waits for it.
    Wake,
    /// It carries time on.
    Tick,
    /// It sends its row once more.
    Again(u64),
    /// An attempt has an outcome.
    Attempted(u64, Attempt),
    /// A look-up has found this.
    Found(u64, Result<Found, StoreError>),
    /// It hears that its connection to the broker is gone.
    QueueLost(u64),
    /// It starts again.
    Restart,
}

/// A question to a server.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) client: usize,
    /// The client's number of it.
    pub(crate) number: u64,
    pub(crate) id: CommandId,
    pub(crate) body_hash: u64,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum ServerEvent {
    /// A client asks for a command.
    Ask(Box<Ask>),
    /// A client asks how an order stands.
    Look { client: usize, number: u64, id: CommandId },
    /// The fan-out tells of a row.
    Hint(Arc<Row>),
    /// It reads the journal.
    Poll,
    /// The broker has answered, or the wait for it is over.
    Published(u64, Published),
    /// The wait for the outcome is over.
    TimeUp(u64),
    /// It starts again.
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Confirmed,
    Unroutable,
    Unknown,
}

#[derive(Debug)]
pub(crate) enum ProjectorEvent {
    /// It reads the journal and writes what is new.
    Turn,
    /// It starts again.
    Restart,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in this row, done or refused.
    Decided { row: Sequence, refused: bool },
    /// 202.
    Pending,
    /// 503: nothing has happened.
    Unavailable,
    /// 503: the outcome is unknown.
    OutcomeUnknown,
    /// No answer: the connection broke.
    Broken,
}

/// What a client sees of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: it is not known there.
    NotFound,
    /// It waits to be decided.
    Pending,
    /// It was not decided in time and never will be.
    Expired,
    /// It was decided.
    Decided,
    /// The server cannot say now.
    Unavailable,
}

#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// It begins something.
    Begin,
    /// It is answered.
    Answered(u64, Answer),
    /// It has waited long enough.
    GiveUp(u64),
    /// It asks again, with the same key.
    Repeat,
    /// It asks how its order stands.
    LookAt,
    /// It sees how its order stands.
    Sees(u64, Seen),
}

#[derive(Debug)]
pub(crate) enum BrokerEvent {
    /// A message arrives; the publisher is told where it is to be.
    Arrive { message: Stored, life: u32, confirm: Option<(Life, u64)> },
    /// A message is safe.
    Safe { number: usize, life: u32, confirm: Option<(Life, u64)> },
}

#[derive(Debug)]
pub(crate) enum StoreEvent {
    /// A statement that appends arrives.
    Append { row: Arc<Row>, life: u32, reply: Option<(Life, u64)> },
    /// A question for a row's place arrives.
    LookUp { sequence: Sequence, reply: (Life, u64) },
    /// A transaction that writes projections arrives.
    Write { batches: Vec<Rc<Applied>>, life: u32 },
    /// A snapshot is due.
    Snapshot,
}
