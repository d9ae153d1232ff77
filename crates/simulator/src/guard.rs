//! The rules that make the way safe, each of which a run can do without, to show that the checker would notice.

use std::fmt;

/// A rule that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A command that is known is not carried out again: without it, the state remembers nothing from one batch to the next.
    Dedup,
    /// An append needs the epoch in force: without it, a sequencer that was deposed still appends.
    Fence,
    /// An append's row must follow the row whose hash it covers, and its place must be free: without it, a late copy of an
    /// append takes the place of what followed.
    Chain,
    /// An append whose outcome is unknown is looked up and repeated: without it, it counts as committed.
    LookUp,
    /// A delivery is acknowledged when all before it is committed: without it, when it is decided.
    AckOrder,
    /// A row is broadcast when it is committed: without it, when it is sent.
    CommitFirst,
    /// A row that has waited too long for its commit is given up: without it, a command may be forgotten as soon as it is
    /// committed, while a repeat of it is on its way.
    Age,
    /// A command that is expired and forgotten is looked up in what is kept for ever: without it, it is decided again.
    Window,
    /// That look-up reads the rows which the projections do not have yet: without it, the projections alone.
    Tail,
    /// A pending order reads as expired once the projections are past its expiry: without it, once its reader is.
    Expiry,
    /// A repeat of a pending order lives no longer than the row says: without it, each repeat begins anew.
    Lifetime,
    /// Projections move on from where their writer thinks they stand: without it, from wherever they stand.
    Progress,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 12] = [
        Self::Dedup,
        Self::Fence,
        Self::Chain,
        Self::LookUp,
        Self::AckOrder,
        Self::CommitFirst,
        Self::Age,
        Self::Window,
        Self::Tail,
        Self::Expiry,
        Self::Lifetime,
        Self::Progress,
    ];

    /// Returns the name that the command line uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dedup => "dedup",
            Self::Fence => "fence",
            Self::Chain => "chain",
            Self::LookUp => "look-up",
            Self::AckOrder => "ack-order",
            Self::CommitFirst => "commit-first",
            Self::Age => "age",
            Self::Window => "window",
            Self::Tail => "tail",
            Self::Expiry => "expiry",
            Self::Lifetime => "lifetime",
            Self::Progress => "progress",
        }
    }

    /// Finds a guard by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guard| guard.name() == name)
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
