//! Whatever comes from outside as text is read or refused, never a panic; what is read is printed and read alike.
//!
//! Each target runs for a bounded time with the tests; `cargo bolero test` runs one for as long as wanted.

use std::time::Duration;

use engine::{AssetConfig, MarketConfig};
use units::{AccountId, Amount, AssetId, MarketId, QuantityLots, RatePpm};

use crate::body::{AmendOrderRequest, PlaceOrderRequest};
use crate::render::MarketWords;
use crate::{address, decimal, id, order, symbol, time};

const TIME: Duration = Duration::from_secs(2);

fn asset(symbol: &str, scale: u8) -> AssetConfig {
    AssetConfig { symbol: symbol.into(), scale, transfer_scale: 2 }
}

fn market(tick_size: u128) -> MarketConfig {
    MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(1),
        quote: AssetId::new(0),
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(tick_size),
        notional_min: Amount::new(1),
        quantity_max: QuantityLots::new(u64::MAX),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: None,
    }
}

#[test]
fn fuzz_decimals() {
    let (btc, usd) = (asset("BTC", 8), asset("USD", 10));
    let markets = [market(100_000_000), market(1), market(7)];
    bolero::check!().with_test_time(TIME).with_type::<String>().for_each(|text| {
        for market in &markets {
            if let Ok(price) = decimal::parse_price(market, &usd, text) {
                let printed = decimal::format_price(market, &usd, price);
                assert_eq!(decimal::parse_price(market, &usd, &printed), Ok(price), "{text}");
            }
            if let Ok(quantity) = decimal::parse_quantity(market, &btc, text) {
                let printed = decimal::format_quantity(market, &btc, quantity);
                assert_eq!(decimal::parse_quantity(market, &btc, &printed), Ok(quantity), "{text}");
            }
        }
        if let Ok(amount) = decimal::parse_amount(&usd, text) {
            let printed = decimal::format_amount(&usd, amount);
            assert_eq!(decimal::parse_amount(&usd, &printed), Ok(amount), "{text}");
        }
    });
}

/// Texts that are nearly numbers reach further than any text does.
#[test]
fn fuzz_decimals_of_digits() {
    const LETTERS: &[u8] = b"00123456789999.-+eE_ ,";
    let usd = asset("USD", 10);
    let market = market(100_000_000);
    bolero::check!().with_test_time(TIME).with_type::<Vec<u8>>().for_each(|bytes| {
        let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
        let text: String = bytes.iter().map(letter).collect();
        if let Ok(price) = decimal::parse_price(&market, &usd, &text) {
            let printed = decimal::format_price(&market, &usd, price);
            assert_eq!(decimal::parse_price(&market, &usd, &printed), Ok(price), "{text}");
        }
        let _ = decimal::parse_transfer_amount(&usd, &text);
    });
}

#[test]
fn fuzz_names_and_times() {
    bolero::check!().with_test_time(TIME).with_type::<String>().for_each(|text| {
        if let Ok(account) = address::parse(text) {
            let printed = address::format(account);
            assert_eq!(address::parse(&printed), Ok(account), "{text}");
        }
        if let Some(parsed) = id::parse(text) {
            assert_eq!(id::parse(&id::format(parsed)), Some(parsed), "{text}");
        }
        if let Some(parsed) = time::parse(text) {
            assert_eq!(time::parse(&time::format(parsed)), Some(parsed), "{text}");
        }
        let _ = symbol::from_text(text);
    });
}

/// An order's body, made from words that are its own and from any others.
#[test]
fn fuzz_order_requests() {
    const WORDS: &[&str] = &[
        "\"market\"",
        "\"side\"",
        "\"orderType\"",
        "\"price\"",
        "\"quantity\"",
        "\"quoteAmount\"",
        "\"timeInForce\"",
        "\"goodTill\"",
        "\"postOnly\"",
        "\"triggerPrice\"",
        "\"displayQuantity\"",
        "\"selfTradePrevention\"",
        "\"clientOrderId\"",
        "\"buy\"",
        "\"sell\"",
        "\"limit\"",
        "\"market\"",
        "\"stop_limit\"",
        "\"ioc\"",
        "\"gtd\"",
        "\"1.5\"",
        "\"0.00000001\"",
        "-1",
        "1e400",
        "18446744073709551616",
        "null",
        "true",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "\"",
        "\\u0000",
        "BTC/USD",
        "2026-01-01T00:00:00Z",
    ];
    let assets = [asset("USD", 10), asset("BTC", 8)];
    let market = market(100_000_000);
    let words = MarketWords::new(&market, &assets).expect("the assets are there");
    let check = |text: &str| {
        if let Ok(request) = serde_json::from_str::<PlaceOrderRequest>(text) {
            let _ = order::place(&request, AccountId::new(1_000), MarketId::new(0), &words);
        }
        if let Ok(request) = serde_json::from_str::<AmendOrderRequest>(text) {
            let order = engine::OrderRef::Id(units::CommandId::new(1));
            let _ = order::amend(&request, AccountId::new(1_000), order, &words);
        }
    };
    bolero::check!().with_test_time(TIME).with_type::<(Vec<u8>, String)>().for_each(|(at, any)| {
        let word = |at: &u8| WORDS.get(usize::from(*at)).copied().unwrap_or(any);
        check(&at.iter().map(word).collect::<String>());
        // A whole one with one value that is anything.
        let value = serde_json::to_string(any).expect("a text is JSON");
        for field in ["price", "quantity", "goodTill", "clientOrderId", "timeInForce", "side"] {
            check(&format!(
                "{{\"market\":\"BTC/USD\",\"side\":\"buy\",\"orderType\":\"limit\",\"{field}\":{value}}}"
            ));
        }
    });
}
