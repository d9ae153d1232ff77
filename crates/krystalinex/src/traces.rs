//! Traces of one process: noted by its parts, written behind them, and shown to whoever runs the exchange.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use server::ServerConfig;
use store::{Db, DbConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trace::Recorder;
use tracer::Exporter;

use crate::config::Config;
use crate::process;

/// How long writing the last traces may take at shutdown.
const STOP_MAX: Duration = Duration::from_secs(6);

/// Makes what the parts of a process note their times with.
#[must_use]
pub fn recorder(config: &Config) -> Arc<Recorder> {
    Arc::new(if config.tracing.on { Recorder::default() } else { Recorder::off() })
}

/// Writes what is noted, until it is stopped.
#[derive(Debug)]
pub struct Writer {
    stop: CancellationToken,
    writing: JoinHandle<()>,
}

impl Writer {
    /// Starts writing; exports too, where there is a collector. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(
        config: &Config,
        db: &Db,
        recorder: Arc<Recorder>,
        (service, owner): (&str, &str),
    ) -> Self {
        let instance = format!("{owner} pid {}", std::process::id());
        let exporter = config.tracing.collector.clone();
        let exporter = exporter.map(|endpoint| Exporter::start(endpoint, instance.clone()));
        let process = tracer::Process {
            source: format!("{owner}:{}", config.server_address().port()),
            instance,
            service: service.to_owned(),
            build: process::BUILD.to_owned(),
            started: SystemTime::now(),
        };
        let settings = tracer::Settings {
            process,
            keep: config.tracing.keep,
            bytes_max: config.tracing.bytes_max,
            store: config.tracing.on,
        };
        let stop = CancellationToken::new();
        let writing = tracer::write(recorder, apart(db), settings, exporter, stop.clone());
        Self { stop, writing: tokio::spawn(writing) }
    }

    /// Writes what is left, and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_MAX, &mut self.writing).await.is_err() {
            tracing::warn!("the last traces were not written: the store takes too long");
            self.writing.abort();
        }
    }
}

/// Connections of their own: looking through traces must not take those of orders.
fn apart(db: &Db) -> Db {
    let config = db.config();
    let application_name = format!("{} traces", config.application_name);
    Db::lazy(DbConfig { application_name, pool_max: 3, ..config.clone() })
}

/// Shows traces as Jaeger does, and takes others' spans in, each at its port, on this machine alone.
///
/// # Errors
///
/// A port that was asked for is in use.
pub async fn serve(
    config: &Config,
    db: &Db,
    limits: &ServerConfig,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut serving = Vec::new();
    if !config.tracing.on {
        return Ok(serving);
    }
    let db = apart(db);
    let all = [
        (config.tracing.jaeger_port, "traces are not shown", tracer::jaeger_router(db.clone())),
        (config.tracing.otlp_port, "others' spans are not taken", tracer::otlp_router(db)),
    ];
    for ((port, asked_for), without, router) in all {
        if port == 0 {
            continue;
        }
        match server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(listener) => {
                let (limits, stop) = (limits.plain(), stop.clone());
                serving.push(tokio::spawn(async move {
                    server::serve_router(listener, router, &limits, stop.cancelled_owned()).await;
                }));
            }
            Err(error) if asked_for => return Err(error.into()),
            Err(error) => tracing::warn!(reason = %error, "{without}: their port cannot be used"),
        }
    }
    Ok(serving)
}
