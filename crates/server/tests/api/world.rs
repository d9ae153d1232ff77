//! One exchange with its cluster, for every case.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::{AssetConfig, Limits, MarketConfig, Settings};
use follower::{Follower, Live};
use processor::{Genesis, Status};
use queue::{CommandPublisher, InProcessFanOut, InProcessQueue};
use serde_json::{Value, json};
use server::mail::{Inbox, Mail};
use server::{App, JwtSecret, Parts, PasswordCost, RateLimits, ServerConfig, SystemClock};
use store::cluster::{Cluster, Options};
use store::{Db, DbConfig};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use trace::Recorder;
use units::{AccountId, Amount, AssetId, Balance, PriceTicks, QuantityLots, RatePpm, Sequence};

use crate::http::{self, Reply};

pub const PASSWORD: &str = "correct horse battery";
/// Longer than anything that is waited for takes on a machine that is busy with other things.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The exchange.
pub struct World {
    pub address: SocketAddr,
    pub live: Arc<Live>,
    pub inbox: Inbox,
    pub db: Db,
    pub runtime: Runtime,
    pub queue: InProcessQueue,
    pub stop: CancellationToken,
    recorder: Arc<Recorder>,
    users: AtomicU64,
    directory: PathBuf,
    cluster: Option<Cluster>,
}

/// A user who is logged in.
#[derive(Clone)]
pub struct User {
    pub address: SocketAddr,
    pub email: String,
    pub token: String,
    pub refresh: String,
    pub wallet: String,
    pub account: AccountId,
}

pub const USD: AssetId = AssetId::new(0);
pub const BTC: AssetId = AssetId::new(1);

fn genesis() -> Genesis {
    let asset = |symbol: &str, transfer_scale| AssetConfig {
        symbol: symbol.into(),
        scale: 10,
        transfer_scale,
    };
    let market = |symbol: &str, base, initial: u64| MarketConfig {
        symbol: symbol.into(),
        base,
        quote: USD,
        base_units_per_lot: 100,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(100_000_000),
        notional_min: Amount::new(10_000_000_000),
        quantity_max: QuantityLots::new(1_000_000_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: Some(RatePpm::new(100_000)),
        halt_move: None,
        initial_price: PriceTicks::new(initial),
    };
    Genesis {
        settings: Settings { incarnation: 0x6b78, salt: 7, sandbox: true },
        limits: Limits::default(),
        assets: vec![asset("USD", 2), asset("BTC", 8), asset("ETH", 8)],
        markets: vec![
            market("BTC/USD", BTC, 5_000_000),
            market("ETH/USD", AssetId::new(2), 300_000),
        ],
    }
}

/// Returns the configuration of a server that limits nobody.
pub fn config() -> ServerConfig {
    let secret = JwtSecret::new("0123456789abcdef-of-the-tests-0123456789").expect("it is long");
    let mut config = ServerConfig::new(secret);
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.password_cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 4 };
    config.rate_limits = RateLimits::NONE;
    config
}

