//! What `up --full` runs beside the exchange: the machine's own RabbitMQ, Prometheus, Alertmanager and postgres exporter.
//!
//! Invariant: they are this process's. They end with it, however it ends, and one that ends by itself is started again.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alerts::Relay;
use anyhow::Context;
use axum::Router;
use broker::{Broker, BrokerError, Fixed, Options};
use monitoring::{
    Database, GoAlert, Intervals, Job, Monitoring, MonitoringError, Plan, Ports, Receivers,
};
use queue::Address;
use store::DbConfig;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::config::Config;
use crate::process;

/// The user of the runbook's commands.
const ADMINISTRATOR: &str = "admin";
/// Where GoAlert is, in the runbook.
const GOALERT: &str = "localhost:8081";
/// How often is looked whether all of them run.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a port may still be held by a process whose owner was killed a moment ago.
const PORT_MAX: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(100);
/// How long Prometheus keeps what it has measured.
const KEEP: &str = "15d";

/// What is run, as far as it has come.
pub(super) struct Beside {
    password_file: Option<PathBuf>,
    relay: Option<(TcpListener, Router)>,
    broker_starting: Option<JoinHandle<Result<Broker, BrokerError>>>,
    broker: Option<Broker>,
    monitoring_starting: Option<JoinHandle<Result<Monitoring, MonitoringError>>>,
    monitoring: Option<Monitoring>,
}

impl Beside {
    /// Looks whether all of it can be run, and begins with the broker, which takes the longest.
    pub(super) async fn begin(config: &Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.rabbitmq.is_none(),
            "RABBITMQ_URL is set: `up --full` runs its own RabbitMQ; unset it, or leave --full out"
        );
        broker::Programs::find()?;
        monitoring::Programs::find()?;
        for (port, what) in ports(config) {
            free(port, what)?;
        }
        let relay = match config.alert_relay.clone() {
            Some(relay) => {
                let listener = server::bind(relay.address).await?;
                Some((listener, Relay::new(relay.settings).router()))
            }
            None => None,
        };
        let kept = config.data_dir.join("rabbitmq-password");
        let (password, password_file) = match &config.beside.rabbitmq_password {
            Some(password) => (password.expose().to_owned(), None),
            None => (process::own_secret(&kept)?, Some(kept)),
        };
        let options = Options {
            management: true,
            metrics: true,
            ports: Fixed {
                amqp: Some(config.beside.amqp_port),
                management: Some(config.beside.rabbitmq_port),
                metrics: Some(config.beside.rabbitmq_metrics_port),
            },
            ..Options::default()
        };
        let directory = config.data_dir.join("rabbitmq");
        let starting = spawn_blocking(move || {
            let broker = Broker::start(&directory, options)?;
            broker.administrator(ADMINISTRATOR, &password)?;
            Ok(broker)
        });
        Ok(Self {
            password_file,
            relay,
            broker_starting: Some(starting),
            broker: None,
            monitoring_starting: None,
            monitoring: None,
        })
    }

    /// Takes the alert relay, where it is said whom it tells: for whoever serves it.
    pub(super) fn take_relay(&mut self) -> Option<(TcpListener, Router)> {
        self.relay.take()
    }

    /// Waits for the broker and returns its address.
    pub(super) async fn broker(&mut self) -> anyhow::Result<Address> {
        if let Some(starting) = &mut self.broker_starting {
            let started = starting.await.context("starting RabbitMQ panicked")?;
            self.broker_starting = None;
            self.broker = Some(started?);
        }
        let broker = self.broker.as_ref().context("RabbitMQ was not started")?;
        Ok(Address::parse(&broker.url())?)
    }

    /// Starts what watches, and waits until it is ready.
    pub(super) async fn watch(
        &mut self,
        config: &Config,
        database: &DbConfig,
    ) -> anyhow::Result<()> {
        let (directory, plan) = (config.data_dir.join("monitoring"), plan(config, database));
        let start = move || Monitoring::start(&directory, &plan);
        let starting = self.monitoring_starting.insert(spawn_blocking(start));
        let started = starting.await.context("starting Prometheus panicked")?;
        self.monitoring_starting = None;
        self.monitoring = Some(started?);
        Ok(())
    }

    /// Starts again what has ended by itself; returns never.
    pub(super) async fn keep(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(broker) = &mut self.broker
                && !broker.is_running()
            {
                tracing::error!(said = broker.said(), "RabbitMQ has ended and is started again");
                log_failure(broker.begin());
            }
            for program in self.monitoring.iter_mut().flat_map(Monitoring::all) {
                if !program.is_running() {
                    let (name, said) = (program.name(), program.said());
                    tracing::error!(name, said, "a program has ended and is started again");
                    log_failure(program.begin());
                }
            }
        }
    }

    /// Stops what watches.
    pub(super) async fn stop_watching(&mut self) {
        if let Some(starting) = self.monitoring_starting.take()
            && let Ok(Ok(monitoring)) = starting.await
        {
            self.monitoring = Some(monitoring);
        }
        if let Some(mut monitoring) = self.monitoring.take() {
            let _ = spawn_blocking(move || monitoring.stop()).await;
        }
    }

    /// Stops the broker, after everything that needs it.
    pub(super) async fn stop_broker(&mut self) {
        if let Some(starting) = self.broker_starting.take()
            && let Ok(Ok(broker)) = starting.await
        {
            self.broker = Some(broker);
        }
        if let Some(mut broker) = self.broker.take() {
            let _ = spawn_blocking(move || broker.stop()).await;
        }
    }

    /// Where everything is, for the banner.
    pub(super) fn places(&self, config: &Config) -> Vec<(&'static str, String)> {
        let beside = &config.beside;
        let password = match &self.password_file {
            Some(file) => format!("password: cat '{}'", file.display()),
            None => "password: RABBITMQ_PASSWORD".to_owned(),
        };
        let told = match receivers(config) {
            Receivers { goalert: None, relay: None } => {
                "   (tells nobody: neither KX_NTFY_TOPIC nor KX_GOALERT_KEY_FILE is set)"
            }
            _ => "",
        };
        let url = |port: u16| format!("http://localhost:{port}");
        vec![
            (
                "RabbitMQ",
                format!("{}   (user {ADMINISTRATOR}, {password})", url(beside.rabbitmq_port)),
            ),
            ("Prometheus", url(beside.prometheus_port)),
            ("Alertmanager", format!("{}{told}", url(beside.alertmanager_port))),
            (
                "exporters",
                format!(
                    "{}/metrics   {}/metrics/per-object",
                    url(beside.postgres_exporter_port),
                    url(beside.rabbitmq_metrics_port)
                ),
            ),
        ]
    }
}

