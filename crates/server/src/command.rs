//! Steps 1, 2 and 6 of the order's way: a command is received, published, and answered.
//!
//! Invariant: what is answered as done is in the journal. What is answered as not done was never given to the queue, or
//! was refused by the core. Everything between is answered as pending or unknown, with the id to ask for.

use std::sync::Arc;
use std::time::Duration;

use engine::{Action, Command, Event, Origin};
use follower::{Outcome, Waiter};
use journal::{Applied, Batch, Entry, Message};
use queue::PublishOutcome;
use sha2::{Digest, Sha256};
use telemetry::Metric;
use tokio::time::Instant;
use units::{AccountId, CommandId, Sequence, Time};
use uuid::Uuid;

use crate::app::App;
use crate::edge::BEHIND_MAX;
use crate::problem::{Code, Problem};
use crate::way;

/// How long a command lives, in microseconds of journal time: longer than anybody waits for its answer.
const TO_LIVE_MICROS: u64 = 15_000_000;
/// How often a wait looks whether the client's own order id has turned out to be in use.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A command that a request asks for.
pub(crate) struct Ask {
    /// Its id.
    pub id: CommandId,
    /// Whether the id comes from an `Idempotency-Key`.
    pub keyed: bool,
    /// The hash of what was asked.
    pub body_hash: u64,
    /// The request's trace.
    pub trace_id: u128,
    /// Journal time after which it must not be carried out, where that is earlier than any command's.
    pub expires_at: Option<Time>,
    /// What is asked.
    pub action: Action,
}

/// What has become of a command.
pub(crate) enum Answer {
    /// It stands in the journal.
    Decided(Decided),
    /// It is in the queue, or may be; its outcome is not known yet.
    Pending(Command),
}

/// A command's outcome, where it stands in the journal.
pub(crate) struct Decided {
    row: Row,
    index: usize,
    /// Whether it was decided before this request came.
    pub repeat: bool,
}

enum Row {
    Followed(Arc<Applied>),
    Read(Box<Batch>),
}

impl Decided {
    fn batch(&self) -> &Batch {
        match &self.row {
            Row::Followed(applied) => &applied.batch,
            Row::Read(batch) => batch,
        }
    }

    fn followed(outcome: Outcome, repeat: bool) -> Self {
        Self { row: Row::Followed(outcome.applied), index: outcome.index, repeat }
    }

    /// Returns the command and what it has done.
    pub(crate) fn entry(&self) -> &Entry {
        &self.batch().entries[self.index]
    }

    /// Returns what the command has done.
    pub(crate) fn event(&self) -> &Event {
        &self.entry().event
    }

    /// Returns the journal row.
    pub(crate) fn sequence(&self) -> Sequence {
        self.batch().sequence
    }

    /// Returns the row's journal time.
    pub(crate) fn time(&self) -> Time {
        self.batch().time
    }

    /// Returns the effects of the row, where it was followed here.
    pub(crate) fn effects(&self) -> Option<(&engine::Effects, u32)> {
        match &self.row {
            Row::Followed(applied) => {
                Some((&applied.effects, u32::try_from(self.index).unwrap_or(u32::MAX)))
            }
            Row::Read(_) => None,
        }
    }
}

/// Returns the id of a command: derived from the key where there is one, so that a repeat names the first; else new.
pub(crate) fn command_id(user: Uuid, route: &str, key: Option<&str>) -> CommandId {
    let Some(key) = key else {
        return wire::id::from_uuid(Uuid::now_v7());
    };
    let mut digest = Sha256::new();
    for part in ["krystalinex command", &user.to_string(), route, key] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digest = digest.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // The bits of a UUID of version 8, whose others are ours to choose.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    wire::id::from_uuid(Uuid::from_bytes(bytes))
}

