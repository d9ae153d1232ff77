//! The book as a sorted list, and the way of an order through it.

use engine::*;
use units::*;

use super::{ClosedClientId, Market, Naive, Open};

/// How an order's way through the book ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All of its quantity is filled.
    Full,
    /// Its quote amount buys (or earns) not one lot more.
    QuoteSpent,
    /// It met an order of its own account.
    SelfTrade,
    /// The next step would be one too many.
    TooManySteps,
    /// What is left of the other side is beyond its limit.
    Limit,
    /// Nothing is left of the other side.
    Empty,
}

/// An order on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taker {
    pub(crate) account: AccountId,
    pub(crate) market: MarketId,
    pub(crate) side: Side,
    pub(crate) stp: SelfTradePrevention,
    pub(crate) limit: Option<u64>,
    /// What is wanted; `None`: as much as the quote amount allows.
    pub(crate) quantity: Option<u64>,
    pub(crate) quote: Option<u128>,
}

/// What an order did.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) steps: Vec<Step>,
    pub(crate) filled: u64,
    pub(crate) notional: u128,
    pub(crate) stop: Stop,
}

impl Market {
    pub(crate) fn notional(&self, price: u64, quantity: u64) -> u128 {
        u128::from(price) * u128::from(quantity) * u128::from(self.config.quote_units_per_tick_lot)
    }

    pub(crate) fn base(&self, quantity: u64) -> u128 {
        u128::from(quantity) * u128::from(self.config.base_units_per_lot)
    }

    /// The reference price at a second of journal time.
    pub(crate) fn reference(&self, now: u64) -> Option<u64> {
        let recent = self.trades.iter().filter(|(second, ..)| second + 300 >= now);
        let (mut value, mut lots) = (0_u128, 0_u128);
        for (_, price, quantity, _) in recent {
            value += u128::from(*price) * u128::from(*quantity);
            lots += u128::from(*quantity);
        }
        let mean = value.checked_div(lots).map(|price| price as u64);
        mean.or(self.last_price).or(self.config.initial_price.map(PriceTicks::get))
    }

    /// The lowest and the highest price of the band around the reference.
    pub(crate) fn band(&self, now: u64) -> Option<(u64, u64)> {
        self.band_around(self.reference(now)?)
    }

    /// The lowest and the highest price of the band around a price.
    pub(crate) fn band_around(&self, price: u64) -> Option<(u64, u64)> {
        let (price, band) = (u128::from(price), u128::from(self.config.band?.get()));
        let million = u128::from(PPM);
        let low = (price * million.saturating_sub(band)).div_ceil(million);
        let high = price * (million + band) / million;
        Some((low.max(1) as u64, u64::try_from(high).unwrap_or(u64::MAX)))
    }
}

fn fee(amount: u128, rate: RatePpm) -> u128 {
    (amount * u128::from(rate.get())).div_ceil(u128::from(PPM))
}

impl Naive {
    /// One side's resting orders in price-time priority.
    pub(crate) fn queue(&self, market: MarketId, side: Side) -> Vec<&Open> {
        let resting =
            |order: &&Open| order.new.market == market && order.new.side == side && !order.waits;
        let mut queue: Vec<&Open> = self.orders.iter().filter(resting).collect();
        queue.sort_by_key(|order| {
            let price = order.price.expect("a resting order has a price");
            match side {
                Side::Buy => (u64::MAX - price, order.priority),
                Side::Sell => (price, order.priority),
            }
        });
        queue
    }

    /// What an order pays with.
    pub(crate) fn pays(&self, market: MarketId, side: Side) -> AssetId {
        let config = &self.market(market).expect("the market is known").config;
        match side {
            Side::Buy => config.quote,
            Side::Sell => config.base,
        }
    }

    /// Sends an order through the book. Its money must be held already.
    pub(crate) fn sweep(&mut self, taker: Taker) -> Way {
        let mut way = Way { steps: Vec::new(), filled: 0, notional: 0, stop: Stop::Full };
        way.stop = loop {
            if taker.quantity.is_some_and(|wanted| way.filled == wanted) {
                break Stop::Full;
            }
            if taker.quote.is_some_and(|quote| way.notional == quote) {
                break Stop::QuoteSpent;
            }
            let best =
                self.queue(taker.market, taker.side.opposite()).first().map(|o| (*o).clone());
            let Some(maker) = best else {
                break Stop::Empty;
            };
            let price = maker.price.expect("a resting order has a price");
            let beyond = taker.limit.is_some_and(|limit| match taker.side {
                Side::Buy => price > limit,
                Side::Sell => price < limit,
            });
            if beyond {
                break Stop::Limit;
            }
            let mut lots = maker.visible;
            if let Some(wanted) = taker.quantity {
                lots = lots.min(wanted - way.filled);
            }
            if let Some(quote) = taker.quote {
                let one = self.market(taker.market).expect("known").notional(price, 1);
                let affordable = (quote - way.notional) / one;
                lots = lots.min(u64::try_from(affordable).unwrap_or(u64::MAX));
            }
            if lots == 0 {
                break Stop::QuoteSpent;
            }
            if way.steps.len() as u32 == self.limits.steps_max {
                break Stop::TooManySteps;
            }
            let own = maker.new.account == taker.account;
            if own && taker.stp == SelfTradePrevention::CancelNewest {
                break Stop::SelfTrade;
            }
            if own && taker.stp != SelfTradePrevention::Allow {
                let maker_id = OrderId::new(maker.order_id);
                let remaining = QuantityLots::new(maker.remaining());
                way.steps.push(Step::MakerCancelled { maker: maker_id, remaining });
                self.close(maker.id);
                if taker.stp == SelfTradePrevention::CancelBoth {
                    break Stop::SelfTrade;
                }
                continue;
            }
            way.filled += lots;
            way.notional += self.market(taker.market).expect("known").notional(price, lots);
            let fill = self.trade(taker, maker.id, price, lots);
            way.steps.push(Step::Fill(fill));
        };
        way
    }