/// The ports, and what they are for.
fn ports(config: &Config) -> [(u16, &'static str); 6] {
    let beside = &config.beside;
    [
        (beside.amqp_port, "RabbitMQ, KX_AMQP_PORT"),
        (beside.rabbitmq_port, "RabbitMQ's management page, KX_RABBITMQ_PORT"),
        (beside.rabbitmq_metrics_port, "RabbitMQ's metrics, KX_RABBITMQ_METRICS_PORT"),
        (beside.prometheus_port, "Prometheus, KX_PROMETHEUS_PORT"),
        (beside.alertmanager_port, "Alertmanager, KX_ALERTMANAGER_PORT"),
        (beside.postgres_exporter_port, "the postgres exporter, KX_POSTGRES_EXPORTER_PORT"),
    ]
}

/// Looks whether a port is free.
fn free(port: u16, what: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match StdListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::AddrInUse => {
                return Err(error).with_context(|| format!("cannot listen on {port} ({what})"));
            }
            Err(_) if began.elapsed() > PORT_MAX => {
                anyhow::bail!("Port already in use: {port} ({what})");
            }
            Err(_) => std::thread::sleep(PORT_RETRY),
        }
    }
}

fn plan(config: &Config, database: &DbConfig) -> Plan {
    let beside = &config.beside;
    let ours = |name, port, tls| Job {
        name,
        targets: vec![SocketAddr::new(reached(config.listen), port).to_string()],
        tls,
    };
    let mut jobs = vec![
        ours("krystalinex-server", config.port, config.identity.is_some()),
        ours("krystalinex-payment-processor", config.processor_port, false),
        Job::local("rabbitmq", beside.rabbitmq_metrics_port),
        Job::local("rabbitmq-alarms", beside.rabbitmq_metrics_port),
    ];
    if let Some(relay) = &config.alert_relay {
        jobs.push(Job::local("krystalinex-alert-relay", relay.address.port()));
    }
    Plan {
        ports: Ports {
            prometheus: Some(beside.prometheus_port),
            alertmanager: Some(beside.alertmanager_port),
            postgres_exporter: Some(beside.postgres_exporter_port),
        },
        jobs,
        database: Database {
            host: database.host.clone(),
            port: database.port,
            user: database.user.clone(),
            database: database.database.clone(),
            password: database
                .password
                .as_ref()
                .map(|it| it.expose().to_owned())
                .unwrap_or_default(),
        },
        receivers: receivers(config),
        intervals: Intervals::default(),
        keep: KEEP,
    }
}

/// Who is told of alerts.
fn receivers(config: &Config) -> Receivers {
    let goalert = config
        .beside
        .goalert_key_file
        .as_deref()
        .map(|file| GoAlert { authority: GOALERT.to_owned(), key_file: absolute(file) });
    let relay = config.alert_relay.as_ref();
    Receivers { goalert, relay: relay.map(|relay| format!("127.0.0.1:{}", relay.address.port())) }
}

/// Where a neighbor reaches what listens on an address.
fn reached(listen: IpAddr) -> IpAddr {
    match listen.is_unspecified() {
        true => IpAddr::V4(Ipv4Addr::LOCALHOST),
        false => listen,
    }
}

/// A path that holds wherever another program looks from.
fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

fn log_failure<E: std::error::Error>(result: Result<(), E>) {
    if let Err(error) = result {
        tracing::error!(reason = %error, "it cannot be started again");
    }
}