/// Sends a command and waits for its outcome.
///
/// # Errors
///
/// A problem where nothing has happened, where the key was used with another body, or where the outcome cannot be told.
pub(crate) async fn submit(app: &App, ask: Ask) -> Result<Answer, Problem> {
    check_following(app)?;
    // Before looking what is known: an outcome that comes between the two completes the waiter.
    let mut waiter = app.live.expect(ask.id);
    let mut to_live = app.live.journal_now().plus_micros(TO_LIVE_MICROS);
    match first(app, &ask).await? {
        First::Decided(first) => return Ok(Answer::Decided(*first)),
        // Whoever was told 202 may have read by now that it expired: a repeat lives no longer than the first.
        First::Pending { until } => to_live = to_live.min(until),
        First::Unknown => {}
    }
    let command = Command {
        id: ask.id,
        body_hash: ask.body_hash,
        expires_at: ask.expires_at.map_or(to_live, |expires_at| expires_at.min(to_live)),
        trace_id: ask.trace_id,
        origin: Origin::Client,
        action: ask.action,
    };
    // One limit for both: a client is answered in time, whichever of the two takes long.
    let until = Instant::now() + app.config.outcome_timeout;
    way::submitted(app, &command);
    let decided = outcome(app, &mut waiter, &command, until).await?;
    Ok(decided.map_or_else(|| Answer::Pending(command), Answer::Decided))
}

/// Finds the first outcome of a command that has been decided already, without sending anything.
///
/// # Errors
///
/// Those of [`submit`].
pub(crate) async fn known(app: &App, ask: &Ask) -> Result<Option<Decided>, Problem> {
    check_following(app)?;
    match first(app, ask).await? {
        First::Decided(first) => Ok(Some(*first)),
        First::Pending { .. } | First::Unknown => Ok(None),
    }
}

/// Refuses commands where this server does not know the journal well enough to judge them.
fn check_following(app: &App) -> Result<(), Problem> {
    if app.live.stopped().is_some() || !app.live.has_caught_up() || app.live.behind() > BEHIND_MAX {
        let detail =
            "This server is behind the journal and takes no commands; nothing has happened.";
        return Err(Problem::new(Code::Behind).detail(detail));
    }
    Ok(())
}

/// What is known of a command before it is published.
enum First {
    /// Nothing.
    Unknown,
    /// It was answered 202 and expires then.
    Pending { until: Time },
    /// It has been decided already.
    Decided(Box<Decided>),
}

/// Finds the first outcome of a command that has been decided already.
async fn first(app: &App, ask: &Ask) -> Result<First, Problem> {
    let remembered_since = app.live.read(engine::State::remembered_since);
    let known = app.live.read(|state| {
        if let Some(known) = state.known(ask.id) {
            return Some((ask.id, known.body_hash, known.outcome));
        }
        // The client's own order id, used again with the same body, means the same order.
        let (account, client) = client_order_id(&ask.action)?;
        let order = state.order_by_client_id(account, client)?;
        let known = state.known(order).filter(|known| known.body_hash == ask.body_hash)?;
        Some((order, known.body_hash, known.outcome))
    });
    let (id, outcome) = match known {
        Some((_, body_hash, _)) if body_hash != ask.body_hash => {
            return Err(Problem::new(Code::KeyReused));
        }
        Some((id, _, outcome)) => (id, outcome),
        // Beyond the window only a key can name an old command: it holds for ever.
        None if ask.keyed => {
            let found = store::lookup::kept(&app.db, ask.id, remembered_since).await;
            let kept =
                found.map_err(|error| Problem::unavailable("cannot look a key up", &error))?;
            match (kept.decided_in, kept.pending_until) {
                (Some(outcome), _) => (ask.id, outcome),
                (None, Some(until)) => return Ok(First::Pending { until }),
                (None, None) => return Ok(First::Unknown),
            }
        }
        None => return Ok(First::Unknown),
    };
    let decided = read(app, outcome, id).await?;
    if decided.entry().command.body_hash != ask.body_hash {
        return Err(Problem::new(Code::KeyReused));
    }
    Ok(First::Decided(Box::new(decided)))
}

fn client_order_id(action: &Action) -> Option<(AccountId, &engine::ClientOrderId)> {
    match action {
        Action::PlaceOrder(order) => Some((order.account, order.client_order_id.as_ref()?)),
        _ => None,
    }
}

/// Reads a decided command from the journal.
///
/// # Errors
///
/// A problem where the database does not answer or the row is not what it should be.
pub(crate) async fn read(app: &App, sequence: Sequence, id: CommandId) -> Result<Decided, Problem> {
    let unavailable =
        |error: &dyn std::error::Error| Problem::unavailable("cannot read a row", error);
    let row = store::journal::row(&app.db, sequence).await.map_err(|error| unavailable(&error))?;
    let Some(row) = row else {
        tracing::error!(%sequence, "a journal row that the state knows is not in the database");
        return Err(Problem::new(Code::Defect));
    };
    let batch = journal::read(&row).map_err(|error| unavailable(&error))?;
    let of = |entry: &Entry| entry.command.id == id && entry.command.origin == Origin::Client;
    match batch.entries.iter().position(of) {
        Some(index) => Ok(Decided { row: Row::Read(Box::new(batch)), index, repeat: true }),
        None => {
            tracing::error!(%sequence, "a journal row does not have the command that it is known for");
            Err(Problem::new(Code::Defect))
        }
    }
}

