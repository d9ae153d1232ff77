//! The world of one run: its clock, what is to happen, and everybody in it.

use std::collections::BTreeMap;

use engine::{Action, AssetConfig, Command, Limits, MarketConfig, Origin, Settings, State};
use journal::seal;
use processor::{Genesis, OpenBatch};
use units::{
    AccountId, Amount, AssetId, CommandId, Hash32, PriceTicks, QuantityLots, RatePpm,
    ReferenceHash, Sequence, Time,
};

use crate::broker::Broker;
use crate::client::{Asked, Client, Record};
use crate::event::{Event, Life, ProcessorEvent, ProjectorEvent, StoreEvent};
use crate::faults::Rates;
use crate::guard::Guard;
use crate::processor::Processor;
use crate::projector::Projector;
use crate::rng::Rng;
use crate::server::Server;
use crate::settings::{
    ACCOUNTS, BEGIN, CLIENTS, END_MAX, MS, PROCESSORS, PROJECTORS, S, SERVERS, WINDOW,
};
use crate::store::{Inserted, Store};
use crate::trace::{Trace, Who};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule, as it should be.
    pub rule: &'static str,
    /// What was found instead.
    pub found: String,
}

/// Which guards there are.
#[derive(Clone, Debug)]
pub(crate) struct Guards(pub(crate) Vec<Guard>);

impl Guards {
    pub(crate) fn has(&self, guard: Guard) -> bool {
        !self.0.contains(&guard)
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) guards: Guards,
    pub(crate) rates: Rates,
    /// Nothing fails any more.
    pub(crate) quiet: bool,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) processors: Vec<Processor>,
    pub(crate) servers: Vec<Server>,
    pub(crate) projectors: Vec<Projector>,
    pub(crate) clients: Vec<Client>,
    pub(crate) asked: Asked,
    pub(crate) records: BTreeMap<CommandId, Record>,
    pub(crate) failure: Option<Failure>,
}

impl World {
    pub(crate) fn new(seed: u64, removed: &[Guard], recorded: bool) -> Self {
        let none = Rates {
            publish_lost: 0,
            publish_returned: 0,
            publish_doubled: 0,
            publish_late: 0,
            confirm_lost: 0,
            append_lost: 0,
            append_unanswered: 0,
            append_late: 0,
            hint_lost: 0,
            answer_lost: 0,
            write_lost: 0,
        };
        let mut world = Self {
            now: 0,
            events: BTreeMap::new(),
            numbers: 0,
            rng: Rng::new(seed),
            trace: Trace::new(recorded),
            guards: Guards(removed.to_vec()),
            rates: none,
            quiet: false,
            broker: Broker::default(),
            store: Store::new(removed),
            processors: (0..PROCESSORS).map(|_| Processor::default()).collect(),
            servers: (0..SERVERS).map(|_| Server::default()).collect(),
            projectors: (0..PROJECTORS).map(|_| Projector::default()).collect(),
            clients: Vec::new(),
            asked: Asked::new(),
            records: BTreeMap::new(),
            failure: None,
        };
        world.begin_journal();
        world.start();
        world
    }

    /// Makes the journal's first two rows: the market, and the accounts with their money.
    fn begin_journal(&mut self) {
        let epoch = self.store.claim();
        let salt = self.rng.next();
        let window = if self.guards.has(Guard::Dedup) { WINDOW } else { 0 };
        let mut state = State::new();
        let mut hash = Hash32::default();
        let actions = genesis(salt, window).actions().collect::<Vec<_>>();
        for number in 1..=2_u64 {
            let time = Time::from_micros(BEGIN + number);
            let sequence = Sequence::new(number);
            let opened = OpenBatch::open(&mut state, sequence, time, epoch);
            let mut open = opened.expect("an empty state opens");
            if number == 1 {
                for action in &actions {
                    open.add_internal(&mut state, action.clone()).expect("it is applied");
                }
            } else {
                for (id, action) in (1_u128..).zip(accounts()) {
                    let decided = open.decide(&mut state, client_command(id, action));
                    assert!(decided.is_ok(), "accounts are opened");
                }
            }
            let (batch, _) = open.close(&mut state).expect("it is closed");
            let rejected =
                |entry: &journal::Entry| matches!(entry.event, engine::Event::Rejected(_));
            assert!(!batch.entries.iter().any(rejected), "the first rows refuse nothing");
            let row = seal(&batch, hash);
            hash = row.hash;
            assert_eq!(self.store.append(&row), Inserted::Yes, "the journal is empty");
        }
    }

