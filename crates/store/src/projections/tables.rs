//! Writes what a run of batches changes, table by table.

use engine::{AssetConfig, MarketConfig, Reject};
use units::{CommandId, MarketId, ReferenceHash};
use uuid::Uuid;

use super::candles::{numeric, open_time};
use super::codes;
use super::copy::Copy;
use super::orders::Orders;
use super::rows::{At, Deposit, Rare, Request, Rows, Transfer, refusal};
use super::session::Write;
use crate::numbers::to_i64;
use crate::{Numeric, StoreError, Timestamp};

/// Writes everything.
pub(super) async fn write(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
    accounts(write, rows).await?;
    for rare in &rows.rare {
        self::rare(write, rare).await?;
    }
    trades(write, rows).await?;
    postings(write, rows).await?;
    orders(write, rows).await?;
    balances(write, rows).await?;
    candles(write, rows).await?;
    let credited: Vec<&Deposit> = rows.deposits.values().collect();
    deposits(write, &credited, &write.statements.deposits).await?;
    let refused: Vec<&Deposit> = rows.refused_deposits.iter().collect();
    deposits(write, &refused, &write.statements.refused_deposits).await?;
    let completed: Vec<&Transfer> = rows.transfers.values().collect();
    transfers(write, &completed, &write.statements.transfers).await?;
    let refused: Vec<&Transfer> = rows.refused_transfers.iter().collect();
    transfers(write, &refused, &write.statements.refused_transfers).await
}