/// Publishes a command. Returns where it may be in the queue.
async fn publish(app: &App, command: &Command, until: Instant) -> Result<(), Problem> {
    let message = Message {
        incarnation: app.live.incarnation(),
        seen: app.live.sequence(),
        command: command.clone(),
    };
    let publishing = app.publisher.publish(message.encode().into(), command.trace_id);
    let outcome = tokio::time::timeout_at(until, publishing).await;
    let (outcome, label) = match outcome {
        Ok(PublishOutcome::Confirmed) => (Ok(()), "confirmed"),
        Ok(PublishOutcome::Unroutable) => {
            let problem = Problem::new(Code::Unavailable)
                .detail("The queue does not take commands now; nothing has happened.");
            (Err(problem), "unroutable")
        }
        // It may be in the queue: it waits like any other.
        Ok(PublishOutcome::Unknown) | Err(_) => (Ok(()), "unknown"),
    };
    count_published(label);
    outcome
}

fn count_published(label: &'static str) {
    telemetry::add_labelled(Metric::CommandsPublished, &[label], 1);
}

/// Publishes a command and waits for its outcome; `None` where it did not come in time.
///
/// The outcome may come before the queue's word for the command: it is in the journal then, and nothing that the queue could
/// say takes it out.
async fn outcome(
    app: &App,
    waiter: &mut Waiter,
    command: &Command,
    until: Instant,
) -> Result<Option<Decided>, Problem> {
    let publishing = publish(app, command, until);
    let waiting = wait(app, waiter, command, until);
    tokio::pin!(publishing, waiting);
    let first = tokio::select! {
        biased;
        decided = &mut waiting => {
            way::confirmed();
            // Neither word came in time, or the outcome that says that the queue has had it.
            count_published(if matches!(decided, Ok(None)) { "unknown" } else { "confirmed" });
            Some(decided)
        }
        published = &mut publishing => {
            way::confirmed();
            published?;
            None
        }
    };
    let decided = match first {
        Some(decided) => decided,
        None => waiting.await,
    };
    way::waited();
    decided
}

/// Waits for a command's outcome; `None` where it did not come in time.
async fn wait(
    app: &App,
    waiter: &mut Waiter,
    command: &Command,
    until: Instant,
) -> Result<Option<Decided>, Problem> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let other = client_order_id(&command.action);
        let slice = if other.is_some() { left.min(LOOK_EVERY) } else { left };
        if let Some(outcome) = waiter.outcome(slice).await {
            if outcome.entry().command.body_hash != command.body_hash {
                return Err(Problem::new(Code::KeyReused));
            }
            way::seen(&outcome);
            return Ok(Some(Decided::followed(outcome, false)));
        }
        if slice >= left {
            return Ok(None);
        }
        // Two orders with one client order id at once: the sequencer takes the second for a repeat of the first and
        // writes nothing, so the first is its answer.
        let first = app.live.read(|state| {
            let (account, client) = other?;
            let order = state.order_by_client_id(account, client).filter(|id| *id != command.id)?;
            let known = state.known(order).filter(|known| known.body_hash == command.body_hash)?;
            Some((order, known.outcome))
        });
        if let Some((order, outcome)) = first {
            return read(app, outcome, order).await.map(Some);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_command_of_one_user_and_route() {
        let (user, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = command_id(user, "POST /orders", Some("k"));
        assert_eq!(id, command_id(user, "POST /orders", Some("k")));
        assert_ne!(id, command_id(other, "POST /orders", Some("k")));
        assert_ne!(id, command_id(user, "POST /transfer", Some("k")));
        assert_ne!(id, command_id(user, "POST /orders", Some("k2")));
        assert_ne!(command_id(user, "x", None), command_id(user, "x", None));
        assert_eq!(wire::id::to_uuid(id).get_version_num(), 8);
    }
}
