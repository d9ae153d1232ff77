//! One id type per kind of thing, from one macro, so that no id can stand where another is meant.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($int);

        impl $name {
            /// Wraps the plain number.
            #[must_use]
            #[inline]
            pub const fn new(value: $int) -> Self {
                Self(value)
            }

            /// Returns the plain number.
            #[must_use]
            #[inline]
            pub const fn get(self) -> $int {
                self.0
            }

            /// Returns the id that follows this one.
            ///
            /// # Panics
            ///
            /// When the ids are used up, which no journal lives to see.
            #[must_use]
            #[inline]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("ids are never used up"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// An asset, such as BTC, by its position in the state's list of assets.
    AssetId, u16
}
id! {
    /// A market, such as BTC/USD, by its position in the state's list of markets.
    MarketId, u16
}
id! {
    /// An account. Opaque: it says nothing about the person behind it.
    AccountId, u64
}
id! {
    /// An order's integer id, unique per market and rising in the order of acceptance.
    OrderId, u64
}
id! {
    /// A trade's integer id, unique per market, rising, without gaps.
    TradeId, u64
}
id! {
    /// A row of the journal. The genesis row is 1; 0 means "before anything".
    Sequence, u64
}
id! {
    /// A command's id: the 128 bits of its UUID. The order, withdrawal or transfer that a command makes
    /// has the same id, so that a repeat can only ever name the first.
    CommandId, u128
}
id! {
    /// The first 128 bits of a salted SHA-256 of something that must not stand in the journal itself: a deposit's
    /// external reference, a withdrawal's destination.
    ReferenceHash, u128
}

impl AccountId {
    /// The outside world: what has come in is negative here, so that every asset sums to zero.
    pub const OUTSIDE: Self = Self(0);
    /// The exchange's own account that fees are paid to.
    pub const FEES: Self = Self(1);
    /// The first id that a customer can have; those below are the exchange's own.
    pub const FIRST_CUSTOMER: Self = Self(1000);
}

/// A SHA-256 digest: of a journal row, or of a state.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