    /// One trade: the maker gives way, money changes hands.
    fn trade(&mut self, taker: Taker, maker_id: CommandId, price: u64, lots: u64) -> Fill {
        let market = self.market(taker.market).expect("known").clone();
        let (notional, base) = (market.notional(price, lots), market.base(lots));
        let (taker_gets, maker_gets) = match taker.side {
            Side::Buy => (base, notional),
            Side::Sell => (notional, base),
        };
        let taker_fee = fee(taker_gets, market.config.taker_fee);
        let maker_fee = fee(maker_gets, market.config.maker_fee);

        self.priorities += 1;
        let back = self.priorities;
        let maker = self.orders.iter_mut().find(|order| order.id == maker_id).expect("it rests");
        maker.filled += lots;
        maker.filled_notional += notional;
        maker.visible -= lots;
        maker.hold -= taker_gets;
        if maker.visible == 0 && maker.remaining() > 0 {
            let slice = maker.new.display.expect("only an iceberg has a hidden part").get();
            maker.visible = slice.min(maker.remaining());
            maker.priority = back;
        }
        let (maker_order, maker_account) = (maker.order_id, maker.new.account);

        let taker_pays = self.pays(taker.market, taker.side);
        let maker_pays = self.pays(taker.market, taker.side.opposite());
        self.purse_mut(taker.account, taker_pays).held -= maker_gets;
        self.purse_mut(maker_account, maker_pays).held -= taker_gets;
        self.purse_mut(taker.account, maker_pays).available += taker_gets - taker_fee;
        self.purse_mut(maker_account, taker_pays).available += maker_gets - maker_fee;
        self.purse_mut(AccountId::FEES, maker_pays).available += taker_fee;
        self.purse_mut(AccountId::FEES, taker_pays).available += maker_fee;
        if self.open(maker_id).remaining() == 0 {
            self.close(maker_id);
        }
        let trade_id = self.record_trade(taker.market, price, lots);
        Fill {
            trade_id: TradeId::new(trade_id),
            maker: OrderId::new(maker_order),
            maker_account,
            price: PriceTicks::new(price).expect("a price"),
            quantity: QuantityLots::new(lots),
            maker_fee: Amount::new(maker_fee),
            taker_fee: Amount::new(taker_fee),
        }
    }

    fn record_trade(&mut self, market: MarketId, price: u64, lots: u64) -> u64 {
        let now = self.now.seconds();
        let market = self.market_mut(market).expect("known");
        let first_of_second = market.trades.iter().find(|(second, ..)| *second == now);
        let before = match first_of_second {
            Some((_, _, _, before)) => *before,
            None => market.reference(now),
        };
        market.trades.push((now, price, lots, before));
        market.last_price = Some(price);
        market.last_trade_id += 1;
        if let Some(halt_move) = market.config.halt_move {
            let reference = u128::from(market.reference(now).expect("it has traded"));
            let mut recent = market.trades.iter().filter(|(second, ..)| second + 300 >= now);
            let oldest = recent.next().and_then(|(_, _, _, before)| *before);
            let moved = oldest.map(u128::from).is_some_and(|before| {
                let distance = reference.abs_diff(before);
                distance * u128::from(PPM) > before * u128::from(halt_move.get())
            });
            market.halt_due |= moved;
        }
        market.last_trade_id
    }

    pub(crate) fn open(&self, id: CommandId) -> &Open {
        self.orders.iter().find(|order| order.id == id).expect("it is open")
    }

    /// Takes an order off the list: frees what is still held for it, and keeps its client order id in mind.
    pub(crate) fn close(&mut self, id: CommandId) {
        let at = self.orders.iter().position(|order| order.id == id).expect("it is open");
        let order = self.orders.remove(at);
        let asset = self.pays(order.new.market, order.new.side);
        self.free(order.new.account, asset, order.hold);
        self.keep_client_id(&order.new);
    }

    pub(crate) fn keep_client_id(&mut self, new: &NewOrder) {
        if let Some(client_order_id) = new.client_order_id.clone() {
            self.closed_client_ids.push(ClosedClientId {
                account: new.account,
                client_order_id,
                closed_at: self.now,
            });
        }
    }
}
