//! Why a decimal is refused.

use core::fmt;

/// Why a decimal is refused: the rule, and the nearest values that would pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not a plain decimal: which rule of writing it breaks.
    Malformed {
        /// The rule, as a sentence.
        rule: &'static str,
    },
    /// Below zero.
    Negative {
        /// The least value.
        min: String,
    },
    /// Zero.
    Zero {
        /// The least value.
        min: String,
    },
    /// Not a whole number of steps.
    OffGrid {
        /// The step.
        step: String,
        /// The nearest value below that would pass; `None` where there is none above zero.
        below: Option<String>,
        /// The nearest value above that would pass; `None` beyond the greatest.
        above: Option<String>,
    },
    /// Too great.
    TooLarge {
        /// The greatest value.
        max: String,
    },
    /// More significant digits than any value here has.
    TooManyDigits,
}

impl DecimalError {
    /// Returns the stable name of the rule that was broken.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "decimal_malformed",
            Self::Negative { .. } => "decimal_negative",
            Self::Zero { .. } => "decimal_zero",
            Self::OffGrid { .. } => "decimal_off_grid",
            Self::TooLarge { .. } => "decimal_too_large",
            Self::TooManyDigits => "decimal_too_many_digits",
        }
    }

    /// Returns the nearest values that would pass, in rising order.
    #[must_use]
    pub fn nearest(&self) -> Vec<&str> {
        match self {
            Self::Malformed { .. } | Self::TooManyDigits => Vec::new(),
            Self::Negative { min } | Self::Zero { min } => vec![min],
            Self::TooLarge { max } => vec![max],
            Self::OffGrid { below, above, .. } => {
                [below, above].into_iter().flatten().map(String::as_str).collect()
            }
        }
    }
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { rule } => f.write_str(rule),
            Self::Negative { min } => write!(f, "must not be negative; the least is {min}"),
            Self::Zero { min } => write!(f, "must be above zero; the least is {min}"),
            Self::TooLarge { max } => write!(f, "must be at most {max}"),
            Self::TooManyDigits => f.write_str("must have at most 38 significant digits"),
            Self::OffGrid { step, .. } => {
                write!(f, "must be a multiple of {step}; the nearest is ")?;
                f.write_str(&self.nearest().join(" or "))
            }
        }
    }
}

impl core::error::Error for DecimalError {}