/// Makes one column of the rows.
fn column<R, T>(rows: &[R], value: impl FnMut(&R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The same, where a value may be beyond what the column holds.
fn checked<R>(rows: &[R], mut value: impl FnMut(&R) -> u64) -> Result<Vec<i64>, StoreError> {
    rows.iter().map(|row| to_i64(value(row))).collect()
}

pub(super) fn uuid(id: CommandId) -> Uuid {
    Uuid::from_u128(id.get())
}

fn reference(hash: ReferenceHash) -> Uuid {
    Uuid::from_u128(hash.get())
}

async fn accounts(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
    let rows: Vec<_> = rows.accounts.iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ids = checked(&rows, |(id, _)| id.get())?;
    let times = column(&rows, |(_, at)| Timestamp(at.time));
    let sequences = checked(&rows, |(_, at)| at.sequence.get())?;
    write.execute(&write.statements.accounts, &[&ids, &times, &sequences]).await?;
    Ok(())
}

async fn rare(write: &Write<'_>, rare: &Rare<'_>) -> Result<(), StoreError> {
    let statements = write.statements;
    match *rare {
        Rare::Asset(config, at) => asset(write, config, at).await?,
        Rare::Market(config, at) => market(write, config, at).await?,
        Rare::MarketState(market, state) => {
            let (id, state) = (i32::from(market.get()), codes::market_state(state));
            write.execute(&statements.market_state, &[&id, &state]).await?;
        }
        Rare::Flags(account, f) => {
            let id = to_i64(account.get())?;
            let all: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&id, &f.locked, &f.withdrawals_frozen, &f.market_maker, &f.closed];
            write.execute(&statements.flags, &all).await?;
        }
        Rare::Request(request) => self::request(write, &request).await?,
        Rare::Withdrawal(withdrawal, at) => {
            let (id, status) = (uuid(withdrawal.id), withdrawal.state.code());
            let (sequence, time) = (to_i64(at.sequence.get())?, Timestamp(at.time));
            let account_sequence = to_i64(withdrawal.account_sequence)?;
            write
                .execute(
                    &statements.withdrawal,
                    &[&id, &status, &sequence, &time, &account_sequence],
                )
                .await?;
        }
    }
    Ok(())
}

async fn asset(write: &Write<'_>, config: &AssetConfig, at: At) -> Result<(), StoreError> {
    let (scale, transfer_scale) = (i32::from(config.scale), i32::from(config.transfer_scale));
    let sequence = to_i64(at.sequence.get())?;
    let symbol: &str = &config.symbol;
    write.execute(&write.statements.asset, &[&symbol, &scale, &transfer_scale, &sequence]).await?;
    Ok(())
}

async fn market(write: &Write<'_>, config: &MarketConfig, at: At) -> Result<(), StoreError> {
    let symbol: &str = &config.symbol;
    write
        .execute(
            &write.statements.market,
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

async fn request(write: &Write<'_>, request: &Request) -> Result<(), StoreError> {
    let (statement, status, reason) = match request.rejected {
        None => (&write.statements.requests, "requested", None),
        Some(reject) => {
            let (status, reason) = refusal(reject);
            (&write.statements.refused_requests, status, Some(reason))
        }
    };
    write
        .execute(
            statement,
            &[
                &uuid(request.id),
                &to_i64(request.account.get())?,
                &i32::from(request.asset.get()),
                &Numeric::from(request.amount),
                &reference(request.destination),
                &status,
                &reason,
                &to_i64(request.at.sequence.get())?,
                &Timestamp(request.at.time),
            ],
        )
        .await?;
    Ok(())
}

async fn trades(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
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
    copy.send(&write.transaction, &write.statements.trades).await
}

async fn postings(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
    let mut copy = Copy::new();
    for (sequence, at, posting) in &rows.postings {
        copy.row(11);
        copy.bigint(to_i64(sequence.get())?);
        copy.int(place(*at)?);
        copy.int(place(posting.at)?);
        copy.text(codes::transfer_kind(posting.kind));
        copy.uuid(posting.reference);
        match posting.trade {
            Some((market, trade)) => {
                copy.int(i32::from(market.get()));
                copy.bigint(to_i64(trade.get())?);
            }
            None => {
                copy.null();
                copy.null();
            }
        }
        copy.time(posting.time);
        copy.bigint(to_i64(posting.account.get())?);
        copy.int(i32::from(posting.asset.get()));
        copy.numeric(posting.amount);
    }
    copy.send(&write.transaction, &write.statements.postings).await
}

/// A place within one journal row.
fn place<N>(number: N) -> Result<i32, StoreError>
where
    i32: TryFrom<N>,
{
    i32::try_from(number).map_err(|_| StoreError::Corrupt("a row of too many effects".to_owned()))
}

async fn orders(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
    let mut placed = Orders::default();
    for (order, at) in &rows.orders {
        placed.push(order, *at)?;
    }
    placed.write(write, &write.statements.orders).await?;
    let mut refused = Orders::default();
    for row in &rows.refused_orders {
        refused.push_refused(row)?;
    }
    refused.write(write, &write.statements.refused_orders).await
}

async fn balances(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
    let rows: Vec<_> = rows.balances.values().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let accounts = checked(&rows, |(balance, _)| balance.account.get())?;
    let assets = column(&rows, |(balance, _)| i32::from(balance.asset.get()));
    let available = column(&rows, |(row, _)| Numeric::from(row.balance.available));
    let held = column(&rows, |(row, _)| Numeric::from(row.balance.held));
    let account_sequences = checked(&rows, |(balance, _)| balance.account_sequence)?;
    let sequences = checked(&rows, |(_, at)| at.sequence.get())?;
    let times = column(&rows, |(_, at)| Timestamp(at.time));
    write
        .execute(
            &write.statements.balances,
            &[&accounts, &assets, &available, &held, &account_sequences, &sequences, &times],
        )
        .await?;
    Ok(())
}

async fn candles(write: &Write<'_>, rows: &Rows<'_>) -> Result<(), StoreError> {
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
            &write.statements.candles,
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
    write.execute(&write.statements.last_prices, &[&markets, &prices]).await?;
    Ok(())
}

/// The status of what is done at once or refused, and why it was refused.
fn outcome(done: &'static str, rejected: Option<Reject>) -> (&'static str, Option<&'static str>) {
    rejected.map_or((done, None), |reject| {
        let (status, reason) = refusal(reject);
        (status, Some(reason))
    })
}

async fn deposits(
    write: &Write<'_>,
    rows: &[&Deposit],
    statement: &tokio_postgres::Statement,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let outcome = |row: &&Deposit| outcome("credited", row.rejected);
    write
        .execute(
            statement,
            &[
                &column(rows, |row| uuid(row.id)),
                &checked(rows, |row| row.account.get())?,
                &column(rows, |row| i32::from(row.asset.get())),
                &column(rows, |row| Numeric::from(row.amount)),
                &column(rows, |row| reference(row.reference)),
                &column(rows, |row| row.sandbox),
                &column(rows, |row| outcome(row).0),
                &column(rows, |row| outcome(row).1),
                &checked(rows, |row| row.at.sequence.get())?,
                &column(rows, |row| Timestamp(row.at.time)),
            ],
        )
        .await?;
    Ok(())
}

async fn transfers(
    write: &Write<'_>,
    rows: &[&Transfer],
    statement: &tokio_postgres::Statement,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let outcome = |row: &&Transfer| outcome("completed", row.rejected);
    write
        .execute(
            statement,
            &[
                &column(rows, |row| uuid(row.id)),
                &checked(rows, |row| row.from.get())?,
                &checked(rows, |row| row.to.get())?,
                &column(rows, |row| i32::from(row.asset.get())),
                &column(rows, |row| Numeric::from(row.amount)),
                &column(rows, |row| outcome(row).0),
                &column(rows, |row| outcome(row).1),
                &checked(rows, |row| row.at.sequence.get())?,
                &column(rows, |row| Timestamp(row.at.time)),
            ],
        )
        .await?;
    Ok(())
}
