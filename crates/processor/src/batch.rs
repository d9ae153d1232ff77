//! Step 3 of the order's way: a batch is decided, one command after the other.
//!
//! Invariant: every command that enters a batch has exactly one outcome event in it; a repeat has none and is not in it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::{Action, Command, Decision, Ending, Event, Origin, Reject, Stamp, State, Step};
use journal::{Batch, Entry};
use telemetry::Metric;
use trace::{CommandTiming, Micros};
use units::{CommandId, Sequence, Time};

use crate::failpoint;

/// Internal commands after which a batch is closed; the rest of a cascade goes on in the next.
const INTERNALS_MAX: usize = 2_000;

/// The age, in microseconds, at which a batch that waits for the row before it takes no more commands. All its commands
/// are decided at the time at which it was opened: in an old batch one could be carried out after its expiry, or be
/// forgotten as soon as it is committed, while it may still come again.
const AGE_MAX_MICROS: u64 = 5_000_000;

/// A batch that is being decided.
pub struct OpenBatch {
    batch: Batch,
    internals: usize,
    times: Times,
    /// The deliveries up to here are in this batch, in one before it, or need no outcome.
    pub through: Option<u64>,
}

/// When the commands of a batch were received, decided and applied.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// When the first was received.
    pub begun: Option<Micros>,
    /// The times of each command from outside.
    pub commands: Vec<CommandTiming>,
    /// Its trace and its id.
    pub names: Vec<(u128, u128)>,
    /// When the command that is decided next was received.
    received: Option<Micros>,
}

impl Times {
    fn note(&mut self, index: usize, command: (u128, u128), decision: [Micros; 3]) {
        let [begun, decided, settled] = decision;
        let received = self.received.unwrap_or(begun);
        let first = *self.begun.get_or_insert(received);
        self.commands.push(CommandTiming {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            received: received.since(first),
            waited: begun.since(received),
            decided: decided.since(begun),
            settled: settled.since(decided),
        });
        self.names.push(command);
    }
}

/// How a command is decided: [`engine::decide`], but for tests of what becomes of a defect in it.
pub type Decide = fn(&State, &Command) -> Decision;

/// What became of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is in the batch.
    Entered,
    /// It was known: nothing happens again.
    Repeated,
    /// Its id is known with another body.
    IdReused,
    /// Deciding it panicked; it is in the batch, rejected as internal.
    Panicked,
}

/// `evolve` panicked: the state is of no more use, and the process must end. These commands were in the batch.
#[derive(Debug)]
pub struct EvolvePanicked(pub Vec<CommandId>);

impl OpenBatch {
    /// Opens the batch of the row `sequence`: time goes on, and the state's own work that is due is done.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`]; the state is of no more use then.
    pub fn open(
        state: &mut State,
        sequence: Sequence,
        now: Time,
        epoch: u64,
    ) -> Result<Self, EvolvePanicked> {
        let time = now.max(state.time());
        state.open_batch(Stamp { sequence, time });
        let incarnation = state.settings().map_or(0, |settings| settings.incarnation);
        let batch = Batch {
            sequence,
            time,
            incarnation,
            epoch,
            rules: journal::RULES,
            entries: Vec::new(),
        };
        let mut open = Self { batch, internals: 0, times: Times::default(), through: None };
        open.run_internals(state)?;
        Ok(open)
    }

    /// Returns the journal time at which its commands are decided.
    #[must_use]
    pub fn time(&self) -> Time {
        self.batch.time
    }

