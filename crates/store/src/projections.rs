//! Step 7 of the order's way: project. The journal's effects as rows that people and programs can query.
//!
//! Invariant: a part of the projections says exactly what the journal says up to its progress, which moves by
//! compare-and-set in the writing transaction, so two writers cannot double and a crash cannot skip. The parts may stand
//! at different rows; whoever reads more than one goes by the slowest.

mod candles;
mod codes;
mod compare;
mod copy;
mod market_data;
mod money;
mod orders;
mod part;
mod rebuild;
mod rows;
mod session;
mod source;
mod sql;
mod tables;

use std::sync::Arc;

use units::Sequence;

pub use compare::{Compared, Difference, compare};
pub use part::Part;
pub use rebuild::{Rebuilt, rebuild};
pub use source::{Filled, Progress, Source};

use crate::{Db, StoreError};

use session::Session;

/// Effects that are written in one transaction before the next one begins.
const EFFECTS_MAX: usize = 60_000;

/// Writes one part of the projections.
#[derive(Debug)]
pub struct Projector {
    db: Db,
    part: Part,
    /// The generation to write; `None`: whichever is in use.
    generation: Option<String>,
    session: Option<Session>,
}

impl Projector {
    /// Returns a writer of the generation that is in use, also after a rebuild has put another in its place.
    #[must_use]
    pub fn new(db: Db, part: Part) -> Self {
        Self { db, part, generation: None, session: None }
    }

    /// Returns the writers of all parts of one generation, in use or not.
    fn of_generation(db: &Db, generation: &str) -> [Self; 3] {
        let generation = || Some(generation.to_owned());
        Part::ALL.map(|part| Self { db: db.clone(), part, generation: generation(), session: None })
    }

    /// Returns the part that it writes.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }

    /// Returns the last journal row that is in the part, as the database says.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn progress(&mut self) -> Result<Sequence, StoreError> {
        self.session = None;
        Ok(self.session().await?.progress())
    }

    /// Writes batches, oldest first, in as few transactions as they fit. Batches that are projected already are passed
    /// over, whoever wrote them. Returns the progress.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] where a batch is missing, or the row of the progress is another one in the batches; else
    /// what the database said. After an error, or when the future was dropped, the same batches can be given again.
    pub async fn write(
        &mut self,
        batches: &[Arc<::journal::Applied>],
    ) -> Result<Sequence, StoreError> {
        let mut rest = batches;
        loop {
            let session = self.session().await?;
            let (progress, hash) = (session.progress(), session.hash());
            let done = rest.partition_point(|applied| applied.batch.sequence <= progress);
            if let Some(last) = rest[..done].last()
                && last.batch.sequence == progress
                && last.hash != hash
            {
                return Err(StoreError::Corrupt(format!(
                    "the projections stand at row {progress} of another journal"
                )));
            }
            rest = &rest[done..];
            let Some(first) = rest.first() else { return Ok(progress) };
            if first.batch.sequence != progress.next() {
                return Err(StoreError::Corrupt(format!(
                    "the projections stand at row {progress}, and row {} was given next",
                    first.batch.sequence
                )));
            }
            let now = &rest[..fitting(rest)];
            let mut session = self.session.take().expect("the session was opened above");
            // A session that has failed, or found that somebody else moved the progress, is not used again: the next
            // one asks the database where it stands.
            if session.write(now).await? {
                self.session = Some(session);
            }
        }
    }

    async fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session =
                Some(Session::open(&self.db, self.part, self.generation.as_deref()).await?);
        }
        Ok(self.session.as_mut().expect("the session was opened above"))
    }
}

/// Returns how many of the batches, at least one, go into one transaction: those that follow one another, up to a size.
fn fitting(batches: &[Arc<::journal::Applied>]) -> usize {
    let mut effects = 0;
    for (at, applied) in batches.iter().enumerate() {
        if at > 0 && applied.batch.sequence != batches[at - 1].batch.sequence.next() {
            return at;
        }
        effects += applied.batch.entries.len()
            + applied.effects.postings.len()
            + applied.effects.trades.len();
        if effects > EFFECTS_MAX {
            return at.max(1);
        }
    }
    batches.len()
}
