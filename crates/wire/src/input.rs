//! Decimals as they come in: a JSON string, or a JSON number taken by its digits.

use core::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::decimal;

/// The text of a decimal that a client sent, as a JSON string or as a JSON number, digit by digit: a number never
/// becomes a float on its way. What it says is for [`decimal`] to judge, with the market or asset at hand.
///
/// Reads from JSON text only, and not inside `#[serde(flatten)]` or untagged enums, which parse numbers first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "0.5")]
pub struct DecimalInput(Box<str>);

impl DecimalInput {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        // A longer text is refused in any case; what is kept of it need not be longer than the refusal needs.
        let end = text.floor_char_boundary(decimal::LENGTH_MAX + 1);
        Self(text[..end].into())
    }

    /// Returns the text, for [`decimal`] to parse.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DecimalInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DecimalInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => {
                let text: String = serde_json::from_str(text).map_err(D::Error::custom)?;
                Ok(Self::new(&text))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Self::new(text)),
            _ => Err(D::Error::custom("must be a decimal, as a string or a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        price: Option<DecimalInput>,
    }

    fn price(json: &str) -> Result<Option<String>, String> {
        serde_json::from_str::<Body>(json)
            .map(|body| body.price.map(|price| price.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn strings_and_numbers_keep_every_digit() {
        let text = |digits: &str| Ok(Some(digits.to_owned()));
        assert_eq!(price(r#"{"price":"0.10"}"#), text("0.10"));
        assert_eq!(price(r#"{"price": 0.10 }"#), text("0.10"));
        assert_eq!(
            price(r#"{"price":12345678901234567890.123456789}"#),
            text("12345678901234567890.123456789")
        );
        assert_eq!(price(r#"{"price":1e400}"#), text("1e400"));
        assert_eq!(price(r#"{"price":"\u0031"}"#), text("1"));
        assert_eq!(price("{}"), Ok(None));
        assert_eq!(price(r#"{"price":null}"#), Ok(None));
    }

    #[test]
    fn other_types_are_refused() {
        for json in ["true", "[]", "{}", "NaN", "Infinity", "+1", ".5", "01", "\"1"] {
            assert!(price(&format!(r#"{{"price":{json}}}"#)).is_err(), "{json}");
        }
    }

    #[test]
    fn long_texts_are_cut_to_what_is_still_refused() {
        let long = price(&format!(r#"{{"price":{}}}"#, "1".repeat(100_000))).unwrap().unwrap();
        assert_eq!(long.len(), decimal::LENGTH_MAX + 1);
    }
}
