//! Some minutes of the real stream, as the exchange sent it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use feeds::{Answer, Feeds, Timing};
use futures::SinkExt as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::stubs::{Mode, Stub, now_ms};
use crate::{MARKET, One, settings, shown, until};

/// So many trades are said.
const TRADES: usize = 3_000;

/// Reads the trades of the recording: what is sent, unchanged.
fn trades() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/binance/spot_btcusdt_20240808.gz");
    assert!(
        path.exists(),
        "the real recordings are not there: {} (see the README of ../shared/data)",
        path.display()
    );
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    let messages = text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned()));
    messages.filter(|message| message.contains("btcusdt@trade")).take(TRADES).collect()
}

/// Moves a trade from its own time to now; every other digit stays. Returns its price, too.
fn moved(message: &str) -> (String, String) {
    let value: Value = serde_json::from_str(message).expect("it is JSON");
    let data = &value["data"];
    let mut text = message.to_owned();
    for field in ["E", "T"] {
        let time = data[field].as_u64().expect("it has a time");
        let (old, new) = (format!("\"{field}\":{time}"), format!("\"{field}\":{}", now_ms()));
        assert!(text.contains(&old), "{text}");
        text = text.replace(&old, &new);
    }
    (text, data["p"].as_str().expect("it has a price").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_stream_is_read_to_its_last_trade() {
    let trades = trades();
    assert_eq!(trades.len(), TRADES);
    let (stub, listener) = Stub::bind(Mode::Hang).await;
    let mut config = settings(&stub.address.to_string(), None);
    config.timing = Timing { stale: Duration::from_secs(60), ..config.timing };
    let feeds = Feeds::start(config, One(Some("61000")));
    let (stream, _) = listener.accept().await.expect("it connects");
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("it speaks WebSocket");
    let mut prices = Vec::new();
    for message in &trades {
        let (text, price) = moved(message);
        prices.push(feeds::Price::parse(&price).expect("every real price can be read"));
        socket.send(Message::from(text)).await.expect("it listens");
        if let Answer::Available(outside) = feeds.answer(MARKET) {
            assert!(prices.contains(&outside.price), "{}", outside.price);
        }
    }
    let wanted = format!("binance {}", prices.last().expect("there are some"));
    until(&feeds, &wanted, || shown(&feeds) == wanted).await;
}
