//! Steps 1, 2 and 6: a server receives a command, publishes it, follows the journal, and answers.
//!
//! The order of the steps is that of `server::command`; following goes by the product's own `read_next` and `evolve`.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Action, Command, Event as Outcome, Origin, Stamp, State};
use follower::{Recovered, read_next};
use journal::{Message, Row};
use units::{CommandId, Hash32, Sequence, Time};

use crate::Guard;
use crate::event::{Answer, Ask, ClientEvent, Event, Life, Published, Seen, ServerEvent};
use crate::processor::id;
use crate::settings::{BEHIND_MAX, MS, OUTCOME_WAIT, POLL_IDLE, POLL_WAITING, TO_LIVE};
use crate::trace::Who;
use crate::world::World;

/// A server.
#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) life: u32,
    pub(crate) up: bool,
    pub(crate) paused_until: u64,
    pub(crate) cut_off_until: u64,
    pub(crate) state: State,
    pub(crate) hash: Hash32,
    /// When it saw the last batch.
    seen_at: u64,
    /// When its state was last known to be at the head.
    at_head: Option<u64>,
    requests: BTreeMap<u64, Request>,
}

/// A request that is being answered.
#[derive(Debug)]
struct Request {
    ask: Ask,
    expires_at: Time,
    /// Whether the broker has said what it will say.
    published: bool,
    outcome: Option<(Sequence, bool)>,
}

impl Server {
    fn journal_now(&self, now: u64) -> Time {
        self.state.time().plus_micros(now - self.seen_at)
    }
}

impl World {
    pub(crate) fn tell_server(&mut self, index: usize, after: u64, event: ServerEvent) {
        let life = Life { index, life: self.servers[index].life };
        self.schedule(after, Event::Server(life, event));
    }

    pub(crate) fn server_event(&mut self, index: usize, event: ServerEvent) {
        match event {
            ServerEvent::Ask(ask) => self.submit(index, *ask),
            ServerEvent::Look { client, number, id } => self.look(index, client, number, id),
            ServerEvent::Hint(row) => self.take_hint(index, &row),
            ServerEvent::Poll => {
                self.read_journal(index);
                let waiting = !self.servers[index].requests.is_empty();
                let after = if waiting { POLL_WAITING } else { POLL_IDLE };
                self.tell_server(index, after, ServerEvent::Poll);
            }
            ServerEvent::Published(number, published) => self.published(index, number, published),
            ServerEvent::TimeUp(number) => self.time_up(index, number),
            ServerEvent::Restart => self.start_server(index),
        }
    }

    fn server_reads(&self, index: usize) -> bool {
        self.now >= self.store.away_until && self.now >= self.servers[index].cut_off_until
    }

    pub(crate) fn start_server(&mut self, index: usize) {
        if !self.server_reads(index) {
            return self.tell_server(index, 500 * MS, ServerEvent::Restart);
        }
        let Recovered { state, hash, .. } = match self.store.load(self.store.head()) {
            Ok(recovered) => recovered,
            Err(reason) => return self.fail("a snapshot can be loaded", || reason),
        };
        let now = self.now;
        let server = &mut self.servers[index];
        (server.state, server.hash) = (state, hash);
        (server.up, server.seen_at, server.at_head) = (true, now, None);
        self.note(Who::Server(index), "starts", 0, String::new);
        self.tell_server(index, 0, ServerEvent::Poll);
    }

    /// Ends a server's life: its clients hear that their connections broke.
    pub(crate) fn crash_server(&mut self, index: usize, down: u64) {
        let server = &mut self.servers[index];
        server.life += 1;
        server.up = false;
        server.paused_until = 0;
        for (_, request) in std::mem::take(&mut server.requests) {
            let event = ClientEvent::Answered(request.ask.number, Answer::Broken);
            let after = self.network();
            self.schedule(after, Event::Client(request.ask.client, event));
        }
        self.tell_server(index, down, ServerEvent::Restart);
    }

