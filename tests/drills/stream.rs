//! A user's private stream, over a WebSocket.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::process::PATIENCE;

/// Every private channel: who listens to all of them sees no gap in the numbers.
const CHANNELS: [&str; 4] = ["orders", "fills", "balances", "withdrawals"];

/// A connection that is signed in.
pub(crate) struct Stream {
    socket: WebSocket<TcpStream>,
    pub(crate) incarnation: String,
    /// The last account sequence that was told.
    pub(crate) last: u64,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let url = format!("ws://{address}/ws").into_client_request().expect("a plain address");
        let (socket, _) = tungstenite::client(url, stream).expect("the server takes connections");
        let mut opened = Self { socket, incarnation: String::new(), last: 0 };
        opened.send(&json!({"op": "auth", "id": 1, "token": token}));
        let answer = opened.wait_for(|message| message["id"] == 1);
        assert_eq!(answer["type"], "ok", "{answer}");
        opened.incarnation = answer["incarnation"].as_str().unwrap_or_default().to_owned();
        opened
    }

    pub(crate) fn subscribe(&mut self) {
        self.send(&json!({"op": "subscribe", "id": 2, "channels": CHANNELS}));
        let answer = self.wait_for(|message| message["id"] == 2);
        assert_eq!(answer["type"], "ok", "{answer}");
    }

    /// Comes back as somebody who has heard everything up to a number.
    pub(crate) fn resume(&mut self, account_sequence: u64, incarnation: &str) {
        self.send(&json!({
            "op": "resume", "id": 3, "accountSequence": account_sequence, "channels": CHANNELS,
            "incarnation": incarnation,
        }));
        let answer = self.wait_for(|message| message["id"] == 3);
        assert_eq!(answer["type"], "ok", "{answer}");
        self.last = account_sequence;
    }

    fn send(&mut self, request: &Value) {
        self.socket.send(Message::text(request.to_string())).expect("the connection is open");
    }

    /// Waits for a message; what comes before it is listened to all the same. The numbers of an account's changes have no
    /// gap and no repeat, unless the server says `resync` and begins with a snapshot.
    pub(crate) fn wait_for(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "a message did not come");
            let message = self.socket.read().expect("the connection stays open");
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("messages are JSON");
            let number = message["accountSequence"].as_u64();
            match (message["type"].as_str(), number) {
                (Some("accountSnapshot"), Some(number)) => self.last = number,
                (Some("account"), Some(number)) => {
                    assert!(
                        self.last == 0 || number == self.last + 1,
                        "after change {} comes {number}: {message}",
                        self.last
                    );
                    self.last = number;
                }
                _ => {}
            }
            if is_it(&message) {
                return message;
            }
        }
    }
}
