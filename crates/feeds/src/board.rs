//! What every source has said last, and which of it is fit for use.
//!
//! Invariant: nothing here is worked out: a price is what one source said, whole, or there is none. Time comes with each
//! question, so that a test can play any day.

use std::collections::HashMap;
use std::time::Duration;

use crate::binance::Quote;
use crate::price::Price;
use crate::source::Kind;

/// Two prices further apart than this, in percent of the lower one, contradict each other. A market that moves so far in
/// seconds is news; a price that is wrong by half is caught with room to spare.
pub(crate) const FAR_PERCENT: u64 = 25;
/// So long a source's own last price is held against its next. What goes on for longer is no slip.
const JUMP_MEMORY: Duration = Duration::from_secs(60);
/// A source's clock may be so far from ours, either way: in milliseconds.
const CLOCK_MS_MAX: u64 = 60_000;

/// One of our own markets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The symbol, `BTC/USD`.
    pub symbol: String,
    /// Its own last price, where that may bear witness.
    pub price: Option<Price>,
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since the start, monotonic.
    pub(crate) run: Duration,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: u64,
}

/// What another exchange's market of the same kind last traded at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The price.
    pub price: Price,
    /// Who says so.
    pub source: &'static str,
    /// What they call the market; its quote asset may be another than ours, such as USDT for USD.
    pub instrument: String,
    /// When we heard it, in milliseconds since 1970.
    pub heard_ms: u64,
    /// How long ago that is.
    pub age: Duration,
}

/// What can be said about a market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There are no sources.
    Off,
    /// A price that is fit for use.
    Available(Outside),
    /// There are prices, and none of them is believed.
    Suspicious,
    /// There is none.
    NotAvailable,
}

/// How a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// It has not said anything yet, and nothing has failed.
    Starting,
    /// It gives prices that are fit for use.
    Up,
    /// It gives prices, and at least one of them is not believed.
    Suspicious,
    /// It is connected and has said nothing of use for too long.
    Stale,
    /// It cannot be reached.
    Down,
}

impl FeedState {
    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Suspicious => "suspicious",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

/// How a source is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedHealth {
    /// Whose.
    pub kind: Kind,
    /// How it is.
    pub state: FeedState,
    /// How long ago it last said a price that was taken; `None`: never.
    pub age: Option<Duration>,
    /// What is wrong, in words.
    pub trouble: Option<&'static str>,
}

/// What became of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is the source's newest price now.
    Used,
    /// Something newer is known.
    Old,
    /// Nobody asked for it.
    Unknown,
    /// It is not believed; why.
    Unfit(&'static str),
}

/// The newest of one instrument.
#[derive(Clone, Copy, Debug)]
struct Last {
    price: Price,
    at: Moment,
    time_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    last: Option<Last>,
    /// When something was said that is not believed, and nothing better since.
    doubted: Option<Duration>,
}

#[derive(Debug)]
struct Feed {
    kind: Kind,
    /// What is asked for, and nothing else.
    entries: HashMap<String, Entry>,
    connected: bool,
    trouble: Option<&'static str>,
}

/// The sources in the order in which they are preferred.
#[derive(Debug)]
pub(crate) struct Board {
    stale: Duration,
    own: Vec<Own>,
    feeds: Vec<Feed>,
}

impl Board {
    pub(crate) fn new(kinds: impl IntoIterator<Item = Kind>, stale: Duration) -> Self {
        let feed = |kind| Feed { kind, entries: HashMap::new(), connected: false, trouble: None };
        Self { stale, own: Vec::new(), feeds: kinds.into_iter().map(feed).collect() }
    }

    /// Notes our own markets. What a source was asked for before and is not any more is forgotten.
    pub(crate) fn set_own(&mut self, own: Vec<Own>) {
        for feed in &mut self.feeds {
            let names = own.iter().filter_map(|own| feed.kind.instrument(&own.symbol));
            let old = std::mem::take(&mut feed.entries);
            feed.entries = names
                .map(|name| {
                    let entry = old.get(&name).copied().unwrap_or_default();
                    (name, entry)
                })
                .collect();
        }
        self.own = own;
    }

