//! The bodies of the API: orders, fills, trades, balances, books, tickers, candles, markets.
//!
//! Amounts and prices are decimal strings, times RFC 3339 in UTC, ids UUIDs; the integer ids that are unique per
//! market are numbers. [`crate::render`] makes the answers, [`crate::order`] reads the requests.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::DecimalInput;
use crate::enums::{
    CancelReason, Interval, Liquidity, MarketState, OrderStatus, OrderType, SelfTradePrevention,
    Side, TimeInForce,
};
use crate::time::Timestamp;

/// A new order, as it is asked for.
///
/// Words are taken as text here, so that an unknown one is refused as a bad value and not as bad JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlaceOrderRequest {
    /// The market, `BTC/USD` or `BTC-USD`.
    #[schema(required, value_type = String, example = "BTC/USD")]
    pub market: Option<String>,
    /// `buy` or `sell`.
    #[schema(required, value_type = Side)]
    pub side: Option<String>,
    /// The kind of order.
    #[schema(required, value_type = OrderType)]
    pub order_type: Option<String>,
    /// How long it stands; `gtc` unless given, `ioc` for a market or stop-market order.
    #[schema(value_type = Option<TimeInForce>)]
    pub time_in_force: Option<String>,
    /// Until when, for `gtd`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub good_till_date: Option<String>,
    /// Refused if it would trade at once.
    #[serde(default)]
    pub post_only: bool,
    /// The limit price, on the market's tick.
    #[schema(example = "64000.00")]
    pub price: Option<DecimalInput>,
    /// The quantity of the base asset, on the market's lot.
    #[schema(example = "0.5")]
    pub quantity: Option<DecimalInput>,
    /// The most that a market order may spend or earn, in the quote asset.
    #[schema(example = "100.00")]
    pub quote_amount: Option<DecimalInput>,
    /// A stop's trigger price.
    pub trigger_price: Option<DecimalInput>,
    /// An iceberg's visible slice.
    pub display_quantity: Option<DecimalInput>,
    /// What happens when it meets an order of its own account; `cancel_newest` unless given.
    #[schema(value_type = Option<SelfTradePrevention>)]
    pub self_trade_prevention: Option<String>,
    /// The owner's own id for it: 1 to 36 of `A-Z a-z 0-9 . _ : / -`.
    pub client_order_id: Option<String>,
}

/// A change of an open order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmendOrderRequest {
    /// The new limit price.
    pub price: Option<DecimalInput>,
    /// The new total quantity, filled part included.
    pub quantity: Option<DecimalInput>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Its integer id, unique in its market and rising; absent until it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Its market.
    #[schema(example = "BTC/USD")]
    pub market: String,
    /// Buy or sell.
    pub side: Side,
    /// As it was placed.
    pub order_type: OrderType,
    /// How long it stands.
    pub time_in_force: TimeInForce,
    /// Until when, for `gtd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good_till_date: Option<Timestamp>,
    /// Whether it may only make.
    pub post_only: bool,
    /// The limit price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// The total quantity; absent for a market order by quote amount alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
    /// A market order's quote amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_amount: Option<String>,
    /// The filled part.
    pub filled_quantity: String,
    /// What is not filled; absent where the total is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_quantity: Option<String>,
    /// What the filled part cost, fees aside.
    pub filled_notional: String,
    /// The average price of the filled part, rounded down; for display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_price: Option<String>,
    /// A stop's trigger price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_price: Option<String>,
    /// Whether a stop has been triggered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggered: Option<bool>,
    /// An iceberg's visible slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_quantity: Option<String>,
    /// What happens when it meets an order of its own account.
    pub self_trade_prevention: SelfTradePrevention,
    /// The owner's own id for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it ended before it was filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CancelReason>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// One side of a trade, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    /// The trade's id, unique in its market, rising, without gaps.
    pub trade_id: u64,
    /// The market.
    pub market: String,
    /// The order that was filled.
    pub order_id: Uuid,
    /// Its integer id.
    pub order_number: u64,
    /// Its side.
    pub side: Side,
    /// Whether it rested in the book or came in.
    pub liquidity: Liquidity,
    /// The price.
    pub price: String,
    /// How much of the base asset.
    pub quantity: String,
    /// The price × quantity, in the quote asset.
    pub notional: String,
    /// The fee.
    pub fee: String,
    /// What the fee was taken from: the asset received.
    pub fee_asset: String,
    /// When.
    pub time: Timestamp,
}

