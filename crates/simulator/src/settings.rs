//! The numbers of a run. Times are microseconds of the run's own clock, which begins at zero.

/// A millisecond.
pub(crate) const MS: u64 = 1_000;
/// A second.
pub(crate) const S: u64 = 1_000_000;

/// When a run begins, as journal time.
pub(crate) const BEGIN: u64 = 1_800_000_000 * S;

/// Clients begin nothing new after this.
pub(crate) const LOAD_UNTIL: u64 = 42 * S;
/// Nothing fails any more after this.
pub(crate) const FAULTS_UNTIL: u64 = 60 * S;
/// Everything must have come to an end by then.
pub(crate) const END_MAX: u64 = FAULTS_UNTIL + 90 * S;

/// How long a command lives. The product has two and a half times as much, here as for the next two.
pub(crate) const TO_LIVE: u64 = 6 * S;
/// How long a server waits for the broker, and again for the outcome.
pub(crate) const OUTCOME_WAIT: u64 = 2_500 * MS;
/// A server that is further behind takes no commands.
pub(crate) const BEHIND_MAX: u64 = 2 * S;
/// How long a command is remembered. A row is a quarter of it old at most when it is sent; the rest is a command's life, the
/// time that a statement may go on by itself, and what a server may be behind. The product has thirty times as much.
pub(crate) const WINDOW: u64 = 18 * S;
/// How often a follower reads the journal while somebody waits, and otherwise.
pub(crate) const POLL_WAITING: u64 = 250 * MS;
pub(crate) const POLL_IDLE: u64 = S;
/// How often an idle sequencer carries time on.
pub(crate) const TICK: u64 = 950 * MS;
/// How long one attempt to append may take.
pub(crate) const ATTEMPT_MAX: u64 = 15 * S;
/// The pauses between attempts.
pub(crate) const PAUSE_MIN: u64 = 20 * MS;
pub(crate) const PAUSE_MAX: u64 = S;
/// How long a client waits for an answer.
pub(crate) const CLIENT_WAIT: u64 = 6 * S;
/// Commands of one batch.
pub(crate) const COMMANDS_MAX: usize = 24;
/// Snapshots that are kept.
pub(crate) const SNAPSHOTS_KEPT: usize = 3;

pub(crate) const SERVERS: usize = 3;
pub(crate) const PROCESSORS: usize = 3;
pub(crate) const PROJECTORS: usize = 2;
pub(crate) const CLIENTS: usize = 8;
/// Accounts; clients share them, so that their orders meet.
pub(crate) const ACCOUNTS: u64 = 4;
