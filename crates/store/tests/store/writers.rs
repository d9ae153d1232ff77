//! The writers of all parts of the projections, as one.

use std::sync::Arc;

use ::journal::Applied;
use futures::future::try_join_all;
use store::projections::{Part, Projector};
use store::{Db, StoreError};
use units::Sequence;

pub(crate) struct Writers([Projector; 3]);

impl Writers {
    pub(crate) fn new(db: &Db) -> Self {
        Self(Part::ALL.map(|part| Projector::new(db.clone(), part)))
    }

    /// Writes with all of them, and returns where the slowest stands.
    pub(crate) async fn write(&mut self, batches: &[Arc<Applied>]) -> Result<Sequence, StoreError> {
        let all = try_join_all(self.0.iter_mut().map(|each| each.write(batches))).await?;
        Ok(all.into_iter().min().expect("there are three"))
    }

    pub(crate) async fn progress(&mut self) -> Result<Sequence, StoreError> {
        let all = try_join_all(self.0.iter_mut().map(Projector::progress)).await?;
        Ok(all.into_iter().min().expect("there are three"))
    }
}
