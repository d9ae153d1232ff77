//! Buy and sell.

use units::PriceTicks;

/// Which side of the market an order is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Bids: pays quote, receives base.
    Buy,
    /// Asks: pays base, receives quote.
    Sell,
}

impl Side {
    /// Returns the other side.
    #[must_use]
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// Tells whether an order of this side with this limit takes what is offered at `price`.
    #[must_use]
    #[inline]
    pub fn accepts(self, limit: PriceTicks, price: PriceTicks) -> bool {
        match self {
            Self::Buy => price <= limit,
            Self::Sell => price >= limit,
        }
    }
}
