//! The loop: steps 3 (decide), 4 (append) and 5 (acknowledge and broadcast) of the order's way.
//!
//! One batch is open for commands while one row is in flight. When the row is committed, it is broadcast and
//! acknowledged, and the open batch, whatever has come into it by then, is sealed and sent: the batch size follows the
//! load by itself.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::State;
use journal::{Row, seal};
use queue::{BatchPublisher, CommandConsumer, Delivery, Told};
use store::Db;
use store::journal::{AppendError, Appender};
use telemetry::Metric;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use trace::{BatchRecord, BatchTiming, Micros, Origin, Recorder};
use units::{CommandId, Hash32, Sequence, Time};

use crate::batch::{Decided, EvolvePanicked, OpenBatch, Times};
use crate::clock::Clock;
use crate::error::ProcessorError;
use crate::failpoint;
use crate::rules::{self, AckWith, Refused, Unacknowledged};
use crate::status::Status;
use crate::takeover::Taken;
use crate::turns::{Config, Parts};

/// The longest that a journal goes without a row: a tick then carries its time on.
const TICK: Duration = Duration::from_millis(950);
/// How long an append in flight may still take at shutdown.
const SHUTDOWN_APPEND_MAX: Duration = Duration::from_secs(5);

/// An append in flight: it gives back the appender with what became of the row.
type InFlight = Pin<Box<dyn Future<Output = (Appender, Row, Result<(), AppendError>)> + Send>>;

/// The append of one row, and what is to be acknowledged when it is committed.
struct Flight {
    append: InFlight,
    time: Time,
    through: Option<u64>,
    times: Times,
    begun: Micros,
}

/// The active sequencer.
pub(crate) struct Sequencer<'a> {
    state: State,
    /// The hash of the last row that was sealed.
    hash: Hash32,
    /// The last row that was sealed.
    sealed: Sequence,
    clock: Clock,
    epoch: u64,
    appender: Option<Appender>,
    /// The appender's repeated attempts that are counted already.
    retries: u64,
    flight: Option<Flight>,
    open: Option<OpenBatch>,
    /// Deliveries that need no outcome, taken while a row is in flight and no batch is open.
    through: Option<u64>,
    unacknowledged: Unacknowledged,
    last_row: Instant,
    consumer: Box<dyn CommandConsumer>,
    suspects: HashMap<CommandId, u32>,
    db: &'a Db,
    config: &'a Config,
    fan_out: &'a Arc<dyn BatchPublisher>,
    recorder: &'a Arc<Recorder>,
    status: &'a Arc<Status>,
}

impl<'a> Sequencer<'a> {
    pub(crate) fn new(
        taken: Taken,
        parts: &'a Parts,
        config: &'a Config,
        consumer: Box<dyn CommandConsumer>,
    ) -> Self {
        let Parts { db, fan_out, recorder, status, .. } = parts;
        let sequence = taken.state.sequence();
        let epoch = taken.appender.epoch();
        status.set_committed(sequence);
        status.set_active(epoch, sequence.next());
        tracing::info!(
            epoch,
            sequence = sequence.get(),
            snapshot = taken.snapshot.get(),
            "the sequencer is active"
        );
        Self {
            state: taken.state,
            hash: taken.hash,
            sealed: sequence,
            clock: taken.clock,
            epoch,
            appender: Some(taken.appender),
            retries: 0,
            flight: None,
            open: None,
            through: None,
            unacknowledged: Unacknowledged::default(),
            last_row: Instant::now(),
            consumer,
            suspects: taken.suspects,
            db,
            config,
            fan_out,
            recorder,
            status,
        }
    }