impl World {
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let directory = std::env::temp_dir().join(format!("kx-api-{}", std::process::id()));
        let stop = CancellationToken::new();
        let recorder = Arc::new(Recorder::default());
        let exchange = exchange(&directory, &recorder, &stop);
        let (cluster, db, live, queue) = runtime.block_on(exchange);
        let inbox = Inbox::default();
        let mut world = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            live,
            inbox,
            db,
            runtime,
            queue,
            recorder,
            users: AtomicU64::new(0),
            directory,
            cluster: Some(cluster),
            stop,
        };
        world.address = world.serve(config());
        world
    }

    /// Serves another server on the same exchange; it ends with the world.
    pub fn serve(&self, config: ServerConfig) -> SocketAddr {
        self.serve_until(config, self.stop.clone()).0
    }

    /// Serves another server on the same exchange until it is told to stop.
    pub fn serve_until(
        &self,
        config: ServerConfig,
        stop: CancellationToken,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        self.serve_with(config, Arc::new(self.queue.clone()), stop)
    }

    /// Serves another server whose commands go another way.
    pub fn serve_with(
        &self,
        config: ServerConfig,
        publisher: Arc<dyn CommandPublisher>,
        stop: CancellationToken,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        self.serve_live(config, publisher, stop, Arc::clone(&self.live))
    }

    /// Serves another server that follows no journal.
    pub fn serve_lost(&self, config: ServerConfig) -> SocketAddr {
        let live = Live::new(engine::State::new(), units::Hash32::default());
        self.serve_live(config, Arc::new(self.queue.clone()), self.stop.clone(), live).0
    }

    fn serve_live(
        &self,
        config: ServerConfig,
        publisher: Arc<dyn CommandPublisher>,
        stop: CancellationToken,
        live: Arc<Live>,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        self.serve_parts(Parts { live, publisher, ..self.parts(config) }, stop)
    }

    /// Returns what a server on this exchange is made of.
    pub fn parts(&self, config: ServerConfig) -> Parts {
        Parts {
            recorder: Arc::clone(&self.recorder),
            config,
            db: self.db.clone(),
            live: Arc::clone(&self.live),
            publisher: Arc::new(self.queue.clone()),
            mailer: Arc::new(self.inbox.clone()),
            clock: Arc::new(SystemClock),
        }
    }

    /// Serves a server that is made of these parts.
    pub fn serve_parts(
        &self,
        parts: Parts,
        stop: CancellationToken,
    ) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        self.runtime.block_on(async {
            let listener = server::bind(parts.config.listen).await.expect("a port is free");
            let address = listener.local_addr().expect("it is bound");
            let app = App::new(parts);
            let serving = server::serve_on(listener, app, stop.cancelled_owned());
            (address, tokio::spawn(serving))
        })
    }

    /// Serves the development inbox.
    pub fn serve_inbox(&self) -> SocketAddr {
        self.runtime.block_on(async {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = server::bind(any).await.expect("a port is free");
            let address = listener.local_addr().expect("it is bound");
            let (router, stop) = (server::inbox::router(self.inbox.clone()), self.stop.clone());
            tokio::spawn(async move {
                server::serve_router(listener, router, &config(), stop.cancelled()).await;
            });
            address
        })
    }

    /// Checks every invariant of the followed state.
    pub fn check(&self) {
        self.live.read(engine::State::check).expect("the invariants hold");
    }

    /// Returns everything that a bad request must not change: balances, open orders, withdrawals.
    pub fn digest(&self) -> BTreeMap<String, String> {
        self.live.read(|state| {
            let mut all = BTreeMap::new();
            for account in state.accounts() {
                for (asset, balance) in state.balances(account.id) {
                    all.insert(format!("balance {} {asset}", account.id), format!("{balance:?}"));
                }
                for order in state.open_orders(account.id) {
                    let text = format!("{:?} {:?} {:?}", order.price, order.quantity, order.filled);
                    all.insert(format!("order {}", order.id), text);
                }
            }
            for withdrawal in state.withdrawals() {
                all.insert(format!("withdrawal {}", withdrawal.id), format!("{withdrawal:?}"));
            }
            all
        })
    }

    pub fn balance(&self, user: &User, asset: AssetId) -> Balance {
        self.live.read(|state| state.balance(user.account, asset))
    }

    /// Returns an address that nobody has registered.
    pub fn fresh_email(&self) -> String {
        format!("user-{}@example.com", self.users.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits for the last code that was mailed to an address.
    pub fn code(&self, email: &str) -> String {
        let digits = |part: &&str| part.len() == 6 && part.bytes().all(|b| b.is_ascii_digit());
        let mail = self.mail(email, |mail| mail.text.split_whitespace().any(|word| digits(&word)));
        mail.text.split_whitespace().find(digits).expect("the mail has a code").to_owned()
    }

    /// Waits for a mail to an address; the newest that is wanted.
    pub fn mail(&self, email: &str, wanted: impl Fn(&Mail) -> bool) -> Mail {
        self.wait("a mail comes", || {
            let mut mails = self.inbox.mails().into_iter().map(|received| received.mail);
            mails.find(|mail| mail.to == email && wanted(mail))
        })
    }

    /// Waits until something is there, looking often; a test waits for a state, never for a time.
    pub fn wait<T>(&self, what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Some(found) = ready() {
                return found;
            }
            assert!(Instant::now() < until, "{what}: not within {WAIT_MAX:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes another database with our schema, for what must not meet the others' rows.
    pub fn database(&self, name: &str) -> Db {
        let config = DbConfig { database: name.to_owned(), ..self.db.config().clone() };
        self.runtime.block_on(async {
            let client = self.db.get().await.expect("the database answers");
            let text = format!("CREATE DATABASE {name}");
            client.batch_execute(&text).await.expect("it is made");
            let db = Db::connect(config).await.expect("it answers");
            store::migrate::run(&db).await.expect("the schema is made");
            db
        })
    }

    /// Waits for something of the store.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Reads one value of the database.
    pub fn sql<T>(&self, text: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.runtime.block_on(async {
            let client = self.db.get().await.expect("the database answers");
            client.query_one(text, parameters).await.expect("it is one row").get(0)
        })
    }

    /// Registers, verifies and logs in a user.
    pub fn user(&self) -> User {
        let email = self.fresh_email();
        self.register(&email);
        let body = json!({ "email": email, "code": self.code(&email) });
        let verified = self.post("/api/v1/auth/verify", &body).expect(200);
        assert_eq!(verified["accountOpen"], true, "{verified}");
        let wallet = verified["address"].as_str().expect("an address").to_owned();
        self.login(&email, &wallet)
    }

    pub fn register(&self, email: &str) -> Value {
        let body = json!({ "email": email, "password": PASSWORD });
        self.post("/api/v1/auth/register", &body).expect(201)
    }

    pub fn login(&self, email: &str, wallet: &str) -> User {
        let body = json!({ "email": email, "password": PASSWORD, "refreshIn": "body" });
        let session = self.post("/api/v1/auth/login", &body).expect(200);
        let text = |key: &str| session[key].as_str().expect("a login gives tokens").to_owned();
        User {
            address: self.address,
            email: email.to_owned(),
            token: text("accessToken"),
            refresh: text("refreshToken"),
            wallet: wallet.to_owned(),
            account: wire::address::parse(wallet).expect("it is an address"),
        }
    }

    /// Makes a user with money.
    pub fn funded(&self, usd: &str, btc: &str) -> User {
        let user = self.user();
        for (asset, amount) in [("USD", usd), ("BTC", btc)] {
            if amount != "0" {
                let body = json!({ "asset": asset, "amount": amount });
                user.post("/api/v1/wallet/deposit", &body).expect(201);
            }
        }
        user
    }

    pub fn get(&self, path: &str) -> Reply {
        http::send(self.address, "GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let bytes = body.to_string().into_bytes();
        let headers = [("content-type", "application/json")];
        http::send(self.address, "POST", path, &headers, Some(&bytes))
    }

    /// Stops everything and takes the cluster away.
    pub fn stop(mut self) {
        self.stop.cancel();
        let cluster = self.cluster.take().expect("it is stopped once");
        self.runtime.block_on(async { cluster.stop().await.expect("the cluster stops") });
        self.runtime.shutdown_timeout(Duration::from_secs(2));
        // What is left of a temporary directory hurts nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl User {
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        if body.is_some() {
            all.push(("content-type", "application/json"));
        }
        let bytes = body.map(|body| body.to_string().into_bytes());
        http::send(self.address, method, path, &all, bytes.as_deref())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], Some(body))
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], None)
    }

    /// Places an order.
    pub fn order(&self, body: &Value) -> Reply {
        self.post("/api/v1/orders", body)
    }

    /// Places a limit order that must be accepted.
    pub fn limit(&self, side: &str, price: &str, quantity: &str) -> Value {
        self.order(&limit(side, price, quantity)).expect(201)
    }
}