    fn answer_ask(&mut self, index: usize, ask: &Ask, answer: Answer) {
        if let Answer::Decided { row, .. } = answer
            && row > self.store.head()
        {
            self.fail("nothing is answered before its commit", || {
                format!("server {index} answers {} from row {row}", id(ask.id))
            });
        }
        let what = match answer {
            Answer::Decided { refused: false, .. } => "answers done",
            Answer::Decided { refused: true, .. } => "answers refused",
            Answer::Pending => "answers 202",
            Answer::Unavailable => "answers 503, nothing has happened",
            Answer::OutcomeUnknown => "answers 503, outcome unknown",
            Answer::Broken => "breaks off",
        };
        self.note(Who::Server(index), what, ask.number, || {
            let row = match answer {
                Answer::Decided { row, .. } => format!(" in row {row}"),
                _ => String::new(),
            };
            format!("to client {}: {}{row}", ask.client, id(ask.id))
        });
        let broken = !self.quiet && self.rng.chance(self.rates.answer_lost);
        let after = self.network();
        if !broken {
            let event = ClientEvent::Answered(ask.number, answer);
            self.schedule(after, Event::Client(ask.client, event));
        }
    }

    fn submit(&mut self, index: usize, ask: Ask) {
        let now = self.now;
        let answers = self.server_reads(index);
        let server = &self.servers[index];
        if server.at_head.is_none_or(|at_head| now - at_head > BEHIND_MAX) {
            return self.answer_ask(index, &ask, Answer::Unavailable);
        }
        let known = server.state.known(ask.id);
        // Beyond the window only its key can name an old command, and how long it may still live.
        if !answers {
            return self.answer_ask(index, &ask, Answer::Unavailable);
        }
        let known = match known {
            Some(known) => Ok(Some(known.outcome)),
            None => self.store.kept(ask.id, server.state.remembered_since()),
        };
        let known = match known {
            Ok(known) => known,
            Err(reason) => return self.fail("the journal can be read", || reason),
        };
        if let Some(row) = known {
            let refused = self.store.row(row).and_then(|row| outcome(row, ask.id));
            let Some(refused) = refused else {
                return self.fail("a known command is in its row", || format!("{row}"));
            };
            return self.answer_ask(index, &ask, Answer::Decided { row, refused });
        }
        let mut expires_at = server.journal_now(now).plus_micros(TO_LIVE);
        if self.guards.has(Guard::Lifetime)
            && let Some(noted) = self.store.pending.get(&ask.id)
        {
            expires_at = expires_at.min(*noted);
        }
        let command = Command {
            id: ask.id,
            body_hash: ask.body_hash,
            expires_at,
            trace_id: 0,
            origin: Origin::Client,
            action: ask.action.clone(),
        };
        let incarnation = server.state.settings().map_or(0, |settings| settings.incarnation);
        let message = Message { incarnation, seen: server.state.sequence(), command };
        let left = expires_at.micros_since(server.journal_now(now));
        let number = self.next_number();
        self.note(Who::Server(index), "publishes", number, || {
            format!("{} for client {}, {left} us to live", id(ask.id), ask.client)
        });
        let request = Request { ask, expires_at, published: false, outcome: None };
        let command = request.ask.id;
        self.servers[index].requests.insert(number, request);
        self.publish(index, number, command, message.encode().into());
    }

    fn published(&mut self, index: usize, number: u64, published: Published) {
        let Some(request) = self.servers[index].requests.get_mut(&number) else { return };
        if request.published {
            return;
        }
        request.published = true;
        let outcome = request.outcome;
        if published == Published::Unroutable {
            return self.finish(index, number, Answer::Unavailable);
        }
        match outcome {
            Some((row, refused)) => self.finish(index, number, Answer::Decided { row, refused }),
            None => self.tell_server(index, OUTCOME_WAIT, ServerEvent::TimeUp(number)),
        }
    }

    fn finish(&mut self, index: usize, number: u64, answer: Answer) {
        if let Some(request) = self.servers[index].requests.remove(&number) {
            self.answer_ask(index, &request.ask, answer);
        }
    }

