//! Journals written beforehand: what an exchange starts from, without asking it thousands of times over HTTP.
//!
//! Invariant: every command is decided by the core as the sequencer does, so such a journal verifies like any other.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use engine::{Action, Command, Decision, Event, Origin, Stamp, State};
use journal::{Batch, Entry, RULES, Row};
use store::Db;
use store::journal::Appender;
use units::{CommandId, Hash32, Sequence, Time};
use uuid::Uuid;

use super::orders::User;

/// Commands of one row.
pub(crate) const ROW_COMMANDS: usize = 512;

/// Decides commands and writes them down as rows, each with the hash of the one before.
#[derive(Debug)]
pub(crate) struct Scribe {
    state: State,
    previous: Hash32,
    incarnation: u64,
    epoch: u64,
}

impl Scribe {
    /// Begins a journal.
    pub(crate) fn new(incarnation: u64, epoch: u64) -> Self {
        Self { state: State::new(), previous: Hash32::default(), incarnation, epoch }
    }

    /// Decides the commands at `time` (or at the journal's, if that is later) and returns their row.
    ///
    /// # Errors
    ///
    /// The core refuses one.
    pub(crate) fn row(&mut self, time: Time, commands: Vec<Command>) -> anyhow::Result<Row> {
        let sequence = self.state.sequence().next();
        let time = time.max(self.state.time());
        self.state.open_batch(Stamp { sequence, time });
        let entries = commands.into_iter().map(|command| self.entry(command));
        let entries = entries.collect::<anyhow::Result<_>>()?;
        let Self { incarnation, epoch, .. } = *self;
        let batch = Batch { sequence, time, incarnation, epoch, rules: RULES, entries };
        let row = journal::seal(&batch, self.previous);
        self.previous = row.hash;
        Ok(row)
    }

    fn entry(&mut self, command: Command) -> anyhow::Result<Entry> {
        match engine::run(&mut self.state, &command, &mut ()) {
            Decision::Event(Event::Rejected(reject)) => {
                bail!("the core refuses {:?}: {}", command.action, reject.code())
            }
            Decision::Event(event) => Ok(Entry { command, event }),
            other => bail!("a new command came to {other:?}"),
        }
    }

    /// Returns the state after the last row.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

/// Wraps an action as a command of now.
pub(crate) fn command(action: Action) -> Command {
    Command {
        id: CommandId::new(Uuid::now_v7().as_u128()),
        body_hash: 0,
        expires_at: now().plus_micros(15_000_000),
        trace_id: 0,
        origin: Origin::Client,
        action,
    }
}

/// Writes a journal into an empty, migrated database and returns its last row's number.
///
/// # Errors
///
/// The core refuses a command, or the database does.
pub(crate) async fn journal(
    db: &Db,
    incarnation: u64,
    mut commands: impl Iterator<Item = Command>,
) -> anyhow::Result<Sequence> {
    let mut appender = Appender::claim(db, "bench").await?;
    let mut scribe = Scribe::new(incarnation, appender.epoch());
    loop {
        let batch: Vec<_> = commands.by_ref().take(ROW_COMMANDS).collect();
        if batch.is_empty() {
            return Ok(scribe.state().sequence());
        }
        let row = scribe.row(now(), batch)?;
        appender.append(&row).await.context("the journal cannot be written")?;
    }
}

/// Returns the wall clock's time.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The hash of no password: nobody can log in.
pub(crate) const NO_PASSWORD: &str = "!";

/// Returns the e-mail address of a user of [`users`].
pub(crate) fn email(number: usize) -> String {
    format!("user-{number}@bench.example")
}

/// Makes verified users, all with the same hash of a password.
///
/// # Errors
///
/// The database does not take them.
pub(crate) async fn users(db: &Db, count: usize, password_hash: &str) -> anyhow::Result<Vec<User>> {
    let mut users = Vec::with_capacity(count);
    for number in 0..count {
        let id = Uuid::now_v7();
        let email = email(number);
        let salt = id.as_u128().to_be_bytes();
        let user = store::users::ensure_verified(db, id, &email, password_hash, &salt).await?;
        users.push(User { id: user.id, account: user.account });
    }
    Ok(users)
}
