//! How an append whose outcome is unknown is made definite: the rules, without the database.
//!
//! Invariant: `Ok` is said of a row alone that is in the journal, [`AppendError::Deposed`] of one that is not and can never
//! be. The appender and the simulator both go by these rules; they differ in whom they ask.

use units::Hash32;

use super::AppendError;
use crate::StoreError;

/// What one attempt to append a row came to.
#[derive(Debug)]
pub enum Attempt {
    /// The row was inserted and committed.
    Appended,
    /// The guard let nothing in, or the sequence is taken.
    NotInserted,
    /// Nothing is known: it may be in the journal, or come into it later.
    Unknown(StoreError),
    /// Not this row, ever.
    Refused(StoreError),
}

/// What the database says of a row's place, in one snapshot: if the epoch is another one there, no append of ours can
/// follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The epoch in force.
    pub epoch: u64,
    /// The hash of the row that stands at the sequence.
    pub hash: Option<Hash32>,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// The outcome is definite.
    Done(Result<(), AppendError>),
    /// The database must be asked what stands at the row's place.
    LookUp,
    /// The same bytes must be sent again.
    Again(StoreError),
}

/// One row on its way to a definite outcome.
#[derive(Debug, Default)]
pub struct Settling {
    /// Why the last attempt was refused.
    refusal: Option<StoreError>,
}

impl Settling {
    /// Takes what an attempt came to.
    #[must_use]
    pub fn attempted(&mut self, attempt: Attempt) -> Next {
        match attempt {
            Attempt::Appended => Next::Done(Ok(())),
            Attempt::NotInserted => Next::LookUp,
            Attempt::Unknown(error) => Next::Again(error),
            // An earlier attempt may have gone through all the same.
            Attempt::Refused(refusal) => {
                self.refusal = Some(refusal);
                Next::LookUp
            }
        }
    }

    /// Takes what a look-up has found.
    #[must_use]
    pub fn found(&mut self, row: &::journal::Row, found: Result<Found, StoreError>) -> Next {
        let refusal = self.refusal.take();
        let found = match found {
            Ok(found) => found,
            Err(error) => return Next::Again(error),
        };
        let (ours, current) = (row.epoch, found.epoch);
        Next::Done(match (found.hash, refusal) {
            (Some(there), _) if there == row.hash => Ok(()),
            (Some(_), _) => Err(AppendError::Deposed { ours, current }),
            (None, _) if current != ours => Err(AppendError::Deposed { ours, current }),
            (None, Some(refusal)) => Err(AppendError::Refused(refusal)),
            (None, None) => Err(AppendError::DoesNotFollow(row.sequence)),
        })
    }
}
