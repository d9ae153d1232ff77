//! `krystalinex up`: the whole exchange in one process, beside its PostgreSQL.

mod beside;

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use processor::Status;
use server::mail::Inbox;
use server::{App, JwtSecret, Mode, Parts, ServerConfig, SystemClock};
use store::cluster::{Cluster, ClusterError, Options, make_wal_ahead};
use store::{Db, DbConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trace::Recorder;

use crate::config::{Config, Database, Role, Sources};
use crate::database::open_waiting;
use crate::demo::{self, Sender};
use crate::exchange::{Exchange, Settings};
use crate::markets::{self, Markets};
use crate::traces::Writer;
use crate::transport::Transport;
use crate::{banner, control, process, traces, waiting};
use beside::Beside;

/// How long the servers may take to end their connections at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long after the start room for the write-ahead log is made: whoever starts it may have plans for the first seconds.
const WAL_AFTER: Duration = Duration::from_secs(5);
/// How much of it: one file in this time.
const WAL_PACE: Duration = Duration::from_millis(200);

/// Runs the whole exchange in this process, with a PostgreSQL of its own unless DB_HOST is set.
///
/// Ctrl-C stops everything cleanly, a second one at once. What was answered is never lost.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// Makes two users with play money and a market maker that quotes around a simulated price. The default where the
    /// data directory is new and NODE_ENV is not production; remembered from then on.
    #[arg(long, overrides_with = "no_demo")]
    demo: bool,
    /// Makes no demo, and stops one that was made.
    #[arg(long, overrides_with = "demo")]
    no_demo: bool,
    /// Runs the real RabbitMQ, Prometheus, Alertmanager and exporters beside the exchange, which then uses that RabbitMQ.
    #[arg(long)]
    full: bool,
    /// The file of assets, markets and limits that a new journal is born with.
    #[arg(long, value_name = "FILE", env = "KX_MARKETS")]
    markets: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// The configuration is wrong, a port is in use, or a part cannot be started or has failed.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut config = args.sources.load(Role::Up)?;
    config.markets = args.markets.or(config.markets);
    let markets = markets::load(config.markets.as_deref())?;
    process::start_telemetry(
        &config,
        "kx-server",
        &["server", "payment-processor", "projector"],
        true,
    );
    let _lock = process::lock_data_dir(&config.data_dir)?;
    let wants_demo = wants_demo(&config, args.demo, args.no_demo)?;
    let jwt_secret = match &config.jwt_secret {
        Some(secret) => secret.clone(),
        None => process::own_jwt_secret(&config.data_dir)?,
    };
    let listeners = Listeners::bind(&config).await?;
    let shutdown = CancellationToken::new();
    process::catch_signals(shutdown.clone())?;
    tokio::spawn(process::measure_process());
    let beside = match args.full {
        true => Some(Beside::begin(&config).await?),
        false => None,
    };
    let mut up = Up::new(config, markets, jwt_secret, wants_demo, listeners, shutdown.clone());
    up.beside = beside;
    let ended = up.serve().await;
    let stopped = up.stop().await;
    ended.and(stopped).map(|()| ExitCode::SUCCESS)
}

/// Decides about the demo and remembers it: a file in the data directory says that there is one.
fn wants_demo(config: &Config, demo: bool, no_demo: bool) -> anyhow::Result<bool> {
    anyhow::ensure!(
        !(demo && config.mode == Mode::Production),
        "--demo needs play money, which NODE_ENV=production refuses"
    );
    let mark = config.data_dir.join("demo");
    let is_new = !config.data_dir.join("started").exists();
    let wanted = !no_demo && (demo || mark.exists() || is_new) && config.mode != Mode::Production;
    match wanted {
        true => std::fs::write(
            &mark,
            "The demo's users and market maker are on; --no-demo turns them off.\n",
        )?,
        false if mark.exists() => std::fs::remove_file(&mark)?,
        false => {}
    }
    std::fs::write(config.data_dir.join("started"), "")?;
    Ok(wanted)
}

/// The ports, taken before anything else is started.
struct Listeners {
    server: StdListener,
    processor: TcpListener,
    inbox: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let server = server::bind(config.server_address()).await?.into_std()?;
        let processor = server::bind(config.processor_address()).await?;
        let (port, asked_for) = config.inbox_port;
        if config.smtp_url.is_some() {
            return Ok(Self { server, processor, inbox: None });
        }
        if config.mode == Mode::Production {
            tracing::warn!("SMTP_URL is not set: mail stays in the development inbox");
        }
        // The inbox has other people's verification codes: it is for this machine alone.
        let inbox = match server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(listener) => Some(listener),
            Err(error) if asked_for => return Err(error.into()),
            Err(error) => {
                tracing::warn!(reason = %error, "there is no development inbox: its port cannot be used");
                None
            }
        };
        Ok(Self { server, processor, inbox })
    }
}

