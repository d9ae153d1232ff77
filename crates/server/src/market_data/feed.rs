//! Follows the journal into the market data.
//!
//! Invariant: batches are taken one after the other, from the one after the followed state that was begun with. Where
//! one is missing, everything begins anew, and who listens gets new snapshots: nothing is ever guessed across a gap.

use std::sync::{Arc, Weak};
use std::time::Duration;

use engine::{LevelChange, Trade};
use journal::Applied;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use units::{MarketId, Sequence, Time};

use super::market::Market;
use super::say::Rules;
use super::{MarketData, past};

/// How often tickers and candles are told at most.
const FLUSH: Duration = Duration::from_millis(100);
/// How often it is looked whether a window wants trades to be read back.
const REFINE: Duration = Duration::from_secs(1);
/// How long to wait before the projections or a failed read are asked again.
const RETRY: Duration = Duration::from_millis(200);

type Batches = broadcast::Receiver<Arc<Applied>>;

/// Begins, and goes on in the background until the market data is dropped.
pub(super) fn start(data: &Arc<MarketData>) {
    let batches = begin(data);
    let weak = Arc::downgrade(data);
    tokio::spawn(run(weak.clone(), batches));
    tokio::spawn(refine(weak));
}

async fn run(data: Weak<MarketData>, mut batches: Batches) {
    let mut flush = interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut incarnation = data.upgrade().map_or(0, |data| data.live.incarnation());
    loop {
        let received = tokio::select! {
            received = batches.recv() => Some(received),
            _ = flush.tick() => None,
        };
        let Some(data) = data.upgrade() else { return };
        match received {
            None => data.all().iter().for_each(|market| market.lock().flush()),
            Some(Ok(applied)) => {
                // A restored journal goes back in its rows: nothing of the old one is of use.
                let other = applied.batch.incarnation != incarnation;
                incarnation = applied.batch.incarnation;
                if other || !data.accounts.follow(&data.live, &applied) {
                    batches = begin(&data);
                } else if !follow(&data, &applied) {
                    begin_markets(&data);
                }
            }
            Some(Err(RecvError::Lagged(missed))) => {
                tracing::warn!(
                    missed,
                    "the market data was too slow for the journal and begins anew"
                );
                batches = begin(&data);
            }
            // The followed state is kept by the market data, so its sender outlives this loop.
            Some(Err(RecvError::Closed)) => return,
        }
    }
}

/// Begins everything with the followed state as it is now.
fn begin(data: &Arc<MarketData>) -> Batches {
    // First the subscription, then the state: what falls between the two comes twice and is passed over once.
    let batches = data.live.subscribe();
    data.accounts.restart(&data.live, data.live.sequence());
    begin_markets(data);
    batches
}

/// Begins every market with the followed state as it is now, which is at or beyond the last batch that was received.
fn begin_markets(data: &Arc<MarketData>) {
    let (sequence, time) = data.live.read(|state| {
        let mut markets = data.markets.write();
        for view in state.markets() {
            match markets.by_id.get(usize::from(view.id.get())) {
                Some(market) => market.lock().restart(state),
                None => {
                    if let Some(market) = Market::new(state, view.id) {
                        let symbol = view.config.symbol.to_string();
                        markets.by_path.insert(wire::symbol::to_path(&symbol), view.id);
                        markets.by_symbol.insert(symbol, view.id);
                        markets.by_id.push(Arc::new(Mutex::new(market)));
                    }
                }
            }
        }
        (state.sequence(), state.time())
    });
    data.sequence.send_replace(sequence);
    data.status.publish(data);
    for market in data.all() {
        tokio::spawn(load(Arc::downgrade(data), market, sequence, time));
    }
}

/// Follows a batch; tells whether it is the next one and everything in it fits.
fn follow(data: &Arc<MarketData>, applied: &Applied) -> bool {
    let (sequence, time) = (applied.batch.sequence, applied.batch.time);
    let last = data.sequence();
    if sequence <= last {
        return true;
    }
    if sequence != last.next() {
        tracing::warn!(%last, %sequence, "the market data missed rows of the journal");
        return false;
    }
    if redefined(data, applied) {
        return false;
    }
    let markets = data.all();
    for (id, market) in (0_u16..).map(MarketId::new).zip(&markets) {
        let changes: Vec<LevelChange> =
            applied.effects.levels.iter().filter(|change| change.market == id).copied().collect();
        let trades: Vec<Trade> = applied
            .effects
            .trades
            .iter()
            .filter(|(_, trade)| trade.market == id)
            .map(|(_, trade)| *trade)
            .collect();
        let mut market = market.lock();
        if changes.is_empty() && trades.is_empty() {
            market.pass(sequence, time);
        } else if let Err(gap) = market.follow((sequence, time), &changes, &trades) {
            tracing::error!(%gap, market = %market.rules().market.symbol, "a book began anew");
            return false;
        }
    }
    data.sequence.send_replace(sequence);
    if !applied.effects.markets.is_empty() {
        data.status.publish(data);
    }
    true
}

/// Tells whether a market is new or has other rules: everything that is said of it is said anew then.
fn redefined(data: &MarketData, applied: &Applied) -> bool {
    let changed = |id: &MarketId| {
        let known = data.markets.read().by_id.get(usize::from(id.get())).cloned();
        let rules = data.live.read(|state| Rules::of(state, *id));
        known.is_none_or(|market| Some(market.lock().rules()) != rules.as_ref())
    };
    !applied.effects.assets.is_empty() || applied.effects.markets.iter().any(changed)
}

/// Reads a market's past, once the projections have come to where the market began. Gives up when the market has begun
/// anew meanwhile: that has its own reading.
async fn load(data: Weak<MarketData>, market: Arc<Mutex<Market>>, until: Sequence, now: Time) {
    let id = market.lock().rules().id;
    let begun = Instant::now();
    loop {
        let Some(data) = data.upgrade() else { return };
        if market.lock().begun() != until {
            return;
        }
        match store::lookup::projected(&data.db).await {
            Ok(projected) if projected >= until => {
                match past::read(&data.db, id, until, now).await {
                    Ok(past) => {
                        let mut market = market.lock();
                        if market.begun() == until {
                            market.load(past);
                            tracing::debug!(market = %id, elapsed = ?begun.elapsed(), "market data complete");
                        }
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "cannot read a market's past yet"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot read how far the projections are"),
        }
        drop(data);
        sleep(RETRY).await;
    }
}

/// Reads back, again and again, the trades that a window is about to let go.
async fn refine(data: Weak<MarketData>) {
    let mut pause = interval(REFINE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let Some(data) = data.upgrade() else { return };
        for market in data.all() {
            let wanted = {
                let mut market = market.lock();
                let id = market.rules().id;
                market.window().and_then(|(window, now)| Some((id, window.wants(now)?)))
            };
            let Some((id, wanted)) = wanted else { continue };
            let slots = past::moments(&data.db, id, wanted, Sequence::new(u64::MAX)).await;
            let refined = match slots {
                Ok(slots) => {
                    let mut market = market.lock();
                    market.window().map_or(Ok(()), |(window, _)| window.refine(&slots))
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read back what leaves the statistics' window");
                    continue;
                }
            };
            if let Err(mismatch) = refined {
                tracing::error!(%mismatch, market = %id, "a ticker's oldest second is kept whole");
            }
        }
    }
}
