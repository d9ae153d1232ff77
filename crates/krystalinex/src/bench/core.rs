//! Section `engine`: the core alone, on one thread, pinned: commands a second, latency, memory.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use book::Book;
use engine::{Effects, Limits, Side, State, TimeInForce};
use units::{PriceTicks, QuantityLots};

use super::flow::{self, BookOp, Flow, Ids};
use super::machine;
use super::table::{Row, Table, Target};

const SECTION: &str = "engine";
/// The seed of the flow.
const SEED: u64 = 20_160_312;
/// Orders that rest when their memory is measured.
const RESTING_ORDERS: usize = 1_000_000;
/// Whose they are.
const RESTING_ACCOUNTS: u64 = 1_000;

/// Measures the section on a thread of its own, so that pinning it pins nothing else.
///
/// # Errors
///
/// The core refuses the flow.
pub(crate) fn run(table: &mut Table, quick: bool) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| measure(table, quick))
            .join()
            .map_err(|_| anyhow::anyhow!("the core panicked"))?
    })
}

fn measure(table: &mut Table, quick: bool) -> anyhow::Result<()> {
    let pinned = pin();
    let note = if pinned { "pinned" } else { "not pinned" };
    memory(table, quick)?;
    let commands = if quick { 400_000 } else { 2_000_000 };
    let runs = if quick { 2 } else { 5 };
    let flow = Flow::new(commands, SEED, Ids::New)?;
    let note = format!("{note}, best of {runs}, {commands} commands");
    let mut best = Best::default();
    for _ in 0..runs {
        best.take(&flow)?;
    }
    let count = u64::try_from(commands)?;
    let rate = |time: Duration| machine::ratio(count, 1) / time.as_secs_f64();
    let row = |what: &str, took: Took| {
        let millions = rate(took.processor) / 1e6;
        let note = format!("{note}; {millions:.2} million/s by processor time");
        Row::new(SECTION, what, rate(took.wall), "commands/s").note(note)
    };
    table.push(row("decide and evolve", best.engine).reach(Target::AtLeast(5e6)));
    table.push(row("the book alone", best.book).reach(Target::AtLeast(10e6)));
    table.push(row("decide and evolve, effects collected", best.effects));
    latency(table, &flow);
    drop(flow);
    table.push(row("decide and evolve, every id derived from a key", keyed(commands, runs)?));
    Ok(())
}

/// Decides and evolves the same flow with ids that say nothing of a time.
fn keyed(commands: usize, runs: usize) -> anyhow::Result<Took> {
    let flow = Flow::new(commands, SEED, Ids::FromKeys)?;
    let mut best = Took::NEVER;
    for _ in 0..runs {
        let mut state = opened(&flow);
        best.again(|| flow::run(&mut state, &flow.commands, &mut ()));
    }
    Ok(best)
}

/// Keeps this thread on one core.
fn pin() -> bool {
    let mut set = rustix::thread::CpuSet::new();
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    set.set(last);
    rustix::thread::sched_setaffinity(None, &set).is_ok()
}

/// How long something took, at best: by the clock, and by the processor time of the thread, which others on the machine
/// do not lengthen.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: Duration,
    processor: Duration,
}

impl Took {
    const NEVER: Self = Self { wall: Duration::MAX, processor: Duration::MAX };

    /// Runs it once more and keeps the better times.
    fn again(&mut self, run: impl FnOnce()) {
        let (started, used) = (Instant::now(), machine::thread_time());
        run();
        self.wall = self.wall.min(started.elapsed());
        self.processor = self.processor.min(machine::thread_time().saturating_sub(used));
    }
}

struct Best {
    engine: Took,
    book: Took,
    effects: Took,
}

impl Default for Best {
    fn default() -> Self {
        Self { engine: Took::NEVER, book: Took::NEVER, effects: Took::NEVER }
    }
}