    /// Returns what a source is to be asked for, in order.
    pub(crate) fn wanted(&self, feed: usize) -> Vec<String> {
        let mut names: Vec<_> = self.feeds[feed].entries.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Notes whether there is a connection to a source, or what is wrong with it.
    pub(crate) fn set_connected(&mut self, feed: usize, connected: Result<(), &'static str>) {
        let feed = &mut self.feeds[feed];
        feed.connected = connected.is_ok();
        feed.trouble = connected.err();
    }

    /// Notes what is wrong though there is a connection.
    pub(crate) fn set_trouble(&mut self, feed: usize, trouble: &'static str) {
        self.feeds[feed].trouble = Some(trouble);
    }

    /// Takes what a source says.
    pub(crate) fn take(&mut self, feed: usize, quote: &Quote, now: Moment) -> Taken {
        let feed = &mut self.feeds[feed];
        let Some(entry) = feed.entries.get_mut(&quote.instrument) else { return Taken::Unknown };
        let taken = entry.take(quote, now);
        match taken {
            Taken::Used => feed.trouble = None,
            Taken::Unfit(why) => feed.trouble = Some(why),
            Taken::Old | Taken::Unknown => {}
        }
        taken
    }

    /// Returns what a source says of one of our markets, where that is fresh and not doubted.
    fn fresh(&self, feed: &Feed, market: &str, now: Moment) -> Option<(String, Last)> {
        let instrument = feed.kind.instrument(market)?;
        let entry = feed.entries.get(&instrument)?;
        let last = entry.last.filter(|_| entry.doubted.is_none())?;
        let age = now.run.saturating_sub(last.at.run);
        (age <= self.stale).then_some((instrument, last))
    }

    /// Tells whether a price is contradicted: there are witnesses, the other sources and our own market, and all of them say
    /// something far from it. Without a witness there is nothing to hold against it.
    fn is_contradicted(&self, feed: &Feed, own: &Own, price: Price, now: Moment) -> bool {
        let others = self.feeds.iter().filter(|other| other.kind != feed.kind);
        let others = others.filter_map(|other| self.fresh(other, &own.symbol, now));
        let witnesses: Vec<_> = others.map(|(_, last)| last.price).chain(own.price).collect();
        !witnesses.is_empty()
            && witnesses.iter().all(|witness| witness.is_far_from(price, FAR_PERCENT))
    }

    /// Tells whether a source has lately said something of a market that is not believed.
    fn is_doubted(&self, feed: &Feed, own: &Own, now: Moment) -> bool {
        let instrument = feed.kind.instrument(&own.symbol);
        let entry = instrument.and_then(|instrument| feed.entries.get(&instrument));
        let doubted = entry.and_then(|entry| entry.doubted);
        doubted.is_some_and(|at| now.run.saturating_sub(at) <= self.stale)
            || self
                .fresh(feed, &own.symbol, now)
                .is_some_and(|(_, last)| self.is_contradicted(feed, own, last.price, now))
    }

    /// Returns what can be said about one of our markets: what the first source says whose word is fresh and believed.
    pub(crate) fn answer(&self, market: &str, now: Moment) -> Answer {
        if self.feeds.is_empty() {
            return Answer::Off;
        }
        let Some(own) = self.own.iter().find(|own| own.symbol == market) else {
            return Answer::NotAvailable;
        };
        for feed in &self.feeds {
            let Some((instrument, last)) = self.fresh(feed, market, now) else { continue };
            if self.is_contradicted(feed, own, last.price, now) {
                continue;
            }
            return Answer::Available(Outside {
                price: last.price,
                source: feed.kind.name(),
                instrument,
                heard_ms: last.at.wall_ms,
                age: now.run.saturating_sub(last.at.run),
            });
        }
        match self.feeds.iter().any(|feed| self.is_doubted(feed, own, now)) {
            true => Answer::Suspicious,
            false => Answer::NotAvailable,
        }
    }

    /// Returns how the sources are, in their order.
    pub(crate) fn health(&self, now: Moment) -> Vec<FeedHealth> {
        self.feeds.iter().map(|feed| self.feed_health(feed, now)).collect()
    }

    fn feed_health(&self, feed: &Feed, now: Moment) -> FeedHealth {
        let last = feed.entries.values().filter_map(|entry| entry.last).map(|last| last.at.run);
        let age = last.max().map(|at| now.run.saturating_sub(at));
        let doubted = self.own.iter().any(|own| self.is_doubted(feed, own, now));
        let fresh = age.is_some_and(|age| age <= self.stale);
        let state = match () {
            () if doubted => FeedState::Suspicious,
            () if fresh => FeedState::Up,
            () if age.is_none() && feed.trouble.is_none() => FeedState::Starting,
            () if feed.connected => FeedState::Stale,
            () => FeedState::Down,
        };
        let trouble = match state {
            FeedState::Up | FeedState::Starting => None,
            FeedState::Suspicious => {
                Some(feed.trouble.unwrap_or("its price is far from that of every other"))
            }
            FeedState::Stale => Some(feed.trouble.unwrap_or("it says nothing")),
            FeedState::Down => Some(feed.trouble.unwrap_or("there is no connection")),
        };
        FeedHealth { kind: feed.kind, state, age, trouble }
    }

    /// Returns the symbols of our markets that some source has.
    pub(crate) fn markets(&self) -> impl Iterator<Item = &str> {
        let symbols = self.own.iter().map(|own| own.symbol.as_str());
        symbols
            .filter(|symbol| self.feeds.iter().any(|feed| feed.kind.instrument(symbol).is_some()))
    }
}

impl Entry {
    fn take(&mut self, quote: &Quote, now: Moment) -> Taken {
        if let Some(time) = quote.time_ms {
            if time.abs_diff(now.wall_ms) > CLOCK_MS_MAX {
                return Taken::Unfit("its clock is far from ours");
            }
            if self.last.and_then(|last| last.time_ms).is_some_and(|before| time < before) {
                return Taken::Old;
            }
        }
        let Some(price) = quote.price else {
            self.doubted = Some(now.run);
            return Taken::Unfit("it said a price that is none");
        };
        let lately = self.last.filter(|last| now.run.saturating_sub(last.at.run) < JUMP_MEMORY);
        if lately.is_some_and(|last| last.price.is_far_from(price, FAR_PERCENT)) {
            self.doubted = Some(now.run);
            return Taken::Unfit("its price jumped too far");
        }
        self.last = Some(Last { price, at: now, time_ms: quote.time_ms });
        self.doubted = None;
        Taken::Used
    }
}