/// A trade, as everyone sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trade {
    /// Its id, unique in its market, rising, without gaps.
    pub trade_id: u64,
    /// The market.
    pub market: String,
    /// The price.
    pub price: String,
    /// How much of the base asset.
    pub quantity: String,
    /// The price × quantity, in the quote asset.
    pub notional: String,
    /// The side of the order that came in.
    pub taker_side: Side,
    /// When.
    pub time: Timestamp,
}

/// What an account has of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// The asset.
    #[schema(example = "BTC")]
    pub asset: String,
    /// Free to be spent.
    pub available: String,
    /// Set aside for open orders and withdrawals.
    pub held: String,
    /// Both together.
    pub total: String,
}

/// A price and the visible quantity there: `["64000.00","0.50000000"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Level(pub String, pub String);

/// A market's visible book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Book {
    /// The market.
    pub market: String,
    /// The journal row that it shows.
    pub sequence: u64,
    /// The last change in it; the next one of the stream has the number after it.
    pub last_update_id: u64,
    /// CRC-32 over the top ten levels (see the WebSocket documentation).
    pub checksum: u32,
    /// Bids, highest first.
    pub bids: Vec<Level>,
    /// Asks, lowest first.
    pub asks: Vec<Level>,
}

/// A market's last price, best prices, and the statistics of its last 24 hours, trade by trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ticker {
    /// The market.
    pub market: String,
    /// The journal row that it shows.
    pub sequence: u64,
    /// The last trade's price; absent until the market has traded.
    pub last_price: Option<String>,
    /// The highest bid.
    pub best_bid: Option<String>,
    /// The visible quantity there.
    pub best_bid_quantity: Option<String>,
    /// The lowest ask.
    pub best_ask: Option<String>,
    /// The visible quantity there.
    pub best_ask_quantity: Option<String>,
    /// The price of the first trade within 24 hours.
    pub open: Option<String>,
    /// The highest price within 24 hours.
    pub high: Option<String>,
    /// The lowest price within 24 hours.
    pub low: Option<String>,
    /// The last price less the first, with its sign.
    pub change: Option<String>,
    /// The same in percent of the first, rounded to two decimals toward zero; for display.
    pub change_percent: Option<String>,
    /// The quantity of the base asset traded within 24 hours.
    pub volume: String,
    /// What that cost in the quote asset.
    pub quote_volume: String,
    /// The number of trades within 24 hours.
    pub trades: u64,
    /// The first of them.
    pub first_trade_id: Option<u64>,
    /// The last of them.
    pub last_trade_id: Option<u64>,
    /// The end of the 24 hours: journal time.
    pub time: Timestamp,
}

/// What a market did in one interval, `[openTime, closeTime)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candle {
    /// Its first moment.
    pub open_time: Timestamp,
    /// The first moment after it.
    pub close_time: Timestamp,
    /// The first price; the last close before it where nothing traded.
    pub open: String,
    /// The highest price.
    pub high: String,
    /// The lowest price.
    pub low: String,
    /// The last price.
    pub close: String,
    /// The quantity of the base asset.
    pub volume: String,
    /// What that cost in the quote asset.
    pub quote_volume: String,
    /// The number of trades.
    pub trades: u64,
    /// Whether the interval is over.
    pub closed: bool,
}

/// A market's candles, without holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candles {
    /// The market.
    pub market: String,
    /// The length of each.
    pub interval: Interval,
    /// The candles, oldest first.
    pub candles: Vec<Candle>,
}

/// A market's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Market {
    /// The symbol.
    #[schema(example = "BTC/USD")]
    pub symbol: String,
    /// The asset that is traded.
    #[schema(example = "BTC")]
    pub base: String,
    /// The asset that it is priced in.
    #[schema(example = "USD")]
    pub quote: String,
    /// What it lets through.
    pub state: MarketState,
    /// Prices are multiples of it.
    #[schema(example = "0.01")]
    pub tick_size: String,
    /// Quantities are multiples of it.
    pub lot_size: String,
    /// The least price × quantity of an order.
    pub notional_min: String,
    /// The greatest quantity of an order.
    pub quantity_max: String,
    /// The maker's fee, as a fraction.
    #[schema(example = "0.001")]
    pub maker_fee: String,
    /// The taker's fee, as a fraction.
    pub taker_fee: String,
    /// How far from the reference price an order may be, as a fraction; absent: no band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<String>,
    /// The move of the reference price within five minutes that halts the market, as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt_move: Option<String>,
    /// The price that the band is measured from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_price: Option<String>,
    /// The last trade's price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_price: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
