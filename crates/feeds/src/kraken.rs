//! Kraken's public ticker: the address, and what its answer says.

use std::collections::HashMap;

use serde::Deserialize;

use crate::binance::Quote;
use crate::price::Price;
use crate::source::Source;

/// Returns the path and query that ask for these instruments.
pub(crate) fn path(source: &Source, instruments: &[String]) -> String {
    format!("{}/0/public/Ticker?pair={}", source.base_path(), instruments.join(","))
}

#[derive(Deserialize)]
struct Answer {
    error: Vec<String>,
    #[serde(default)]
    result: HashMap<String, Ticker>,
}

/// A pair's ticker. Its other fields are of no use here.
#[derive(Deserialize)]
struct Ticker {
    /// The last trade: price and quantity.
    c: Vec<String>,
}

/// Reads an answer to the question for these instruments. What was not asked for is left out.
///
/// # Errors
///
/// It is no answer, or says that there is none.
pub(crate) fn read(body: &[u8], instruments: &[String]) -> Result<Vec<Quote>, &'static str> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "the answer cannot be read")?;
    if !answer.error.is_empty() {
        return Err("the answer is an error");
    }
    let asked = |key: &str| instruments.iter().find(|name| is_named(name, key)).cloned();
    let quote = |(key, ticker): (String, Ticker)| {
        let price = ticker.c.first().and_then(|text| Price::parse(text));
        Some(Quote { instrument: asked(&key)?, price, time_ms: None })
    };
    Ok(answer.result.into_iter().filter_map(quote).collect())
}

/// Tells whether a key of an answer is that of an instrument: the same, or with the letters that Kraken's oldest assets have
/// in front (`XXBTZUSD` is `XBTUSD`).
fn is_named(instrument: &str, key: &str) -> bool {
    if key == instrument {
        return true;
    }
    let Some((base, quote)) = instrument.split_at_checked(3) else { return false };
    let old = |asset: &str| match asset {
        "USD" => format!("Z{asset}"),
        _ => format!("X{asset}"),
    };
    key == old(base) + &old(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Vec<String> {
        ["XBTUSD", "XBTUSDT", "ETHXBT"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_answer_is_read_by_either_name() {
        let body = br#"{"error":[],"result":{
            "XXBTZUSD":{"a":["60001.0","1","1.000"],"c":["60000.50000","0.1"],"o":"59000.0"},
            "XBTUSDT":{"c":["60010.1","0.1"]},
            "XETHXXBT":{"c":["0.04500","1"]},
            "XDGUSD":{"c":["0.1","1"]}}}"#;
        let mut quotes = read(body, &asked()).expect("an answer");
        quotes.sort_by(|a, b| a.instrument.cmp(&b.instrument));
        let said: Vec<_> = quotes
            .iter()
            .map(|quote| (quote.instrument.as_str(), quote.price.expect("a price").to_string()))
            .collect();
        let of = |name, price: &str| (name, price.to_owned());
        assert_eq!(
            said,
            [of("ETHXBT", "0.045"), of("XBTUSD", "60000.5"), of("XBTUSDT", "60010.1")]
        );
    }

    #[test]
    fn anything_else_is_no_price() {
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"error":["EQuery:Unknown asset pair"]}"#,
            r#"{"error":["EAPI:Rate limit exceeded"],"result":{"XBTUSD":{"c":["1","1"]}}}"#,
            r#"{"error":[],"result":{"XBTUSD":{"c":[60000.5,1]}}}"#,
            r#"{"error":[],"result":[]}"#,
        ] {
            assert!(read(body.as_bytes(), &asked()).is_err(), "{body}");
        }
        for body in [
            r#"{"error":[],"result":{"XBTUSD":{"c":[]}}}"#,
            r#"{"error":[],"result":{"XBTUSD":{"c":["-1"]}}}"#,
            r#"{"error":[],"result":{"XBTUSD":{"c":["0.0"]}}}"#,
        ] {
            let quotes = read(body.as_bytes(), &asked()).expect("an answer");
            assert!(quotes.iter().all(|quote| quote.price.is_none()), "{body}");
        }
    }
}
