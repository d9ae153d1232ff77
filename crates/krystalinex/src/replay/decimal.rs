//! Decimal numbers as files write them, and the grid of whole ticks or lots that a market counts them on.
//!
//! Invariant: every conversion is exact. A number that is not a whole count of its step has no count.

use std::fmt;

/// The most decimals that a number may have: the finest scale of an asset.
pub(crate) const SCALE_MAX: u8 = 30;

/// A non-negative decimal number: `units × 10^-scale`, without trailing zeros behind the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decimal {
    units: u128,
    scale: u8,
}

/// A number as it stood in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The number.
    pub value: Decimal,
    /// The digits behind its point as they were written, trailing zeros included.
    pub decimals: u8,
}

impl Decimal {
    /// Returns the digits behind the point.
    pub(crate) fn scale(self) -> u8 {
        self.scale
    }

    /// Tells whether it is zero.
    pub(crate) fn is_zero(self) -> bool {
        self.units == 0
    }

    /// Returns the number in units of `10^-scale`; `None` where it is finer than that or does not fit.
    pub(crate) fn units_at(self, scale: u8) -> Option<u128> {
        let lift = scale.checked_sub(self.scale)?;
        self.units.checked_mul(power_of_ten(lift)?)
    }

    /// Wraps `units × 10^-scale`.
    pub(crate) fn new(mut units: u128, mut scale: u8) -> Self {
        while scale > 0 && units.is_multiple_of(10) {
            units /= 10;
            scale -= 1;
        }
        Self { units, scale }
    }

    /// Reads a number: digits with at most one point, and an exponent if there must be one.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that follow "the price" or "the quantity".
    pub(crate) fn parse(text: &[u8]) -> Result<Written, &'static str> {
        let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (units, decimals) = parse_digits(digits)?;
        let scale = i32::from(decimals) - exponent;
        let (units, scale) = if scale < 0 {
            let lift = u8::try_from(-scale).ok().and_then(power_of_ten);
            let lifted = lift.and_then(|lift| units.checked_mul(lift));
            (lifted.ok_or("has too many digits")?, 0)
        } else {
            (units, scale)
        };
        let scale = u8::try_from(scale).map_err(|_| "has too many decimals")?;
        let value = Self::new(units, scale);
        if value.scale > SCALE_MAX {
            return Err("has too many decimals");
        }
        Ok(Written { value, decimals: scale.min(SCALE_MAX) })
    }
}

fn parse_exponent(text: &[u8]) -> Result<i32, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "is not a decimal number")?;
    let exponent: i32 = text.parse().map_err(|_| "is not a decimal number")?;
    if exponent.abs() > 60 { Err("has too large an exponent") } else { Ok(exponent) }
}

/// Reads digits with at most one point: the digits as one number, and how many stand behind the point.
fn parse_digits(text: &[u8]) -> Result<(u128, u8), &'static str> {
    let mut units = 0_u128;
    let mut decimals = 0_u8;
    let mut point = false;
    let mut any = false;
    for &byte in text {
        match byte {
            b'0'..=b'9' => {
                let digit = u128::from(byte - b'0');
                let next = units.checked_mul(10).and_then(|units| units.checked_add(digit));
                units = next.ok_or("has too many digits")?;
                decimals = decimals.checked_add(u8::from(point)).ok_or("has too many decimals")?;
                any = true;
            }
            b'.' if !point => point = true,
            b'-' => return Err("is negative"),
            _ => return Err("is not a decimal number"),
        }
    }
    match any {
        true => Ok((units, decimals)),
        false if text.is_empty() => Err("is missing"),
        false => Err("is not a decimal number"),
    }
}

/// Returns `10^exponent`; `None` where it does not fit.
pub(crate) fn power_of_ten(exponent: u8) -> Option<u128> {
    10_u128.checked_pow(u32::from(exponent))
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(self.units, self.scale))
    }
}

/// Writes `units × 10^-scale` with exactly `scale` decimals.
fn plain(units: u128, scale: u8) -> String {
    let scale = usize::from(scale);
    let mut text = format!("{units:0>width$}", width = scale + 1);
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    text
}

/// A tick or a lot: the step that numbers are counted in, and how counts are written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    units: u128,
    scale: u8,
    /// Decimals that every number is written with; `None`: as many as it needs.
    fixed: Option<u8>,
}

impl Step {
    /// Makes a step of `size`; `None` for zero.
    pub(crate) fn new(size: Decimal, fixed: Option<u8>) -> Option<Self> {
        (!size.is_zero()).then_some(Self { units: size.units, scale: size.scale, fixed })
    }

    /// Returns the step itself.
    pub(crate) fn size(self) -> Decimal {
        Decimal::new(self.units, self.scale)
    }

    /// Returns the size in units of `10^-scale`, and that scale.
    pub(crate) fn parts(self) -> (u128, u8) {
        (self.units, self.scale)
    }

    /// Counts `value` in whole steps; `None` where it is off the grid or does not fit 64 bits.
    pub(crate) fn count(self, value: Decimal) -> Option<u64> {
        let units = value.units_at(self.scale)?;
        if !units.is_multiple_of(self.units) {
            return None;
        }
        u64::try_from(units / self.units).ok()
    }

    /// Returns the number of `count` steps.
    pub(crate) fn value(self, count: u128) -> Decimal {
        let units = self.units.checked_mul(count).expect("counts × steps fit 128 bits");
        Decimal::new(units, self.scale)
    }

