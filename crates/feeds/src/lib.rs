//! Prices of other exchanges, to compare our own with: a WebSocket stream first, an HTTP source when that is away.
//!
//! Invariant: nobody waits for a feed and no decision depends on one. A price here is what one source said, whole and lately;
//! where nobody said one that is believed, there is none. What comes from a source is hostile until it has been read.

mod binance;
mod board;
mod dial;
#[cfg(test)]
mod fuzz;
mod kraken;
mod poll;
mod price;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;
use std::time::Duration;

use breaker::{Breaker, State};
use telemetry::Metric;
use tokio::task::JoinSet;

pub use board::{Answer, FeedHealth, FeedState, Outside, Own};
pub use price::Price;
pub use source::{InvalidSource, Kind, Source};
pub use work::Timing;

use board::Board;
use work::{Shared, Work};

/// Which sources there are. None: nobody is asked anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The sources, the preferred one first.
    pub sources: Vec<Source>,
    /// The times that are kept.
    pub timing: Timing,
}

/// Our own markets, as they are now. Looked at once a second.
pub trait Markets: Send + Sync + 'static {
    /// Returns every market.
    fn markets(&self) -> Vec<Own>;
}

/// How the feeds are as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There are none.
    Off,
    /// The first source gives every price.
    Ok,
    /// Some prices come from another source, or are not there.
    Degraded,
    /// There is no price.
    NotAvailable,
}

impl Status {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::NotAvailable => "not_available",
        }
    }
}

/// The running feeds. They end when this is dropped.
#[derive(Debug)]
pub struct Feeds {
    shared: Arc<Shared>,
    breakers: Vec<Arc<Breaker>>,
    _tasks: JoinSet<()>,
}

impl Feeds {
    /// Starts what the settings name. Must be called within a tokio runtime where they name anything.
    #[must_use]
    pub fn start(settings: Settings, markets: impl Markets) -> Self {
        let Settings { sources, timing } = settings;
        let kinds = sources.iter().map(|source| source.kind);
        let shared = Arc::new(Shared::new(Board::new(kinds, timing.stale)));
        let mut tasks = JoinSet::new();
        if !sources.is_empty() {
            tasks.spawn(keep(Arc::clone(&shared), timing, markets));
        }
        let mut breakers = Vec::new();
        for (feed, source) in sources.into_iter().enumerate() {
            let breaker = Arc::new(Breaker::new(source.kind.breaker(), timing.breaker));
            breakers.push(Arc::clone(&breaker));
            let work = Work { shared: Arc::clone(&shared), timing, feed };
            tasks.spawn(async move {
                match source.kind {
                    Kind::Binance => stream::run(&work, &source, &breaker).await,
                    Kind::Kraken => poll::run(&work, &source, &breaker).await,
                }
            });
        }
        Self { shared, breakers, _tasks: tasks }
    }

    /// Returns what can be said about one of our markets.
    #[must_use]
    pub fn answer(&self, market: &str) -> Answer {
        let now = self.shared.now();
        self.shared.board.lock().answer(market, now)
    }

    /// Returns how the feeds are as a whole.
    #[must_use]
    pub fn status(&self) -> Status {
        status(&self.shared)
    }

    /// Returns how each source is.
    #[must_use]
    pub fn health(&self) -> Vec<FeedHealth> {
        let now = self.shared.now();
        self.shared.board.lock().health(now)
    }

    /// Returns how the breakers around the sources stand.
    pub fn breakers(&self) -> impl Iterator<Item = (&'static str, State)> {
        self.breakers.iter().map(|breaker| (breaker.name(), breaker.state()))
    }
}

fn status(shared: &Shared) -> Status {
    let now = shared.now();
    let board = shared.board.lock();
    let Some(first) = board.health(now).first().map(|feed| feed.kind.name()) else {
        return Status::Off;
    };
    let (mut all, mut any, mut firsts) = (0, 0, 0);
    for market in board.markets() {
        all += 1;
        if let Answer::Available(outside) = board.answer(market, now) {
            any += 1;
            firsts += usize::from(outside.source == first);
        }
    }
    match (any, firsts) {
        (0, _) => Status::NotAvailable,
        (_, firsts) if firsts == all => Status::Ok,
        _ => Status::Degraded,
    }
}

/// Looks at our own markets and at everybody's health, and tells the metrics and the log.
async fn keep(shared: Arc<Shared>, timing: Timing, markets: impl Markets) {
    let mut said = None;
    loop {
        let own = markets.markets();
        shared.board.lock().set_own(own);
        let now = shared.now();
        let health = shared.board.lock().health(now);
        let starting = health.iter().any(|feed| feed.state == FeedState::Starting);
        for feed in health {
            let name = [feed.kind.name()];
            let up = feed.state == FeedState::Up;
            telemetry::set_labelled(Metric::PriceFeedUp, &name, f64::from(u8::from(up)));
            let age: Duration = feed.age.unwrap_or(now.run);
            telemetry::set_labelled(Metric::PriceFeedAge, &name, age.as_secs_f64());
        }
        let status = status(&shared);
        // The first word is about what has come of the start, not about the start.
        if (said.is_some() || !starting) && said.replace(status) != Some(status) {
            tell(status);
        }
        tokio::time::sleep(timing.look).await;
    }
}

fn tell(status: Status) {
    match status {
        Status::Off | Status::Ok => tracing::info!(status = status.name(), "price feeds"),
        Status::Degraded | Status::NotAvailable => {
            tracing::warn!(status = status.name(), "price feeds; trading does not depend on them");
        }
    }
}
