use proptest::prelude::*;
use units::{AssetId, RatePpm};

use super::*;

fn asset(symbol: &str, scale: u8, transfer_scale: u8) -> AssetConfig {
    AssetConfig { symbol: symbol.into(), scale, transfer_scale }
}

fn btc() -> AssetConfig {
    asset("BTC", 8, 8)
}

fn usd() -> AssetConfig {
    asset("USD", 10, 2)
}

/// BTC/USD with a tick of 0.01 and a lot of 0.00000001.
fn btc_usd() -> MarketConfig {
    MarketConfig {
        symbol: "BTC/USD".into(),
        base: AssetId::new(1),
        quote: AssetId::new(0),
        base_units_per_lot: 1,
        quote_units_per_tick_lot: 1,
        tick_size: Amount::new(100_000_000),
        notional_min: Amount::new(10_000_000_000),
        quantity_max: QuantityLots::new(1_000_000_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: None,
        halt_move: None,
        initial_price: None,
    }
}

fn grids() -> impl Strategy<Value = Grid> {
    (1_u128..=u128::from(u64::MAX), 0_u8..=30).prop_map(|(step, scale)| grid(step, scale))
}

proptest! {
    #[test]
    fn prop_what_is_printed_is_read_back(grid in grids(), steps in 1_u64..) {
        let steps = u128::from(steps).min(grid.steps_max);
        prop_assert_eq!(grid.parse(&grid.format(steps)), Ok(steps));
    }

    #[test]
    fn prop_steps_of_powers_of_ten_are_read_back(power in 0_u32..20, scale in 0_u8..=30, steps in 1_u64..) {
        let grid = grid(10_u128.pow(power).min(u128::from(u64::MAX)), scale);
        let steps = u128::from(steps).min(grid.steps_max);
        let text = grid.format(steps);
        prop_assert_eq!(grid.parse(&text), Ok(steps));
        // The decimals are the step's, whatever the number of steps.
        let decimals = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        prop_assert_eq!(decimals(&text), decimals(&grid.format(1)));
    }

    #[test]
    fn prop_amounts_are_read_back(units in 1..=Amount::COMMAND_MAX.get(), scale in 0_u8..=30, transfer in 0_u8..=30) {
        let asset = asset("X", scale, transfer.min(scale));
        let text = format_amount(&asset, Amount::new(units));
        prop_assert_eq!(parse_amount(&asset, &text), Ok(Amount::new(units)));
        let step = asset.transfer_step().get();
        let expected = units.is_multiple_of(step).then_some(Amount::new(units));
        prop_assert_eq!(parse_transfer_amount(&asset, &text).ok(), expected);
    }

    #[test]
    fn prop_no_text_panics_and_every_nearest_value_passes(grid in grids(), text in "[-+.0-9eE ]{0,70}|\\PC{0,20}|[0-9]{1,40}\\.[0-9]{1,40}") {
        if let Err(error) = grid.parse(&text) {
            for nearest in error.nearest() {
                prop_assert!(grid.parse(nearest).is_ok(), "{text}: {nearest}");
            }
        }
    }

    #[test]
    fn prop_the_nearest_values_are_the_neighbours(grid in grids(), text in "(0|[1-9][0-9]{0,9})\\.[0-9]{1,20}") {
        if let Err(DecimalError::OffGrid { below, above, .. }) = grid.parse(&text) {
            let steps = |text: Option<String>| text.map_or(0, |text| grid.parse(&text).unwrap());
            prop_assert!(above.is_some());
            prop_assert_eq!(steps(below) + 1, steps(above));
        }
    }
}

#[test]
fn the_greatest_step_count_of_a_coarse_grid_is_read_back() {
    // Such a step times 2^64 has 39 digits, which no text may have: the grid ends before.
    let grid = grid(7_581_566_428_636_849_151, 0);
    assert_eq!(grid.parse(&grid.format(grid.steps_max)), Ok(grid.steps_max));
}

#[test]
fn prices_are_read_on_the_tick() {
    let parse = |text| parse_price(&btc_usd(), &usd(), text);
    assert_eq!(parse("0.01").map(PriceTicks::get), Ok(1));
    assert_eq!(parse("64000.1").map(PriceTicks::get), Ok(6_400_010));
    assert_eq!(parse("64000.100000000000").map(PriceTicks::get), Ok(6_400_010));
    assert_eq!(
        parse("0.001"),
        Err(DecimalError::OffGrid { step: "0.01".into(), below: None, above: Some("0.01".into()) })
    );
    assert_eq!(
        parse("64000.0156").unwrap_err().to_string(),
        "must be a multiple of 0.01; the nearest is 64000.01 or 64000.02"
    );
    // Finer than the ledger itself.
    assert_eq!(parse("64000.0100000000001").unwrap_err().nearest(), ["64000.01", "64000.02"]);
    assert_eq!(parse("184467440737095516.15").map(PriceTicks::get), Ok(u64::MAX));
    assert_eq!(parse("184467440737095516.16").unwrap_err().nearest(), ["184467440737095516.15"]);
}

#[test]
fn quantities_are_read_on_the_lot_up_to_the_maximum() {
    let parse = |text| parse_quantity(&btc_usd(), &btc(), text);
    assert_eq!(parse("0.00000001").map(QuantityLots::get), Ok(1));
    assert_eq!(parse("10000").map(QuantityLots::get), Ok(1_000_000_000_000));
    assert_eq!(parse("10000.00000001").unwrap_err().nearest(), ["10000.00000000"]);
    assert_eq!(parse("0.123456789").unwrap_err().nearest(), ["0.12345678", "0.12345679"]);
    assert_eq!(parse("0.000000000").unwrap_err().nearest(), ["0.00000001"]);
}

#[test]
fn transfers_are_read_to_the_transfer_precision() {
    assert_eq!(parse_transfer_amount(&usd(), "12.34"), Ok(Amount::new(123_400_000_000)));
    assert_eq!(parse_transfer_amount(&usd(), "12.345").unwrap_err().nearest(), ["12.34", "12.35"]);
    assert_eq!(parse_amount(&usd(), "12.3456789012"), Ok(Amount::new(123_456_789_012)));
}

#[test]
fn what_is_not_a_plain_decimal_is_refused() {
    let refused = [
        "",
        " ",
        "1 ",
        " 1",
        ".5",
        "5.",
        ".",
        "1.2.3",
        "1e5",
        "1E5",
        "NaN",
        "Infinity",
        "-Infinity",
        "inf",
        "-0",
        "-0.0",
        "+1",
        "--1",
        "-",
        "\u{2212}1",
        "\u{ff11}",
        "\u{0661}",
        "1_000",
        "1,000",
        "0x10",
        "00",
        "007",
        "1\u{0}",
        "1\n",
        "\u{202e}1",
        "½",
        "1e400",
        "99999999999999999999e99",
    ];
    for text in refused {
        let error = parse_amount(&usd(), text).unwrap_err();
        assert_eq!(error.code(), "decimal_malformed", "{text:?}: {error}");
    }
    let long = "1".repeat(LENGTH_MAX + 1);
    assert_eq!(parse_amount(&usd(), &long).unwrap_err().code(), "decimal_malformed");
}

#[test]
fn what_is_out_of_range_is_refused_with_the_end_of_the_range() {
    let code = |text| parse_amount(&usd(), text).unwrap_err().code();
    assert_eq!(code("0"), "decimal_zero");
    assert_eq!(code("0.0000"), "decimal_zero");
    assert_eq!(code("-1"), "decimal_negative");
    assert_eq!(code("-9223372036854775808"), "decimal_negative");
    assert_eq!(code("340282366920938463463374607431768211455"), "decimal_too_many_digits");
    assert_eq!(code("340282366920938463463374607431768211456"), "decimal_too_many_digits");
    assert_eq!(code("99999999999999999999999999999999999999"), "decimal_too_large");
    assert_eq!(code("100000000000000000000.0000000001"), "decimal_too_large");
    assert_eq!(parse_amount(&usd(), "100000000000000000000"), Ok(Amount::COMMAND_MAX));
}

#[test]
fn amounts_print_their_transfer_precision_and_what_goes_beyond() {
    let print = |units| format_amount(&usd(), Amount::new(units));
    assert_eq!(print(0), "0.00");
    assert_eq!(print(1), "0.0000000001");
    assert_eq!(print(1_000_000_000), "0.10");
    assert_eq!(print(1_234_500_000_000), "123.45");
    assert_eq!(print(1_234_560_000_000), "123.456");
    assert_eq!(format_signed_amount(&usd(), -50_000_000_000), "-5.00");
    assert_eq!(format_amount(&asset("JPY", 0, 0), Amount::new(120)), "120");
}

#[test]
fn rules_print_as_decimals() {
    assert_eq!(tick_size(&btc_usd(), &usd()), "0.01");
    assert_eq!(lot_size(&btc_usd(), &btc()), "0.00000001");
    assert_eq!(format_rate(RatePpm::new(1_000)), "0.001");
    assert_eq!(format_rate(RatePpm::new(0)), "0");
    let average = |notional, lots| {
        format_average_price(&btc_usd(), &btc(), &usd(), Amount::new(notional), lots)
    };
    // 3 lots at 1 tick and 1 lot at 2 ticks: 0.0125.
    assert_eq!(average(5, 4).as_deref(), Some("0.0125"));
    assert_eq!(average(5, 0), None);
    assert_eq!(
        format_volume(&btc_usd(), &btc(), 1_u128 << 70).as_deref(),
        Some("11805916207174.11303424")
    );
}