    /// Returns how many commands are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.entries.len()
    }

    /// Tells whether no command is in it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.entries.is_empty()
    }

    /// Tells whether it takes no more commands.
    #[must_use]
    pub fn is_full(&self, commands_max: usize) -> bool {
        self.batch.entries.len() >= commands_max || self.internals >= INTERNALS_MAX
    }

    /// Tells whether it is too old to take more commands.
    #[must_use]
    pub fn is_old(&self, now: Time) -> bool {
        now.micros_since(self.batch.time) > AGE_MAX_MICROS
    }

    /// Notes when the commands were received that are decided from now on.
    pub fn received(&mut self, at: Micros) {
        self.times.received = Some(at);
    }

    /// Takes the times of its commands.
    #[must_use]
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// Decides a command from outside, applies what it does, and does the work that it has made due.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`]; the state is of no more use then.
    pub fn decide(
        &mut self,
        state: &mut State,
        command: Command,
    ) -> Result<Decided, EvolvePanicked> {
        self.decide_with(state, command, engine::decide)
    }

    /// The same with a core that may be another: one with a defect, in tests.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`].
    pub fn decide_with(
        &mut self,
        state: &mut State,
        command: Command,
        decide: Decide,
    ) -> Result<Decided, EvolvePanicked> {
        let begun = Micros::now();
        let decided = catch_unwind(AssertUnwindSafe(|| decide(state, &command)));
        let decided_at = Micros::now();
        let (event, decided) = match decided {
            Ok(Decision::Repeat { .. }) => return Ok(Decided::Repeated),
            Ok(Decision::IdReused) => return Ok(Decided::IdReused),
            Ok(Decision::Event(event)) => (event, Decided::Entered),
            Err(_) => (Event::Rejected(Reject::Internal), Decided::Panicked),
        };
        let names = (command.trace_id, command.id.get());
        self.enter(state, command, event)?;
        let index = self.batch.entries.len() - 1;
        self.times.note(index, names, [begun, decided_at, Micros::now()]);
        self.run_internals(state)?;
        Ok(decided)
    }

    /// Rejects a command unread: a batch with nothing else has failed with it before.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`]; the state is of no more use then.
    pub fn reject_unread(
        &mut self,
        state: &mut State,
        command: Command,
    ) -> Result<Decided, EvolvePanicked> {
        if state.known(command.id).is_some() {
            return Ok(Decided::Repeated);
        }
        self.enter(state, command, Event::Rejected(Reject::Internal))?;
        Ok(Decided::Panicked)
    }

    /// Adds an action of the sequencer's own: a tick, the first row's contents.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`]; the state is of no more use then.
    pub fn add_internal(
        &mut self,
        state: &mut State,
        action: Action,
    ) -> Result<(), EvolvePanicked> {
        let command = engine::internal_command(action);
        let Decision::Event(event) = engine::decide(state, &command) else {
            unreachable!("internal commands have no id that could be known");
        };
        self.enter(state, command, event)
    }

    /// Does what is due by the state itself, up to the batch's limit.
    fn run_internals(&mut self, state: &mut State) -> Result<(), EvolvePanicked> {
        while self.internals < INTERNALS_MAX
            && let Some(action) = engine::next_internal(state)
        {
            self.add_internal(state, action)?;
            self.internals += 1;
        }
        Ok(())
    }

    fn enter(
        &mut self,
        state: &mut State,
        command: Command,
        event: Event,
    ) -> Result<(), EvolvePanicked> {
        count(&command, &event);
        let evolved = catch_unwind(AssertUnwindSafe(|| {
            failpoint::evolve(command.id, &event);
            engine::evolve(state, &command, &event, &mut ());
        }));
        if evolved.is_err() {
            let before = self.batch.entries.iter().map(|entry| &entry.command);
            let outside =
                before.chain([&command]).filter(|command| command.origin == Origin::Client);
            return Err(EvolvePanicked(outside.map(|command| command.id).collect()));
        }
        self.batch.entries.push(Entry { command, event });
        Ok(())
    }

    /// Closes the batch. One without commands gets a tick: a row is never empty.
    ///
    /// # Errors
    ///
    /// [`EvolvePanicked`]; the state is of no more use then.
    pub fn close(mut self, state: &mut State) -> Result<(Batch, Option<u64>), EvolvePanicked> {
        if self.batch.entries.is_empty() {
            self.add_internal(state, Action::Tick)?;
        }
        // The genesis row names the journal that it begins.
        self.batch.incarnation = state.settings().map_or(0, |settings| settings.incarnation);
        Ok((self.batch, self.through))
    }
}

/// Counts what was decided. The count is of decisions: those of a deposed sequencer's last batch are in it too.
fn count(command: &Command, event: &Event) {
    telemetry::add(Metric::Commands, 1);
    let placed = match event {
        Event::Rejected(reject) => {
            telemetry::add_labelled(Metric::CommandsRejected, &[reject.code()], 1);
            return;
        }
        Event::OrderPlaced(placed) => {
            telemetry::add(Metric::Orders, 1);
            placed
        }
        Event::OrderReplaced { placed, .. } | Event::StopTriggered { placed, .. } => placed,
        _ => return,
    };
    let trades = placed.steps.iter().filter(|step| matches!(step, Step::Fill(_))).count();
    if trades > 0 {
        telemetry::add(Metric::Trades, u64::try_from(trades).unwrap_or(0));
    }
    if matches!(placed.ending, Ending::Cancelled(engine::CancelReason::TooManySteps)) {
        tracing::warn!(
            trace_id = format_args!("{:032x}", command.trace_id),
            "an order was cut short: it would have caused more steps than one command may"
        );
    }
}
