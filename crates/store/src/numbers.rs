//! Our numbers as PostgreSQL's: 128-bit amounts as NUMERIC, journal time as TIMESTAMPTZ, unsigned integers as BIGINT.
//!
//! Invariant: nothing is rounded, wrapped or clipped on the way, except that a time beyond PostgreSQL's calendar
//! reads `infinity`.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use units::{Amount, Hash32, PriceTicks, QuantityLots, Time};

use crate::StoreError;

type Failure = Box<dyn Error + Sync + Send>;

pub(crate) fn to_i64(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Corrupt(format!("{number} is beyond what the database counts to")))
}

pub(crate) fn to_u64(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number)
        .map_err(|_| StoreError::Corrupt(format!("{number} stands where no number is negative")))
}

/// The same 64 bits, signed: for random numbers, where all 64 are used.
pub(crate) fn bits_to_i64(bits: u64) -> i64 {
    i64::from_be_bytes(bits.to_be_bytes())
}

pub(crate) fn i64_to_bits(number: i64) -> u64 {
    u64::from_be_bytes(number.to_be_bytes())
}

pub(crate) fn hash(bytes: &[u8]) -> Result<Hash32, StoreError> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes.map(Hash32).map_err(|_| StoreError::Corrupt("a hash that is not 32 bytes".to_owned()))
}

/// A whole number as PostgreSQL's NUMERIC, without decimals. Holds every `i128` and every `u128`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numeric {
    /// Below zero.
    pub negative: bool,
    /// How far from zero.
    pub magnitude: u128,
}

impl From<u128> for Numeric {
    fn from(magnitude: u128) -> Self {
        Self { negative: false, magnitude }
    }
}

impl From<u64> for Numeric {
    fn from(magnitude: u64) -> Self {
        Self::from(u128::from(magnitude))
    }
}

impl From<i128> for Numeric {
    fn from(number: i128) -> Self {
        Self { negative: number < 0, magnitude: number.unsigned_abs() }
    }
}

impl From<Amount> for Numeric {
    fn from(amount: Amount) -> Self {
        Self::from(amount.get())
    }
}

impl From<PriceTicks> for Numeric {
    fn from(price: PriceTicks) -> Self {
        Self::from(price.get())
    }
}

impl From<QuantityLots> for Numeric {
    fn from(quantity: QuantityLots) -> Self {
        Self::from(quantity.get())
    }
}

/// The base of NUMERIC's digits.
const BASE: u128 = 10_000;
/// `u128::MAX` has 39 decimals: ten digits of four.
const DIGITS_MAX: usize = 10;
const NEGATIVE: u16 = 0x4000;

impl Numeric {
    /// Returns the number as an amount; `None` below zero.
    #[must_use]
    pub fn amount(self) -> Option<Amount> {
        (!self.negative || self.magnitude == 0).then(|| Amount::new(self.magnitude))
    }

