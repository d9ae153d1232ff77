//! What is believed, from moment to moment.

use std::time::Duration;

use proptest::prelude::*;

use crate::binance::Quote;
use crate::board::{Answer, Board, FAR_PERCENT, FeedState, Moment, Own, Taken};
use crate::price::Price;
use crate::source::Kind;

const STALE: Duration = Duration::from_secs(30);
const BINANCE: usize = 0;
const KRAKEN: usize = 1;
const MARKET: &str = "BTC/USD";

fn at(seconds: u64) -> Moment {
    Moment { run: Duration::from_secs(seconds), wall_ms: 1_800_000_000_000 + seconds * 1_000 }
}

fn board(own: Option<&str>) -> Board {
    let mut board = Board::new([Kind::Binance, Kind::Kraken], STALE);
    let price = own.map(|text| Price::parse(text).expect("a price"));
    board.set_own(vec![Own { symbol: MARKET.to_owned(), price }]);
    board
}

fn quote(feed: usize, price: &str, seconds: u64) -> Quote {
    let instrument = if feed == BINANCE { "BTCUSDT" } else { "XBTUSD" }.to_owned();
    let time_ms = (feed == BINANCE).then(|| at(seconds).wall_ms);
    Quote { instrument, price: Price::parse(price), time_ms }
}

fn say(board: &mut Board, feed: usize, price: &str, seconds: u64) -> Taken {
    board.take(feed, &quote(feed, price, seconds), at(seconds))
}

/// Source and price, or the other answer's name.
fn shown(board: &Board, seconds: u64) -> String {
    match board.answer(MARKET, at(seconds)) {
        Answer::Available(outside) => format!("{} {}", outside.source, outside.price),
        other => format!("{other:?}"),
    }
}

fn states(board: &Board, seconds: u64) -> [FeedState; 2] {
    let health = board.health(at(seconds));
    [health[BINANCE].state, health[KRAKEN].state]
}

#[test]
fn the_first_source_is_used_while_it_is_fresh_and_the_next_one_after() {
    let mut board = board(None);
    assert_eq!(shown(&board, 0), "NotAvailable");
    assert_eq!(states(&board, 0), [FeedState::Starting; 2]);
    board.set_connected(BINANCE, Ok(()));
    assert_eq!(say(&mut board, BINANCE, "60000", 1), Taken::Used);
    assert_eq!(say(&mut board, KRAKEN, "60010", 5), Taken::Used);
    assert_eq!(shown(&board, 31), "binance 60000");
    assert_eq!(shown(&board, 32), "kraken 60010");
    assert_eq!(states(&board, 32), [FeedState::Stale, FeedState::Up]);
    assert_eq!(shown(&board, 36), "NotAvailable");
    board.set_connected(BINANCE, Err("gone"));
    assert_eq!(states(&board, 36), [FeedState::Down; 2]);
    assert_eq!(board.health(at(36))[BINANCE].trouble, Some("gone"));
    assert_eq!(say(&mut board, BINANCE, "60020", 40), Taken::Used);
    assert_eq!(shown(&board, 40), "binance 60020");
    assert_eq!(states(&board, 40), [FeedState::Up, FeedState::Down]);
}

#[test]
fn a_price_that_is_wrong_by_half_is_not_used() {
    for wrong in ["30000", "90000", "120000", "0.00000001", "9999999999"] {
        // Our own market bears witness against it.
        let mut one = board(Some("60000"));
        assert_eq!(say(&mut one, BINANCE, wrong, 1), Taken::Used);
        assert_eq!(shown(&one, 1), "Suspicious", "{wrong}");
        assert_eq!(states(&one, 1)[BINANCE], FeedState::Suspicious);
        // So does the other source, which is used instead.
        let mut two = board(Some("60000"));
        say(&mut two, KRAKEN, "60010", 1);
        say(&mut two, BINANCE, wrong, 1);
        assert_eq!(shown(&two, 1), "kraken 60010", "{wrong}");
        // And so does what it said itself a moment ago.
        let mut jump = board(None);
        say(&mut jump, BINANCE, "60000", 1);
        assert!(matches!(say(&mut jump, BINANCE, wrong, 2), Taken::Unfit(_)), "{wrong}");
        assert_eq!(shown(&jump, 2), "Suspicious", "{wrong}");
        assert_eq!(say(&mut jump, BINANCE, "60001", 3), Taken::Used);
        assert_eq!(shown(&jump, 3), "binance 60001");
    }
}

