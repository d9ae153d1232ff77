//! Amounts, prices, quantities, rates and balances.

use core::fmt;
use core::num::NonZeroU64;

use crate::PPM;

/// A quantity of one asset, in whole ledger units. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// The lower 64 of 128 bits. Masked by it, a factor is seen to fit by the compiler, too.
const LOW_HALF: u128 = (1 << 64) - 1;

/// A change of a balance, in whole ledger units: what a posting carries.
pub type SignedAmount = i128;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The greatest amount that one command may move: `10^30` units. The sum over a million million
    /// such amounts still fits 128 bits, so no sum can overflow before the configured maxima refuse it.
    pub const COMMAND_MAX: Self = Self(1_000_000_000_000_000_000_000_000_000_000);

    /// Wraps a number of ledger units.
    #[must_use]
    #[inline]
    pub const fn new(units: u128) -> Self {
        Self(units)
    }

    /// Returns the number of ledger units.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Tells whether there is nothing.
    #[must_use]
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Adds, or returns `None` where the sum does not fit.
    #[must_use]
    #[inline]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Subtracts, or returns `None` where `other` is greater.
    #[must_use]
    #[inline]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Multiplies by a plain number, or returns `None` where the product does not fit.
    #[must_use]
    #[inline]
    pub const fn checked_mul(self, factor: u128) -> Option<Self> {
        // Most factors fit 64 bits, and their product 128: one machine multiplication instead of three with their checks.
        if (self.0 | factor) >> 64_u32 == 0 {
            return Some(Self((self.0 & LOW_HALF).wrapping_mul(factor & LOW_HALF)));
        }
        match self.0.checked_mul(factor) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Returns the amount as a change with its sign.
    ///
    /// # Panics
    ///
    /// When the amount is 2^127 units or more, which the configured maxima exclude.
    #[must_use]
    #[inline]
    pub fn signed(self) -> SignedAmount {
        SignedAmount::try_from(self.0).expect("amounts stay below 2^127")
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A limit price, counted in whole ticks of one market.
///
/// An off-grid or zero price has no representation, so the matching engine never re-checks either:
/// both are rejected where the decimal string is parsed. There is no `f64` conversion on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceTicks(NonZeroU64);

impl PriceTicks {
    /// The lowest price.
    pub const MIN: Self = Self(NonZeroU64::MIN);
    /// The highest price.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// Wraps a number of ticks; `None` for zero.
    #[must_use]
    #[inline]
    pub const fn new(ticks: u64) -> Option<Self> {
        match NonZeroU64::new(ticks) {
            Some(ticks) => Some(Self(ticks)),
            None => None,
        }
    }

    /// Returns the number of ticks, at least one.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for PriceTicks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A quantity of a market's base asset, counted in whole lots. May be zero, as what remains of an order may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuantityLots(u64);

impl QuantityLots {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Wraps a number of lots.
    #[must_use]
    #[inline]
    pub const fn new(lots: u64) -> Self {
        Self(lots)
    }

    /// Returns the number of lots.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Tells whether there is nothing.
    #[must_use]
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Adds, or returns `None` where the sum does not fit.
    #[must_use]
    #[inline]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(lots) => Some(Self(lots)),
            None => None,
        }
    }

    /// Subtracts, or returns `None` where `other` is greater.
    #[must_use]
    #[inline]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(lots) => Some(Self(lots)),
            None => None,
        }
    }
}

impl fmt::Display for QuantityLots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A rate in parts per million: a fee, a price band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RatePpm(u32);

impl RatePpm {
    /// Wraps parts per million.
    #[must_use]
    #[inline]
    pub const fn new(ppm: u32) -> Self {
        Self(ppm)
    }

    /// Returns the parts per million.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns `amount × rate`, rounded up to whole ledger units: the only place where money is rounded,
    /// and always against the payer.
    ///
    /// # Panics
    ///
    /// When `amount × rate` does not fit 128 bits, which the configured maxima exclude.
    #[must_use]
    #[inline]
    pub fn of_rounded_up(self, amount: Amount) -> Amount {
        let product = amount.checked_mul(u128::from(self.0));
        let product = product.expect("amounts × rates fit 128 bits").get();
        // Most products fit 64 bits, where a division takes a fraction of the time.
        Amount(match u64::try_from(product) {
            Ok(product) => u128::from(product.div_ceil(u64::from(PPM))),
            Err(_) => product.div_ceil(u128::from(PPM)),
        })
    }
}

/// What one account has of one asset. `total` is `available + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Balance {
    /// Free to be spent, in ledger units.
    pub available: Amount,
    /// Set aside for open orders and withdrawals, in ledger units.
    pub held: Amount,
}

impl Balance {
    /// Returns `available + held`.
    ///
    /// # Panics
    ///
    /// When the total does not fit, which the ledger's maxima exclude.
    #[must_use]
    #[inline]
    pub fn total(self) -> Amount {
        self.available.checked_add(self.held).expect("a balance's total fits 128 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_round_up_against_the_payer() {
        let rate = RatePpm::new(1_000); // 0.1 %
        assert_eq!(rate.of_rounded_up(Amount::ZERO), Amount::ZERO);
        assert_eq!(rate.of_rounded_up(Amount::new(1)), Amount::new(1));
        assert_eq!(rate.of_rounded_up(Amount::new(1_000)), Amount::new(1));
        assert_eq!(rate.of_rounded_up(Amount::new(1_001)), Amount::new(2));
    }

    #[test]
    fn a_product_is_the_same_whichever_way_it_is_worked_out() {
        let half = u128::from(u64::MAX);
        let factors = [0, 1, 3, half - 1, half, half + 1, half << 32, 1 << 127, u128::MAX];
        for (a, b) in factors.into_iter().flat_map(|a| factors.map(|b| (a, b))) {
            let product = Amount::new(a).checked_mul(b).map(Amount::get);
            assert_eq!(product, a.checked_mul(b), "{a} × {b}");
        }
    }

    #[test]
    fn zero_ticks_are_no_price() {
        assert_eq!(PriceTicks::new(0), None);
        assert_eq!(PriceTicks::new(7).map(PriceTicks::get), Some(7));
    }
}
