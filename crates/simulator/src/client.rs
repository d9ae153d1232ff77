//! Clients: each asks for one thing at a time, under one key, until it knows what became of it.

mod actions;

use std::collections::BTreeMap;

use engine::Action;
use units::{AccountId, CommandId};

use crate::event::{Answer, Ask, ClientEvent, Event, Seen, ServerEvent};
use crate::processor::id;
use crate::settings::{CLIENT_WAIT, CLIENTS, LOAD_UNTIL, MS, S, SERVERS};
use crate::trace::Who;
use crate::world::World;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) account: AccountId,
    /// Things that it still wants to do.
    left: u32,
    /// Numbers its questions: an answer to an older one comes too late.
    asked: u64,
    task: Option<Task>,
    /// Orders that it has placed.
    pub(crate) orders: Vec<CommandId>,
    pub(crate) withdrawals: Vec<CommandId>,
}

/// What a client wants now.
#[derive(Clone, Debug)]
struct Task {
    id: CommandId,
    body_hash: u64,
    action: Action,
    /// Whether every attempt so far was answered with "nothing has happened".
    nothing: bool,
    pending: bool,
}

/// What a client was told of one command.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) client: usize,
    pub(crate) action: Action,
    pub(crate) answers: Vec<Answer>,
    /// Whether it was ever shown as expired.
    pub(crate) seen_expired: bool,
    pub(crate) seen_decided: bool,
    pub(crate) finished: Option<Finish>,
}

/// How it ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It is decided.
    Decided,
    /// It expired before it was decided.
    Expired,
    /// Nothing has happened, and it wants it no more.
    Nothing,
}

impl Client {
    pub(crate) fn new(account: AccountId, left: u32) -> Self {
        let (orders, withdrawals) = (Vec::new(), Vec::new());
        Self { account, left, asked: 0, task: None, orders, withdrawals }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.task.is_none()
    }
}

impl World {
    fn tell_client(&mut self, index: usize, after: u64, event: ClientEvent) {
        self.schedule(after, Event::Client(index, event));
    }

    pub(crate) fn client_event(&mut self, index: usize, event: ClientEvent) {
        let current = self.clients[index].asked;
        match event {
            ClientEvent::Begin => self.begin(index),
            ClientEvent::Repeat => self.ask(index),
            ClientEvent::LookAt => self.look_at(index),
            ClientEvent::Answered(number, answer) => {
                // What is said late is said all the same.
                self.told(index, number, answer);
            }
            ClientEvent::GiveUp(number) if number == current => {
                self.clients[index].asked += 1;
                self.go_on(index, None);
            }
            ClientEvent::Sees(number, seen) if number == current => self.sees(index, seen),
            ClientEvent::GiveUp(_) | ClientEvent::Sees(..) => {}
        }
    }

    /// Returns an id as servers give them: half begin with the time when they were made (UUIDv7), half are derived from a key and
    /// say nothing of it.
    fn new_id(&mut self) -> CommandId {
        let random = self.rng.wide();
        let (front, behind) = (random >> 80, random & ((1 << 76) - 1));
        let (front, version) = match random & 1 {
            0 => (u128::from(self.now) / 1_000, 7),
            _ => (front, 8),
        };
        CommandId::new(front << 80 | version << 76 | behind)
    }

    fn begin(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.left == 0 || client.task.is_some() {
            return;
        }
        if self.now > LOAD_UNTIL {
            client.left = 0;
            return;
        }
        client.left -= 1;
        let action = self.choose(index);
        let command = self.new_id();
        let body_hash = self.rng.next();
        let client = &mut self.clients[index];
        match &action {
            Action::PlaceOrder(_) => client.orders.push(command),
            Action::RequestWithdrawal { .. } => client.withdrawals.push(command),
            _ => {}
        }
        self.note(Who::Client(index), "wants", client_number(command), || {
            format!("{}: {}", id(command), actions::words(&action))
        });
        let record = Record {
            client: index,
            action: action.clone(),
            answers: Vec::new(),
            seen_expired: false,
            seen_decided: false,
            finished: None,
        };
        self.records.insert(command, record);
        let task = Task { id: command, body_hash, action, nothing: true, pending: false };
        self.clients[index].task = Some(task);
        self.ask(index);
    }

    fn ask(&mut self, index: usize) {
        let Some(server) = self.any_server() else {
            return self.tell_client(index, 300 * MS, ClientEvent::Repeat);
        };
        let client = &mut self.clients[index];
        let Some(task) = client.task.clone() else { return };
        client.asked += 1;
        let number = client.asked;
        self.asked.insert((index, number), task.id);
        let Task { id, body_hash, action, .. } = task;
        let ask = Box::new(Ask { client: index, number, id, body_hash, action });
        let after = self.network();
        self.tell_server(server, after, ServerEvent::Ask(ask));
        self.tell_client(index, CLIENT_WAIT, ClientEvent::GiveUp(number));
    }

