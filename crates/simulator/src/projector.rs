//! Step 7: projectors follow the journal and write the tables, two of them at once.

use std::rc::Rc;

use engine::State;
use follower::{Recovered, read_next};
use journal::Applied;
use units::Hash32;

use crate::Guard;
use crate::event::{Event, Life, ProjectorEvent, StoreEvent};
use crate::settings::{MS, S};
use crate::trace::Who;
use crate::world::World;

/// Batches that one transaction writes at most.
const BATCHES_MAX: usize = 64;

/// A projector.
#[derive(Debug, Default)]
pub(crate) struct Projector {
    pub(crate) life: u32,
    /// It does nothing before this: it lags.
    pub(crate) lags_until: u64,
    /// What it has followed to.
    state: Option<(State, Hash32)>,
}

impl World {
    pub(crate) fn tell_projector(&mut self, index: usize, after: u64, event: ProjectorEvent) {
        let life = Life { index, life: self.projectors[index].life };
        self.schedule(after, Event::Projector(life, event));
    }

    pub(crate) fn crash_projector(&mut self, index: usize, down: u64) {
        let projector = &mut self.projectors[index];
        projector.life += 1;
        projector.state = None;
        self.tell_projector(index, down, ProjectorEvent::Restart);
    }

    pub(crate) fn projector_event(&mut self, index: usize, event: ProjectorEvent) {
        match event {
            ProjectorEvent::Restart => self.tell_projector(index, MS, ProjectorEvent::Turn),
            ProjectorEvent::Turn => {
                let able = self.now >= self.store.away_until
                    && (self.quiet || self.now >= self.projectors[index].lags_until);
                if able && let Err(reason) = self.project(index) {
                    self.fail("a projector can follow", || format!("projector {index}: {reason}"));
                }
                let after = self.rng.between(150 * MS, 700 * MS);
                self.tell_projector(index, after, ProjectorEvent::Turn);
            }
        }
    }

    /// Reads what follows the progress and sends it as one transaction, which may be lost.
    fn project(&mut self, index: usize) -> Result<(), String> {
        let progress = self.store.tables.progress;
        let loaded = self.projectors[index].state.take();
        // A state beyond the progress is of no use: what it has followed was not written.
        let (mut state, mut hash) = match loaded {
            Some(loaded) if loaded.0.sequence() <= progress => loaded,
            _ => {
                let Recovered { state, hash, .. } = self.store.load(progress)?;
                (state, hash)
            }
        };
        let mut batches = Vec::new();
        for row in self.store.rows_after(state.sequence()) {
            if batches.len() >= BATCHES_MAX {
                break;
            }
            let batch = read_next(state.sequence(), hash, row).map_err(|e| e.to_string())?;
            let effects = journal::apply(&mut state, &batch);
            hash = row.hash;
            if batch.sequence > progress {
                batches.push(Rc::new(Applied { batch, hash, effects }));
            }
        }
        self.projectors[index].state = Some((state, hash));
        if batches.is_empty() || (!self.quiet && self.rng.chance(self.rates.write_lost)) {
            return Ok(());
        }
        let after = self.rng.between(MS, 60 * MS);
        let life = self.store.life;
        let first = batches.first().map_or(0, |first| first.batch.sequence.get());
        self.note(Who::Projector(index), "writes from row", first, || first.to_string());
        self.schedule(after, Event::Store(StoreEvent::Write { batches, life }));
        Ok(())
    }

    /// The transaction arrives: it moves the progress from where its writer thinks it is, or does nothing.
    pub(crate) fn write_projections(&mut self, batches: &[Rc<Applied>], life: u32) {
        if self.store.life != life || self.now < self.store.away_until {
            return;
        }
        let Some(first) = batches.first() else { return };
        let guarded = self.guards.has(Guard::Progress);
        if guarded && first.batch.sequence != self.store.tables.progress.next() {
            return;
        }
        for applied in batches {
            self.store.tables.write(applied);
        }
        let progress = self.store.tables.progress.get();
        self.note(Who::Store, "has projected row", progress, || progress.to_string());
    }

    /// Makes the projectors lag, from now on.
    pub(crate) fn lag_projectors(&mut self, until: u64) {
        for projector in &mut self.projectors {
            projector.lags_until = until.max(self.now + S);
        }
    }
}
