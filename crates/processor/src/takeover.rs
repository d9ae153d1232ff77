//! How a sequencer comes to its journal: catch up, raise the epoch, catch up once more, go on.

use std::collections::HashMap;

use engine::{Action, State};
use follower::{FollowError, HEAD, Live, Recovered};
use journal::seal;
use store::Db;
use store::journal::{AppendError, Appender};
use units::{CommandId, Hash32, Sequence};

use crate::batch::{EvolvePanicked, OpenBatch};
use crate::clock::{Clock, SKEW_MAX, wall};
use crate::error::ProcessorError;
use crate::turns::Config;

/// What a sequencer begins with.
pub(crate) struct Taken {
    pub(crate) state: State,
    pub(crate) hash: Hash32,
    pub(crate) clock: Clock,
    pub(crate) appender: Appender,
    /// Commands that may make applying a batch fail, and how often they were in one.
    pub(crate) suspects: HashMap<CommandId, u32>,
    /// Where the snapshot stood, for the log.
    pub(crate) snapshot: Sequence,
}

/// Takes the journal over; makes it where it is empty. A standby goes on from the state that it has followed, which is
/// as far as the journal is; only a process that has followed nothing yet loads it.
pub(crate) async fn take_over(
    db: &Db,
    config: &Config,
    live: Option<&Live>,
) -> Result<Taken, ProcessorError> {
    let mut recovered = match live {
        Some(live) if live.has_caught_up() && live.stopped().is_none() => {
            follow_on(db, live.recovered()).await?
        }
        _ => follower::recover(db, HEAD, |_| ()).await?,
    };
    check_sandbox(&recovered.state, config)?;
    let clock = read_clock(db, &recovered.state).await?;
    let mut appender = Appender::claim(db, &config.owner).await?;
    // What was appended before the claim is in the journal now, and nothing can follow it.
    follower::catch_up(db, &mut recovered, HEAD, &mut |_| ()).await?;
    let (mut state, mut hash) = (recovered.state, recovered.hash);
    if state.sequence() == Sequence::new(0) {
        hash = append_genesis(&mut state, &clock, &mut appender, config).await?;
    }
    check_sandbox(&state, config)?;
    let suspects = store::suspects::all(db).await?.into_iter().collect();
    Ok(Taken { state, hash, clock, appender, suspects, snapshot: recovered.snapshot })
}

/// Catches up from a followed state; where that is not this journal's, loads the journal's.
async fn follow_on(db: &Db, mut recovered: Recovered) -> Result<Recovered, FollowError> {
    match follower::catch_up(db, &mut recovered, HEAD, &mut |_| ()).await {
        Ok(()) => Ok(recovered),
        Err(FollowError::Chain { .. }) => follower::recover(db, HEAD, |_| ()).await,
        Err(error) => Err(error),
    }
}

/// What a restore has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The row that says so: the first of the new journal.
    pub sequence: Sequence,
    /// The new journal's random number.
    pub incarnation: u64,
}

/// Begins a new journal where a restored database ends, so that nothing that was meant for the lost rows is ever taken
/// for this one. Nobody else may be at work on the database. `lost` is the last row that was lost, where it is known.
///
/// # Errors
///
/// [`ProcessorError`]; nothing has changed then, but that the epoch may have been raised.
pub async fn restore(
    db: &Db,
    owner: &str,
    incarnation: u64,
    lost: Option<Sequence>,
) -> Result<Restored, ProcessorError> {
    let mut recovered = follower::recover(db, HEAD, |_| ()).await?;
    let clock = read_clock(db, &recovered.state).await?;
    let mut appender = Appender::claim(db, owner).await?;
    follower::catch_up(db, &mut recovered, HEAD, &mut |_| ()).await?;
    if recovered.state.settings().is_none() {
        return Err(ProcessorError::Genesis(
            "the journal is empty: there is none to go on from".to_owned(),
        ));
    }
    let evolve = |EvolvePanicked(commands)| ProcessorError::Evolve { commands };
    let state = &mut recovered.state;
    let sequence = state.sequence().next();
    let mut open =
        OpenBatch::open(state, sequence, clock.now(), appender.epoch()).map_err(evolve)?;
    open.add_internal(state, Action::Restore { incarnation, lost }).map_err(evolve)?;
    let (batch, _) = open.close(state).map_err(evolve)?;
    match appender.append(&seal(&batch, recovered.hash)).await {
        Ok(()) => Ok(Restored { sequence, incarnation }),
        Err(AppendError::Deposed { .. }) => Err(ProcessorError::Deposed),
        Err(error) => Err(ProcessorError::Append(error)),
    }
}

async fn append_genesis(
    state: &mut State,
    clock: &Clock,
    appender: &mut Appender,
    config: &Config,
) -> Result<Hash32, ProcessorError> {
    let evolve = |EvolvePanicked(commands)| ProcessorError::Evolve { commands };
    let mut open =
        OpenBatch::open(state, Sequence::new(1), clock.now(), appender.epoch()).map_err(evolve)?;
    for action in config.genesis.actions() {
        open.add_internal(state, action).map_err(evolve)?;
    }
    let (batch, _) = open.close(state).map_err(evolve)?;
    if let Some(entry) =
        batch.entries.iter().find(|entry| matches!(entry.event, engine::Event::Rejected(_)))
    {
        return Err(ProcessorError::Genesis(format!(
            "{:?} gave {:?}",
            entry.command.action, entry.event
        )));
    }
    let row = seal(&batch, Hash32::default());
    match appender.append(&row).await {
        Ok(()) => {
            tracing::info!(incarnation = row.incarnation, "opened a new journal");
            Ok(row.hash)
        }
        Err(AppendError::Deposed { .. }) => Err(ProcessorError::Deposed),
        Err(error) => Err(ProcessorError::Append(error)),
    }
}

/// Reads the wall clock and refuses one that is too far from PostgreSQL's.
async fn read_clock(db: &Db, state: &State) -> Result<Clock, ProcessorError> {
    let before = wall();
    let database = store::journal::database_time(db).await?;
    let after = wall();
    let database = std::time::Duration::from_micros(database.micros());
    let ahead = before.saturating_sub(database);
    let behind = database.saturating_sub(after);
    if ahead.max(behind) > SKEW_MAX {
        return Err(ProcessorError::Clock { off_seconds: ahead.max(behind).as_secs() });
    }
    Ok(Clock::start(after, state.time()))
}

/// Production opens no journal in which play money is allowed.
fn check_sandbox(state: &State, config: &Config) -> Result<(), ProcessorError> {
    let sandbox = state.settings().is_some_and(|settings| settings.sandbox);
    if sandbox && config.production {
        return Err(ProcessorError::Sandbox);
    }
    Ok(())
}
