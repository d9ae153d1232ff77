//! An exchange without a server, on a real PostgreSQL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Action, AssetConfig, Command, Event, Limits, MarketConfig, NewOrder, OrderType, Origin,
    SelfTradePrevention, Settings, Side, TimeInForce,
};
use follower::{FollowError, Follower, Live};
use journal::Message;
use processor::{Config, Decide, Genesis, Parts, ProcessorError, Status};
use queue::{CommandPublisher, InProcessFanOut, InProcessQueue, PublishOutcome};
use store::Db;
use store::cluster::Throwaway;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use units::{
    AccountId, Amount, AssetId, CommandId, MarketId, PriceTicks, QuantityLots, RatePpm,
    ReferenceHash, Sequence, Time,
};

/// How long anything that must happen may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const USD: AssetId = AssetId::new(0);
pub(crate) const BTC: AssetId = AssetId::new(1);
pub(crate) const MARKET: MarketId = MarketId::new(0);

pub(crate) fn genesis() -> Genesis {
    let asset = |symbol: &str| AssetConfig { symbol: symbol.into(), scale: 4, transfer_scale: 2 };
    let market = MarketConfig {
        symbol: "BTC/USD".into(),
        base: BTC,
        quote: USD,
        base_units_per_lot: 100,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(100),
        notional_min: Amount::new(1),
        quantity_max: QuantityLots::new(1_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: None,
    };
    Genesis {
        settings: Settings { incarnation: 77, salt: 5, sandbox: true },
        limits: Limits { orders_per_second_max: 0, open_orders_max: 100_000, ..Limits::default() },
        assets: vec![asset("USD"), asset("BTC")],
        markets: vec![market],
    }
}

/// The database, the queue, and what runs on them.
pub(crate) struct Stand {
    pub(crate) db: Db,
    pub(crate) queue: InProcessQueue,
    pub(crate) fan_out: InProcessFanOut,
    pub(crate) status: Arc<Status>,
    pub(crate) live: Arc<Live>,
    pub(crate) follower: JoinHandle<Result<(), FollowError>>,
    pub(crate) stop: CancellationToken,
    pub(crate) limits: Limits,
    pub(crate) decide: Decide,
    _cluster: Throwaway,
}

impl Stand {
    pub(crate) async fn new() -> Self {
        let cluster = Throwaway::start().await.expect("PostgreSQL is installed");
        let config = cluster.database().await.expect("a database can be made");
        let db = Db::connect(config).await.expect("it answers");
        store::migrate::run(&db).await.expect("the schema is good");
        let fan_out = InProcessFanOut::new(64);
        let follower =
            Follower::load(db.clone(), Box::new(fan_out.subscriber())).await.expect("it is empty");
        let live = follower.live();
        let stop = CancellationToken::new();
        let follower = tokio::spawn(follower.run(stop.clone()));
        let queue = InProcessQueue::new(100_000);
        let (status, limits) = (Arc::default(), genesis().limits);
        Self {
            db,
            queue,
            fan_out,
            status,
            live,
            follower,
            stop,
            limits,
            decide: engine::decide,
            _cluster: cluster,
        }
    }

    pub(crate) fn config(&self, production: bool) -> Config {
        let genesis = Genesis { limits: self.limits, ..genesis() };
        let decide = self.decide;
        Config { owner: "test".to_owned(), commands_max: 64, genesis, production, decide }
    }

    /// Starts a sequencer. Aborting the task is a crash: nothing of it runs any more.
    pub(crate) fn sequencer(&self, production: bool) -> JoinHandle<Result<(), ProcessorError>> {
        let config = self.config(production);
        let parts = Parts {
            recorder: Arc::default(),
            db: self.db.clone(),
            source: Arc::new(self.queue.clone()),
            fan_out: Arc::new(self.fan_out.clone()),
            live: None,
            status: Arc::clone(&self.status),
        };
        tokio::spawn(processor::run(parts, config, self.stop.clone()))
    }

    pub(crate) async fn started(&self) -> JoinHandle<Result<(), ProcessorError>> {
        let task = self.sequencer(false);
        assert!(self.live.wait_for(Sequence::new(1), LIMIT).await, "the journal is opened");
        task
    }

    pub(crate) fn message(&self, id: u128, action: Action) -> Message {
        Message { incarnation: 77, seen: Sequence::new(1), command: self.command(id, action) }
    }

    pub(crate) fn command(&self, id: u128, action: Action) -> Command {
        Command {
            id: CommandId::new(id),
            body_hash: 1,
            expires_at: self.live.journal_now().plus_micros(60_000_000),
            trace_id: 0,
            origin: Origin::Client,
            action,
        }
    }

    pub(crate) async fn publish(&self, message: &Message) {
        assert_eq!(self.queue.publish(message.encode().into(), 0).await, PublishOutcome::Confirmed);
    }

    /// Sends a command and waits for its outcome.
    pub(crate) async fn send(&self, id: u128, action: Action) -> Event {
        let mut waiter = self.live.expect(CommandId::new(id));
        self.publish(&self.message(id, action)).await;
        waiter.outcome(LIMIT).await.expect("an outcome comes").entry().event.clone()
    }

    /// Opens two accounts with money.
    pub(crate) async fn fund(&self) {
        for account in [1_000, 1_001] {
            let open = Action::OpenAccount { account: AccountId::new(account) };
            assert_eq!(self.send(u128::from(account) * 10, open).await, Event::Done);
            for asset in [USD, BTC] {
                let id = u128::from(account) * 10 + u128::from(asset.get()) + 1;
                assert_eq!(self.send(id, deposit(account, asset, id)).await, Event::Done);
            }
        }
    }

    /// Reads every command of the journal, in order.
    pub(crate) async fn journal(&self) -> Vec<(Sequence, Time, journal::Entry)> {
        let rows = store::journal::rows_after(&self.db, Sequence::new(0), 1_000_000)
            .await
            .expect("it can be read");
        let mut entries = Vec::new();
        for row in &rows {
            let batch = journal::read(row).expect("each row is good");
            entries.extend(batch.entries.into_iter().map(|entry| (row.sequence, row.time, entry)));
        }
        entries
    }
}

pub(crate) fn deposit(account: u64, asset: AssetId, reference: u128) -> Action {
    Action::Deposit {
        account: AccountId::new(account),
        asset,
        amount: Amount::new(1_000_000_000_000),
        reference: ReferenceHash::new(reference),
        sandbox: true,
    }
}

pub(crate) fn order(account: u64, side: Side, price: u64, quantity: u64) -> Action {
    Action::PlaceOrder(NewOrder {
        account: AccountId::new(account),
        market: MARKET,
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: PriceTicks::new(price),
        quantity: QuantityLots::new(quantity),
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    })
}

pub(crate) async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
