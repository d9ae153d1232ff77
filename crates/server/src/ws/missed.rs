//! The fills that a client has missed, from the projections: what a snapshot cannot say.
//!
//! Open orders and balances are in the snapshot that follows a `resync`; a fill between is a thing of the past, and
//! must not be lost to whoever keeps books of its own.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use store::lookup;
use units::{AccountId, Sequence};
use wire::body;

use super::message::Message;
use crate::app::App;
use crate::orders::{render, wait_projected};

/// Fills that are sent at once; who has missed more reads the older ones by `GET /api/v1/fills`.
const FILLS_MAX: usize = 1_000;

/// A fill with its place among the account's changes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NumberedFill {
    /// The account sequence.
    account_sequence: u64,
    /// The fill.
    #[serde(flatten)]
    fill: body::Fill,
}

/// Says the fills after change `after` up to change `until` of an account, which the row `sequence` shows.
///
/// When the projections do not answer or do not come that far, it says that it is not complete.
pub(super) async fn fills(
    app: &App,
    account: AccountId,
    (after, until): (u64, u64),
    sequence: Sequence,
) -> Utf8Bytes {
    let mut complete = wait_projected(app, sequence).await;
    let before = Some(until.saturating_add(1));
    let read = lookup::fills(&app.db, account, None, None, before, FILLS_MAX + 1).await;
    let mut rows = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the fills that a client has missed");
        complete = false;
        Vec::new()
    });
    rows.retain(|row| row.account_sequence > after);
    if rows.len() > FILLS_MAX {
        rows.truncate(FILLS_MAX);
        complete = false;
    }
    let fills: Vec<NumberedFill> = app.live.read(|state| {
        let say = |row: &lookup::FillRow| {
            let fill = render::fill_row(state, row).ok()?;
            Some(NumberedFill { account_sequence: row.account_sequence, fill })
        };
        rows.iter().rev().filter_map(say).collect()
    });
    Message::MissedFills { after, until, complete, fills }.text()
}
