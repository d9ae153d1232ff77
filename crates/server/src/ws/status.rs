//! The `status` channel: how the exchange stands, told when a market's state changes and with every heartbeat.

use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;

use super::message::{MarketStatus, Message};
use super::outbox::{Listeners, Outbox};
use crate::edge::BEHIND_MAX;
use crate::market_data::MarketData;

/// Who listens to how the exchange stands.
#[derive(Debug, Default)]
pub struct StatusBoard(Mutex<Listeners>);

impl StatusBoard {
    /// Begins to tell a connection, how it stands now first.
    pub fn listen(&self, data: &MarketData, outbox: &Outbox) {
        outbox.send(text(data));
        self.0.lock().add(outbox);
    }

    /// Ends what [`StatusBoard::listen`] has begun.
    pub fn unlisten(&self, outbox: &Outbox) {
        self.0.lock().remove(outbox);
    }

    /// Tells everybody how it stands now.
    pub fn publish(&self, data: &MarketData) {
        if !self.0.lock().is_empty() {
            let message = text(data);
            self.0.lock().publish(&message);
        }
    }
}

fn text(data: &MarketData) -> Utf8Bytes {
    let live = data.live();
    let up = live.stopped().is_none() && live.behind() <= BEHIND_MAX;
    let (sequence, time, markets) = live.read(|state| {
        let say = |view: engine::MarketView<'_>| MarketStatus {
            market: view.config.symbol.to_string(),
            state: view.state.into(),
        };
        (state.sequence().get(), state.time().into(), state.markets().map(say).collect())
    });
    Message::Status { channel: "status", sequence, time, live: up, markets }.text()
}
