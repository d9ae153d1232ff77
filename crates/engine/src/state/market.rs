//! One market: its rules, its book, its open orders and its waiting stops.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use book::{Book, Side};
use units::{MarketId, OrderId, PriceTicks, TradeId};

use super::order::{Order, Orders};
use super::reference::Reference;
use crate::config::{MarketConfig, MarketState};

/// One market.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    pub(crate) id: MarketId,
    pub(crate) config: MarketConfig,
    pub(crate) state: MarketState,
    pub(crate) book: Book,
    pub(crate) orders: Orders,
    pub(crate) last_order_id: OrderId,
    pub(crate) last_trade_id: TradeId,
    pub(crate) update_id: u64,
    pub(crate) last_price: Option<PriceTicks>,
    pub(crate) trades: Reference,
    pub(crate) halt_due: bool,
    /// The reference price of the band, worked out when it may have moved, since every order asks.
    pub(crate) reference: Option<PriceTicks>,
    /// The prices that the band allows now, `None` without a band; kept for the same reason.
    pub(crate) bounds: Option<(PriceTicks, PriceTicks)>,
    /// Waiting stops by trigger, then arrival: buys trigger from the lowest price up, sells from the highest down.
    pub(crate) buy_stops: BTreeMap<(PriceTicks, u64), u32>,
    pub(crate) sell_stops: BTreeMap<(Reverse<PriceTicks>, u64), u32>,
}

impl Market {
    pub(crate) fn new(id: MarketId, config: MarketConfig) -> Self {
        let mut market = Self {
            id,
            config,
            state: MarketState::Open,
            book: Book::new(),
            orders: Orders::default(),
            last_order_id: OrderId::default(),
            last_trade_id: TradeId::default(),
            update_id: 0,
            last_price: None,
            trades: Reference::default(),
            halt_due: false,
            reference: None,
            bounds: None,
            buy_stops: BTreeMap::new(),
            sell_stops: BTreeMap::new(),
        };
        market.note_rules();
        market
    }

    /// Works the reference out again after a trade or a forgotten one, and the band if it has moved.
    #[inline]
    pub(crate) fn note_reference(&mut self) {
        if self.trades.price(self.last_price, &self.config) != self.reference {
            self.note_rules();
        }
    }

    /// Works the reference and the band out again after a change of the rules.
    pub(crate) fn note_rules(&mut self) {
        (self.reference, self.bounds) = self.measure();
    }

    /// The reference price and the band as they follow from the trades and the rules.
    pub(crate) fn measure(&self) -> (Option<PriceTicks>, Option<(PriceTicks, PriceTicks)>) {
        let reference = self.trades.price(self.last_price, &self.config);
        let band = |rate| Some(super::reference::band(reference?, rate));
        (reference, self.config.band.and_then(band))
    }

    /// The worst price that a market order of this side may trade at; `None` without a band.
    #[inline]
    pub(crate) fn band_limit(&self, side: Side) -> Option<PriceTicks> {
        let (low, high) = self.bounds?;
        Some(match side {
            Side::Buy => high,
            Side::Sell => low,
        })
    }

    /// The first waiting stop whose trigger the last trade has reached.
    pub(crate) fn due_stop(&self) -> Option<&Order> {
        let last = self.last_price?;
        let buy = self.buy_stops.first_key_value().filter(|((trigger, _), _)| *trigger <= last);
        let sell =
            self.sell_stops.first_key_value().filter(|((Reverse(trigger), _), _)| *trigger >= last);
        // Of a buy and a sell, the one that came first.
        let buy = buy.map(|((_, arrival), slot)| (*arrival, *slot));
        let sell = sell.map(|((_, arrival), slot)| (*arrival, *slot));
        let (_, slot) = match (buy, sell) {
            (Some(buy), Some(sell)) => buy.min(sell),
            (buy, sell) => buy.or(sell)?,
        };
        Some(self.orders.get(slot))
    }

    pub(crate) fn insert_stop(&mut self, slot: u32) {
        let order = self.orders.get(slot);
        let (trigger, arrival) = stop_key(order);
        let before = match order.side {
            Side::Buy => self.buy_stops.insert((trigger, arrival), slot),
            Side::Sell => self.sell_stops.insert((Reverse(trigger), arrival), slot),
        };
        assert!(before.is_none(), "arrivals are unique");
    }

    pub(crate) fn remove_stop(&mut self, slot: u32) {
        let order = self.orders.get(slot);
        let (trigger, arrival) = stop_key(order);
        let before = match order.side {
            Side::Buy => self.buy_stops.remove(&(trigger, arrival)),
            Side::Sell => self.sell_stops.remove(&(Reverse(trigger), arrival)),
        };
        assert_eq!(before, Some(slot), "a waiting stop is in its list");
    }

    pub(crate) fn stops(&self) -> usize {
        self.buy_stops.len().saturating_add(self.sell_stops.len())
    }
}

fn stop_key(order: &Order) -> (PriceTicks, u64) {
    (order.extra().trigger.expect("a stop has a trigger"), order.arrival)
}
