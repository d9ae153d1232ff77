//! Section `roles`: a server and a payment processor in processes of their own, with RabbitMQ between them; a backlog; a
//! standby's takeover.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use broker::{Broker, Options};
use engine::{
    Action, Command, Limits, NewOrder, OrderType, SelfTradePrevention, Side, TimeInForce,
};
use futures::StreamExt;
use journal::Message;
use queue::{Address, CommandPublisher as _, PublishOutcome, RabbitPublisher};
use store::Db;
use units::{CommandId, MarketId, PriceTicks, QuantityLots, Sequence};
use uuid::Uuid;

use super::exchange::Exchange;
use super::machine;
use super::orders::{Pairing, User};
use super::seed;
use super::sql;
use super::stand::{Ground, Loaded, Stand};
use super::table::{Row, Table, Target};
use super::whole::{self, Effort, Held};
use super::yardstick::Yardstick;

const SECTION: &str = "roles";
/// Commands of the backlog.
const BACKLOG: usize = 100_000;
/// Orders that rest when a standby takes over.
const RESTING: usize = 100_000;
/// Commands on their way to the broker at once.
const PUBLISHED_AT_ONCE: usize = 1_024;
/// How long a command of a backlog lives.
const TO_LIVE_MICROS: u64 = 600_000_000;
/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(2);

/// Measures it all, on one broker.
///
/// # Errors
///
/// RabbitMQ is not installed, or a part fails.
pub(crate) async fn run(table: &mut Table, stand: &Stand, quick: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = directory.path().to_owned();
    let options = Options { schedulers: 2, ..Options::default() };
    let broker = tokio::task::spawn_blocking(move || Broker::start(&path, options)).await??;
    let yardstick = Yardstick::new(&stand.config()).await?;
    load(table, stand, &broker, &yardstick, quick).await?;
    drain(&broker)?;
    backlog(table, stand, &broker, &yardstick, quick).await?;
    drain(&broker)?;
    takeover(table, stand, &broker, quick).await
}

/// Takes away what another journal's exchange has left.
fn drain(broker: &Broker) -> anyhow::Result<()> {
    for queue in [queue::ORDERS, queue::DEAD_LETTERS] {
        broker.ctl(&["delete_queue", queue])?;
    }
    Ok(())
}

async fn load(
    table: &mut Table,
    stand: &Stand,
    broker: &Broker,
    yardstick: &Yardstick,
    quick: bool,
) -> anyhow::Result<()> {
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let url = broker.url();
    let ground = Ground::lay(stand).await?;
    let processor_data = data.path().join("processor");
    let processor =
        Exchange::start_role("payment-processor", &processor_data, &ground.config, &url).await?;
    let server =
        Exchange::start_role("server", &data.path().join("server"), &ground.config, &url).await?;
    let others = vec![
        ("payment processor, beside the sequencer", processor.pid()),
        ("RabbitMQ", broker.pid().unwrap_or(0)),
    ];
    let Ground { db, users, .. } = ground;
    let loaded = Loaded { exchange: server, db, users, others };
    let effort = Effort::new(quick);
    let series = whole::series(stand, &loaded, yardstick, effort, 64, Pairing::Any).await?;
    let held = Held { section: SECTION, ratio: 1.2, aimed_at: "1.5 aimed at", p99_ms: Some(100.0) };
    let what = "server and payment processor over RabbitMQ";
    whole::report(table, &format!("{what}, 64 connections"), &series, &held);
    let wide = whole::series(stand, &loaded, yardstick, effort, 256, Pairing::Any).await?;
    let held = Held { p99_ms: None, ..held };
    whole::report(table, &format!("{what}, 256 connections"), &wide, &held);
    whole::shares(table, SECTION, &series);
    let window = processor.metric("kx_dedup_bytes").await?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let resident = |pid| machine::ratio(machine::resident_bytes(pid), 1);
    // The sequencer and the follower of the payment processor remember the window each, the server once.
    for (what, pid, windows) in
        [("server", loaded.exchange.pid(), 1.0), ("payment processor", processor.pid(), 2.0)]
    {
        let beside = mib(resident(pid) - windows * window);
        let what = format!("{what}: resident after the load, beside the dedup window");
        let row = Row::new(SECTION, what, beside, "MiB").reach(Target::AtMost(150.0));
        table.push(row.note(format!("{:.0} MiB in all", mib(resident(pid)))));
    }
    loaded.exchange.stop().await?;
    processor.stop().await?;
    verified(&loaded.db).await
}

/// What was measured must also be right.
async fn verified(db: &Db) -> anyhow::Result<()> {
    let verified = crate::verify::verify(db, true).await?;
    ensure!(verified.is_clean(), "the journal does not verify:\n{verified}");
    Ok(())
}

