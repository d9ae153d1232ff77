//! Binance's combined trade stream: the address, and what its messages say.

use serde::Deserialize;

use crate::price::Price;
use crate::source::Source;

/// What one source says an instrument costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    /// As the source calls it.
    pub(crate) instrument: String,
    /// `None`: what stands there is no price.
    pub(crate) price: Option<Price>,
    /// When, by the source's clock, in milliseconds since 1970; `None` where it does not say.
    pub(crate) time_ms: Option<u64>,
}

/// Returns the path and query of the stream of these instruments.
pub(crate) fn path(source: &Source, instruments: &[String]) -> String {
    let streams: Vec<_> =
        instruments.iter().map(|name| name.to_ascii_lowercase() + "@trade").collect();
    format!("{}/stream?streams={}", source.base_path(), streams.join("/"))
}

#[derive(Deserialize)]
struct Combined<'a> {
    #[serde(borrow)]
    data: Trade<'a>,
}

/// A trade. Its other fields are of no use here.
#[derive(Deserialize)]
struct Trade<'a> {
    e: &'a str,
    s: &'a str,
    p: &'a str,
    #[serde(rename = "T")]
    time_ms: u64,
}

/// Reads a message; `None` where it is no trade.
pub(crate) fn read(text: &str) -> Option<Quote> {
    let Combined { data } = serde_json::from_str(text).ok()?;
    (data.e == "trade").then(|| Quote {
        instrument: data.s.to_owned(),
        price: Price::parse(data.p),
        time_ms: Some(data.time_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_of_all_instruments() {
        let source: Source = "binance=wss://host:9443/x/".parse().expect("a source");
        let path = path(&source, &["BTCUSDT".to_owned(), "ETHBTC".to_owned()]);
        assert_eq!(path, "/x/stream?streams=btcusdt@trade/ethbtc@trade");
    }

    #[test]
    fn only_a_trade_is_read() {
        let message = |event: &str, price: &str| {
            format!(
                r#"{{"stream":"btcusdt@trade","data":{{"e":"{event}","E":1723000000001,"s":"BTCUSDT","t":7,
                "p":"{price}","q":"0.01","T":1723000000000,"m":true,"M":true}}}}"#
            )
        };
        let quote = read(&message("trade", "60000.50000000")).expect("a trade");
        assert_eq!(
            (quote.instrument.as_str(), quote.time_ms),
            ("BTCUSDT", Some(1_723_000_000_000))
        );
        assert_eq!(quote.price, Price::parse("60000.5"));
        assert_eq!(read(&message("aggTrade", "60000.5")), None);
        for price in ["-60000.5", "0.00000000", "NaN", "Infinity", "1e9", ""] {
            assert_eq!(read(&message("trade", price)).expect("a trade").price, None, "{price}");
        }
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":{"e":"trade","s":"BTCUSDT","p":60000.5,"T":1}}"#,
            r#"{"data":{"e":"trade","s":"BTCUSDT","p":"60000.5","T":-1}}"#,
            r#"{"data":{"e":"trade","s":"BTCUSDT","p":"60000.5"}}"#,
            r#"{"data":{"e":"trade","s":"BTCUSDT","p":"60000.5","T":1}"#,
            r#"{"code":2,"msg":"Invalid request"}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let deep = "[".repeat(60_000);
        assert_eq!(read(&deep), None);
    }
}