impl Best {
    fn take(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let mut state = opened(flow);
        self.engine.again(|| flow::run(&mut state, &flow.commands, &mut ()));

        let mut bare = BareBook::new(flow.book.0.len() + flow.book.1.len());
        bare.run(&flow.book.0);
        self.book.again(|| bare.run(&flow.book.1));
        bare.agrees(&state)?;
        state.check().map_err(anyhow::Error::msg).context("an invariant of the core is broken")?;

        let mut state = opened(flow);
        let mut effects = Effects::default();
        self.effects.again(|| {
            for batch in flow.commands.chunks(flow::BATCH_COMMANDS) {
                flow::run(&mut state, batch, &mut effects);
                effects = Effects::default();
            }
        });
        Ok(())
    }
}

fn opened(flow: &Flow) -> State {
    let mut state = State::new();
    flow::run(&mut state, &flow.opening, &mut ());
    state
}

/// Measures each command by itself; reading the clock is in it, and told.
fn latency(table: &mut Table, flow: &Flow) {
    let mut state = opened(flow);
    let mut nanos = Vec::with_capacity(flow.commands.len());
    for batch in flow.commands.chunks(flow::BATCH_COMMANDS) {
        flow::open_batch(&mut state);
        state.warm(batch.iter());
        for command in batch {
            let started = Instant::now();
            std::hint::black_box(engine::run(&mut state, command, &mut ()));
            nanos.push(started.elapsed().as_secs_f64() * 1e6);
        }
    }
    let started = Instant::now();
    let reads = 100_000_u32;
    for _ in 0..reads {
        std::hint::black_box(Instant::now());
    }
    let clock = started.elapsed().as_secs_f64() * 1e6 / f64::from(reads);
    let note = format!("reading the clock, {clock:.3} µs, is in it");
    for (name, share, target) in [
        ("one command, p50", 0.5, None),
        ("one command, p99", 0.99, Some(2.0)),
        ("one command, p99.9", 0.999, Some(5.0)),
    ] {
        let row = Row::new(SECTION, name, machine::quantile(&nanos, share), "µs").note(&*note);
        table.push(match target {
            Some(most) => row.reach(Target::AtMost(most)),
            None => row,
        });
    }
}

/// Fills a book with orders that rest and divides the memory that the process has taken.
fn memory(table: &mut Table, quick: bool) -> anyhow::Result<()> {
    let orders = if quick { RESTING_ORDERS / 4 } else { RESTING_ORDERS };
    let pid = std::process::id();
    let mut commands = resting_commands(orders, RESTING_ACCOUNTS);
    let mut state = State::new();
    // The opening's commands first: what they take is no part of the orders.
    let opening = flow::opening(RESTING_ACCOUNTS, Limits::default()).len();
    run_streamed(&mut state, &mut commands.by_ref().take(opening));
    let without = settled_bytes(pid);
    run_streamed(&mut state, &mut commands);
    let with = settled_bytes(pid);
    let counted = state.markets().next().map_or(0, |market| market.orders);
    ensure!(counted == orders, "all {orders} orders rest, not {counted}");
    let (known, window_bytes) = state.dedup_window();
    let bytes = with.saturating_sub(without).saturating_sub(u64::try_from(window_bytes)?);
    let each = machine::ratio(bytes, u64::try_from(orders)?);
    let note =
        format!("{orders} orders; a window of {known} commands ({window_bytes} bytes) apart");
    let row = Row::new(SECTION, "memory of a resting order", each, "bytes");
    table.push(row.reach(Target::AtMost(200.0)).note(note));
    Ok(())
}

/// Returns the resident memory once the allocator has given back what is free: little by little over ten seconds, which is its
/// default, looking every thousand times that it is used for blocks beyond what a thread keeps for itself.
fn settled_bytes(pid: u32) -> u64 {
    const BLOCK_BYTES: usize = 64 << 10;
    let mut least = u64::MAX;
    for _ in 0..110 {
        for _ in 0..2_000 {
            drop(std::hint::black_box(vec![1_u8; BLOCK_BYTES]));
        }
        std::thread::sleep(Duration::from_millis(100));
        least = least.min(machine::resident_bytes(pid));
    }
    least
}

