//! The part with the rows of orders: those that were placed, as they stand, and those that were refused, as they were asked for.

use engine::OrderView;
use tokio_postgres::Statement;
use units::CommandId;
use uuid::Uuid;

use super::codes;
use super::rows::{At, Rows, order_status, refusal};
use super::session::Write;
use super::sql;
use super::tables::uuid;
use crate::numbers::to_i64;
use crate::{Connection, Numeric, StoreError, Timestamp};

/// The statements of this part.
#[derive(Debug)]
pub(super) struct Statements {
    orders: Statement,
    refused_orders: Statement,
}

impl Statements {
    pub(super) async fn prepare(on: &Connection) -> Result<Self, StoreError> {
        let with = |ending: &str| format!("{}{ending}", sql::ORDERS);
        Ok(Self {
            orders: on.prepare(&with(sql::ORDERS_LAST)).await?,
            refused_orders: on.prepare(&with(sql::FIRST)).await?,
        })
    }
}

/// Writes what the rows change in this part.
pub(super) async fn write(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let mut placed = Orders::default();
    for (order, at) in &rows.orders {
        placed.push(order, *at)?;
    }
    placed.write(write, &statements.orders).await?;
    let mut refused = Orders::default();
    for row in &rows.refused_orders {
        refused.push_refused(row)?;
    }
    refused.write(write, &statements.refused_orders).await
}

/// Orders as columns, from whatever an order's row is made.
#[derive(Default)]
struct Orders<'a> {
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

impl<'a> Orders<'a> {
    fn push(&mut self, order: &'a OrderView<'static>, at: At) -> Result<(), StoreError> {
        let (time_in_force, good_till) = codes::time_in_force(order.time_in_force);
        let (status, reason) = order_status(order);
        self.id.push(uuid(order.id));
        self.order_id.push(Some(to_i64(order.order_id.get())?));
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
        self.filled.push(order.filled.into());
        self.filled_notional.push(order.filled_notional.into());
        self.trigger.push(order.trigger.map(Numeric::from));
        self.triggered.push(order.triggered);
        self.display.push(order.display.map(Numeric::from));
        self.self_trade_prevention.push(codes::self_trade_prevention(order.self_trade_prevention));
        self.client_order_id.push(order.client_order_id.as_deref().map(|id| id.as_str()));
        self.status.push(status);
        self.reason.push(reason);
        self.created_at.push(Timestamp(order.created_at));
        self.created_in.push(to_i64(order.created_in.get())?);
        self.updated_at.push(Timestamp(order.updated_at));
        self.updated_in.push(to_i64(at.sequence.get())?);
        self.account_sequence.push(to_i64(order.account_sequence)?);
        Ok(())
    }

    /// A refused order as it was asked for.
    fn push_refused(
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
