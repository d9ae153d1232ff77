//! Commands that were answered 202: sent, and not known to be decided. `orders` shows those that place orders.

use engine::{Action, Command};
use uuid::Uuid;

use crate::numbers::to_i64;
use crate::projections::codes;
use crate::{Db, Numeric, StoreError, Timestamp};

const INSERT: &str = "
    INSERT INTO pending_commands (id, kind, account_id, market_id, side, order_type, time_in_force, good_till,
        post_only, price_ticks, quantity_lots, quote_amount, trigger_ticks, display_lots, self_trade_prevention,
        client_order_id, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (id) DO NOTHING";

/// Remembers a command before it is answered 202. Doing it twice changes nothing.
///
/// # Errors
///
/// [`StoreError`]; the command's outcome is then unknown to its sender.
pub async fn insert(db: &Db, command: &Command) -> Result<(), StoreError> {
    let (kind, account) = describe(&command.action);
    let order = match &command.action {
        Action::PlaceOrder(order) => Some(order),
        _ => None,
    };
    let time_in_force = order.map(|order| codes::time_in_force(order.time_in_force));
    let client = db.get().await?;
    let statement = client.prepare_cached(INSERT).await?;
    client
        .execute(
            &statement,
            &[
                &Uuid::from_u128(command.id.get()),
                &kind,
                &account.map(|account| to_i64(account.get())).transpose()?,
                &order.map(|order| i32::from(order.market.get())),
                &order.map(|order| codes::side(order.side)),
                &order.map(|order| codes::order_type(order.order_type)),
                &time_in_force.map(|(word, _)| word),
                &time_in_force.and_then(|(_, till)| till).map(Timestamp),
                &order.map(|order| order.post_only),
                &order.and_then(|order| order.price).map(Numeric::from),
                &order.map(|order| Numeric::from(order.quantity)),
                &order.and_then(|order| order.quote_amount).map(Numeric::from),
                &order.and_then(|order| order.trigger).map(Numeric::from),
                &order.and_then(|order| order.display).map(Numeric::from),
                &order.map(|order| codes::self_trade_prevention(order.self_trade_prevention)),
                &order.and_then(|order| order.client_order_id.as_ref()).map(|id| id.as_str()),
                &Timestamp(command.expires_at),
            ],
        )
        .await?;
    Ok(())
}

/// Removes the commands that are answered: those whose rows are projected. Returns how many.
///
/// # Errors
///
/// [`StoreError`].
pub async fn sweep(db: &Db) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let text = "
        DELETE FROM pending_commands p
        WHERE EXISTS (SELECT FROM orders_projected r WHERE r.id = p.id)
           OR EXISTS (SELECT FROM deposits r WHERE r.id = p.id)
           OR EXISTS (SELECT FROM transfers r WHERE r.id = p.id)
           OR EXISTS (SELECT FROM withdrawals r WHERE r.id = p.id)
           -- What leaves no row of its own is answered when nothing can be decided any more.
           OR (p.kind NOT IN ('place_order', 'deposit', 'transfer', 'request_withdrawal')
               AND p.expires_at < (SELECT time FROM projection_progress WHERE active))";
    let statement = client.prepare_cached(text).await?;
    Ok(client.execute(&statement, &[]).await?)
}

/// Names what is asked, and for whom.
fn describe(action: &Action) -> (&'static str, Option<units::AccountId>) {
    match action {
        Action::PlaceOrder(order) => ("place_order", Some(order.account)),
        Action::AmendOrder(amend) => ("amend_order", Some(amend.account)),
        Action::CancelOrder { account, .. } => ("cancel_order", Some(*account)),
        Action::CancelAll { account, .. } => ("cancel_all", Some(*account)),
        Action::Deposit { account, .. } => ("deposit", Some(*account)),
        Action::Transfer { from, .. } => ("transfer", Some(*from)),
        Action::RequestWithdrawal { account, .. } => ("request_withdrawal", Some(*account)),
        Action::CancelWithdrawal { account, .. } => ("cancel_withdrawal", Some(*account)),
        Action::OpenAccount { account } => ("open_account", Some(*account)),
        _ => ("other", None),
    }
}