    /// Writes the number of `count` steps in the form of the file: plain, with the file's fixed number of
    /// decimals where it had one, else without trailing zeros.
    pub(crate) fn text(self, count: u128) -> String {
        let value = self.value(count);
        match self.fixed.and_then(|fixed| Some((value.units_at(fixed)?, fixed))) {
            Some((units, fixed)) => plain(units, fixed),
            None => value.to_string(),
        }
    }
}

/// What a column of numbers has in common: the step of its grid and the form it is written in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Column {
    scale: u8,
    /// The greatest common divisor, in units of `10^-scale`.
    divisor: u128,
    greatest: Decimal,
    decimals: Option<u8>,
    mixed: bool,
}

impl Column {
    /// Takes one number into account.
    ///
    /// # Errors
    ///
    /// What is wrong with it beside those before it, in words.
    pub(crate) fn add(&mut self, written: Written) -> Result<(), &'static str> {
        const TOO_WIDE: &str = "has too many digits beside the others of its column";
        let Written { value, decimals } = written;
        if value.scale > self.scale {
            let lift = power_of_ten(value.scale - self.scale).ok_or(TOO_WIDE)?;
            self.divisor = self.divisor.checked_mul(lift).ok_or(TOO_WIDE)?;
            self.scale = value.scale;
        }
        let units = value.units_at(self.scale).ok_or(TOO_WIDE)?;
        self.divisor = greatest_common_divisor(units, self.divisor);
        let greatest = self.greatest.units_at(self.scale).ok_or(TOO_WIDE)?;
        if units > greatest {
            self.greatest = value;
        }
        self.mixed |= *self.decimals.get_or_insert(decimals) != decimals;
        Ok(())
    }

    /// Returns the step of the column: the power of ten of its finest number, or the greatest common divisor of
    /// all where the greatest number would not fit 64 bits else; 1 for a column without numbers.
    pub(crate) fn step(&self) -> Option<Step> {
        let fixed = self.decimals.filter(|_| !self.mixed);
        let fine = Step { units: 1, scale: self.scale, fixed };
        if fine.count(self.greatest).is_some() {
            return Some(fine);
        }
        let coarse = Step::new(Decimal::new(self.divisor, self.scale), fixed)?;
        coarse.count(self.greatest).map(|_| coarse)
    }

    /// Returns the step `size` with the column's form.
    pub(crate) fn step_of(&self, size: Decimal) -> Option<Step> {
        Step::new(size, self.decimals.filter(|_| !self.mixed))
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        Decimal::parse(text.as_bytes()).expect("the test's numbers are decimal")
    }

    #[test]
    fn numbers_are_read_exactly_and_written_plainly() {
        for (text, plain) in [
            ("413.40", "413.4"),
            ("1E-8", "0.00000001"),
            ("1.5e3", "1500"),
            ("1000000000", "1000000000"),
            ("0.000000000000000001", "0.000000000000000001"),
            (".5", "0.5"),
            ("7.", "7"),
            ("00.10", "0.1"),
        ] {
            assert_eq!(written(text).value.to_string(), plain);
        }
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "is missing"),
            ("-1", "is negative"),
            ("1.2.3", "is not a decimal number"),
            ("abc", "is not a decimal number"),
            (".", "is not a decimal number"),
            ("1e", "is not a decimal number"),
            ("NaN", "is not a decimal number"),
            ("9999999999999999999999999999999999999999", "has too many digits"),
            ("0.0000000000000000000000000000001", "has too many decimals"),
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_grid_counts_whole_steps_only() {
        let tick = Step::new(written("0.05").value, None).expect("not zero");
        assert_eq!(tick.count(written("1.10").value), Some(22));
        assert_eq!(tick.count(written("1.11").value), None);
        assert_eq!(tick.text(22), "1.1");
        let cent = Step::new(written("0.01").value, None).expect("not zero");
        assert_eq!(cent.count(written("1000000000").value), Some(100_000_000_000));
    }

    #[test]
    fn a_column_with_fixed_decimals_is_written_with_them() {
        let mut fixed = Column::default();
        let mut mixed = Column::default();
        for text in ["413.40", "413.00"] {
            fixed.add(written(text)).expect("fits");
        }
        for text in ["413.4", "413", "412.75"] {
            mixed.add(written(text)).expect("fits");
        }
        let fixed = fixed.step().expect("has a step");
        let mixed = mixed.step().expect("has a step");
        assert_eq!(fixed.size().to_string(), "0.1");
        assert_eq!(fixed.text(4134), "413.40");
        assert_eq!(mixed.size().to_string(), "0.01");
        assert_eq!(mixed.text(41340), "413.4");
    }

    #[test]
    fn a_column_too_wide_for_its_finest_digit_is_counted_in_its_common_divisor() {
        let mut column = Column::default();
        for text in ["100000.000000000000000005", "0.000000000000000010"] {
            column.add(written(text)).expect("fits 128 bits");
        }
        assert!(column.step().is_none(), "2 × 10^22 steps do not fit 64 bits");
        let mut column = Column::default();
        for text in ["100000000000000000000000", "50000000000000000000000"] {
            column.add(written(text)).expect("fits 128 bits");
        }
        let step = column.step().expect("their divisor fits");
        assert_eq!(step.count(written("100000000000000000000000").value), Some(2));
    }
}
