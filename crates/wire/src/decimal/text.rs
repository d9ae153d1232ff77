//! Plain decimal text, without any notion of what it counts.

/// The greatest length of a decimal's text, in bytes. The longest that says anything is 38 digits and a point;
/// the rest is room for zeros at the end.
pub const LENGTH_MAX: usize = 64;

/// Significant digits that always fit 128 bits.
const DIGITS_MAX: usize = 38;

/// The greatest number of that many digits: more units than that have no text that is read.
pub(super) const UNITS_MAX: u128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// A number as `units × 10^-scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The digits, as a whole number.
    pub units: u128,
    /// How many of them stand behind the point.
    pub scale: u8,
}

/// Why a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It breaks this rule of writing.
    Malformed(&'static str),
    /// It has a sign.
    Negative,
    /// It has more than [`DIGITS_MAX`] digits that matter.
    TooManyDigits,
}

/// Reads `digits[.digits]`, ASCII alone, and drops the zeros at the end of the fraction.
pub(super) fn parse(text: &str) -> Result<Scaled, Refused> {
    let malformed = |rule| Err(Refused::Malformed(rule));
    if text.is_empty() {
        return malformed("must not be empty");
    }
    if text.len() > LENGTH_MAX {
        return malformed("must be at most 64 characters long");
    }
    if let Some(rest) = text.strip_prefix('-') {
        // `-0` and `-abc` are badly written; `-1` is a number, and too small.
        let negative = parse(rest).is_ok_and(|value| value.units != 0);
        return if negative { Err(Refused::Negative) } else { malformed(PLAIN) };
    }
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return malformed("must have digits after the point"),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return malformed(PLAIN);
    }
    if whole.is_empty() {
        return malformed("must have digits before the point");
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return malformed("must not begin with a zero before other digits");
    }
    let fraction = fraction.trim_end_matches('0');
    let significant = whole.trim_start_matches('0').len() + fraction.len();
    if significant > DIGITS_MAX {
        return Err(Refused::TooManyDigits);
    }
    let units = whole.bytes().chain(fraction.bytes()).fold(0_u128, |sum, byte| {
        // At most 38 digits count, so this never reaches 2^128.
        sum * 10 + u128::from(byte - b'0')
    });
    let scale = u8::try_from(fraction.len()).expect("texts are at most 64 characters long");
    Ok(Scaled { units, scale })
}

const PLAIN: &str = "must be a plain decimal: digits, and at most one point between digits";

impl Scaled {
    /// Returns the number of units at another scale, rounded down, and whether that cut anything off; `None`
    /// where it does not fit.
    pub(super) fn rescale(self, scale: u8) -> Option<(u128, bool)> {
        if scale >= self.scale {
            let factor = 10_u128.checked_pow(u32::from(scale - self.scale))?;
            return Some((self.units.checked_mul(factor)?, false));
        }
        match 10_u128.checked_pow(u32::from(self.scale - scale)) {
            Some(divisor) => Some((self.units / divisor, !self.units.is_multiple_of(divisor))),
            None => Some((0, self.units != 0)),
        }
    }

    /// Prints the number with at least `decimals` digits behind the point, and more only where they are not zero.
    #[must_use]
    pub fn to_text(self, decimals: u8) -> String {
        let mut text = self.units.to_string();
        let scale = usize::from(self.scale);
        if text.len() <= scale {
            text.insert_str(0, &"0".repeat(scale + 1 - text.len()));
        }
        let point = text.len() - scale;
        let mut end = text.len();
        while end > point + usize::from(decimals.min(self.scale))
            && text.as_bytes()[end - 1] == b'0'
        {
            end -= 1;
        }
        text.truncate(end);
        if end > point {
            text.insert(point, '.');
        }
        text
    }
}

/// Returns `a × b / c`, rounded down; `None` where `c` is zero or a step of it does not fit 128 bits.
pub(super) fn mul_div(a: u128, b: u128, c: u128) -> Option<u128> {
    let gcd = gcd(b, c);
    let (b, c) = (b.checked_div(gcd)?, c / gcd);
    let (whole, rest) = (a.checked_div(c)?, a % c);
    let high = whole.checked_mul(b)?;
    high.checked_add(rest.checked_mul(b)? / c)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
