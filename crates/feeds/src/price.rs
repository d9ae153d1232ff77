//! Prices of others as whole numbers.

use std::fmt;
use std::num::NonZeroU64;

/// Decimals of a price.
const SCALE: usize = 8;
const UNITS: u64 = 100_000_000;
/// Digits before the point: so that every price fits 64 bits.
const WHOLE_MAX: usize = 10;
/// Longer texts are no price.
const TEXT_MAX: usize = 40;

/// A price above zero, in units of 0.00000001 of the quote asset.
///
/// What is negative, zero, finer, or larger than ten digits before the point has no representation. There is no conversion
/// from floating point on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(NonZeroU64);

impl Price {
    /// Reads a plain decimal: digits, and a point with digits behind it. No sign, no exponent. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.len() > WHOLE_MAX || fraction.len() > SCALE {
            return None;
        }
        let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok() };
        let padding = 10_u64.pow(u32::try_from(SCALE - fraction.len()).ok()?);
        let units = number(whole)?.checked_mul(UNITS)?.checked_add(number(fraction)? * padding)?;
        NonZeroU64::new(units).map(Self)
    }

    /// Returns it in units of 0.00000001.
    #[must_use]
    pub fn units(self) -> u64 {
        self.0.get()
    }

    /// Tells whether two prices are further apart than `percent` of the lower one.
    #[must_use]
    pub fn is_far_from(self, other: Self, percent: u64) -> bool {
        let (low, high) = (self.min(other).units(), self.max(other).units());
        u128::from(high - low) * 100 > u128::from(low) * u128::from(percent)
    }

    /// Returns how far this price is above (or, with a sign, below) another, in percent of the other, with two decimals, cut
    /// toward zero.
    #[must_use]
    pub fn percent_above(self, other: Self) -> String {
        let difference = u128::from(self.units().abs_diff(other.units()));
        let hundredths = difference * 10_000 / u128::from(other.units());
        let sign = if self < other && hundredths > 0 { "-" } else { "" };
        format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

impl fmt::Display for Price {
    /// Writes a plain decimal without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.units() / UNITS, self.units() % UNITS);
        let fraction = format!("{fraction:0SCALE$}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            fraction => write!(f, "{whole}.{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(text: &str) -> Price {
        Price::parse(text).expect(text)
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        assert_eq!(price("61837.63000000").units(), 6_183_763_000_000);
        assert_eq!(price("0.00000001").units(), 1);
        assert_eq!(price("000065000.100000000000").to_string(), "65000.1");
        assert_eq!(price("9999999999.99999999").units(), 999_999_999_999_999_999);
        for text in [
            "",
            "0",
            "0.00000000",
            "-1",
            "+1",
            "-61837.63",
            "NaN",
            "inf",
            "1e5",
            "1.",
            ".5",
            "1.2.3",
            "1,5",
            " 1",
            "1 ",
            "0x10",
            "0.000000001",
            "1.123456789",
            "10000000000",
            "٣",
            "9999999999999999999999999999999999999999999999999",
        ] {
            assert_eq!(Price::parse(text), None, "{text}");
        }
    }

    #[test]
    fn differences_are_of_the_lower_price() {
        assert!(!price("100").is_far_from(price("125"), 25));
        assert!(price("100").is_far_from(price("125.00000001"), 25));
        assert!(price("150").is_far_from(price("100"), 25));
        assert!(price("50").is_far_from(price("100"), 25));
        assert_eq!(price("101").percent_above(price("100")), "1.00");
        assert_eq!(price("99.999").percent_above(price("100")), "0.00");
        assert_eq!(price("66.67").percent_above(price("100")), "-33.33");
    }

    proptest! {
        #[test]
        fn prop_what_is_written_is_read_again(units in 1..1_000_000_000_000_000_000_u64) {
            let price = Price(NonZeroU64::new(units).expect("above zero"));
            prop_assert_eq!(Price::parse(&price.to_string()), Some(price));
        }

        #[test]
        fn prop_no_text_is_too_much(text in ".{0,60}") {
            if let Some(price) = Price::parse(&text) {
                prop_assert_eq!(Price::parse(&price.to_string()), Some(price));
            }
        }
    }
}
