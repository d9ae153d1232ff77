//! A light load generator: each connection sends its prepared requests one after the other, round and round; as fast as
//! they are answered, or at a fixed rate.
//!
//! Invariant: latency is measured from the request's first byte out to its answer's last byte in; at a fixed rate from the
//! moment at which it was due, where its connection was still waiting for an answer then. A connection that fails counts
//! as an error and is opened again.

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
    go(address, scripts, None, duration).await
}

/// The same at a fixed rate, requests a second over all connections, whatever becomes of them.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) async fn run_at(
    address: SocketAddr,
    scripts: Vec<Script>,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let step = Duration::from_secs_f64(1.0 / rate.max(f64::MIN_POSITIVE));
    go(address, scripts, Some(step), duration).await
}

async fn go(
    address: SocketAddr,
    scripts: Vec<Script>,
    step: Option<Duration>,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let thread = std::thread::Builder::new().name("kx-load".to_owned());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let handle = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let before = machine::thread_time();
        let mut outcome = match runtime {
            Ok(runtime) => runtime.block_on(all(address, scripts, step, duration)),
            Err(_) => Outcome::default(),
        };
        outcome.cpu = machine::thread_time().saturating_sub(before);
        // Nobody to tell when the caller has gone.
        let _ = sender.send(outcome);
    });
    handle.context("cannot start the load generator")?;
    receiver.await.context("the load generator ended without a result")
}

async fn all(
    address: SocketAddr,
    scripts: Vec<Script>,
    step: Option<Duration>,
    duration: Duration,
) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let connections = u32::try_from(scripts.len()).unwrap_or(u32::MAX);
    let schedule = |place: u32| {
        step.map(|step| Schedule {
            next: started + step * place,
            step: step * connections,
            end: started + duration,
        })
    };
    let tasks: Vec<_> = (0_u32..)
        .zip(scripts)
        .map(|(place, script)| {
            tokio::spawn(one(address, script, schedule(place), Arc::clone(&stop)))
        })
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

/// When a connection's requests are due.
struct Schedule {
    next: Instant,
    step: Duration,
    end: Instant,
}

impl Schedule {
    /// Waits until the next request is due, and returns from when on its latency counts; `None` after the end.
    async fn due(&mut self) -> Option<Instant> {
        let due = self.next;
        if due >= self.end {
            return None;
        }
        self.next += self.step;
        if due <= Instant::now() {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        // That the generator wakes late is not the server's doing.
        Some(Instant::now())
    }
}

async fn one(
    address: SocketAddr,
    script: Script,
    mut schedule: Option<Schedule>,
    stop: Arc<AtomicBool>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    for request in script.iter().cycle() {
        // At a fixed rate what was due is sent, late or not.
        let due = match &mut schedule {
            None if stop.load(Ordering::Relaxed) => break,
            None => None,
            Some(schedule) => match schedule.due().await {
                None => break,
                due => due,
            },
        };
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        let Some(open) = &mut connection else {
            *outcome.statuses.entry(0).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sent = due.unwrap_or_else(Instant::now);
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

    #[tokio::test]
    async fn at_a_fixed_rate_what_is_held_up_counts_from_when_it_was_due() {
        // Of the ten requests of the one connection, the first holds the others up.
        let calls = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let slow = async move || {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            "yes"
        };
        let router = axum::Router::new().route("/", axum::routing::get(slow));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let scripts = vec![vec![http::request("GET", "/", address, None, None)]];
        let outcome = run_at(address, scripts, 10.0, Duration::from_secs(1)).await.expect("runs");
        assert_eq!(outcome.statuses, BTreeMap::from([(200, 10)]));
        let late = outcome.latencies_ms.iter().filter(|latency| **latency > 50.0).count();
        assert!((4..10).contains(&late), "{:?}", outcome.latencies_ms);
        assert!(outcome.latencies_ms[1] >= 299.0, "{:?}", outcome.latencies_ms);
    }
}
