//! How a processor takes over: catch up, raise the epoch, catch up once more, go on. Anything may happen in between.

use follower::Recovered;
use processor::rules::Unacknowledged;
use units::Sequence;

use super::{Active, Mode};
use crate::event::ProcessorEvent;
use crate::settings::MS;
use crate::trace::Who;
use crate::world::World;

/// Beyond the end of every run.
const HEAD: Sequence = Sequence::new(u64::MAX >> 1);

impl World {
    /// Tells whether a processor gets an answer from the database now.
    pub(super) fn database_answers(&self, index: usize) -> bool {
        self.now >= self.store.away_until && self.now >= self.processors[index].cut_off_until
    }

    pub(super) fn named(&mut self, index: usize, consumer: u64) {
        let processor = &mut self.processors[index];
        if processor.consumer != Some(consumer) || !matches!(processor.mode, Mode::Standby) {
            return;
        }
        processor.mode = Mode::Taking(None, 0);
        self.note(Who::Processor(index), "is named", consumer, String::new);
        let after = self.rng.between(MS, 30 * MS);
        self.tell_processor(index, after, ProcessorEvent::Recover);
    }

    /// Goes on with the takeover later, where the database does not answer now.
    fn puts_off(&mut self, index: usize) -> bool {
        if self.database_answers(index) {
            return false;
        }
        self.processors[index].mode = Mode::Taking(None, 0);
        self.tell_processor(index, 500 * MS, ProcessorEvent::Recover);
        true
    }

    pub(super) fn recover(&mut self, index: usize) {
        if !matches!(self.processors[index].mode, Mode::Taking(..)) || self.puts_off(index) {
            return;
        }
        let loaded = self.store.load(HEAD).and_then(|mut recovered| {
            self.store.catch_up(&mut recovered)?;
            Ok(recovered)
        });
        let Recovered { state, hash, snapshot } = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => return self.fail("the journal can be followed", || reason),
        };
        let head = state.sequence();
        self.note(Who::Processor(index), "has loaded row", head.get(), || {
            format!("{head} from snapshot {snapshot}")
        });
        self.processors[index].mode = Mode::Taking(Some(Box::new((state, hash))), 0);
        let after = self.takeover_pause();
        self.tell_processor(index, after, ProcessorEvent::Claim);
    }

    /// Most takeovers are quick; some leave others much time.
    fn takeover_pause(&mut self) -> u64 {
        match !self.quiet && self.rng.chance(100) {
            true => self.rng.between(MS, 3_000 * MS),
            false => self.rng.between(MS, 40 * MS),
        }
    }

    pub(super) fn claim(&mut self, index: usize) {
        if !matches!(self.processors[index].mode, Mode::Taking(Some(_), _)) || self.puts_off(index)
        {
            return;
        }
        let epoch = self.store.claim();
        self.note(Who::Processor(index), "raises the epoch to", epoch, || epoch.to_string());
        if !self.quiet && self.rng.chance(30) {
            // It is raised, and nobody is told: the whole takeover begins anew.
            self.processors[index].mode = Mode::Taking(None, 0);
            self.tell_processor(index, 500 * MS, ProcessorEvent::Recover);
            return;
        }
        if let Mode::Taking(_, raised) = &mut self.processors[index].mode {
            *raised = epoch;
        }
        let after = self.takeover_pause();
        self.tell_processor(index, after, ProcessorEvent::CatchUp);
    }

    pub(super) fn catch_up(&mut self, index: usize) {
        if self.puts_off(index) {
            return;
        }
        let now = self.now;
        let processor = &mut self.processors[index];
        let Mode::Taking(loaded, epoch) = &mut processor.mode else { return };
        let (Some(loaded), epoch) = (loaded.take(), *epoch) else { return };
        let (state, hash) = *loaded;
        let mut recovered = Recovered { state, hash, snapshot: Sequence::new(0) };
        if let Err(reason) = self.store.catch_up(&mut recovered) {
            return self.fail("the journal can be followed", || reason);
        }
        let Recovered { state, hash, .. } = recovered;
        let sealed = state.sequence();
        let base = processor.wall(now).max(state.time());
        processor.mode = Mode::Active(Box::new(Active {
            state,
            hash,
            sealed,
            epoch,
            base,
            since: now,
            open: None,
            flight: None,
            unacknowledged: Unacknowledged::default(),
            woken: false,
            last_row: now,
        }));
        self.note(Who::Processor(index), "is active behind row", sealed.get(), || {
            format!("{sealed}, epoch {epoch}")
        });
        // The first row goes at once, so that everybody learns what time it is.
        if self.open_batch(index) {
            self.send(index);
            self.tell_processor(index, MS, ProcessorEvent::Tick);
            self.wake_soon(index);
        }
    }
}
