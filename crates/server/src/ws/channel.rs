//! The channels' names.

use wire::enums::Interval;
use wire::symbol;

/// The longest name of a channel, in bytes: `candles:`, a symbol, `:15m`.
const NAME_BYTES_MAX: usize = 40;

/// A channel by its name; its market may or may not exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// A market's book.
    Book(String),
    /// A market's trades.
    Trades(String),
    /// A market's statistics.
    Ticker(String),
    /// A market's candles.
    Candles(String, Interval),
    /// How the exchange stands.
    Status,
    /// One of the account's own.
    Own(Own),
}

/// The channels of an account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Own {
    /// Its orders.
    Orders,
    /// Its fills.
    Fills,
    /// Its balances.
    Balances,
    /// Its withdrawals.
    Withdrawals,
}

impl Own {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Orders, Self::Fills, Self::Balances, Self::Withdrawals];

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Fills => "fills",
            Self::Balances => "balances",
            Self::Withdrawals => "withdrawals",
        }
    }

    /// Returns its place in [`Own::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Orders => 0,
            Self::Fills => 1,
            Self::Balances => 2,
            Self::Withdrawals => 3,
        }
    }

    /// Returns its bit in an [`OwnSet`].
    const fn bit(self) -> u8 {
        1 << self.index()
    }
}

/// Some of the account's own channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnSet(u8);

impl OwnSet {
    /// Tells whether a channel is in it.
    #[must_use]
    pub const fn has(self, own: Own) -> bool {
        self.0 & own.bit() != 0
    }

    /// Adds a channel.
    pub fn add(&mut self, own: Own) {
        self.0 |= own.bit();
    }

    /// Removes a channel.
    pub fn remove(&mut self, own: Own) {
        self.0 &= !own.bit();
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the channels in it.
    pub fn iter(self) -> impl Iterator<Item = Own> {
        Own::ALL.into_iter().filter(move |own| self.has(*own))
    }
}

impl FromIterator<Own> for OwnSet {
    fn from_iter<T: IntoIterator<Item = Own>>(channels: T) -> Self {
        let mut set = Self::default();
        channels.into_iter().for_each(|own| set.add(own));
        set
    }
}

impl Channel {
    /// Reads a name: `book:BTC-USD`, `candles:BTC-USD:1m`, `orders`; `None` for anything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        if let Some(own) = Own::ALL.into_iter().find(|own| own.name() == name) {
            return Some(Self::Own(own));
        }
        if name == "status" {
            return Some(Self::Status);
        }
        let (kind, rest) = name.split_once(':')?;
        match kind {
            "book" => symbol::from_text(rest).map(Self::Book),
            "trades" => symbol::from_text(rest).map(Self::Trades),
            "ticker" => symbol::from_text(rest).map(Self::Ticker),
            "candles" => {
                let (market, interval) = rest.split_once(':')?;
                Some(Self::Candles(symbol::from_text(market)?, Interval::parse(interval)?))
            }
            _ => None,
        }
    }

    /// Returns the one name of the channel.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Book(market) => format!("book:{}", symbol::to_path(market)),
            Self::Trades(market) => format!("trades:{}", symbol::to_path(market)),
            Self::Ticker(market) => format!("ticker:{}", symbol::to_path(market)),
            Self::Candles(market, interval) => {
                format!("candles:{}:{interval}", symbol::to_path(market))
            }
            Self::Status => "status".to_owned(),
            Self::Own(own) => own.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let names = [
            "book:BTC-USD",
            "trades:BTC-USD",
            "ticker:ETH-BTC",
            "candles:BTC-USD:15m",
            "status",
            "orders",
            "fills",
            "balances",
            "withdrawals",
        ];
        for name in names {
            assert_eq!(Channel::parse(name).map(|channel| channel.name()).as_deref(), Some(name));
        }
        let slash = Channel::parse("book:BTC/USD").map(|channel| channel.name());
        assert_eq!(slash.as_deref(), Some("book:BTC-USD"));
    }

    #[test]
    fn anything_else_is_no_channel() {
        let long = format!("book:{}", "A".repeat(100));
        for name in [
            "",
            "book",
            "book:",
            "book:btc-usd",
            "candles:BTC-USD",
            "candles:BTC-USD:2m",
            "orders:1001",
            "Status",
            "book:BTC-USD:1m",
            "'; --",
            &long,
        ] {
            assert_eq!(Channel::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_set_has_what_was_added() {
        let mut set: OwnSet = [Own::Orders, Own::Balances].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Own::Orders, Own::Balances]);
        set.remove(Own::Orders);
        set.remove(Own::Balances);
        assert!(set.is_empty());
    }
}
