//! Market symbols: `BTC/USD` everywhere, `BTC-USD` in a path.

/// The greatest length of a market's symbol, in bytes: two tickers of ten and the slash.
pub const LENGTH_MAX: usize = 21;

/// Returns the form that stands in a path or a channel's name: `BTC-USD` for `BTC/USD`.
#[must_use]
pub fn to_path(symbol: &str) -> String {
    symbol.replace('/', "-")
}

/// Returns the symbol for either form, `BTC-USD` or `BTC/USD`; `None` where it is not two tickers of 2 to 10
/// upper-case letters or digits.
///
/// Whether there is such a market is the state's to say.
#[must_use]
pub fn from_text(text: &str) -> Option<String> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (base, quote) = text.split_once(['-', '/'])?;
    let ticker = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        (2..=10).contains(&part.len()) && part.bytes().all(plain)
    };
    (ticker(base) && ticker(quote)).then(|| format!("{base}/{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_the_market() {
        assert_eq!(from_text("BTC-USD").as_deref(), Some("BTC/USD"));
        assert_eq!(from_text("BTC/USD").as_deref(), Some("BTC/USD"));
        assert_eq!(to_path("BTC/USD"), "BTC-USD");
    }

    #[test]
    fn anything_else_is_no_symbol() {
        let refused = [
            "",
            "-",
            "BTC",
            "BTCUSD",
            "btc-usd",
            "btc_usd ",
            "BTC-",
            "-USD",
            "B-USD",
            "BTC-USD-X",
            "BTC/USD;DROP",
            "../",
            "..-..",
            "BTC--USD",
            "BTC -USD",
            "ВТС-USD",
            "AAAAAAAAAAA-USD",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ];
        for text in refused {
            assert_eq!(from_text(text), None, "{text:?}");
        }
    }
}
