//! The feeds against servers on this machine that speak as Binance and Kraken do: well, badly, or not at all.

#![expect(unreachable_pub, reason = "nothing of a test is reached from elsewhere")]

mod recording;
mod secure;
mod stubs;

use std::time::{Duration, Instant};

use breaker::{Rules, State};
use feeds::{
    Answer, FeedHealth, FeedState, Feeds, Kind, Markets, Own, Price, Settings, Status, Timing,
};
use stubs::{Mode, Stub, price};

/// Longer than anything that is waited for takes on a machine that is busy with other things.
const WAIT_MAX: Duration = Duration::from_secs(60);
const MARKET: &str = "BTC/USD";

struct One(Option<&'static str>);

impl Markets for One {
    fn markets(&self) -> Vec<Own> {
        let price = self.0.map(|text| Price::parse(text).expect("a price"));
        vec![
            Own { symbol: MARKET.to_owned(), price },
            Own { symbol: "DOGE/USD".to_owned(), price: None },
        ]
    }
}

/// Everything a hundred times as fast as in real life.
fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        stale: ms(500),
        poll: ms(50),
        connect_max: ms(400),
        answer_max: ms(400),
        retry_min: ms(20),
        retry_max: ms(100),
        look: ms(20),
        breaker: Rules {
            calls_max: 6,
            bad_max: 4,
            slow: Duration::from_secs(5),
            probes: 1,
            open: ms(300),
            open_max: ms(600),
        },
    }
}

fn settings(binance: &str, kraken: Option<&str>) -> Settings {
    let kraken = kraken.map(|address| format!("kraken=http://{address}"));
    let all = std::iter::once(format!("binance=ws://{binance}")).chain(kraken);
    let sources = all.map(|text| text.parse().expect("a source")).collect();
    Settings { sources, timing: timing() }
}

fn start(binance: &Stub, kraken: &Stub, own: Option<&'static str>) -> Feeds {
    let (binance, kraken) = (binance.address.to_string(), kraken.address.to_string());
    Feeds::start(settings(&binance, Some(&kraken)), One(own))
}

/// Source and price, or the other answer's name.
fn shown(feeds: &Feeds) -> String {
    match feeds.answer(MARKET) {
        Answer::Available(outside) => format!("{} {}", outside.source, outside.price),
        other => format!("{other:?}"),
    }
}

fn of(feeds: &Feeds, kind: Kind) -> FeedHealth {
    feeds.health().into_iter().find(|feed| feed.kind == kind).expect("it is configured")
}

fn breaker(feeds: &Feeds, name: &str) -> State {
    feeds.breakers().find(|(known, _)| *known == name).expect("it is there").1
}

