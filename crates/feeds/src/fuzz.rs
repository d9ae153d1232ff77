//! Whatever a source says is read or refused, never a panic; what is read is a price above zero.
//!
//! The target runs for a bounded time with the tests; `cargo bolero test` runs it for as long as wanted.

use std::time::Duration;

use crate::price::Price;
use crate::{binance, kraken};

const TIME: Duration = Duration::from_secs(2);
const TRADE: &str = r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1723000000001,"s":"BTCUSDT","t":7,
    "p":"60000.50000000","q":"0.01","T":1723000000000,"m":true,"M":true}}"#;
const TICKER: &str = r#"{"error":[],"result":{"XXBTZUSD":{"a":["60001.0","1","1.000"],"c":["60000.5","0.1"],
    "t":[1,2],"o":"59000.0"}}}"#;

/// Bytes to put in place of others, and whatever else.
type Damage = (Vec<(u16, u8)>, Vec<u8>);

#[test]
fn fuzz_what_sources_say() {
    let asked = ["XBTUSD".to_owned()];
    let check = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let quotes = kraken::read(bytes, &asked).unwrap_or_default();
        for price in quotes.into_iter().chain(binance::read(&text)).filter_map(|quote| quote.price)
        {
            assert_eq!(Price::parse(&price.to_string()), Some(price));
        }
        if let Some(price) = Price::parse(&text) {
            assert!(price.units() > 0);
        }
    };
    bolero::check!().with_test_time(TIME).with_type::<Damage>().for_each(|(changes, any)| {
        for whole in [TRADE, TICKER] {
            let mut bytes = whole.as_bytes().to_vec();
            for (at, byte) in changes {
                let at = usize::from(*at) % bytes.len();
                bytes[at] = *byte;
            }
            check(&bytes);
        }
        check(any);
    });
    check(TRADE.as_bytes());
    assert!(binance::read(TRADE).and_then(|quote| quote.price).is_some(), "the whole one is read");
    assert!(kraken::read(TICKER.as_bytes(), &asked).is_ok_and(|quotes| quotes.len() == 1));
}
