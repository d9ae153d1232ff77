//! Why a sequencer ends, and whether waiting helps.

use follower::FollowError;
use queue::QueueError;
use store::StoreError;
use store::journal::AppendError;
use units::{CommandId, Sequence};

/// Why a sequencer ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be followed.
    #[error(transparent)]
    Follow(FollowError),
    /// An append failed for good.
    #[error("a row cannot be appended: {0}")]
    Append(AppendError),
    /// Another sequencer has claimed the journal.
    #[error("deposed: another sequencer has claimed the journal")]
    Deposed,
    /// The journal is not the one that the state was loaded from.
    #[error("row {0} does not follow the journal's last row: the state is loaded anew")]
    DoesNotFollow(Sequence),
    /// A row has waited too long for its commit.
    #[error(
        "the row behind row {0} has waited too long for its commit: it is given up, and the journal taken over anew"
    )]
    TooOld(Sequence),
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The wall clock is wrong.
    #[error(
        "the system's clock is {off_seconds} s off PostgreSQL's: it must be set before this process may become active"
    )]
    Clock {
        /// By how much.
        off_seconds: u64,
    },
    /// Play money, for real.
    #[error(
        "NODE_ENV=production refuses to open this journal: it is a sandbox, in which anybody may deposit play money"
    )]
    Sandbox,
    /// The configured markets are refused by the core.
    #[error("the first row of the journal cannot be made: {0}")]
    Genesis(String),
    /// A command names a row that the journal does not have.
    #[error(
        "a command has seen journal row {seen}, and the journal ends at {head}: the database was restored by hand"
    )]
    SeenBeyondHead {
        /// What the command's server had seen.
        seen: Sequence,
        /// The head.
        head: Sequence,
    },
    /// Applying an event panicked. The commands are among the suspects now.
    #[error("applying an event failed: a defect; the log has the cause")]
    Evolve {
        /// The commands of the batch.
        commands: Vec<CommandId>,
    },
}

impl ProcessorError {
    /// Says what a sequencer that ended so waits for, for whoever asks whether it is ready; the log has the rest.
    pub(crate) fn waits_for(&self) -> &'static str {
        match self {
            Self::Store(_) | Self::Follow(_) | Self::Append(_) | Self::TooOld(_) => {
                "database: it does not answer, or does not commit"
            }
            Self::Queue(_) => "queue: RabbitMQ does not answer",
            Self::Deposed => "journal: another process has claimed it",
            Self::DoesNotFollow(_) => "journal: it is not the one that was followed",
            _ => "sequencer: the log says why",
        }
    }

    /// Tells whether waiting may help, so that the role goes on in standby.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Follow(FollowError::Store(error)) => error.is_transient(),
            Self::Deposed | Self::DoesNotFollow(_) | Self::TooOld(_) => true,
            Self::Queue(error) => error.is_passing(),
            _ => false,
        }
    }
}

impl From<FollowError> for ProcessorError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Store(error) => Self::Store(error),
            error => Self::Follow(error),
        }
    }
}