/// Commands wait at the broker while nobody decides; then a payment processor is started.
async fn backlog(
    table: &mut Table,
    stand: &Stand,
    broker: &Broker,
    yardstick: &Yardstick,
    quick: bool,
) -> anyhow::Result<()> {
    let ground = Ground::lay(stand).await?;
    let head = head(&ground.db).await?;
    let sender = Sender::connect(broker, &ground.db).await?;
    let orders = (0..BACKLOG).map(|number| crossing(&ground.users, number));
    sender.send(std::iter::once(unlimited()).chain(orders)).await?;
    let tps = yardstick.run(16, Effort::new(quick).time).await?.rate;
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let processor = {
        let (path, config, url) = (data.path().to_owned(), ground.config.clone(), broker.url());
        tokio::spawn(async move {
            Exchange::start_role("payment-processor", &path, &config, &url).await
        })
    };
    wait("the first row", async || Ok(self::head(&ground.db).await? > head)).await?;
    let begun = Instant::now();
    let all = u64::try_from(BACKLOG)?;
    wait("the backlog", async || Ok(sql::commands_after(&ground.db, head).await? > all)).await?;
    let rate = machine::ratio(all, 1) / begun.elapsed().as_secs_f64();
    let row = Row::new(SECTION, "a backlog of 100,000 commands is decided", rate, "commands/s");
    table.push(row);
    let row = Row::new(SECTION, "backlog: commands/s over the yardstick's tps", rate / tps, "×");
    table.push(row.reach(Target::AtLeast(3.0)));
    processor.await??.stop().await?;
    verified(&ground.db).await
}

/// A standby takes over with many orders resting.
async fn takeover(
    table: &mut Table,
    stand: &Stand,
    broker: &Broker,
    quick: bool,
) -> anyhow::Result<()> {
    let ground = Ground::lay(stand).await?;
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let head = head(&ground.db).await?;
    let start = async |number: usize| {
        let path = data.path().join(number.to_string());
        Exchange::start_role("payment-processor", &path, &ground.config, &broker.url()).await
    };
    let mut active = start(0).await?;
    let sender = Sender::connect(broker, &ground.db).await?;
    let orders = (0..RESTING).map(|number| resting(&ground.users, number));
    sender.send(std::iter::once(unlimited()).chain(orders)).await?;
    let all = u64::try_from(RESTING)?;
    wait("the orders", async || Ok(sql::commands_after(&ground.db, head).await? > all)).await?;
    let mut times = Vec::new();
    for number in 1..=if quick { 2 } else { 5 } {
        let standby = start(number).await?;
        active.kill().await?;
        let decides = async || Ok(standby.metric("kx_sequencer_active").await? > 0.0);
        wait("the takeover", decides).await?;
        times.push(standby.metric("kx_takeover_seconds").await?);
        active = standby;
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    let what = "a standby with 100,000 open orders decides after it is named, at most";
    let row = Row::new(SECTION, what, most, "s").reach(Target::AtMost(2.0));
    let note = format!("{} takeovers, median {:.3} s", times.len(), machine::median(&times));
    table.push(row.note(note));
    active.stop().await?;
    verified(&ground.db).await
}

async fn head(db: &Db) -> anyhow::Result<Sequence> {
    Ok(store::journal::head(db).await?.map_or(Sequence::new(0), |(head, ..)| head))
}

/// Looks until it is so.
async fn wait(
    what: &str,
    mut until: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !until().await? {
        ensure!(begun.elapsed() < LIMIT, "{what} did not come");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Gives commands to the broker as a server does.
struct Sender {
    publisher: RabbitPublisher,
    incarnation: u64,
    seen: Sequence,
}

impl Sender {
    async fn connect(broker: &Broker, db: &Db) -> anyhow::Result<Self> {
        let publisher = RabbitPublisher::start(Address::parse(&broker.url())?, "bench");
        wait("the broker", async || Ok(publisher.ready())).await?;
        let seen = head(db).await?;
        let row = store::journal::row(db, seen).await?.context("the journal is not empty")?;
        Ok(Self { publisher, incarnation: row.incarnation, seen })
    }

    async fn send(&self, actions: impl Iterator<Item = Action>) -> anyhow::Result<()> {
        let publish = async |action: Action| {
            let command = Command {
                id: CommandId::new(Uuid::now_v7().as_u128()),
                expires_at: seed::now().plus_micros(TO_LIVE_MICROS),
                ..seed::command(action)
            };
            let message = Message { incarnation: self.incarnation, seen: self.seen, command };
            self.publisher.publish(message.encode().into(), 0).await
        };
        let mut published = futures::stream::iter(actions.map(publish)).buffered(PUBLISHED_AT_ONCE);
        while let Some(outcome) = published.next().await {
            ensure!(outcome == PublishOutcome::Confirmed, "a command was not taken: {outcome:?}");
        }
        Ok(())
    }
}

/// Lets every user send as many orders as there are.
fn unlimited() -> Action {
    Action::SetLimits(Limits { orders_per_second_max: 0, ..Limits::default() })
}

/// An order that crosses the one before or after it.
fn crossing(users: &[User], number: usize) -> Action {
    let side = if number.is_multiple_of(2) { Side::Buy } else { Side::Sell };
    order(users, number, side, 5_000_000)
}

/// An order that rests: buyers below, sellers above.
fn resting(users: &[User], number: usize) -> Action {
    let step = u64::try_from(number % 1_000).unwrap_or(0);
    match number % 2 {
        0 => order(users, number, Side::Buy, 4_999_000 - step),
        _ => order(users, number, Side::Sell, 5_001_000 + step),
    }
}

fn order(users: &[User], number: usize, side: Side, ticks: u64) -> Action {
    let user = &users[number % users.len()];
    let market = u16::try_from(number / 2 % 4).unwrap_or(0);
    Action::PlaceOrder(NewOrder {
        account: user.account,
        market: MarketId::new(market),
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: PriceTicks::new(ticks),
        quantity: QuantityLots::new(10),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    })
}