    /// Decides and appends until `shutdown`, or until it may not any more.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), ProcessorError> {
        // The first row goes at once, so that everybody learns what time it is.
        self.tick()?;
        loop {
            self.status.beat();
            self.give_up_what_is_too_old()?;
            self.send()?;
            let room = self
                .config
                .commands_max
                .saturating_sub(self.open.as_ref().map_or(0, OpenBatch::len));
            let has_room = self.open.as_ref().is_none_or(|open| {
                !open.is_full(self.config.commands_max) && !open.is_old(self.clock.now())
            });
            let tick = tokio::time::Instant::from_std(self.last_row + TICK);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.finish().await,
                done = committed(&mut self.flight) => self.land(done).await?,
                taken = self.consumer.next(room.max(1)), if has_room => self.take(taken?).await?,
                () = sleep_until(tick) => self.tick()?,
            }
        }
    }

    /// Ends where a row has waited too long for its commit; whoever takes over then settles what became of it. While a row
    /// is in flight, the loop comes by here at every tick.
    fn give_up_what_is_too_old(&self) -> Result<(), ProcessorError> {
        let oldest = self.flight.as_ref().map(|flight| flight.time);
        let oldest = oldest.or_else(|| self.open.as_ref().map(OpenBatch::time));
        match oldest {
            Some(time) if rules::is_too_old(time, self.clock.now(), &self.state) => {
                Err(ProcessorError::TooOld(self.sealed))
            }
            _ => Ok(()),
        }
    }

    /// Seals the open batch and sends it, where nothing is in flight.
    fn send(&mut self) -> Result<(), ProcessorError> {
        if self.flight.is_some() {
            return Ok(());
        }
        if self.open.is_none() && engine::next_internal(&self.state).is_some() {
            // A cascade goes on although nobody sends anything.
            self.open_batch()?;
        }
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let times = open.take_times();
        let (batch, through) = open.close(&mut self.state).map_err(evolve_panicked)?;
        let row = seal(&batch, self.hash);
        self.hash = row.hash;
        self.sealed = row.sequence;
        self.last_row = Instant::now();
        let mut appender =
            self.appender.take().expect("the appender is here while nothing is in flight");
        self.status.set_appending(true);
        failpoint::pass("before_append");
        let time = row.time;
        let append = Box::pin(async move {
            let result = appender.append(&row).await;
            (appender, row, result)
        });
        self.flight = Some(Flight { append, time, through, times, begun: Micros::now() });
        Ok(())
    }

    fn open_batch(&mut self) -> Result<&mut OpenBatch, ProcessorError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let mut open = OpenBatch::open(
                    &mut self.state,
                    self.sealed.next(),
                    self.clock.now(),
                    self.epoch,
                )
                .map_err(evolve_panicked)?;
                open.through = self.through.take();
                open
            }
        };
        Ok(self.open.insert(open))
    }

    /// Takes deliveries: decodes, decides, and applies each in memory.
    async fn take(&mut self, deliveries: Vec<Delivery>) -> Result<(), ProcessorError> {
        let begun = Micros::now();
        for delivery in deliveries {
            let read = match delivery.unreadable {
                Some(reason) => Err(Refused::Dead(reason)),
                None => rules::read_delivery(&delivery.body, &self.state),
            };
            let command = match read {
                Ok(command) => Some(command),
                Err(Refused::Unreadable(error)) => {
                    tracing::warn!(%error, "a message cannot be read");
                    self.put_aside(&delivery, rules::unreadable_for(&error)).await?;
                    None
                }
                Err(Refused::Dead(reason)) => {
                    self.put_aside(&delivery, reason).await?;
                    None
                }
                Err(Refused::SeenBeyondHead { seen, head }) => {
                    return Err(self.seen_beyond(seen, head).await?);
                }
            };
            let decided = match command {
                None => None,
                Some(command) => {
                    // First: what is past its window is forgotten when a batch is opened.
                    self.open_batch()?;
                    if self.is_past_its_window(&command) && self.was_decided(command.id).await? {
                        // It was decided long ago, and was not acknowledged then.
                        Some(Decided::Repeated)
                    } else if self.suspects.contains_key(&command.id) {
                        self.take_suspect(&delivery, command).await?;
                        continue;
                    } else {
                        let open = self.open.as_mut().expect("it was opened just now");
                        open.received(begun);
                        let decided =
                            open.decide_with(&mut self.state, command, self.config.decide);
                        Some(decided.map_err(evolve_panicked)?)
                    }
                }
            };
            self.note(&delivery, decided).await?;
        }
        telemetry::observe(Metric::DecideDuration, elapsed(begun));
        Ok(())
    }

    /// Decides a command that was in a batch that could not be applied: alone in a batch of its own, and not at all when it
    /// was alone the last time.
    async fn take_suspect(
        &mut self,
        delivery: &Delivery,
        command: engine::Command,
    ) -> Result<(), ProcessorError> {
        self.flush().await?;
        let id = command.id;
        let failures = self.suspects.remove(&id).unwrap_or(0);
        self.open_batch()?;
        let open = self.open.as_mut().expect("it was opened just now");
        let decided = match failures {
            0 | 1 => open.decide_with(&mut self.state, command, self.config.decide),
            _ => open.reject_unread(&mut self.state, command),
        };
        self.note(delivery, Some(decided.map_err(evolve_panicked)?)).await?;
        self.flush().await?;
        store::suspects::forget(self.db, id).await?;
        Ok(())
    }

    /// Commits everything that is decided.
    async fn flush(&mut self) -> Result<(), ProcessorError> {
        while self.flight.is_some() || self.open.is_some() {
            self.send()?;
            let done = committed(&mut self.flight).await;
            self.land(done).await?;
        }
        Ok(())
    }

    /// Tells whether a command is expired and not remembered, so that only what is kept for ever can say whether it was
    /// decided long ago.
    fn is_past_its_window(&self, command: &engine::Command) -> bool {
        rules::is_past_its_window(command, &self.state, self.clock.now())
    }

    /// Tells whether a command that is not remembered was decided all the same.
    async fn was_decided(&mut self, command: CommandId) -> Result<bool, ProcessorError> {
        let kept = store::lookup::kept(self.db, command, self.state.remembered_since()).await?;
        Ok(kept.decided_in.is_some())
    }

    /// Says why a command's server has seen a row that is not in the state: somebody else has appended it, or it is gone.
    async fn seen_beyond(
        &mut self,
        seen: Sequence,
        head: Sequence,
    ) -> Result<ProcessorError, ProcessorError> {
        let there = store::journal::head(self.db).await?.map(|(sequence, ..)| sequence);
        Ok(match there {
            Some(there) if there >= seen => ProcessorError::Deposed,
            _ => ProcessorError::SeenBeyondHead { seen, head },
        })
    }

    /// Notes what became of a delivery, so that it is acknowledged when everything before it is committed.
    async fn note(
        &mut self,
        delivery: &Delivery,
        decided: Option<Decided>,
    ) -> Result<(), ProcessorError> {
        match decided {
            Some(Decided::Repeated) => telemetry::add(Metric::CommandsRepeated, 1),
            Some(Decided::Panicked) => {
                telemetry::add(Metric::CommandsPanicked, 1);
                tracing::error!("a command was rejected as internal: deciding it panicked");
            }
            Some(Decided::Entered | Decided::IdReused) | None => {}
        }
        if let Some(reason) = decided.and_then(rules::put_aside_for) {
            self.put_aside(delivery, reason).await?;
        }
        match rules::ack_with(self.open.is_some(), self.flight.is_some()) {
            AckWith::Open => {
                self.open.as_mut().expect("a batch is open").through = Some(delivery.tag);
            }
            AckWith::Flight => {
                self.flight.as_mut().expect("a row is in flight").through = Some(delivery.tag);
            }
            AckWith::Now => self.consumer.ack(delivery.tag).await?,
        }
        Ok(())
    }

    async fn put_aside(
        &mut self,
        delivery: &Delivery,
        reason: &'static str,
    ) -> Result<(), ProcessorError> {
        telemetry::add_labelled(Metric::DeadLetters, &[reason], 1);
        tracing::warn!(reason, bytes = delivery.body.len(), "a message was put aside");
        Ok(self.consumer.dead_letter(delivery, reason).await?)
    }

    /// Follows up a definite append: broadcast, then acknowledge.
    async fn land(&mut self, done: Landed) -> Result<(), ProcessorError> {
        let Landed { appender, row, result, through, times, begun } = done;
        let committed = Micros::now();
        telemetry::add(Metric::AppendRetries, appender.retries().saturating_sub(self.retries));
        self.retries = appender.retries();
        self.appender = Some(appender);
        self.status.set_appending(false);
        rules::landed(result)?;
        failpoint::pass("after_append");
        telemetry::observe(Metric::AppendDuration, elapsed(begun));
        telemetry::add(Metric::Batches, 1);
        telemetry::observe_size(Metric::BatchCommands, row.commands);
        self.status.set_committed(row.sequence);
        let timing = self.note_times(&row, times, begun, committed);
        self.fan_out.publish(Told { row: Arc::new(row), timing });
        failpoint::pass("before_ack");
        let due = through.and_then(|last| self.unacknowledged.land(last, self.open.as_mut()));
        if let Some(through) = due {
            self.consumer.ack(through).await?;
        }
        Ok(())
    }

    /// Notes when a row's commands were received, decided and committed.
    fn note_times(
        &self,
        row: &Row,
        times: Times,
        append_begun: Micros,
        committed: Micros,
    ) -> Option<Arc<BatchTiming>> {
        let begun = times.begun?;
        let timing = Arc::new(BatchTiming {
            origin: Origin::now(),
            begun,
            commands: times.commands,
            append_begun: append_begun.since(begun),
            committed: committed.since(begun),
        });
        self.recorder.batch(BatchRecord {
            sequence: row.sequence.get(),
            incarnation: row.incarnation,
            timing: Arc::clone(&timing),
            commands: times.names,
        });
        Some(timing)
    }

    /// Carries time on in a journal to which nothing comes.
    fn tick(&mut self) -> Result<(), ProcessorError> {
        if self.flight.is_some() || self.open.is_some() {
            // The row in flight takes long; look again later.
            self.last_row = Instant::now();
            return Ok(());
        }
        let (commands, bytes) = self.state.dedup_window();
        telemetry::set_count(Metric::DedupCommands, commands);
        telemetry::set_count(Metric::DedupBytes, bytes);
        self.open_batch()?;
        Ok(())
    }

    /// Ends cleanly: what is decided is committed, as far as the database lets it.
    async fn finish(mut self) -> Result<(), ProcessorError> {
        let end = tokio::time::Instant::now() + SHUTDOWN_APPEND_MAX;
        loop {
            if self.flight.is_none() && self.open.is_none() {
                break;
            }
            self.send()?;
            match tokio::time::timeout_at(end, committed(&mut self.flight)).await {
                Ok(done) => self.land(done).await?,
                Err(_) => {
                    tracing::warn!(
                        "an append was still in flight at shutdown; its commands come again"
                    );
                    break;
                }
            }
        }
        // What it brings comes to whoever is next, who learns so at once that it is the active one.
        if let Err(error) = self.consumer.nudge().await {
            tracing::debug!(reason = %error, "the next sequencer is not told");
        }
        tracing::info!(sequence = self.sealed.get(), "the sequencer has stopped");
        Ok(())
    }
}

/// An append whose outcome is definite.
struct Landed {
    appender: Appender,
    row: Row,
    result: Result<(), AppendError>,
    through: Option<u64>,
    times: Times,
    begun: Micros,
}

/// Waits for the append in flight; for ever where there is none. Dropping the future loses nothing.
async fn committed(flight: &mut Option<Flight>) -> Landed {
    let Some(current) = flight.as_mut() else {
        return std::future::pending().await;
    };
    let (appender, row, result) = current.append.as_mut().await;
    let Flight { through, times, begun, .. } = flight.take().expect("it was in flight just now");
    Landed { appender, row, result, through, times, begun }
}

fn elapsed(since: Micros) -> Duration {
    Duration::from_micros(Micros::now().since(since).into())
}

fn evolve_panicked(EvolvePanicked(commands): EvolvePanicked) -> ProcessorError {
    ProcessorError::Evolve { commands }
}
