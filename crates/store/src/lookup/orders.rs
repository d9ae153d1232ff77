//! Orders and fills of one account.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use units::{AccountId, Amount, MarketId, PriceTicks, QuantityLots, Sequence, Time};
use uuid::Uuid;

use crate::numbers::{to_i64, to_u64};
use crate::{Db, Numeric, StoreError, Timestamp};

/// An order as it is projected, or as it waits. Words are as the database has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// The id.
    pub id: Uuid,
    /// The integer id; `None` until it was accepted.
    pub order_id: Option<u64>,
    /// The market.
    pub market: MarketId,
    /// `buy` or `sell`.
    pub side: String,
    /// The kind of order.
    pub order_type: String,
    /// How long it stands.
    pub time_in_force: String,
    /// Until when.
    pub good_till: Option<Time>,
    /// Whether it may only make.
    pub post_only: bool,
    /// The limit price.
    pub price: Option<PriceTicks>,
    /// The total quantity.
    pub quantity: QuantityLots,
    /// A market order's quote amount.
    pub quote_amount: Option<Amount>,
    /// The filled part.
    pub filled: QuantityLots,
    /// What that cost.
    pub filled_notional: Amount,
    /// A stop's trigger.
    pub trigger: Option<PriceTicks>,
    /// Whether it was triggered.
    pub triggered: bool,
    /// An iceberg's slice.
    pub display: Option<QuantityLots>,
    /// What happens when it meets its own kind.
    pub self_trade_prevention: String,
    /// The owner's id for it.
    pub client_order_id: Option<String>,
    /// Where it stands.
    pub status: String,
    /// Why it ended or was refused.
    pub reason: Option<String>,
    /// When it was accepted or received.
    pub created_at: Time,
    /// The journal row that decided it; `None` while it waits.
    pub created_in: Option<Sequence>,
    /// When it changed last.
    pub updated_at: Time,
}

/// A statement about the columns that [`order_row`] reads.
macro_rules! of_order {
    ($rest:literal) => {
        concat!(
            "SELECT id, order_id, market_id, side, order_type, time_in_force, good_till, post_only, price_ticks, ",
            "quantity_lots, quote_amount, filled_lots, filled_notional, trigger_ticks, triggered, display_lots, ",
            "self_trade_prevention, client_order_id, status, reason, created_at, created_in, updated_at FROM orders ",
            $rest
        )
    };
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} of an order is out of its range"))
}

fn lots(number: Numeric) -> Result<QuantityLots, StoreError> {
    let lots = number.amount().and_then(|amount| u64::try_from(amount.get()).ok());
    lots.map(QuantityLots::new).ok_or_else(|| corrupt("a quantity"))
}

fn ticks(number: Numeric) -> Result<PriceTicks, StoreError> {
    let ticks = number.amount().and_then(|amount| u64::try_from(amount.get()).ok());
    ticks.and_then(PriceTicks::new).ok_or_else(|| corrupt("a price"))
}

fn amount(number: Numeric) -> Result<Amount, StoreError> {
    number.amount().ok_or_else(|| corrupt("an amount"))
}

fn market(number: i32) -> Result<MarketId, StoreError> {
    u16::try_from(number).map(MarketId::new).map_err(|_| corrupt("a market"))
}

fn order_row(row: &Row) -> Result<OrderRow, StoreError> {
    let time = |at: usize| row.get::<_, Timestamp>(at).0;
    Ok(OrderRow {
        id: row.get(0),
        order_id: row.get::<_, Option<i64>>(1).map(to_u64).transpose()?,
        market: market(row.get(2))?,
        side: row.get(3),
        order_type: row.get(4),
        time_in_force: row.get(5),
        good_till: row.get::<_, Option<Timestamp>>(6).map(|time| time.0),
        post_only: row.get::<_, Option<bool>>(7).unwrap_or_default(),
        price: row.get::<_, Option<Numeric>>(8).map(ticks).transpose()?,
        quantity: lots(row.get(9))?,
        quote_amount: row.get::<_, Option<Numeric>>(10).map(amount).transpose()?,
        filled: lots(row.get(11))?,
        filled_notional: amount(row.get(12))?,
        trigger: row.get::<_, Option<Numeric>>(13).map(ticks).transpose()?,
        triggered: row.get(14),
        display: row.get::<_, Option<Numeric>>(15).map(lots).transpose()?,
        self_trade_prevention: row.get(16),
        client_order_id: row.get(17),
        status: row.get(18),
        reason: row.get(19),
        created_at: time(20),
        created_in: row.get::<_, Option<i64>>(21).map(to_u64).transpose()?.map(Sequence::new),
        updated_at: time(22),
    })
}

