//! Watches how the exchange is: sets the metrics that only a server can know, and keeps what the status page says, so that
//! whoever looks at the page asks nobody.
//!
//! Invariant: what everybody may see names no person, account, host or address.

mod page;
mod routes;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::MarketState;
use parking_lot::Mutex;
use store::operations::{Overview, Waiting};
use telemetry::{Buckets, Metric};

use crate::app::{App, Inner};
use crate::problem::chain;

pub(crate) use routes::{described, pages};

/// How often what is in memory is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Looks at memory for one look at the database.
const DATABASE_EVERY: u32 = 5;
/// How long the database may take.
const DATABASE_TIME: Duration = Duration::from_secs(4);
/// Samples that are kept: five minutes.
const SAMPLES_MAX: usize = 60;

/// What was last seen.
#[derive(Default)]
pub(crate) struct Operations(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    samples: VecDeque<Sample>,
    overview: Option<(Instant, Overview)>,
    waiting: Waiting,
}

/// What was counted up to a moment.
#[derive(Clone)]
struct Sample {
    at: Instant,
    requests: u64,
    failed: u64,
    http: Buckets,
    orders: Buckets,
    stages: Vec<(String, Buckets)>,
    commands: u64,
    trades: u64,
}

impl Sample {
    fn take() -> Self {
        let any = |_: &[String]| true;
        let is_order = |labels: &[String]| labels == ["POST", "/api/v1/orders"];
        let failed =
            |labels: &[String]| labels.last().is_some_and(|status| status.starts_with('5'));
        Self {
            at: Instant::now(),
            requests: telemetry::total(Metric::HttpRequests, any),
            failed: telemetry::total(Metric::HttpRequests, failed),
            http: telemetry::buckets(Metric::HttpRequestDuration, any),
            orders: telemetry::buckets(Metric::HttpRequestDuration, is_order),
            stages: stages(),
            commands: telemetry::count(Metric::Commands),
            trades: telemetry::count(Metric::Trades),
        }
    }
}

/// The stages of an order's way, as far as they are measured here.
/// What is shown in the place of the stages until an order was traced. Not named like one of those, which count traced orders
/// alone: two samples are compared by name.
const UNTRACED: [(&str, Metric); 2] =
    [("decide a command", Metric::DecideDuration), ("append a row", Metric::AppendDuration)];

fn stages() -> Vec<(String, Buckets)> {
    let any = |_: &[String]| true;
    let mut stages = Vec::new();
    if let Some(metric) = Metric::named("kx_stage_duration_seconds") {
        for reading in telemetry::value_labelled(metric) {
            let name = reading.labels.join(" ");
            let of = |labels: &[String]| labels == reading.labels;
            stages.push((name, telemetry::buckets(metric, of)));
        }
    }
    if stages.is_empty() {
        let untraced = UNTRACED.iter();
        stages.extend(
            untraced.map(|(name, metric)| ((*name).to_owned(), telemetry::buckets(*metric, any))),
        );
    }
    let project = telemetry::buckets(Metric::ProjectionDuration, any);
    stages.push(("write projections".to_owned(), project));
    stages
}

/// Watches for as long as the application lives.
pub(crate) fn start(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        let mut looks: u32 = 0;
        while let Some(inner) = inner.upgrade() {
            look_at_memory(&inner);
            if looks.is_multiple_of(DATABASE_EVERY) {
                look_at_database(&inner).await;
                sample(&inner);
            }
            looks = looks.wrapping_add(1);
            drop(inner);
            tokio::time::sleep(EVERY).await;
        }
    });
}

fn look_at_memory(inner: &Inner) {
    crate::serve::show_connections();
    let pending = inner.operations.0.lock().waiting.oldest_pending;
    let oldest = inner.live.longest_wait().max(pending);
    telemetry::set(Metric::CommandOldestWaiting, oldest.as_secs_f64());
    let states: Vec<_> = inner.live.read(|state| {
        state.markets().map(|market| (market.config.symbol.clone(), market.state)).collect()
    });
    for (symbol, state) in states {
        let halted = if state == MarketState::Halted { 1.0 } else { 0.0 };
        telemetry::set_labelled(Metric::MarketHalted, &[&symbol], halted);
    }
    if let Some(age) = last_trade_age(inner) {
        telemetry::set(Metric::LastTradeAge, age.as_secs_f64());
    }
}

/// Returns how long ago the newest trade of any market was, where that is known.
pub(crate) fn last_trade_age(inner: &Inner) -> Option<Duration> {
    let times = inner.market_data.all().into_iter().filter_map(|market| {
        let market = market.lock();
        market.recent().next_back().map(|trade| trade.time)
    });
    let newest = times.max()?;
    Some(Duration::from_micros(inner.live.journal_now().micros_since(newest)))
}

/// Reads what only the database knows. One that does not answer says so in its own metric.
async fn look_at_database(inner: &Arc<Inner>) {
    let asked = async {
        let waiting = store::operations::waiting(&inner.db).await?;
        let overview = store::operations::overview(&inner.db).await?;
        Ok::<_, store::StoreError>((waiting, overview))
    };
    match tokio::time::timeout(DATABASE_TIME, asked).await {
        Ok(Ok((waiting, overview))) => {
            telemetry::set_count(Metric::PendingCommands, waiting.pending);
            telemetry::set_count(Metric::MailWaiting, waiting.mail);
            let mut seen = inner.operations.0.lock();
            seen.waiting = waiting;
            seen.overview = Some((Instant::now(), overview));
        }
        Ok(Err(error)) => {
            tracing::debug!(error = %chain(&error), "cannot look at the database now");
        }
        Err(_) => tracing::debug!("the database does not say in time how it is"),
    }
}

fn sample(inner: &Inner) {
    let mut seen = inner.operations.0.lock();
    if seen.samples.len() >= SAMPLES_MAX {
        seen.samples.pop_front();
    }
    seen.samples.push_back(Sample::take());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_without_traces_is_not_taken_for_a_stage() {
        let stages: Vec<&str> = trace::Stage::ALL.iter().map(|stage| stage.name()).collect();
        assert!(UNTRACED.iter().all(|(name, _)| !stages.contains(name)), "{stages:?}");
    }
}