    /// Answers that nothing is known yet: 202 where a row says so to everybody, else that the outcome is unknown.
    fn time_up(&mut self, index: usize, number: u64) {
        let answers = self.server_reads(index);
        let Some(request) = self.servers[index].requests.get(&number) else { return };
        let (command, expires_at) = (request.ask.id, request.expires_at);
        let is_order = matches!(request.ask.action, Action::PlaceOrder(_));
        if !answers || !is_order {
            return self.finish(index, number, Answer::OutcomeUnknown);
        }
        self.store.insert_pending(command, expires_at);
        // It is written, and nobody hears of it.
        let unanswered = !self.quiet && self.rng.chance(50);
        let answer = if unanswered { Answer::OutcomeUnknown } else { Answer::Pending };
        self.finish(index, number, answer);
    }

    /// Says how an order stands: live while it is open, else as the tables say.
    fn look(&mut self, index: usize, client: usize, number: u64, order: CommandId) {
        let server = &self.servers[index];
        let tables = &self.store.tables;
        let reader_now = server.journal_now(self.now);
        let seen = if server.state.order(order).is_some() {
            Seen::Decided
        } else if !self.server_reads(index) {
            Seen::Unavailable
        } else if tables.decided_in(order).is_some() {
            Seen::Decided
        } else if let Some(expires_at) = self.store.pending.get(&order) {
            let guarded = self.guards.has(Guard::Expiry);
            let passed = if guarded { tables.time } else { reader_now };
            if passed > *expires_at { Seen::Expired } else { Seen::Pending }
        } else {
            Seen::NotFound
        };
        let after = self.network();
        self.schedule(after, Event::Client(client, ClientEvent::Sees(number, seen)));
    }

    fn take_hint(&mut self, index: usize, row: &Arc<Row>) {
        let last = self.servers[index].state.sequence();
        if row.sequence <= last {
            return;
        }
        if row.sequence > last.next() {
            return self.read_journal(index);
        }
        if self.follow(index, row) {
            self.servers[index].at_head = Some(self.now);
        }
    }

    /// Follows what stands in the database, to the head.
    fn read_journal(&mut self, index: usize) {
        if !self.server_reads(index) {
            return;
        }
        let rows = self.store.rows_after(self.servers[index].state.sequence()).to_vec();
        for row in &rows {
            if !self.follow(index, row) {
                return;
            }
        }
        self.servers[index].at_head = Some(self.now);
    }

    /// Follows one row and answers who waits for it; tells whether it could.
    fn follow(&mut self, index: usize, row: &Row) -> bool {
        let now = self.now;
        let server = &mut self.servers[index];
        let batch = match read_next(server.state.sequence(), server.hash, row) {
            Ok(batch) => batch,
            Err(error) => {
                self.fail("a follower can follow", || format!("server {index}: {error}"));
                return false;
            }
        };
        server.state.open_batch(Stamp { sequence: batch.sequence, time: batch.time });
        for entry in &batch.entries {
            engine::evolve(&mut server.state, &entry.command, &entry.event, &mut ());
        }
        (server.hash, server.seen_at) = (row.hash, now);
        let mut done = Vec::new();
        for (number, request) in &mut server.requests {
            let of = |entry: &&journal::Entry| {
                entry.command.id == request.ask.id && entry.command.origin == Origin::Client
            };
            let Some(entry) = batch.entries.iter().find(of) else { continue };
            let refused = matches!(entry.event, Outcome::Rejected(_));
            request.outcome.get_or_insert((batch.sequence, refused));
            if request.published {
                done.push((*number, Answer::Decided { row: batch.sequence, refused }));
            }
        }
        for (number, answer) in done {
            self.finish(index, number, answer);
        }
        true
    }
}

/// Reads from a row whether a command was refused; `None` where it is not in it.
pub(crate) fn outcome(row: &Row, command: CommandId) -> Option<bool> {
    let batch = journal::read(row).ok()?;
    let of = |entry: &&journal::Entry| {
        entry.command.id == command && entry.command.origin == Origin::Client
    };
    let entry = batch.entries.iter().find(of)?;
    Some(matches!(entry.event, Outcome::Rejected(_)))
}