/// Returns an order of an account, projected or waiting.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn order(db: &Db, account: AccountId, id: Uuid) -> Result<Option<OrderRow>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_order!("WHERE id = $1 AND account_id = $2")).await?;
    let row = client.query_opt(&text, &[&id, &to_i64(account.get())?]).await?;
    row.as_ref().map(order_row).transpose()
}

/// Which orders, and where the page begins.
#[derive(Clone, Copy, Debug)]
pub struct OrderPage<'a> {
    /// Whose.
    pub account: AccountId,
    /// Of one market alone.
    pub market: Option<MarketId>,
    /// Of these statuses alone.
    pub statuses: Option<&'a [&'a str]>,
    /// After this one, newest first.
    pub after: Option<(Time, Uuid)>,
    /// At most this many.
    pub rows_max: usize,
}

/// Returns a page of orders, newest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn orders(db: &Db, page: &OrderPage<'_>) -> Result<Vec<OrderRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(of_order!(
            "WHERE account_id = $1 AND ($2::int IS NULL OR market_id = $2) \
               AND ($3::text[] IS NULL OR status = ANY ($3)) \
               AND (created_at, id) < (coalesce($4, 'infinity'::timestamptz), \
                   coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)) \
             ORDER BY created_at DESC, id DESC LIMIT $6"
        ))
        .await?;
    let market = page.market.map(|market| i32::from(market.get()));
    let after = page.after.map(|(time, _)| Timestamp(time));
    let id = page.after.map(|(_, id)| id);
    let rows_max = i64::try_from(page.rows_max).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&to_i64(page.account.get())?, &market, &page.statuses, &after, &id, &rows_max];
    client.query(&text, &parameters).await?.iter().map(order_row).collect()
}

/// One side of a trade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillRow {
    /// The market.
    pub market: MarketId,
    /// The trade's id in it.
    pub trade_id: u64,
    /// Journal time.
    pub time: Time,
    /// The price.
    pub price: PriceTicks,
    /// How much.
    pub quantity: QuantityLots,
    /// The price × quantity.
    pub notional: Amount,
    /// Whether it was the taker's side.
    pub taker: bool,
    /// Whether it was a buy.
    pub buy: bool,
    /// The order.
    pub order: Uuid,
    /// Its integer id.
    pub order_id: u64,
    /// The fee.
    pub fee: Amount,
    /// The account's counter after it.
    pub account_sequence: u64,
}

/// Returns a page of an account's fills, newest first, of one market or order alone where that is given.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn fills(
    db: &Db,
    account: AccountId,
    market: Option<MarketId>,
    order: Option<Uuid>,
    before: Option<u64>,
    rows_max: usize,
) -> Result<Vec<FillRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "(SELECT market_id, trade_id, time, price_ticks, quantity_lots, notional, true AS taker, \
                     taker_side = 'buy' AS buy, taker_order, taker_order_id, taker_fee, \
                     taker_account_sequence AS account_sequence FROM trades \
               WHERE taker_account_id = $1 AND taker_account_sequence < $4 \
                 AND ($2::int IS NULL OR market_id = $2) AND ($3::uuid IS NULL OR taker_order = $3) \
               ORDER BY taker_account_sequence DESC LIMIT $5) \
             UNION ALL \
             (SELECT market_id, trade_id, time, price_ticks, quantity_lots, notional, false, \
                     taker_side = 'sell', maker_order, maker_order_id, maker_fee, maker_account_sequence \
                FROM trades \
               WHERE maker_account_id = $1 AND maker_account_sequence < $4 \
                 AND ($2::int IS NULL OR market_id = $2) AND ($3::uuid IS NULL OR maker_order = $3) \
               ORDER BY maker_account_sequence DESC LIMIT $5) \
             ORDER BY account_sequence DESC LIMIT $5",
        )
        .await?;
    let market = market.map(|market| i32::from(market.get()));
    let before = before.map_or(Ok(i64::MAX), to_i64)?;
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&to_i64(account.get())?, &market, &order, &before, &rows_max];
    client.query(&text, &parameters).await?.iter().map(fill_row).collect()
}