    /// Returns the number as an `i128`; `None` where it does not fit.
    #[must_use]
    pub fn signed(self) -> Option<i128> {
        let magnitude = i128::try_from(self.magnitude).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// Writes it in the binary format: count of digits, weight of the first, sign, decimals, digits.
    pub(crate) fn put(self, out: &mut BytesMut) {
        let mut digits = [0_u16; DIGITS_MAX];
        let (mut count, mut rest) = (0, self.magnitude);
        while rest > 0 {
            let digit = if rest < u128::from(u64::MAX) {
                // Dividing 64 bits is many times faster than dividing 128.
                let narrow = u64::try_from(rest).expect("the rest is below 2^64");
                rest = u128::from(narrow / 10_000);
                narrow % 10_000
            } else {
                let digit = rest % BASE;
                rest /= BASE;
                u64::try_from(digit).expect("a digit is below 10,000")
            };
            digits[count] = u16::try_from(digit).expect("a digit is below 10,000");
            count += 1;
        }
        // Zeros at the end are left out; the weight says how many there were.
        let skipped = digits[..count].iter().take_while(|&&digit| digit == 0).count();
        let weight = count.saturating_sub(1);
        out.put_u16(u16::try_from(count - skipped).expect("there are at most ten digits"));
        out.put_u16(u16::try_from(weight).expect("there are at most ten digits"));
        out.put_u16(if self.negative { NEGATIVE } else { 0 });
        out.put_u16(0);
        for digit in digits[skipped..count].iter().rev() {
            out.put_u16(*digit);
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, Failure> {
        let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let mut word = || words.next().ok_or("a numeric that ends early");
        let count = word()?;
        let weight = i32::from(i16::from_be_bytes(word()?.to_be_bytes()));
        let sign = word()?;
        let _decimals_shown = word()?;
        if sign != 0 && sign != NEGATIVE {
            return Err("a numeric that is no number".into());
        }
        let mut magnitude = 0_u128;
        let mut place = weight;
        for _ in 0..count {
            let digit = u128::from(word()?);
            if place < 0 {
                if digit != 0 {
                    return Err("a numeric with decimals where whole units stand".into());
                }
            } else {
                magnitude =
                    shift(magnitude)?.checked_add(digit).ok_or("a numeric beyond 128 bits")?;
            }
            place -= 1;
        }
        // The zeros that were left out.
        if count > 0 {
            for _ in 0..=place {
                magnitude = shift(magnitude)?;
            }
        }
        Ok(Self { negative: sign == NEGATIVE && magnitude != 0, magnitude })
    }
}

fn shift(magnitude: u128) -> Result<u128, Failure> {
    magnitude.checked_mul(BASE).ok_or_else(|| "a numeric beyond 128 bits".into())
}

impl ToSql for Numeric {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.put(out);
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Self::take(raw)
    }

    accepts!(NUMERIC);
}

/// A moment of journal time as TIMESTAMPTZ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub Time);

/// Microseconds from 1970, where our time begins, to 2000, where PostgreSQL's does.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
impl Timestamp {
    /// Returns PostgreSQL's own count. Its calendar ends in the year 294276, thirty years after the last microsecond
    /// since 1970 that has 63 bits; what is later than that is `infinity`.
    pub(crate) fn micros(self) -> i64 {
        i64::try_from(self.0.micros()).map_or(i64::MAX, |ours| ours - EPOCH_MICROS)
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(self.micros());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let theirs = i64::from_be_bytes(raw.try_into()?);
        if theirs == i64::MAX {
            return Ok(Self(Time::MAX));
        }
        let ours = theirs.checked_add(EPOCH_MICROS).and_then(|ours| u64::try_from(ours).ok());
        Ok(Self(Time::from_micros(ours.ok_or("a time before 1970")?)))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_come_back_at_every_power_of_ten_and_at_the_ends() {
        let mut all: Vec<u128> = vec![0, 1, 9_999, 10_000, 10_001, u128::MAX, i128::MAX as u128];
        for power in 0..=38 {
            let power = 10_u128.pow(power);
            all.extend([power - 1, power, power + 1, power * 3]);
        }
        for magnitude in all {
            for negative in [false, true] {
                let number = Numeric { negative: negative && magnitude != 0, magnitude };
                let mut bytes = BytesMut::new();
                number.put(&mut bytes);
                assert_eq!(Numeric::take(&bytes).expect("a number"), number);
            }
        }
    }

    #[test]
    fn decimals_and_cut_bytes_are_refused() {
        // 0.5: one digit of weight -1.
        assert!(Numeric::take(&[0, 1, 0xff, 0xff, 0, 0, 0, 1, 0x13, 0x88]).is_err());
        assert!(Numeric::take(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 1]).is_err());
        assert!(Numeric::take(&[]).is_err());
        // NaN.
        assert!(Numeric::take(&[0, 0, 0, 0, 0xc0, 0, 0, 0]).is_err());
    }

    #[test]
    fn times_beyond_the_calendar_are_infinite() {
        assert_eq!(Timestamp(Time::MAX).micros(), i64::MAX);
        assert_eq!(Timestamp(Time::ZERO).micros(), -EPOCH_MICROS);
        for micros in [0, 1_790_000_000_123_456, i64::MAX.unsigned_abs(), u64::MAX] {
            let time = Timestamp(Time::from_micros(micros));
            let bytes = time.micros().to_be_bytes();
            assert_eq!(Timestamp::from_sql(&Type::TIMESTAMPTZ, &bytes).expect("a time"), time);
        }
    }
}
