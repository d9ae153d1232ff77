//! Servers on this machine that speak as Binance and Kraken do, well or badly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::SinkExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// How a stub behaves, from one message to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It says this price for whatever it is asked for.
    Price(String),
    /// It takes connections and never answers.
    Hang,
    /// It closes every connection.
    Down,
    /// Binance: it says nothing. Kraken: it answers 500.
    Silent,
    /// It says this, whatever it is asked for.
    Text(String),
    /// Binance alone: it says this as fast as it can.
    Flood(String),
    /// Binance: a frame, Kraken: a body, of so many bytes.
    Huge(usize),
}

pub fn price(text: &str) -> Mode {
    Mode::Price(text.to_owned())
}

/// A stub: where it is, how it behaves, and how often it was called.
#[derive(Clone)]
pub struct Stub {
    pub address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    calls: Arc<AtomicUsize>,
}

impl Stub {
    pub async fn binance(mode: Mode) -> Self {
        let (stub, listener) = Self::bind(mode).await;
        let serving = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve_binance(stream));
            }
        });
        stub
    }

    pub async fn kraken(mode: Mode) -> Self {
        let (stub, listener) = Self::bind(mode).await;
        let serving = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve_kraken(stream));
            }
        });
        stub
    }

    pub async fn bind(mode: Mode) -> (Self, TcpListener) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let stub = Self { address, mode: Arc::new(Mutex::new(mode)), calls: Arc::default() };
        (stub, listener)
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    pub fn mode(&self) -> Mode {
        self.mode.lock().clone()
    }

    /// Returns how often somebody has connected.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub async fn serve_binance(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.mode() {
            Mode::Hang => return std::future::pending().await,
            Mode::Down => return,
            _ => {}
        }
        let mut asked = String::new();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let note = |request: &Request, response: Response| {
            asked = request.uri().to_string();
            Ok(response)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else {
            return;
        };
        let streams = asked.split_once("streams=").map_or("", |(_, streams)| streams).to_owned();
        loop {
            let mode = self.mode();
            let messages: Vec<Message> = match mode {
                Mode::Price(price) => streams
                    .split('/')
                    .map(|stream| trade(stream, &price, now_ms()).into())
                    .collect(),
                Mode::Text(text) => vec![text.into()],
                Mode::Flood(text) => vec![text.into(); 500],
                Mode::Huge(bytes) => vec![Message::Binary(Bytes::from(vec![b'x'; bytes]))],
                Mode::Silent => vec![Message::Ping(Bytes::new())],
                Mode::Down => return,
                Mode::Hang => Vec::new(),
            };
            for message in messages {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn serve_kraken(self, mut stream: TcpStream) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head);
        let pairs = head.split_once("pair=").and_then(|(_, rest)| rest.split(' ').next());
        let (status, body) = match self.mode() {
            Mode::Price(price) => ("200 OK", ticker(pairs.unwrap_or_default(), &price)),
            Mode::Text(text) | Mode::Flood(text) => ("200 OK", text),
            Mode::Huge(bytes) => ("200 OK", "x".repeat(bytes)),
            Mode::Silent => ("500 Internal Server Error", String::new()),
            Mode::Down => return,
            Mode::Hang => return std::future::pending().await,
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(now.as_millis()).expect("it fits")
}

/// A trade as Binance says it.
pub fn trade(stream: &str, price: &str, time_ms: u64) -> String {
    let symbol = stream.trim_end_matches("@trade").to_ascii_uppercase();
    format!(
        r#"{{"stream":"{stream}","data":{{"e":"trade","E":{time_ms},"s":"{symbol}","t":1,"p":"{price}","q":"0.01000000","T":{time_ms},"m":true,"M":true}}}}"#
    )
}

/// A ticker as Kraken says it, under the longer names that its oldest assets have.
fn ticker(pairs: &str, price: &str) -> String {
    let tickers: Vec<_> = pairs
        .split(',')
        .map(|pair| match pair {
            "XBTUSD" => "XXBTZUSD",
            "ETHXBT" => "XETHXXBT",
            other => other,
        })
        .map(|key| {
            format!(
                r#""{key}":{{"a":["{price}","1","1.000"],"b":["{price}","1","1.000"],"c":["{price}","0.1"],"t":[1,2],"o":"{price}"}}"#
            )
        })
        .collect();
    format!(r#"{{"error":[],"result":{{{}}}}}"#, tickers.join(","))
}