fn fill_row(row: &Row) -> Result<FillRow, StoreError> {
    Ok(FillRow {
        market: market(row.get(0))?,
        trade_id: to_u64(row.get(1))?,
        time: row.get::<_, Timestamp>(2).0,
        price: ticks(row.get(3))?,
        quantity: lots(row.get(4))?,
        notional: amount(row.get(5))?,
        taker: row.get(6),
        buy: row.get(7),
        order: row.get(8),
        order_id: to_u64(row.get(9))?,
        fee: amount(row.get(10))?,
        account_sequence: to_u64(row.get(11))?,
    })
}

/// An order that is answered 202.
#[derive(Clone, Copy, Debug)]
pub struct PendingOrder<'a> {
    /// Its id.
    pub id: Uuid,
    /// What is asked.
    pub order: &'a engine::NewOrder,
    /// The words for its kinds: side, type, time in force, self-trade prevention.
    pub words: [&'a str; 4],
    /// Journal time after which it is refused.
    pub expires_at: Time,
    /// Journal time of now.
    pub now: Time,
}

/// Makes an order that waits visible to every server; the same again changes nothing.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn insert_pending(db: &Db, pending: &PendingOrder<'_>) -> Result<(), StoreError> {
    let order = pending.order;
    let good_till = match order.time_in_force {
        engine::TimeInForce::Gtd(time) => Some(Timestamp(time)),
        _ => None,
    };
    let price = order.price.map(|price| Numeric::from(price.get()));
    let quantity = Numeric::from(order.quantity.get());
    let quote_amount = order.quote_amount.map(|amount| Numeric::from(amount.get()));
    let trigger = order.trigger.map(|price| Numeric::from(price.get()));
    let display = order.display.map(|lots| Numeric::from(lots.get()));
    let client_order_id = order.client_order_id.as_ref().map(engine::ClientOrderId::as_str);
    let [side, order_type, time_in_force, self_trade_prevention] = pending.words;
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "INSERT INTO pending_commands (id, kind, account_id, market_id, side, order_type, time_in_force, \
                 good_till, post_only, price_ticks, quantity_lots, quote_amount, trigger_ticks, display_lots, \
                 self_trade_prevention, client_order_id, expires_at, created_at) \
             VALUES ($1, 'place_order', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
             ON CONFLICT (id) DO UPDATE SET expires_at = GREATEST(pending_commands.expires_at, EXCLUDED.expires_at)",
        )
        .await?;
    let parameters: [&(dyn ToSql + Sync); 17] = [
        &pending.id,
        &to_i64(order.account.get())?,
        &i32::from(order.market.get()),
        &side,
        &order_type,
        &time_in_force,
        &good_till,
        &order.post_only,
        &price,
        &quantity,
        &quote_amount,
        &trigger,
        &display,
        &self_trade_prevention,
        &client_order_id,
        &Timestamp(pending.expires_at),
        &Timestamp(pending.now),
    ];
    client.execute(&text, &parameters).await?;
    Ok(())
}

/// Deletes waiting commands that are projected by now. Those that were never decided stay, and read as expired.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn sweep_pending(db: &Db) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let swept = client
        .execute(
            "DELETE FROM pending_commands waiting USING orders_projected decided WHERE decided.id = waiting.id",
            &[],
        )
        .await?;
    Ok(swept)
}