#[test]
fn two_sources_that_agree_are_believed_whatever_our_own_market_says() {
    let mut both = board(Some("30000"));
    say(&mut both, BINANCE, "60000", 1);
    assert_eq!(shown(&both, 1), "Suspicious");
    say(&mut both, KRAKEN, "60010", 1);
    assert_eq!(shown(&both, 1), "binance 60000");
    // Two that do not agree, and nobody to ask: neither is believed.
    let mut neither = board(None);
    say(&mut neither, BINANCE, "60000", 1);
    say(&mut neither, KRAKEN, "90000", 1);
    assert_eq!(shown(&neither, 1), "Suspicious");
    assert_eq!(states(&neither, 1), [FeedState::Suspicious; 2]);
}

#[test]
fn a_move_that_lasts_is_news_in_the_end() {
    let mut board = board(None);
    say(&mut board, BINANCE, "60000", 0);
    for second in 1..60 {
        assert!(matches!(say(&mut board, BINANCE, "40000", second), Taken::Unfit(_)), "{second}");
        assert_eq!(shown(&board, second), "Suspicious");
    }
    assert_eq!(say(&mut board, BINANCE, "40000", 60), Taken::Used);
    assert_eq!(shown(&board, 60), "binance 40000");
}

#[test]
fn what_is_no_price_old_or_of_another_is_not_taken() {
    let mut board = board(None);
    say(&mut board, BINANCE, "60000", 100);
    for text in ["-60000", "0", "NaN", "1e5"] {
        assert!(matches!(say(&mut board, BINANCE, text, 100), Taken::Unfit(_)), "{text}");
        assert_eq!(shown(&board, 100), "Suspicious", "{text}");
    }
    assert_eq!(board.take(BINANCE, &quote(BINANCE, "60001", 99), at(101)), Taken::Old);
    let other = Quote { instrument: "DOGEUSDT".to_owned(), ..quote(BINANCE, "60001", 101) };
    assert_eq!(board.take(BINANCE, &other, at(101)), Taken::Unknown);
    say(&mut board, BINANCE, "60000", 102);
    // A clock that is far off: an old recording, or the day after tomorrow.
    for seconds in [30, 200] {
        let taken = board.take(BINANCE, &quote(BINANCE, "60001", seconds), at(120));
        assert!(matches!(taken, Taken::Unfit(_)), "{seconds}");
    }
    assert_eq!(shown(&board, 120), "binance 60000");
    assert_eq!(shown(&board, 133), "NotAvailable", "a replay does not make it fresh");
}

#[test]
fn a_market_that_is_gone_is_forgotten() {
    let mut board = board(None);
    say(&mut board, BINANCE, "60000", 1);
    board.set_own(vec![Own { symbol: "ETH/USD".to_owned(), price: None }]);
    assert_eq!(board.wanted(BINANCE), ["ETHUSDT"]);
    assert_eq!(shown(&board, 1), "NotAvailable");
    assert_eq!(say(&mut board, BINANCE, "60000", 1), Taken::Unknown);
    let none = Board::new([], STALE);
    assert_eq!(none.answer(MARKET, at(0)), Answer::Off);
}

fn price() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (50_000..70_000_u64).prop_map(|whole| whole.to_string()),
        1 => (1..200_000_u64).prop_map(|whole| whole.to_string()),
        1 => ".{0,12}",
    ]
}

proptest! {
    /// Whatever the sources say, a price that is shown was said by its source within the stale time, to the digit, and some
    /// witness, where there is one, is near it.
    #[test]
    fn prop_no_price_is_invented_stale_or_contradicted(
        own in prop::option::of(50_000..70_000_u64),
        steps in prop::collection::vec((0..2_usize, price(), 0..20_u64), 1..80),
    ) {
        let own = own.map(|whole| whole.to_string());
        let mut board = board(own.as_deref());
        let mut said: Vec<(usize, Price, u64)> = Vec::new();
        let mut now = 0;
        for (feed, text, pass) in steps {
            now += pass;
            if say(&mut board, feed, &text, now) == Taken::Used {
                said.push((feed, Price::parse(&text).expect("only prices are used"), now));
            }
            let Answer::Available(outside) = board.answer(MARKET, at(now)) else { continue };
            let feed = if outside.source == "binance" { BINANCE } else { KRAKEN };
            let newest = |of| said.iter().rev().find(|(feed, ..)| *feed == of).copied();
            let (_, price, second) = newest(feed).expect("somebody said it");
            prop_assert_eq!(price, outside.price);
            prop_assert!(now - second <= STALE.as_secs());
            prop_assert_eq!(outside.age, Duration::from_secs(now - second));
            let other = newest(1 - feed).filter(|(.., second)| now - second <= STALE.as_secs());
            let witnesses: Vec<_> = own
                .iter()
                .map(|text| Price::parse(text).expect("a price"))
                .chain(other.map(|(_, price, _)| price))
                .collect();
            let near = |witness: &Price| !witness.is_far_from(price, FAR_PERCENT);
            prop_assert!(own.is_none() || witnesses.iter().any(near), "{price} {witnesses:?}");
        }
    }
}