    fn look_at(&mut self, index: usize) {
        let Some(server) = self.any_server() else {
            return self.tell_client(index, 300 * MS, ClientEvent::LookAt);
        };
        let client = &mut self.clients[index];
        let Some(task) = &client.task else { return };
        client.asked += 1;
        let (number, id) = (client.asked, task.id);
        let after = self.network();
        self.tell_server(server, after, ServerEvent::Look { client: index, number, id });
        self.tell_client(index, 4 * S, ClientEvent::GiveUp(number));
    }

    fn any_server(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..SERVERS).filter(|server| self.servers[*server].up).collect();
        (!up.is_empty()).then(|| up[self.rng.place(up.len())])
    }

    /// Takes an answer, which may be to an attempt that was given up.
    fn told(&mut self, index: usize, number: u64, answer: Answer) {
        let Some(command) = self.asked.get(&(index, number)).copied() else { return };
        let record = self.records.get_mut(&command).expect("what was asked is recorded");
        record.answers.push(answer);
        if number == self.clients[index].asked {
            self.clients[index].asked += 1;
            self.go_on(index, Some(answer));
        }
    }

    /// Goes on after an answer, or after none.
    fn go_on(&mut self, index: usize, answer: Option<Answer>) {
        let Some(task) = &mut self.clients[index].task else { return };
        match answer {
            Some(Answer::Decided { .. }) => return self.end_task(index, Finish::Decided),
            Some(Answer::Unavailable) => {}
            Some(Answer::Pending) => (task.nothing, task.pending) = (false, true),
            Some(Answer::OutcomeUnknown | Answer::Broken) | None => task.nothing = false,
        }
        let (nothing, pending) = (task.nothing, task.pending);
        if nothing && self.rng.chance(100) {
            return self.end_task(index, Finish::Nothing);
        }
        let after = self.rng.between(100 * MS, 2 * S);
        // Who was told 202 looks; now and then it repeats the request all the same.
        let looks = pending && !self.rng.chance(150);
        let event = if looks { ClientEvent::LookAt } else { ClientEvent::Repeat };
        self.tell_client(index, after, event);
    }

    fn sees(&mut self, index: usize, seen: Seen) {
        let client = &mut self.clients[index];
        client.asked += 1;
        let Some(task) = &client.task else { return };
        let command = task.id;
        let what = match seen {
            Seen::NotFound => "finds nothing:",
            Seen::Pending => "sees pending:",
            Seen::Expired => "sees expired:",
            Seen::Decided => "sees decided:",
            Seen::Unavailable => "sees nothing now:",
        };
        self.note(Who::Client(index), what, client_number(command), || id(command));
        let record = self.records.get_mut(&command).expect("what was asked is recorded");
        match seen {
            Seen::Expired => {
                record.seen_expired = true;
                // A library that repeats on its own may do so after that, too.
                if self.rng.chance(200) {
                    return self.tell_client(index, 100 * MS, ClientEvent::Repeat);
                }
                self.end_task(index, Finish::Expired);
            }
            Seen::Decided => {
                record.seen_decided = true;
                self.end_task(index, Finish::Decided);
            }
            Seen::NotFound | Seen::Pending | Seen::Unavailable => {
                let after = self.rng.between(300 * MS, 2 * S);
                let looks = !self.rng.chance(100);
                let event = if looks { ClientEvent::LookAt } else { ClientEvent::Repeat };
                self.tell_client(index, after, event);
            }
        }
    }

    fn end_task(&mut self, index: usize, finish: Finish) {
        let Some(task) = self.clients[index].task.take() else { return };
        let record = self.records.get_mut(&task.id).expect("what was asked is recorded");
        record.finished = Some(finish);
        self.note(Who::Client(index), "is done with", client_number(task.id), || {
            format!("{} {finish:?}", id(task.id))
        });
        let after = self.rng.between(50 * MS, 4 * S);
        self.tell_client(index, after, ClientEvent::Begin);
    }

    pub(crate) fn clients_done(&self) -> bool {
        self.clients.iter().all(Client::is_done)
    }

    pub(crate) fn start_clients(&mut self) {
        for index in 0..CLIENTS {
            let after = self.rng.between(500 * MS, 3 * S);
            self.tell_client(index, after, ClientEvent::Begin);
        }
    }
}

/// What was asked, by client and number.
pub(crate) type Asked = BTreeMap<(usize, u64), CommandId>;

fn client_number(command: CommandId) -> u64 {
    u64::try_from(command.get() >> 64).expect("it was shifted to 64 bits")
}