/// Everything that runs, as far as it has come.
struct Up {
    config: Config,
    markets: Markets,
    server_config: ServerConfig,
    wants_demo: bool,
    server_listener: StdListener,
    processor_listener: Option<TcpListener>,
    inbox_listener: Option<TcpListener>,
    has_inbox: bool,
    shutdown: CancellationToken,
    /// Ends what serves HTTP.
    servers_stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    demo: Option<JoinHandle<()>>,
    beside: Option<Beside>,
    exchange: Option<Exchange>,
    cluster: Option<Cluster>,
    cluster_starting: Option<JoinHandle<Result<Cluster, ClusterError>>>,
    status: Arc<Status>,
    recorder: Arc<Recorder>,
    traces: Option<Writer>,
}

impl Up {
    fn new(
        config: Config,
        markets: Markets,
        jwt_secret: JwtSecret,
        wants_demo: bool,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> Self {
        let mut server_config = config.for_server(jwt_secret);
        crate::process::fit_connections(&mut server_config);
        server_config.simulated_prices = wants_demo;
        Self {
            recorder: traces::recorder(&config),
            traces: None,
            config,
            markets,
            server_config,
            wants_demo,
            server_listener: listeners.server,
            processor_listener: Some(listeners.processor),
            has_inbox: listeners.inbox.is_some(),
            inbox_listener: listeners.inbox,
            shutdown,
            servers_stop: CancellationToken::new(),
            servers: Vec::new(),
            demo: None,
            beside: None,
            exchange: None,
            cluster: None,
            cluster_starting: None,
            status: Arc::new(Status::default()),
        }
    }

    /// Starts everything and serves until it is told to stop or a part fails.
    async fn serve(&mut self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            started = self.start() => started?,
        }
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        let keep = async {
            match &mut self.beside {
                Some(beside) => beside.keep().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = exchange.failed() => Err(failed),
            () = keep => Ok(()),
        }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let until_ready = self.serve_waiting()?;
        self.serve_processor();
        self.serve_relay();
        let Some(db) = self.open_database().await? else {
            return Ok(());
        };
        tokio::spawn(process::measure_pool(db.clone()));
        let Some(transport) = self.transport().await? else {
            return Ok(());
        };
        let settings = Settings::new(&self.config, &self.markets, &self.recorder);
        let (config, recorder) = (&self.config, Arc::clone(&self.recorder));
        self.traces = Some(Writer::start(config, &db, recorder, ("kx-server", &settings.owner)));
        let stop = &self.servers_stop;
        self.servers.extend(traces::serve(config, &db, &self.server_config, stop).await?);
        let exchange =
            Exchange::start(db.clone(), settings, transport, Arc::clone(&self.status)).await?;
        let exchange = self.exchange.insert(exchange);
        exchange.ready().await?;
        let sender =
            Sender { live: Arc::clone(&exchange.live), publisher: Arc::clone(&exchange.publisher) };
        note_differences(&self.markets, &sender);
        control::listen(&self.config.data_dir, sender.clone(), self.servers_stop.clone());
        if self.wants_demo {
            self.start_demo(&db, &sender).await?;
        }
        let database = db.config().clone();
        self.serve_app(db, sender)?;
        // The waiting page goes when the application listens: no connection falls between the two.
        until_ready.cancel();
        let mut places = Vec::new();
        if let Some(beside) = &mut self.beside {
            beside.watch(&self.config, &database).await?;
            places = beside.places(&self.config);
        }
        if let Some(cluster) = &self.cluster {
            tokio::spawn(make_wal(cluster.config(), self.servers_stop.clone()));
        }
        let port = self.cluster.as_ref().map(Cluster::port);
        let password = self.cluster.as_ref().map(Cluster::password_file);
        banner::print(&self.config, port.zip(password), &places, self.has_inbox, self.wants_demo);
        Ok(())
    }

    /// The way between the parts: inside this process, unless there is a broker.
    async fn transport(&mut self) -> anyhow::Result<Option<Transport>> {
        if let Some(beside) = &mut self.beside {
            self.config.rabbitmq = Some(beside.broker().await?);
        }
        match &self.config.rabbitmq {
            None => Ok(Some(Transport::in_process(self.servers_stop.clone()))),
            Some(address) => Transport::rabbit(address.clone(), "kx-server", &self.shutdown).await,
        }
    }

    /// Answers while the exchange comes up: alive, and not ready.
    fn serve_waiting(&mut self) -> anyhow::Result<CancellationToken> {
        let until_ready = self.servers_stop.child_token();
        let listener = TcpListener::from_std(self.server_listener.try_clone()?)?;
        let config = self.server_config.clone();
        let stop = until_ready.clone();
        self.servers.push(tokio::spawn(async move {
            server::serve_router(listener, waiting::router(), &config, stop.cancelled()).await;
        }));
        Ok(until_ready)
    }

    fn serve_processor(&mut self) {
        let Some(listener) = self.processor_listener.take() else {
            return;
        };
        let router = processor::health_router(Arc::clone(&self.status));
        let (config, stop) = (self.server_config.plain(), self.servers_stop.clone());
        self.servers.push(tokio::spawn(async move {
            server::serve_router(listener, router, &config, stop.cancelled()).await;
        }));
    }

    fn serve_relay(&mut self) {
        let Some((listener, router)) = self.beside.as_mut().and_then(Beside::take_relay) else {
            return;
        };
        let (config, stop) = (self.server_config.plain(), self.servers_stop.clone());
        self.servers.push(tokio::spawn(async move {
            server::serve_router(listener, router, &config, stop.cancelled()).await;
        }));
    }

    fn serve_app(&mut self, db: Db, sender: Sender) -> anyhow::Result<()> {
        let inbox = Inbox::default();
        if let Some(listener) = self.inbox_listener.take() {
            let router = server::inbox::router(inbox.clone());
            let (config, stop) = (self.server_config.plain(), self.servers_stop.clone());
            self.servers.push(tokio::spawn(async move {
                server::serve_router(listener, router, &config, stop.cancelled()).await;
            }));
        }
        let mailer = self.config.mailer(inbox)?;
        let app = App::new(Parts {
            recorder: Arc::clone(&self.recorder),
            config: self.server_config.clone(),
            db,
            live: sender.live,
            publisher: sender.publisher,
            mailer,
            clock: Arc::new(SystemClock),
        });
        let listener = TcpListener::from_std(self.server_listener.try_clone()?)?;
        let stop = self.servers_stop.clone();
        self.servers.push(tokio::spawn(async move {
            server::serve_on(listener, app, stop.cancelled_owned()).await;
        }));
        Ok(())
    }

    /// Opens the database; `None` when told to stop before it was there.
    async fn open_database(&mut self) -> anyhow::Result<Option<Db>> {
        let config = match &self.config.database {
            Database::External(config) => config.clone(),
            Database::Embedded(directory) => {
                let directory = directory.clone();
                // In a task of its own, so that a shutdown meanwhile still finds the cluster and stops it.
                let start = async move { Cluster::start(&directory, Options::default()).await };
                let starting = self.cluster_starting.insert(tokio::spawn(start));
                let started = starting.await.context("starting PostgreSQL panicked")?;
                self.cluster_starting = None;
                let cluster = started?;
                let config = cluster.config();
                self.cluster = Some(cluster);
                config
            }
        };
        let config = DbConfig { application_name: "kx-server".to_owned(), ..config };
        open_waiting(&config, &self.shutdown).await
    }

    /// Makes the demo's users and starts its market maker; returns when it has quoted.
    async fn start_demo(&mut self, db: &Db, sender: &Sender) -> anyhow::Result<()> {
        let maker = demo::prepare(db, sender)
            .await
            .context("the demo cannot be made (--no-demo goes without)")?;
        let (quoted, has_quoted) = tokio::sync::oneshot::channel();
        let tell = move || quoted.send(()).unwrap_or_default();
        let run = demo::make_markets(sender.clone(), maker, tell, self.shutdown.clone());
        self.demo = Some(tokio::spawn(run));
        has_quoted.await.context("the demo's market maker has ended")
    }

    /// Stops everything, each part after what needs it.
    async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        if let Some(demo) = self.demo.take() {
            demo.abort();
        }
        if let Some(beside) = &mut self.beside {
            beside.stop_watching().await;
        }
        self.servers_stop.cancel();
        let servers = async {
            for server in &mut self.servers {
                let _ = server.await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, servers).await.is_err() {
            tracing::warn!("some connections were still open at shutdown and are closed");
            self.servers.iter().for_each(JoinHandle::abort);
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.stop().await;
        }
        if let Some(traces) = self.traces.take() {
            traces.stop().await;
        }
        if let Some(beside) = &mut self.beside {
            beside.stop_broker().await;
        }
        if let Some(starting) = self.cluster_starting.take()
            && let Ok(Ok(cluster)) = starting.await
        {
            self.cluster = Some(cluster);
        }
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await.context("PostgreSQL does not stop")?;
        }
        Ok(())
    }
}

/// Makes room for the write-ahead log ahead, once the start is over: nothing that anybody waits for.
async fn make_wal(config: DbConfig, stop: CancellationToken) {
    let made = async {
        tokio::time::sleep(WAL_AFTER).await;
        make_wal_ahead(&config, WAL_PACE).await
    };
    match stop.run_until_cancelled(made).await {
        Some(Ok(files)) if files > 0 => tracing::info!(files, "made room for the write-ahead log"),
        Some(Err(error)) => {
            tracing::warn!(reason = %error, "no room was made for the write-ahead log")
        }
        Some(Ok(_)) | None => {}
    }
}

fn note_differences(markets: &Markets, sender: &Sender) {
    let differences = sender.live.read(|state| markets.differences(state)).len();
    if differences > 0 {
        tracing::warn!(
            differences,
            "the markets file differs from the journal, which counts; `krystalinex markets apply` applies the file"
        );
    }
}