/// A limit order for BTC/USD.
pub fn limit(side: &str, price: &str, quantity: &str) -> Value {
    json!({ "market": "BTC/USD", "side": side, "orderType": "limit", "price": price, "quantity": quantity })
}

/// Starts the cluster, the sequencer, the follower and the projections.
async fn exchange(
    directory: &std::path::Path,
    recorder: &Arc<Recorder>,
    stop: &CancellationToken,
) -> (Cluster, Db, Arc<Live>, InProcessQueue) {
    // Every server that a case starts listens on a connection of its own.
    let options = Options { durable: false, connections_max: 400, ..Options::default() };
    let cluster = Cluster::start(directory, options).await.expect("the cluster starts");
    let db = Db::connect(cluster.config()).await.expect("the cluster answers");
    store::migrate::run(&db).await.expect("the schema is made");
    let queue = InProcessQueue::new(65_536);
    let fan_out = InProcessFanOut::new(256);
    let subscriber = Box::new(fan_out.subscriber());
    sequencer(cluster.config(), &queue, fan_out, Arc::clone(recorder), stop.clone());
    let traces = tracer::Settings {
        process: tracer::Process {
            source: "the tests".to_owned(),
            instance: "the tests".to_owned(),
            service: "kx-server".to_owned(),
            build: "test".to_owned(),
            started: std::time::SystemTime::now(),
        },
        keep: Duration::from_secs(86_400),
        bytes_max: 1 << 30,
        store: true,
    };
    let own = Db::lazy(cluster.config());
    tokio::spawn(tracer::write(Arc::clone(recorder), own, traces, None, stop.clone()));
    let follower = Follower::load(db.clone(), subscriber).await.expect("it loads");
    let live = follower.live();
    tokio::spawn(follower::share_projections(
        db.clone(),
        Arc::clone(&live),
        follower.feeds(),
        follower::Hold::All,
        Arc::clone(recorder),
        stop.clone(),
    ));
    tokio::spawn(follower.run(stop.clone()));
    let opened = live.wait_for(Sequence::new(1), Duration::from_secs(20)).await;
    assert!(opened, "the journal is opened");
    while !live.has_caught_up() {
        tokio::task::yield_now().await;
    }
    (cluster, db, live, queue)
}

fn sequencer(
    db: DbConfig,
    queue: &InProcessQueue,
    fan_out: InProcessFanOut,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
) {
    let config = processor::Config {
        owner: "the tests".to_owned(),
        commands_max: 256,
        genesis: genesis(),
        production: false,
        decide: engine::decide,
    };
    let parts = processor::Parts {
        recorder,
        db: Db::lazy(db),
        source: Arc::new(queue.clone()),
        fan_out: Arc::new(fan_out),
        live: None,
        status: Arc::new(Status::default()),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime
            .block_on(processor::run(parts, config, stop))
            .expect("the sequencer ends when it is told to");
    });
}
