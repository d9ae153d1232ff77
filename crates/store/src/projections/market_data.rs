//! The part with markets and what happens on them.

use engine::{AssetConfig, MarketConfig};
use tokio_postgres::Statement;
use units::MarketId;

use super::candles::{numeric, open_time};
use super::codes;
use super::copy::Copy;
use super::rows::{At, Rare, Rows};
use super::session::Write;
use super::sql;
use super::tables::{checked, column, place};
use crate::numbers::to_i64;
use crate::{Connection, Numeric, StoreError, Timestamp};

/// The statements of this part.
#[derive(Debug)]
pub(super) struct Statements {
    asset: Statement,
    market: Statement,
    market_state: Statement,
    trades: Statement,
    candles: Statement,
    last_prices: Statement,
}

impl Statements {
    pub(super) async fn prepare(on: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            asset: on.prepare(sql::ASSET).await?,
            market: on.prepare(sql::MARKET).await?,
            market_state: on.prepare(sql::MARKET_STATE).await?,
            trades: on.prepare(sql::TRADES).await?,
            candles: on.prepare(sql::CANDLES).await?,
            last_prices: on.prepare(sql::LAST_PRICES).await?,
        })
    }
}

/// Writes what the rows change in this part.
pub(super) async fn write(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    for rare in &rows.rare {
        self::rare(write, statements, rare).await?;
    }
    trades(write, statements, rows).await?;
    candles(write, statements, rows).await
}

async fn rare(
    write: &Write<'_>,
    statements: &Statements,
    rare: &Rare<'_>,
) -> Result<(), StoreError> {
    match *rare {
        Rare::Asset(config, at) => asset(write, statements, config, at).await?,
        Rare::Market(config, at) => market(write, statements, config, at).await?,
        Rare::MarketState(market, state) => {
            let (id, state) = (i32::from(market.get()), codes::market_state(state));
            write.execute(&statements.market_state, &[&id, &state]).await?;
        }
        // Of another part.
        Rare::Flags(..) | Rare::Request(..) | Rare::Withdrawal(..) => {}
    }
    Ok(())
}

async fn asset(
    write: &Write<'_>,
    statements: &Statements,
    config: &AssetConfig,
    at: At,
) -> Result<(), StoreError> {
    let (scale, transfer_scale) = (i32::from(config.scale), i32::from(config.transfer_scale));
    let sequence = to_i64(at.sequence.get())?;
    let symbol: &str = &config.symbol;
    write.execute(&statements.asset, &[&symbol, &scale, &transfer_scale, &sequence]).await?;
    Ok(())
}

async fn market(
    write: &Write<'_>,
    statements: &Statements,
    config: &MarketConfig,
    at: At,
) -> Result<(), StoreError> {
    let symbol: &str = &config.symbol;
    write
        .execute(
            &statements.market,
            &[
                &symbol,
                &i32::from(config.base.get()),
                &i32::from(config.quote.get()),
                &Numeric::from(config.base_units_per_lot),
                &Numeric::from(config.quote_units_per_tick_lot),
                &Numeric::from(config.tick_size),
                &Numeric::from(config.notional_min),
                &Numeric::from(config.quantity_max),
                &i64::from(config.maker_fee.get()),
                &i64::from(config.taker_fee.get()),
                &config.band.map(|rate| i64::from(rate.get())),
                &config.halt_move.map(|rate| i64::from(rate.get())),
                &config.initial_price.map(Numeric::from),
                &to_i64(at.sequence.get())?,
            ],
        )
        .await?;
    Ok(())
}

async fn trades(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let mut copy = Copy::new();
    for (command, trade) in &rows.trades {
        copy.row(21);
        copy.int(i32::from(trade.market.get()));
        copy.bigint(to_i64(trade.trade_id.get())?);
        copy.bigint(to_i64(trade.sequence.get())?);
        copy.int(place(*command)?);
        copy.time(trade.time);
        copy.numeric(trade.price);
        copy.numeric(trade.quantity);
        copy.numeric(trade.notional);
        copy.text(codes::side(trade.taker_side));
        copy.uuid(trade.taker_order);
        copy.bigint(to_i64(trade.taker_order_id.get())?);
        copy.bigint(to_i64(trade.taker_account.get())?);
        copy.numeric(trade.taker_fee);
        copy.int(i32::from(trade.fee_assets.0.get()));
        copy.bigint(to_i64(trade.taker_account_sequence)?);
        copy.uuid(trade.maker_order);
        copy.bigint(to_i64(trade.maker_order_id.get())?);
        copy.bigint(to_i64(trade.maker_account.get())?);
        copy.numeric(trade.maker_fee);
        copy.int(i32::from(trade.fee_assets.1.get()));
        copy.bigint(to_i64(trade.maker_account_sequence)?);
    }
    copy.send(&write.transaction, &statements.trades).await
}

async fn candles(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    if rows.candles.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = rows.candles.iter().collect();
    let markets = column(&all, |((market, ..), _)| i32::from(*market));
    let intervals = column(&all, |((_, interval, _), _)| interval.cast_signed());
    let open_times = column(&all, |((.., second), _)| Timestamp(open_time(*second)));
    let open = column(&all, |(_, candle)| Numeric::from(candle.open));
    let high = column(&all, |(_, candle)| Numeric::from(candle.high));
    let low = column(&all, |(_, candle)| Numeric::from(candle.low));
    let close = column(&all, |(_, candle)| Numeric::from(candle.close));
    let lots = column(&all, |(_, candle)| numeric(candle.lots));
    let notional = column(&all, |(_, candle)| numeric(candle.notional));
    let buy_lots = column(&all, |(_, candle)| numeric(candle.taker_buy_lots));
    let buy_notional = column(&all, |(_, candle)| numeric(candle.taker_buy_notional));
    let trades = column(&all, |(_, candle)| candle.trades);
    let first = checked(&all, |(_, candle)| candle.first_trade)?;
    let last = checked(&all, |(_, candle)| candle.last_trade)?;
    write
        .execute(
            &statements.candles,
            &[
                &markets,
                &intervals,
                &open_times,
                &open,
                &high,
                &low,
                &close,
                &lots,
                &notional,
                &buy_lots,
                &buy_notional,
                &trades,
                &first,
                &last,
            ],
        )
        .await?;
    let markets = rows.last_prices.keys().map(|id: &MarketId| i32::from(id.get()));
    let markets: Vec<i32> = markets.collect();
    let prices: Vec<Numeric> = rows.last_prices.values().map(|&price| price.into()).collect();
    write.execute(&statements.last_prices, &[&markets, &prices]).await?;
    Ok(())
}