/// Decides and applies commands in batches as they are made, keeping none.
pub(crate) fn run_streamed(state: &mut State, commands: &mut dyn Iterator<Item = engine::Command>) {
    loop {
        let batch: Vec<_> = (&mut *commands).take(flow::BATCH_COMMANDS).collect();
        if batch.is_empty() {
            return;
        }
        flow::run(state, &batch, &mut ());
    }
}

/// Returns the commands that make a state in which `orders` orders of `accounts` accounts rest, at 10,000 prices a
/// side.
pub(crate) fn resting_commands(
    orders: usize,
    accounts: u64,
) -> impl Iterator<Item = engine::Command> {
    let limits = Limits {
        open_orders_max: u32::MAX,
        orders_per_second_max: 0,
        dedup_window_micros: 1_000_000,
        ..Limits::default()
    };
    let mut random = flow::Random::new(SEED);
    let orders = (0..orders).map(move |_| {
        let behind = 1 + random.below(10_000);
        let (side, price) = match random.below(2) {
            0 => (Side::Buy, 5_000_000 - behind),
            _ => (Side::Sell, 5_000_000 + behind),
        };
        let account = random.below(accounts);
        let price = PriceTicks::new(price).unwrap_or(PriceTicks::MIN);
        let quantity = QuantityLots::new(1 + random.below(100));
        flow::limit_order(account, side, price, quantity, TimeInForce::Gtc)
    });
    let actions = flow::opening(accounts, limits).into_iter().chain(orders);
    (1_u128..).zip(actions).map(|(number, action)| flow::command(Ids::New.id(number), action))
}

/// The book without everything that makes it an exchange.
struct BareBook {
    book: Book,
    /// The book's key of each order, by its number.
    keys: Vec<u32>,
    free: Vec<u32>,
    next: u32,
}

impl BareBook {
    fn new(orders: usize) -> Self {
        Self { book: Book::new(), keys: vec![0; orders], free: Vec::new(), next: 0 }
    }

    fn run(&mut self, ops: &[BookOp]) {
        for op in ops {
            match *op {
                BookOp::Cancel { number } => {
                    let key = self.keys[to_usize(number)];
                    std::hint::black_box(self.book.remove(key));
                    self.free.push(key);
                }
                BookOp::Place { number, side, price, quantity } => {
                    self.place(number, side, price, quantity);
                }
            }
        }
    }

    fn place(&mut self, number: u32, side: Side, limit: PriceTicks, quantity: QuantityLots) {
        let makers = side.opposite();
        let mut left = quantity.get();
        while left > 0 {
            let Some(price) = self.book.best(makers).filter(|&price| side.accepts(limit, price))
            else {
                break;
            };
            let Some(maker) = self.book.head(makers) else { break };
            std::hint::black_box(price);
            let traded = left.min(maker.visible.get());
            left -= traded;
            if traded == maker.visible.get() {
                self.book.remove(maker.key);
                self.free.push(maker.key);
            } else {
                self.book.reduce(maker.key, QuantityLots::new(traded));
            }
        }
        if left > 0 && number != u32::MAX {
            let key = self.free.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            self.keys[to_usize(number)] = key;
            std::hint::black_box(self.book.insert(key, side, limit, QuantityLots::new(left), 0));
        }
    }

    /// Checks that the bare book has come to the book of the whole core.
    fn agrees(&self, state: &State) -> anyhow::Result<()> {
        for side in [Side::Buy, Side::Sell] {
            let bare = self.book.levels(side).map(|level| (level.price, level.quantity));
            let whole = state
                .depth(units::MarketId::new(0), side)
                .map(|level| (level.price, level.quantity));
            ensure!(bare.eq(whole), "the bare book and the core's book are the same");
        }
        Ok(())
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("this runs on machines of 32 bits or more")
}
