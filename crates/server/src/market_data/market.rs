//! One market as everybody sees it: its book, latest trades, statistics and candles, and who listens to them.
//!
//! Invariant: everything here is behind one lock and is that after the journal row `sequence`, so that a snapshot and
//! the messages after it fit, and an answer never mixes two rows. Answers are kept as bytes until what they say changes.

use std::collections::{HashMap, VecDeque};

use axum::extract::ws::Utf8Bytes;
use axum::http::HeaderValue;
use bytes::Bytes;
use engine::{LevelChange, State};
use store::market_data::TradeRow;
use units::{MarketId, PriceTicks, Sequence, Time};
use wire::body;
use wire::enums::Interval;

use super::candles::{Candle, MINUTE_MICROS, Minutes, bucket, candle};
use super::depth::{Depth, Gap, levels};
use super::say::{Rules, change, json, percent, say_candle, say_trade, trade_row, volume};
use super::tally::Tally;
use super::window::{Slot, Window};
use crate::ws::channel::Channel;
use crate::ws::message::Message;
use crate::ws::outbox::{Listeners, Outbox};

/// Levels of each side that are shown at most.
pub const DEPTH_MAX: usize = 1_000;
/// Latest trades that are kept.
pub const RECENT_MAX: usize = 1_000;
/// Trades that a new listener is shown.
const SHOWN_MAX: usize = 50;
/// Different depths whose answers are kept.
const DEPTHS_KEPT_MAX: usize = 16;

/// The statistics: of nothing but what has happened since the start, until the stored trades have been read.
#[derive(Debug)]
enum History {
    /// Trades that have happened meanwhile, by the second, so that a long wait costs little.
    Loading(Vec<Slot>),
    /// Everything.
    Ready { window: Window, minutes: Minutes },
}

/// A book as it is answered.
#[derive(Clone, Debug)]
pub struct BookAnswer {
    /// The body.
    pub bytes: Bytes,
    /// The `ETag`: the journal, the last update, the depth.
    pub tag: HeaderValue,
}

/// One market.
#[derive(Debug)]
pub struct Market {
    incarnation: u64,
    rules: Rules,
    /// The journal row that it began with.
    begun: Sequence,
    sequence: Sequence,
    time: Time,
    depth: Depth,
    book_sequence: Sequence,
    last_price: Option<PriceTicks>,
    recent: VecDeque<TradeRow>,
    history: History,
    books: HashMap<usize, BookAnswer>,
    ticker: Option<Bytes>,
    listeners: Hearers,
    /// Whether listeners of the ticker have not heard the last change yet.
    ticker_due: bool,
    /// Whether listeners of candles have not heard the last trade yet.
    candles_due: bool,
}

/// Who listens to what of one market.
#[derive(Debug, Default)]
struct Hearers {
    book: Listeners,
    trades: Listeners,
    ticker: Listeners,
    /// By interval, with the first minute of the candle that was told last.
    candles: Vec<(Interval, Listeners, Option<u64>)>,
}

/// What is read of a market's past to begin with.
#[derive(Debug)]
pub struct Past {
    /// The trades of the last 25 hours, by second.
    pub seconds: Vec<Slot>,
    /// Every minute from this one on is in `seconds`.
    pub known_from: u64,
    /// The last price before.
    pub carry: Option<PriceTicks>,
    /// The latest trades, oldest first.
    pub recent: Vec<TradeRow>,
}

impl Market {
    /// Begins with the followed state. `None` where there is no such market.
    #[must_use]
    pub fn new(state: &State, id: MarketId) -> Option<Self> {
        let rules = Rules::of(state, id)?;
        let view = state.market(id)?;
        let bids = state.depth(id, engine::Side::Buy);
        let asks = state.depth(id, engine::Side::Sell);
        Some(Self {
            incarnation: state.settings().map_or(0, |settings| settings.incarnation),
            rules,
            begun: state.sequence(),
            sequence: state.sequence(),
            time: state.time(),
            depth: Depth::new(view.update_id, bids, asks),
            book_sequence: state.sequence(),
            last_price: view.last_price,
            recent: VecDeque::new(),
            history: History::Loading(Vec::new()),
            books: HashMap::new(),
            ticker: None,
            listeners: Hearers::default(),
            ticker_due: false,
            candles_due: false,
        })
    }