    fn start(&mut self) {
        for index in 0..PROCESSORS {
            self.processors[index].up = true;
            self.processors[index].ahead = self.rng.between(0, 800 * MS);
            let after = self.rng.between(MS, 100 * MS);
            self.tell_processor(index, after, ProcessorEvent::Join);
        }
        for index in 0..SERVERS {
            self.start_server(index);
        }
        for index in 0..PROJECTORS {
            let after = self.rng.between(MS, 500 * MS);
            self.tell_projector(index, after, ProjectorEvent::Turn);
        }
        for index in 0..CLIENTS {
            let account = u64::try_from(index).expect("there are few clients") % ACCOUNTS;
            let account = AccountId::new(AccountId::FIRST_CUSTOMER.get() + account);
            let left = u32::try_from(self.rng.between(4, 14)).expect("it is small");
            self.clients.push(Client::new(account, left));
        }
        self.start_clients();
        self.schedule(5 * S, Event::Store(StoreEvent::Snapshot));
        self.draw_faults();
    }

    /// Lets it all happen, until everything has come to an end or a rule is broken.
    pub(crate) fn run(&mut self) {
        while self.failure.is_none() {
            let Some(((at, _), event)) = self.events.pop_first() else { break };
            self.now = at;
            self.happen(event);
            if self.quiet && self.has_settled() {
                return self.check();
            }
            if self.now > END_MAX {
                let waiting = self.records.iter().filter(|(_, record)| record.finished.is_none());
                let waiting: Vec<_> =
                    waiting.map(|(command, _)| crate::processor::id(*command)).collect();
                self.fail("everything comes to an end once nothing fails", || {
                    format!("not known to their clients: {waiting:?}")
                });
            }
        }
    }

    fn has_settled(&self) -> bool {
        self.clients_done() && self.broker.is_empty() && self.broker.active().is_some()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Processor(life, event) => {
                let processor = &self.processors[life.index];
                let until = processor.paused_until;
                if processor.life == life.life {
                    match self.now < until {
                        true => self.schedule_at(until, Event::Processor(life, event)),
                        false => self.processor_event(life.index, event),
                    }
                }
            }
            Event::Server(life, event) => {
                let server = &self.servers[life.index];
                let until = server.paused_until;
                if server.life == life.life {
                    match self.now < until {
                        true => self.schedule_at(until, Event::Server(life, event)),
                        false => self.server_event(life.index, event),
                    }
                }
            }
            Event::Projector(Life { index, life }, event) => {
                if self.projectors[index].life == life {
                    self.projector_event(index, event);
                }
            }
            Event::Client(index, event) => self.client_event(index, event),
            Event::Broker(event) => self.broker_event(event),
            Event::Store(event) => self.store_event(event),
            Event::Fault(fault) => {
                if !self.quiet {
                    self.fault(fault);
                }
            }
            Event::Quiet => self.quiet(),
        }
    }

    pub(crate) fn schedule(&mut self, after: u64, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    fn schedule_at(&mut self, at: u64, event: Event) {
        let number = self.next_number();
        self.events.insert((at, number), event);
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Draws the time that a message takes from one process to another.
    pub(crate) fn network(&mut self) -> u64 {
        match !self.quiet && self.rng.chance(20) {
            true => self.rng.between(5 * MS, 900 * MS),
            false => self.rng.between(150, 5 * MS),
        }
    }

    pub(crate) fn note(
        &mut self,
        who: Who,
        what: &'static str,
        number: u64,
        detail: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now, who, what, number, detail);
    }

    /// Notes that a rule is broken. The first one counts.
    pub(crate) fn fail(&mut self, rule: &'static str, found: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(Failure { rule, found: found() });
        }
    }
}

fn genesis(salt: u64, window: u64) -> Genesis {
    let asset = |symbol: &str| AssetConfig { symbol: symbol.into(), scale: 0, transfer_scale: 0 };
    let market = MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(1),
        quote: AssetId::new(0),
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(1),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(1_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: PriceTicks::new(100),
    };
    Genesis {
        settings: Settings { incarnation: salt | 1, salt, sandbox: true },
        limits: Limits { dedup_window_micros: window, ..Limits::default() },
        assets: vec![asset("USD"), asset("BTC")],
        markets: vec![market],
    }
}

/// Opens the accounts and gives them money.
fn accounts() -> Vec<Action> {
    let mut actions = Vec::new();
    for number in 0..ACCOUNTS {
        let account = AccountId::new(AccountId::FIRST_CUSTOMER.get() + number);
        actions.push(Action::OpenAccount { account });
        for (asset, amount) in [(0, 1_000_000), (1, 10_000)] {
            let reference = ReferenceHash::new(u128::from(number * 10 + u64::from(asset)));
            let (asset, amount) = (AssetId::new(asset), Amount::new(amount));
            actions.push(Action::Deposit { account, asset, amount, reference, sandbox: true });
        }
    }
    actions
}

fn client_command(id: u128, action: Action) -> Command {
    Command {
        id: CommandId::new(id),
        body_hash: 1,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Client,
        action,
    }
}
