//! The part with the rows of orders: those that were placed, as they stand, and those that were refused, as they were asked for.

use engine::OrderView;
use tokio_postgres::Statement;
use units::CommandId;
use uuid::Uuid;

use super::codes;
use super::copy::Copy;
use super::rows::{At, Rows, order_status, refusal};
use super::session::Write;
use super::sql;
use super::tables::{checked, column, uuid};
use crate::numbers::to_i64;
use crate::{Connection, Numeric, StoreError, Timestamp};

/// The statements of this part.
#[derive(Debug)]
pub(super) struct Statements {
    before: Statement,
    placed: Statement,
    changed: Statement,
    refused: Statement,
}

impl Statements {
    pub(super) async fn prepare(on: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            before: on.prepare(sql::ORDERS_BEFORE).await?,
            placed: on.prepare(sql::ORDERS).await?,
            changed: on.prepare(sql::ORDERS_CHANGED).await?,
            refused: on.prepare(&format!("{}{}", sql::REFUSED_ORDERS, sql::FIRST)).await?,
        })
    }
}

/// An order as it stands, and where it changed last.
type Placed<'a> = (&'a OrderView<'static>, At);

/// Writes what the rows change in this part.
pub(super) async fn write(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let is_new = |(order, _): &&Placed<'_>| order.created_in >= rows.first;
    let (new, old): (Vec<&Placed<'_>>, Vec<_>) = rows.orders.iter().partition(is_new);
    placed(write, statements, &new).await?;
    changed(write, statements, &old).await?;
    let mut refused = Refused::default();
    for row in &rows.refused_orders {
        refused.push(row)?;
    }
    refused.write(write, &statements.refused).await
}

/// Adds orders that are new.
async fn placed(
    write: &Write<'_>,
    statements: &Statements,
    rows: &[&Placed<'_>],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids = column(rows, |(order, _)| uuid(order.id));
    write.execute(&statements.before, &[&ids]).await?;
    let mut copy = Copy::new();
    for (order, at) in rows {
        let (time_in_force, good_till) = codes::time_in_force(order.time_in_force);
        let (status, reason) = order_status(order);
        copy.row(26);
        copy.uuid(order.id);
        copy.bigint(to_i64(order.order_id.get())?);
        copy.bigint(to_i64(order.account.get())?);
        copy.int(i32::from(order.market.get()));
        copy.text(codes::side(order.side));
        copy.text(codes::order_type(order.order_type));
        copy.text(time_in_force);
        copy.or_null(good_till, Copy::time);
        copy.bool(order.post_only);
        copy.or_null(order.price, Copy::numeric);
        copy.numeric(order.quantity);
        copy.or_null(order.quote_amount, Copy::numeric);
        copy.numeric(order.filled);
        copy.numeric(order.filled_notional);
        copy.or_null(order.trigger, Copy::numeric);
        copy.bool(order.triggered);
        copy.or_null(order.display, Copy::numeric);
        copy.text(codes::self_trade_prevention(order.self_trade_prevention));
        copy.or_null(order.client_order_id.as_deref().map(|id| id.as_str()), Copy::text);
        copy.text(status);
        copy.or_null(reason, Copy::text);
        copy.time(order.created_at);
        copy.bigint(to_i64(order.created_in.get())?);
        copy.time(order.updated_at);
        copy.bigint(to_i64(at.sequence.get())?);
        copy.bigint(to_i64(order.account_sequence)?);
    }
    copy.send(&write.transaction, &statements.placed).await
}

/// Changes orders that stand there.
async fn changed(
    write: &Write<'_>,
    statements: &Statements,
    rows: &[&Placed<'_>],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let found = write
        .execute(
            &statements.changed,
            &[
                &column(rows, |(order, _)| uuid(order.id)),
                &column(rows, |(order, _)| order.price.map(Numeric::from)),
                &column(rows, |(order, _)| Numeric::from(order.quantity)),
                &column(rows, |(order, _)| Numeric::from(order.filled)),
                &column(rows, |(order, _)| Numeric::from(order.filled_notional)),
                &column(rows, |(order, _)| order.triggered),
                &column(rows, |(order, _)| order_status(order).0),
                &column(rows, |(order, _)| order_status(order).1),
                &column(rows, |(order, _)| Timestamp(order.updated_at)),
                &checked(rows, |(_, at)| at.sequence.get())?,
                &checked(rows, |(order, _)| order.account_sequence)?,
            ],
        )
        .await?;
    let missing = rows.len().saturating_sub(usize::try_from(found).unwrap_or(usize::MAX));
    if missing > 0 {
        return Err(StoreError::Corrupt(format!(
            "{missing} of {} orders that change are not in the projections: rebuild them",
            rows.len()
        )));
    }
    Ok(())
}

/// Refused orders, as they were asked for, in columns.
#[derive(Default)]
struct Refused<'a> {
    id: Vec<Uuid>,
    order_id: Vec<Option<i64>>,
    account: Vec<i64>,
    market: Vec<i32>,
    side: Vec<&'static str>,
    order_type: Vec<&'static str>,
    time_in_force: Vec<&'static str>,
    good_till: Vec<Option<Timestamp>>,
    post_only: Vec<bool>,
    price: Vec<Option<Numeric>>,
    quantity: Vec<Numeric>,
    quote_amount: Vec<Option<Numeric>>,
    filled: Vec<Numeric>,
    filled_notional: Vec<Numeric>,
    trigger: Vec<Option<Numeric>>,
    triggered: Vec<bool>,
    display: Vec<Option<Numeric>>,
    self_trade_prevention: Vec<&'static str>,
    client_order_id: Vec<Option<&'a str>>,
    status: Vec<&'static str>,
    reason: Vec<Option<&'static str>>,
    created_at: Vec<Timestamp>,
    created_in: Vec<i64>,
    updated_at: Vec<Timestamp>,
    updated_in: Vec<i64>,
    account_sequence: Vec<i64>,
}

impl<'a> Refused<'a> {
    fn push(
        &mut self,
        (id, order, reject, at): &(CommandId, &'a engine::NewOrder, engine::Reject, At),
    ) -> Result<(), StoreError> {
        let (time_in_force, good_till) = codes::time_in_force(order.time_in_force);
        let (status, reason) = refusal(*reject);
        self.id.push(uuid(*id));
        self.order_id.push(None);
        self.account.push(to_i64(order.account.get())?);
        self.market.push(i32::from(order.market.get()));
        self.side.push(codes::side(order.side));
        self.order_type.push(codes::order_type(order.order_type));
        self.time_in_force.push(time_in_force);
        self.good_till.push(good_till.map(Timestamp));
        self.post_only.push(order.post_only);
        self.price.push(order.price.map(Numeric::from));
        self.quantity.push(order.quantity.into());
        self.quote_amount.push(order.quote_amount.map(Numeric::from));
        self.filled.push(Numeric::default());
        self.filled_notional.push(Numeric::default());
        self.trigger.push(order.trigger.map(Numeric::from));
        self.triggered.push(false);
        self.display.push(order.display.map(Numeric::from));
        self.self_trade_prevention.push(codes::self_trade_prevention(order.self_trade_prevention));
        self.client_order_id.push(order.client_order_id.as_ref().map(|id| id.as_str()));
        self.status.push(status);
        self.reason.push(Some(reason));
        self.created_at.push(Timestamp(at.time));
        self.created_in.push(to_i64(at.sequence.get())?);
        self.updated_at.push(Timestamp(at.time));
        self.updated_in.push(to_i64(at.sequence.get())?);
        self.account_sequence.push(0);
        Ok(())
    }

    async fn write(&self, write: &Write<'_>, statement: &Statement) -> Result<(), StoreError> {
        if self.id.is_empty() {
            return Ok(());
        }
        write
            .execute(
                statement,
                &[
                    &self.id,
                    &self.order_id,
                    &self.account,
                    &self.market,
                    &self.side,
                    &self.order_type,
                    &self.time_in_force,
                    &self.good_till,
                    &self.post_only,
                    &self.price,
                    &self.quantity,
                    &self.quote_amount,
                    &self.filled,
                    &self.filled_notional,
                    &self.trigger,
                    &self.triggered,
                    &self.display,
                    &self.self_trade_prevention,
                    &self.client_order_id,
                    &self.status,
                    &self.reason,
                    &self.created_at,
                    &self.created_in,
                    &self.updated_at,
                    &self.updated_in,
                    &self.account_sequence,
                ],
            )
            .await?;
        Ok(())
    }
}