    /// Begins anew with the followed state, keeping who listens: they get new snapshots.
    pub fn restart(&mut self, state: &State) {
        let Some(fresh) = Self::new(state, self.rules.id) else { return };
        let listeners = std::mem::take(&mut self.listeners);
        *self = fresh;
        self.listeners = listeners;
        self.ticker_due = true;
        if !self.listeners.book.is_empty() {
            let message = self.book_snapshot();
            self.listeners.book.publish(&message);
        }
    }

    /// Returns its rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the journal row that it shows.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Returns the journal row that it began with.
    #[must_use]
    pub fn begun(&self) -> Sequence {
        self.begun
    }

    /// Returns its book.
    #[must_use]
    pub fn depth(&self) -> &Depth {
        &self.depth
    }

    /// Tells whether its statistics are complete.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        matches!(self.history, History::Ready { .. })
    }

    /// Follows what one journal row did here, and tells who listens.
    ///
    /// # Errors
    ///
    /// [`Gap`] when a book update is missing.
    ///
    /// # Panics
    ///
    /// When the trades are of another market.
    pub fn follow(
        &mut self,
        (sequence, time): (Sequence, Time),
        changes: &[LevelChange],
        trades: &[engine::Trade],
    ) -> Result<(), Gap> {
        self.pass(sequence, time);
        if let Some(diff) = self.depth.apply(changes)? {
            self.book_sequence = sequence;
            self.books.clear();
            self.ticker_due = true;
            if !self.listeners.book.is_empty() {
                let words = self.rules.words();
                let message = Message::BookUpdate {
                    channel: &Channel::Book(self.symbol()).name(),
                    market: &self.rules.market.symbol,
                    sequence: sequence.get(),
                    time: time.into(),
                    first_update_id: diff.first_update_id,
                    last_update_id: diff.last_update_id,
                    checksum: self.depth.checksum(&words),
                    bids: levels(&words, diff.bids.iter().copied()),
                    asks: levels(&words, diff.asks.iter().copied()),
                }
                .text();
                self.listeners.book.publish(&message);
            }
        }
        self.trade(time, trades);
        Ok(())
    }

    /// Notes a journal row that did nothing here but that time has passed.
    pub fn pass(&mut self, sequence: Sequence, time: Time) {
        self.sequence = sequence;
        self.time = time;
        self.ticker = None;
        if let History::Ready { window, minutes } = &mut self.history {
            window.advance(time);
            minutes.advance(time.micros() / MINUTE_MICROS);
        }
    }

    fn trade(&mut self, time: Time, trades: &[engine::Trade]) {
        let Some((first, rest)) = trades.split_first() else { return };
        let mut tally = Tally::of(first);
        rest.iter().for_each(|trade| tally.append(&Tally::of(trade)));
        match &mut self.history {
            History::Loading(seconds) => match seconds.last_mut() {
                Some((last, sum)) if last.seconds() == time.seconds() => sum.append(&tally),
                _ => seconds.push((time, tally)),
            },
            History::Ready { window, minutes } => {
                window.push(time.seconds(), &tally);
                minutes.push(time.micros() / MINUTE_MICROS, &tally);
            }
        }
        self.last_price = Some(tally.close);
        (self.ticker_due, self.candles_due) = (true, true);
        if !self.listeners.trades.is_empty() {
            let words = self.rules.words();
            let channel = &Channel::Trades(self.symbol()).name();
            let trades = trades.iter().map(|trade| words.trade(trade)).collect();
            let message = Message::Trades { channel, trades, snapshot: false }.text();
            self.listeners.trades.publish(&message);
        }
        self.recent.extend(trades.iter().map(trade_row));
        self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
    }

    /// Takes the past that was read from the store, of everything up to the journal row that this market began with.
    pub fn load(&mut self, past: Past) {
        let History::Loading(since) = &mut self.history else { return };
        let mut window = Window::new(Window::DAY_MICROS);
        let mut minutes = Minutes::new(past.known_from, Vec::new(), past.carry);
        for (time, tally) in past.seconds.into_iter().chain(since.drain(..)) {
            window.push(time.seconds(), &tally);
            minutes.push(time.micros() / MINUTE_MICROS, &tally);
        }
        window.advance(self.time);
        self.history = History::Ready { window, minutes };
        let mut recent: VecDeque<_> = past.recent.into();
        recent.append(&mut self.recent);
        recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        self.recent = recent;
        self.ticker = None;
        (self.ticker_due, self.candles_due) = (true, true);
    }

    /// Returns the window of the statistics, once they are complete.
    pub fn window(&mut self) -> Option<(&mut Window, Time)> {
        match &mut self.history {
            History::Loading(_) => None,
            History::Ready { window, .. } => Some((window, self.time)),
        }
    }

    /// Returns the minutes that are in memory and the journal time, once they are complete.
    #[must_use]
    pub fn minutes(&self) -> Option<(&Minutes, Time)> {
        match &self.history {
            History::Loading(_) => None,
            History::Ready { minutes, .. } => Some((minutes, self.time)),
        }
    }

    /// Returns the latest trades, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &TradeRow> {
        self.recent.iter()
    }

    /// Returns the book's answer with at most `depth` levels of each side.
    pub fn book(&mut self, depth: usize) -> BookAnswer {
        if let Some(answer) = self.books.get(&depth) {
            return answer.clone();
        }
        if self.books.len() >= DEPTHS_KEPT_MAX {
            self.books.clear();
        }
        let book = self.depth.body(&self.rules.words(), self.book_sequence.get(), depth);
        let tag = format!("\"{:x}-{}-{depth}\"", self.incarnation, book.last_update_id);
        let tag = HeaderValue::try_from(tag).expect("digits and hyphens are a header's value");
        let answer = BookAnswer { bytes: json(&book), tag };
        self.books.insert(depth, answer.clone());
        answer
    }

    /// Returns the ticker's answer; `None` until the statistics are complete.
    pub fn ticker(&mut self) -> Option<Bytes> {
        if self.ticker.is_none() {
            self.ticker = Some(json(&self.ticker_body()?));
        }
        self.ticker.clone()
    }

    fn ticker_body(&self) -> Option<body::Ticker> {
        let History::Ready { window, .. } = &self.history else { return None };
        let words = self.rules.words();
        let tally = window.statistics();
        let price =
            |of: fn(&Tally) -> PriceTicks| tally.as_ref().map(|tally| words.price(of(tally)));
        let (bid, ask) = (self.depth.bids().next(), self.depth.asks().next());
        let lots = tally.map_or(0, |tally| tally.lots);
        let notional = tally.map_or(0, |tally| tally.notional);
        Some(body::Ticker {
            market: self.symbol(),
            sequence: self.sequence.get(),
            last_price: self.last_price.map(|price| words.price(price)),
            best_bid: bid.map(|(price, _)| words.price(price)),
            best_bid_quantity: bid.map(|(_, quantity)| words.quantity(quantity)),
            best_ask: ask.map(|(price, _)| words.price(price)),
            best_ask_quantity: ask.map(|(_, quantity)| words.quantity(quantity)),
            open: price(|tally| tally.open),
            high: price(|tally| tally.high),
            low: price(|tally| tally.low),
            change: tally.map(|tally| change(&words, tally.open, tally.close)),
            change_percent: tally.map(|tally| percent(tally.open, tally.close)),
            volume: volume(&words, lots),
            quote_volume: words.notional(units::Amount::new(notional)),
            trades: tally.map_or(0, |tally| tally.trades),
            first_trade_id: tally.map(|tally| tally.first_trade),
            last_trade_id: tally.map(|tally| tally.last_trade),
            time: self.time.into(),
        })
    }

    fn symbol(&self) -> String {
        self.rules.market.symbol.to_string()
    }

    /// Says a candle.
    #[must_use]
    pub fn candle_body(&self, candle: &Candle, interval: Interval) -> body::Candle {
        say_candle(&self.rules, candle, interval, self.time)
    }

    /// Begins to tell a connection about a channel of this market, a snapshot first.
    pub fn listen(&mut self, channel: &Channel, outbox: &Outbox) {
        match channel {
            Channel::Book(_) => {
                // Twice the same book helps a client that has lost its own.
                let message = self.book_snapshot();
                outbox.send(message);
                self.listeners.book.add(outbox);
            }
            Channel::Trades(_) => {
                let skip = self.recent.len().saturating_sub(SHOWN_MAX);
                let said = |row| say_trade(&self.rules, row);
                let trades = self.recent.iter().skip(skip).map(said).collect();
                let message = Message::Trades { channel: &channel.name(), trades, snapshot: true };
                outbox.send(message.text());
                self.listeners.trades.add(outbox);
            }
            Channel::Ticker(_) => {
                self.listeners.ticker.add(outbox);
                if let Some(ticker) = self.ticker_body() {
                    outbox.send(ticker_message(&ticker));
                }
            }
            Channel::Candles(_, interval) => {
                self.listeners.candles_of(*interval).0.add(outbox);
                if let Some(candle) = self.current(*interval) {
                    outbox.send(self.candle_message(*interval, &candle));
                }
            }
            Channel::Status | Channel::Own(_) => {}
        }
    }

    /// Ends what [`Market::listen`] has begun.
    pub fn unlisten(&mut self, channel: &Channel, outbox: &Outbox) {
        match channel {
            Channel::Book(_) => self.listeners.book.remove(outbox),
            Channel::Trades(_) => self.listeners.trades.remove(outbox),
            Channel::Ticker(_) => self.listeners.ticker.remove(outbox),
            Channel::Candles(_, interval) => self.listeners.candles_of(*interval).0.remove(outbox),
            Channel::Status | Channel::Own(_) => false,
        };
    }

    /// Tells who listens to the ticker and to candles what has changed since the last time: called a few times a
    /// second, so that a fast market does not flood anybody.
    pub fn flush(&mut self) {
        let due = self.ticker_due && !self.listeners.ticker.is_empty();
        if let Some(ticker) = due.then(|| self.ticker_body()).flatten() {
            self.listeners.ticker.publish(&ticker_message(&ticker));
            self.ticker_due = false;
        }
        let mut candles = std::mem::take(&mut self.listeners.candles);
        candles.retain(|(_, listeners, _)| !listeners.is_empty());
        for (interval, listeners, told) in &mut candles {
            let Some(current) = self.current(*interval) else { continue };
            // The candle that has ended is told once more, with its last word.
            let ended = told.filter(|told| *told < current.minute);
            if let Some(last) = ended.and_then(|minute| self.past_candle(*interval, minute)) {
                listeners.publish(&self.candle_message(*interval, &last));
            }
            if self.candles_due || *told != Some(current.minute) {
                listeners.publish(&self.candle_message(*interval, &current));
                *told = Some(current.minute);
            }
        }
        self.listeners.candles = candles;
        self.candles_due = false;
    }

    /// Returns the candle that is under way.
    fn current(&self, interval: Interval) -> Option<Candle> {
        let now = self.time.micros() / MINUTE_MICROS;
        self.past_candle(interval, bucket(now, interval))
    }

    fn past_candle(&self, interval: Interval, begin: u64) -> Option<Candle> {
        let (minutes, _) = self.minutes()?;
        let mut sum: Option<Tally> = None;
        for (_, tally) in minutes.range(begin, begin + interval.minutes()) {
            match &mut sum {
                Some(sum) => sum.append(&tally),
                None => sum = Some(tally),
            }
        }
        candle(begin, sum, minutes.close_before(begin))
    }

    fn candle_message(&self, interval: Interval, candle: &Candle) -> Utf8Bytes {
        Message::Candle {
            channel: &Channel::Candles(self.symbol(), interval).name(),
            market: &self.rules.market.symbol,
            interval,
            candle: &self.candle_body(candle, interval),
        }
        .text()
    }

    fn book_snapshot(&self) -> Utf8Bytes {
        let sequence = self.book_sequence.get();
        let book = self.depth.body(&self.rules.words(), sequence, DEPTH_MAX);
        Message::BookSnapshot { channel: &Channel::Book(self.symbol()).name(), book: &book }.text()
    }
}

impl Hearers {
    fn candles_of(&mut self, interval: Interval) -> (&mut Listeners, &mut Option<u64>) {
        let at = self.candles.iter().position(|(known, ..)| *known == interval);
        let at = at.unwrap_or_else(|| {
            self.candles.push((interval, Listeners::default(), None));
            self.candles.len() - 1
        });
        let (_, listeners, told) = &mut self.candles[at];
        (listeners, told)
    }
}

fn ticker_message(ticker: &body::Ticker) -> Utf8Bytes {
    Message::Ticker { channel: &Channel::Ticker(ticker.market.clone()).name(), ticker }.text()
}