async fn until(feeds: &Feeds, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT_MAX, "{what}: it is {}, {:?}", shown(feeds), feeds.health());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn until_shown(feeds: &Feeds, wanted: &str) {
    until(feeds, wanted, || shown(feeds) == wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_come_from_the_first_source() {
    let (binance, kraken) =
        (Stub::binance(price("60000.50000000")).await, Stub::kraken(price("60010.1")).await);
    let feeds = start(&binance, &kraken, Some("60100"));
    until_shown(&feeds, "binance 60000.5").await;
    until(&feeds, "all is well", || {
        feeds.status() == Status::Ok
            && feeds
                .health()
                .iter()
                .all(|feed| feed.state == FeedState::Up && feed.trouble.is_none())
    })
    .await;
    let Answer::Available(outside) = feeds.answer(MARKET) else { panic!("it was there") };
    assert_eq!(outside.instrument, "BTCUSDT");
    assert!(stubs::now_ms() - outside.heard_ms < 60_000);
    assert_eq!(feeds.answer("DOGE/USD"), Answer::NotAvailable, "it was never asked for");
    binance.set(price("60001"));
    until_shown(&feeds, "binance 60001").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_stream_is_connected_anew_and_the_other_source_used_meanwhile() {
    let (binance, kraken) =
        (Stub::binance(price("60000")).await, Stub::kraken(price("60010")).await);
    let feeds = start(&binance, &kraken, None);
    until_shown(&feeds, "binance 60000").await;
    let before = binance.calls();
    binance.set(Mode::Silent);
    until_shown(&feeds, "kraken 60010").await;
    assert_eq!(feeds.status(), Status::Degraded);
    until(&feeds, "it is connected anew", || binance.calls() > before).await;
    assert_ne!(of(&feeds, Kind::Binance).state, FeedState::Up);
    binance.set(price("60002"));
    until_shown(&feeds, "binance 60002").await;
    until(&feeds, "all is well", || feeds.status() == Status::Ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_away_is_said_and_both_come_back() {
    let (binance, kraken) =
        (Stub::binance(price("60000")).await, Stub::kraken(price("60010")).await);
    let feeds = start(&binance, &kraken, None);
    until_shown(&feeds, "binance 60000").await;
    binance.set(Mode::Down);
    until_shown(&feeds, "kraken 60010").await;
    kraken.set(Mode::Silent);
    until_shown(&feeds, "NotAvailable").await;
    assert_eq!(feeds.status(), Status::NotAvailable);
    until(&feeds, "both are down", || {
        feeds.health().iter().all(|feed| feed.state == FeedState::Down && feed.trouble.is_some())
    })
    .await;
    kraken.set(price("60020"));
    until_shown(&feeds, "kraken 60020").await;
    binance.set(price("60030"));
    until_shown(&feeds, "binance 60030").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_at_once() {
    // A port where nobody listens.
    let (gone, listener) = Stub::bind(Mode::Down).await;
    drop(listener);
    let feeds = Feeds::start(settings(&gone.address.to_string(), None), One(Some("60000")));
    until(&feeds, "it is down", || of(&feeds, Kind::Binance).state == FeedState::Down).await;
    assert_eq!(shown(&feeds), "NotAvailable");
    until(&feeds, "the breaker opens", || breaker(&feeds, "price_feed_binance") == State::Open)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_never_a_price() {
    let wrong_symbol = stubs::trade("dogeusdt@trade", "60000", stubs::now_ms());
    let old = stubs::trade("btcusdt@trade", "60000", 1_723_161_255_342);
    let negative = stubs::trade("btcusdt@trade", "-60000", stubs::now_ms());
    let texts = ["", "{", "null", "\u{0}", "<html>", &wrong_symbol, &old, &negative];
    let messages = texts.map(|text| Mode::Text(text.to_owned()));
    let kraken_texts = [
        "",
        "[]",
        r#"{"error":["EService:Unavailable"]}"#,
        r#"{"error":[],"result":{"XXBTZUSD":{"c":["-60000","1"]}}}"#,
        r#"{"error":[],"result":{"XDGUSD":{"c":["60000","1"]}}}"#,
    ];
    let bodies = kraken_texts.map(|text| Mode::Text(text.to_owned()));
    let huge = [Mode::Huge(1 << 20)];
    let (binance, kraken) = (Stub::binance(Mode::Hang).await, Stub::kraken(Mode::Hang).await);
    let feeds = start(&binance, &kraken, None);
    for (message, body) in messages.iter().chain(&huge).zip(bodies.iter().chain(&huge).cycle()) {
        binance.set(message.clone());
        kraken.set(body.clone());
        let before = (binance.calls(), kraken.calls());
        until(&feeds, "both were asked with it", || {
            assert!(!matches!(feeds.answer(MARKET), Answer::Available(_)), "{message:?} {body:?}");
            binance.calls() > before.0 && kraken.calls() > before.1
        })
        .await;
    }
    kraken.set(price("60010"));
    until_shown(&feeds, "kraken 60010").await;
    binance.set(price("60000"));
    until_shown(&feeds, "binance 60000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_wrong_by_half_is_suspicious_and_not_used() {
    let (binance, kraken) =
        (Stub::binance(price("60000")).await, Stub::kraken(price("60010")).await);
    let feeds = start(&binance, &kraken, Some("60100"));
    until_shown(&feeds, "binance 60000").await;
    binance.set(price("30000"));
    until_shown(&feeds, "kraken 60010").await;
    until(&feeds, "it is suspicious", || of(&feeds, Kind::Binance).state == FeedState::Suspicious)
        .await;
    kraken.set(price("90000"));
    until_shown(&feeds, "Suspicious").await;
    kraken.set(price("60011"));
    until_shown(&feeds, "kraken 60011").await;
    binance.set(price("60001"));
    until_shown(&feeds, "binance 60001").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_opens_its_breaker_which_tries_and_closes() {
    let (binance, kraken) = (Stub::binance(Mode::Hang).await, Stub::kraken(Mode::Hang).await);
    let feeds = start(&binance, &kraken, None);
    for name in ["price_feed_binance", "price_feed_kraken"] {
        until(&feeds, "it opens", || breaker(&feeds, name) == State::Open).await;
        until(&feeds, "it tries", || breaker(&feeds, name) == State::HalfOpen).await;
        until(&feeds, "it opens again", || breaker(&feeds, name) == State::Open).await;
    }
    assert_eq!(shown(&feeds), "NotAvailable");
    let text = telemetry::render();
    assert!(text.contains("kx_circuit_breaker_state{breaker=\"price_feed_kraken\"}"), "{text}");
    assert!(text.contains("kx_price_feed_up{feed=\"binance\"}"), "{text}");
    assert!(text.contains("kx_price_feed_age_seconds{feed=\"kraken\"}"), "{text}");
    binance.set(price("60000"));
    kraken.set(price("60010"));
    for name in ["price_feed_binance", "price_feed_kraken"] {
        until(&feeds, "it closes", || breaker(&feeds, name) == State::Closed).await;
    }
    until_shown(&feeds, "binance 60000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_ends_the_connection() {
    let binance = Stub::binance(Mode::Flood("{}".to_owned())).await;
    let mut settings = settings(&binance.address.to_string(), None);
    // It is not silence that ends it.
    settings.timing.stale = WAIT_MAX * 2;
    let feeds = Feeds::start(settings, One(None));
    until(&feeds, "it is connected anew", || binance.calls() > 2).await;
    assert_eq!(shown(&feeds), "NotAvailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sources_nothing_is_done() {
    struct Never;
    impl Markets for Never {
        fn markets(&self) -> Vec<Own> {
            panic!("nobody asks");
        }
    }
    let feeds = Feeds::start(Settings::default(), Never);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((feeds.answer(MARKET), feeds.status()), (Answer::Off, Status::Off));
    assert!(feeds.health().is_empty());
    assert_eq!(feeds.breakers().count(), 0);
}
