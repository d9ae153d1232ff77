//! The market maker: five levels on each side of a simulated price that wanders about the market's reference.
//!
//! The price is made up, and everything that shows it says so. It moves in whole parts per ten thousand, by a random walk
//! that is drawn back to the reference, so that the quotes never leave the price band. New quotes are placed before the old
//! ones are cancelled: the book is never empty.

use std::time::Duration;

use engine::{
    Action, Event, NewOrder, OrderRef, OrderType, SelfTradePrevention, Side, TimeInForce,
};
use tokio_util::sync::CancellationToken;
use units::{AccountId, CommandId, MarketId, PriceTicks, QuantityLots};

use super::Sender;

/// How often one market, in turn, gets new quotes.
const TURN: Duration = Duration::from_secs(3);
/// Levels on each side.
const LEVELS: u64 = 5;
/// Parts per ten thousand between the price and the first level, and from level to level.
const STEP_BPS: u64 = 5;
/// The farthest that the price moves in one turn; less than [`STEP_BPS`], so that new quotes never meet the old ones.
const MOVE_BPS_MAX: i64 = 4;
/// The farthest that the price wanders from the reference.
const WANDER_BPS_MAX: i64 = 150;

struct Quoted {
    market: MarketId,
    /// How far the price has wandered from the reference that it began at, in parts per ten thousand.
    wandered: i64,
    /// Where it began, in ticks.
    origin: u64,
    /// The orders that stand.
    orders: Vec<CommandId>,
}

/// Quotes every market once, then calls `quoted`, then goes on until `shutdown`.
pub async fn make_markets(
    sender: Sender,
    account: AccountId,
    quoted: impl FnOnce(),
    shutdown: CancellationToken,
) {
    // What an earlier run has left would stand beside the new quotes.
    if let Err(error) = sender.must(Action::CancelAll { account, market: None }, &[]).await {
        tracing::warn!(reason = %error, "the market maker could not cancel its old quotes");
    }
    let mut markets = find_markets(&sender);
    for market in &mut markets {
        requote(&sender, account, market).await;
    }
    quoted();
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = turn.tick() => {}
        }
        if let Some(market) = markets.get_mut(next) {
            requote(&sender, account, market).await;
        }
        next = (next + 1) % markets.len().max(1);
    }
}

fn find_markets(sender: &Sender) -> Vec<Quoted> {
    sender.live.read(|state| {
        let with_price = |view: engine::MarketView<'_>| {
            let origin = view.reference.or(view.config.initial_price)?.get();
            Some(Quoted { market: view.id, wandered: 0, origin, orders: Vec::new() })
        };
        state.markets().filter_map(with_price).collect()
    })
}

async fn requote(sender: &Sender, account: AccountId, quoted: &mut Quoted) {
    let drift = if quoted.wandered > 0 { -1 } else { 1 };
    let moved = rand::random_range(-MOVE_BPS_MAX..=MOVE_BPS_MAX - 1)
        + i64::from(rand::random_bool(0.3)) * drift;
    let moved = moved.clamp(-MOVE_BPS_MAX, MOVE_BPS_MAX);
    quoted.wandered = (quoted.wandered + moved).clamp(-WANDER_BPS_MAX, WANDER_BPS_MAX);
    let factor = u64::try_from(10_000 + quoted.wandered).unwrap_or(10_000);
    let price = part(quoted.origin, factor);
    let quantity_max =
        sender.live.read(|state| state.market(quoted.market).map(|view| view.config.quantity_max));
    let Some(quantity_max) = quantity_max else {
        return;
    };
    let old = std::mem::take(&mut quoted.orders);
    for level in 1..=LEVELS {
        let quantity = QuantityLots::new((quantity_max.get() / 2_000).max(1).saturating_mul(level));
        let away = STEP_BPS * level;
        for (side, factor) in [(Side::Buy, 10_000 - away), (Side::Sell, 10_000 + away)] {
            let Some(price) = PriceTicks::new(part(price, factor)) else {
                continue;
            };
            let order = limit(account, quoted.market, side, price, quantity);
            match sender.send(Action::PlaceOrder(order)).await {
                Ok((id, Event::OrderPlaced(_))) => quoted.orders.push(id),
                Ok((_, event)) => tracing::debug!(?event, "a quote was refused"),
                Err(error) => {
                    tracing::debug!(reason = %error, "a quote was not placed");
                    quoted.orders.extend(old);
                    return;
                }
            }
        }
    }
    for order in old {
        // One that was filled in the meantime is refused, and that is well.
        let _ = sender.send(Action::CancelOrder { account, order: OrderRef::Id(order) }).await;
    }
}

/// Returns `ticks × factor / 10,000`.
fn part(ticks: u64, factor: u64) -> u64 {
    u64::try_from(u128::from(ticks) * u128::from(factor) / 10_000).unwrap_or(u64::MAX)
}

fn limit(
    account: AccountId,
    market: MarketId,
    side: Side,
    price: PriceTicks,
    quantity: QuantityLots,
) -> NewOrder {
    NewOrder {
        account,
        market,
        side,
        order_type: OrderType::Limit,
        time_in_force: TimeInForce::Gtc,
        post_only: false,
        price: Some(price),
        quantity,
        quote_amount: None,
        trigger: None,
        display: None,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        client_order_id: None,
    }
}
