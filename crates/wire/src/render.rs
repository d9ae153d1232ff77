//! The core's things as bodies of the API.

use engine::{AssetConfig, MarketConfig, OrderView, State};
use units::{Amount, MarketId, PriceTicks, QuantityLots};

use crate::body;
use crate::decimal;
use crate::enums::{Liquidity, TimeInForce};
use crate::id;

/// A market with its two assets: everything it takes to say its prices and quantities.
#[derive(Clone, Copy, Debug)]
pub struct MarketWords<'a> {
    /// The market's rules.
    pub market: &'a MarketConfig,
    /// The asset that is traded.
    pub base: &'a AssetConfig,
    /// The asset that it is priced in.
    pub quote: &'a AssetConfig,
}

impl<'a> MarketWords<'a> {
    /// Takes a market and its assets from the state; `None` where there is no such market.
    #[must_use]
    pub fn of(state: &'a State, market: MarketId) -> Option<Self> {
        Self::new(state.market(market)?.config, state.assets())
    }

    /// Takes a market's assets from the list of all; `None` where they are not in it.
    #[must_use]
    pub fn new(market: &'a MarketConfig, assets: &'a [AssetConfig]) -> Option<Self> {
        let base = assets.get(usize::from(market.base.get()))?;
        let quote = assets.get(usize::from(market.quote.get()))?;
        Some(Self { market, base, quote })
    }

    /// Prints a price.
    #[must_use]
    pub fn price(&self, price: PriceTicks) -> String {
        decimal::format_price(self.market, self.quote, price)
    }

    /// Prints a quantity.
    #[must_use]
    pub fn quantity(&self, quantity: QuantityLots) -> String {
        decimal::format_quantity(self.market, self.base, quantity)
    }

    /// Prints an amount of the quote asset.
    #[must_use]
    pub fn notional(&self, notional: Amount) -> String {
        decimal::format_notional(self.quote, notional)
    }

    /// Says an order.
    #[must_use]
    pub fn order(&self, order: &OrderView<'_>) -> body::Order {
        let good_till_date = match order.time_in_force {
            engine::TimeInForce::Gtd(time) => Some(time.into()),
            _ => None,
        };
        let sized = !order.quantity.is_zero();
        let remaining = order.quantity.checked_sub(order.filled).unwrap_or_default();
        body::Order {
            id: id::to_uuid(order.id),
            number: Some(order.order_id.get()),
            market: self.market.symbol.to_string(),
            side: order.side.into(),
            order_type: order.order_type.into(),
            time_in_force: TimeInForce::from(order.time_in_force),
            good_till_date,
            post_only: order.post_only,
            price: order.price.map(|price| self.price(price)),
            quantity: sized.then(|| self.quantity(order.quantity)),
            quote_amount: order.quote_amount.map(|amount| self.notional(amount)),
            filled_quantity: self.quantity(order.filled),
            remaining_quantity: sized.then(|| self.quantity(remaining)),
            filled_notional: self.notional(order.filled_notional),
            average_price: self.average_price(order.filled_notional, order.filled),
            trigger_price: order.trigger.map(|price| self.price(price)),
            triggered: order.trigger.map(|_| order.triggered),
            display_quantity: order.display.map(|quantity| self.quantity(quantity)),
            self_trade_prevention: order.self_trade_prevention.into(),
            client_order_id: order.client_order_id.as_deref().map(|id| id.as_str().to_owned()),
            status: order.status.into(),
            reason: order.reason.map(Into::into),
            created_at: order.created_at.into(),
            updated_at: order.updated_at.into(),
        }
    }

    /// Prints the average price of what was filled; `None` where nothing was.
    #[must_use]
    pub fn average_price(&self, notional: Amount, filled: QuantityLots) -> Option<String> {
        let lots = u128::from(filled.get());
        decimal::format_average_price(self.market, self.base, self.quote, notional, lots)
    }

    /// Says a trade as everyone sees it.
    #[must_use]
    pub fn trade(&self, trade: &engine::Trade) -> body::Trade {
        body::Trade {
            trade_id: trade.trade_id.get(),
            market: self.market.symbol.to_string(),
            price: self.price(trade.price),
            quantity: self.quantity(trade.quantity),
            notional: self.notional(trade.notional),
            taker_side: trade.taker_side.into(),
            time: trade.time.into(),
        }
    }

    /// Says one side of a trade as its owner sees it.
    #[must_use]
    pub fn fill(&self, trade: &engine::Trade, liquidity: Liquidity) -> body::Fill {
        let (order, number, side, fee) = match liquidity {
            Liquidity::Taker => {
                (trade.taker_order, trade.taker_order_id, trade.taker_side, trade.taker_fee)
            }
            Liquidity::Maker => {
                let side = trade.taker_side.opposite();
                (trade.maker_order, trade.maker_order_id, side, trade.maker_fee)
            }
        };
        // The fee is taken from what is received: the buyer's from the base asset.
        let fee_asset = match side {
            engine::Side::Buy => self.base,
            engine::Side::Sell => self.quote,
        };
        body::Fill {
            trade_id: trade.trade_id.get(),
            market: self.market.symbol.to_string(),
            order_id: id::to_uuid(order),
            order_number: number.get(),
            side: side.into(),
            liquidity,
            price: self.price(trade.price),
            quantity: self.quantity(trade.quantity),
            notional: self.notional(trade.notional),
            fee: decimal::format_amount(fee_asset, fee),
            fee_asset: fee_asset.symbol.to_string(),
            time: trade.time.into(),
        }
    }
}

/// Says a balance.
#[must_use]
pub fn balance(asset: &AssetConfig, balance: units::Balance) -> body::Balance {
    body::Balance {
        asset: asset.symbol.to_string(),
        available: decimal::format_amount(asset, balance.available),
        held: decimal::format_amount(asset, balance.held),
        total: decimal::format_amount(asset, balance.total()),
    }
}

/// Says a market's rules; `None` where its assets are not among `assets`.
#[must_use]
pub fn market(view: &engine::MarketView<'_>, assets: &[AssetConfig]) -> Option<body::Market> {
    let words = MarketWords::new(view.config, assets)?;
    let config = view.config;
    Some(body::Market {
        symbol: config.symbol.to_string(),
        base: words.base.symbol.to_string(),
        quote: words.quote.symbol.to_string(),
        state: view.state.into(),
        tick_size: decimal::tick_size(config, words.quote),
        lot_size: decimal::lot_size(config, words.base),
        notional_min: words.notional(config.notional_min),
        quantity_max: words.quantity(config.quantity_max),
        maker_fee: decimal::format_rate(config.maker_fee),
        taker_fee: decimal::format_rate(config.taker_fee),
        band: config.band.map(decimal::format_rate),
        halt_move: config.halt_move.map(decimal::format_rate),
        reference_price: view.reference.map(|price| words.price(price)),
        last_price: view.last_price.map(|price| words.price(price)),
    })
}
