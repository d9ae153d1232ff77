//! Market data: what everybody can see of every market, kept in memory by following the journal.
//!
//! Invariant: it decides and works out nothing that the core has said already: books, trades and balances are those
//! of [`engine::Effects`]. The statistics of 24 hours and the candles are sums over the trades, trade by trade.
//!
//! At the start, and whenever batches were missed, books begin with the followed state and the past is read from the
//! projections as soon as they have come to the same journal row (see [`feed`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use follower::Live;
use parking_lot::{Mutex, RwLock};
use store::Db;
use tokio::sync::watch;
use units::{MarketId, Sequence};

use crate::ws::account::Accounts;
use crate::ws::status::StatusBoard;

pub mod candles;
pub mod depth;
mod feed;
pub mod market;
mod past;
pub mod routes;
pub mod say;
pub mod tally;
pub mod window;

use market::Market;

/// The market data of one process.
pub struct MarketData {
    live: Arc<Live>,
    db: Db,
    markets: RwLock<Markets>,
    /// The last journal row that everything here shows.
    sequence: watch::Sender<Sequence>,
    /// The accounts' own streams.
    pub(crate) accounts: Accounts,
    /// Who listens to how the exchange stands.
    pub(crate) status: StatusBoard,
}

#[derive(Default)]
struct Markets {
    by_id: Vec<Arc<Mutex<Market>>>,
    by_symbol: HashMap<String, MarketId>,
    /// By the form that stands in paths.
    by_path: HashMap<String, MarketId>,
}

impl MarketData {
    /// Begins with the followed state and follows it until the last handle is dropped. Must be called within a tokio
    /// runtime.
    #[must_use]
    pub fn start(live: &Arc<Live>, db: &Db) -> Arc<Self> {
        let data = Arc::new(Self {
            live: Arc::clone(live),
            db: db.clone(),
            markets: RwLock::default(),
            sequence: watch::Sender::new(Sequence::new(0)),
            accounts: Accounts::default(),
            status: StatusBoard::default(),
        });
        feed::start(&data);
        data
    }

    /// Returns the last journal row that is in it.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        *self.sequence.borrow()
    }

    /// Waits until a journal row is in it, at most `limit`; tells whether it is.
    pub async fn wait_for(&self, sequence: Sequence, limit: Duration) -> bool {
        if self.sequence() >= sequence {
            return true;
        }
        let mut receiver = self.sequence.subscribe();
        let waited = tokio::time::timeout(limit, receiver.wait_for(|now| *now >= sequence)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Finds a market by its symbol (`BTC/USD`).
    #[must_use]
    pub fn market(&self, symbol: &str) -> Option<Arc<Mutex<Market>>> {
        let markets = self.markets.read();
        let id = markets.by_symbol.get(symbol)?;
        markets.by_id.get(usize::from(id.get())).cloned()
    }

    /// Finds a market by the form that stands in paths (`BTC-USD`).
    #[must_use]
    pub fn market_of_path(&self, path: &str) -> Option<Arc<Mutex<Market>>> {
        let markets = self.markets.read();
        let id = markets.by_path.get(path)?;
        markets.by_id.get(usize::from(id.get())).cloned()
    }

    /// Returns every market in the order of their ids.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Mutex<Market>>> {
        self.markets.read().by_id.clone()
    }

    /// Returns the followed state that it stands on.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }
}
