//! A light load generator: each connection sends its prepared requests one after the other, round and round.
//!
//! Invariant: latency is measured from the request's first byte out to its answer's last byte in; a connection
//! that fails counts as an error and is opened again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::http::Connection;
use super::machine;

/// What one connection sends, round and round.
pub(crate) type Script = Vec<Vec<u8>>;

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Latencies of answered requests, in milliseconds.
    pub latencies_ms: Vec<f64>,
    /// Answers by status; 0: no answer.
    pub statuses: BTreeMap<u16, u64>,
    /// How long it went on.
    pub elapsed: Duration,
    /// The processor time of the generator.
    pub cpu: Duration,
}

impl Outcome {
    /// Returns the requests that were answered with 2xx.
    pub(crate) fn done(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    /// Returns the others.
    pub(crate) fn errors(&self) -> u64 {
        self.statuses.values().sum::<u64>() - self.done()
    }

    /// Returns answered requests a second.
    pub(crate) fn rate(&self) -> f64 {
        machine::ratio(self.done(), 1) / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns the generator's processor time per request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / machine::ratio(self.done().max(1), 1)
    }

    /// Returns the latency that `share` of the requests are at or below, in milliseconds.
    pub(crate) fn latency_ms(&self, share: f64) -> f64 {
        machine::quantile(&self.latencies_ms, share)
    }

    /// Says which answers were no success.
    pub(crate) fn errors_text(&self) -> String {
        let bad = self.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
        bad.map(|(status, count)| format!("{count} × {status}")).collect::<Vec<_>>().join(", ")
    }
}

/// Loads a server with one connection per script for `duration`, on a thread of its own.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) async fn run(
    address: SocketAddr,
    scripts: Vec<Script>,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let thread = std::thread::Builder::new().name("kx-load".to_owned());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let handle = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let before = machine::thread_time();
        let mut outcome = match runtime {
            Ok(runtime) => runtime.block_on(all(address, scripts, duration)),
            Err(_) => Outcome::default(),
        };
        outcome.cpu = machine::thread_time().saturating_sub(before);
        // Nobody to tell when the caller has gone.
        let _ = sender.send(outcome);
    });
    handle.context("cannot start the load generator")?;
    receiver.await.context("the load generator ended without a result")
}

async fn all(address: SocketAddr, scripts: Vec<Script>, duration: Duration) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let tasks: Vec<_> = scripts
        .into_iter()
        .map(|script| tokio::spawn(one(address, script, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut whole = Outcome::default();
    for task in tasks {
        let Ok(part) = task.await else { continue };
        whole.latencies_ms.extend(part.latencies_ms);
        for (status, count) in part.statuses {
            *whole.statuses.entry(status).or_default() += count;
        }
    }
    whole.elapsed = started.elapsed();
    whole
}

async fn one(address: SocketAddr, script: Script, stop: Arc<AtomicBool>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    for request in script.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        let Some(open) = &mut connection else {
            *outcome.statuses.entry(0).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sent = Instant::now();
        let status = open.send(request).await.unwrap_or(0);
        if status == 0 {
            connection = None;
        } else {
            outcome.latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        *outcome.statuses.entry(status).or_default() += 1;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::http;

    #[tokio::test]
    async fn a_load_counts_answers_by_status() {
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "yes" }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let good = http::request("GET", "/", address, None, None);
        let bad = http::request("GET", "/none", address, None, None);
        let scripts = vec![vec![good.clone()], vec![good, bad]];
        let outcome = run(address, scripts, Duration::from_millis(200)).await.expect("runs");
        assert!(outcome.done() > 0);
        assert_eq!(outcome.errors(), outcome.statuses.get(&404).copied().unwrap_or(0));
        assert!(outcome.errors() > 0);
    }
}
