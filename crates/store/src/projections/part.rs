//! The parts of the projections: tables that are written together, with one progress.

/// A part of the projections. Each has a progress of its own and may stand at another row than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The table of orders.
    Orders,
    /// Accounts, balances, postings, deposits, transfers and withdrawals.
    Money,
    /// Assets, markets, trades and candles.
    MarketData,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Money, Self::MarketData];

    /// Returns the name that stands in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Money => "money",
            Self::MarketData => "market_data",
        }
    }

    /// Returns the part with this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
