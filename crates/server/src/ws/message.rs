//! The messages of `/ws`. docs/WEBSOCKET.md is their description.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use wire::body;
use wire::enums::{Interval, MarketState};
use wire::time::Timestamp;

use super::missed::NumberedFill;

/// What a client may say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Shows an access token, for the private channels.
    Auth {
        /// The client's number for this request; comes back with the answer.
        id: Option<u64>,
        /// The access token.
        token: String,
    },
    /// Shows an API key, for the private channels: signed as a GET of `/ws` without a body.
    AuthKey {
        /// The client's number for this request; comes back with the answer.
        id: Option<u64>,
        /// The key's id.
        key: String,
        /// Milliseconds since 1970, in digits.
        timestamp: String,
        /// The signature, in hexadecimal.
        signature: String,
    },
    /// Listens to channels.
    Subscribe {
        /// The client's number for this request.
        id: Option<u64>,
        /// The channels' names.
        channels: Vec<String>,
    },
    /// Listens no more.
    Unsubscribe {
        /// The client's number for this request.
        id: Option<u64>,
        /// The channels' names.
        channels: Vec<String>,
    },
    /// Listens to private channels from where an earlier connection has ended.
    Resume {
        /// The client's number for this request.
        id: Option<u64>,
        /// The account sequence of the last message that was seen.
        account_sequence: u64,
        /// The private channels; all of them unless given.
        channels: Option<Vec<String>>,
        /// The `incarnation` that the last `auth` was answered with, so that a restored journal is noticed.
        incarnation: Option<String>,
    },
    /// Asks for a `pong`.
    Ping {
        /// The client's number for this request.
        id: Option<u64>,
    },
}

/// What the server says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Message<'a> {
    /// First of all.
    Welcome {
        /// The protocol's version.
        version: u32,
        /// The journal row that has been followed.
        sequence: u64,
        /// Journal time.
        time: Timestamp,
        /// Seconds between heartbeats.
        heartbeat_seconds: u64,
    },
    /// The answer to a request that has been carried out.
    Ok {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// The request's `op`.
        op: &'static str,
        /// The channels it was about.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        channels: Vec<String>,
        /// For `auth` and `authKey`: which journal this is.
        #[serde(skip_serializing_if = "Option::is_none")]
        incarnation: Option<String>,
        /// For `auth`: when the token's time is over.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_in_seconds: Option<u64>,
    },
    /// The answer to a request that was refused.
    Error {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// The stable name of the reason.
        code: &'static str,
        /// The reason in words.
        message: String,
        /// The channel it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
    },
    /// The answer to `ping`.
    Pong {
        /// The request's number.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        /// Journal time.
        time: Timestamp,
    },
    /// A sign of life.
    Heartbeat {
        /// The journal row that has been followed.
        sequence: u64,
        /// Journal time.
        time: Timestamp,
    },
    /// A whole book: what the diffs after it apply to. Replaces what was known of it.
    BookSnapshot {
        /// The channel.
        channel: &'a str,
        /// The book.
        #[serde(flatten)]
        book: &'a body::Book,
    },
    /// What one journal row changed in a book.
    BookUpdate {
        /// The channel.
        channel: &'a str,
        /// The market.
        market: &'a str,
        /// The journal row.
        sequence: u64,
        /// The row's time.
        time: Timestamp,
        /// One more than the last update before.
        first_update_id: u64,
        /// The last update in it.
        last_update_id: u64,
        /// CRC-32 over the best ten levels of each side after it.
        checksum: u32,
        /// Changed bids; quantity zero: gone.
        bids: Vec<body::Level>,
        /// Changed asks; quantity zero: gone.
        asks: Vec<body::Level>,
    },
    /// Trades of one journal row; right after subscribing, the latest ones.
    Trades {
        /// The channel.
        channel: &'a str,
        /// The trades, oldest first.
        trades: Vec<body::Trade>,
        /// Whether these were before the subscription.
        snapshot: bool,
    },
    /// The statistics of a market.
    Ticker {
        /// The channel.
        channel: &'a str,
        /// The statistics.
        #[serde(flatten)]
        ticker: &'a body::Ticker,
    },
    /// A candle as it stands.
    Candle {
        /// The channel.
        channel: &'a str,
        /// The market.
        market: &'a str,
        /// Its length.
        interval: Interval,
        /// The candle.
        candle: &'a body::Candle,
    },
    /// How the exchange stands.
    Status {
        /// The channel.
        channel: &'static str,
        /// The journal row that has been followed.
        sequence: u64,
        /// Journal time.
        time: Timestamp,
        /// Whether this server is up with the journal.
        live: bool,
        /// The markets.
        markets: Vec<MarketStatus>,
    },
    /// One change of the account's own.
    Account {
        /// The channel: `orders`, `fills`, `balances` or `withdrawals`.
        channel: &'static str,
        /// One more than the last change of the account, whatever its channel.
        account_sequence: u64,
        /// The journal row.
        sequence: u64,
        /// The row's time.
        time: Timestamp,
        /// What has changed.
        data: Data<'a>,
    },
    /// Everything that an account has, after subscribing.
    AccountSnapshot {
        /// The account's last change in it.
        account_sequence: u64,
        /// The journal row that it shows.
        sequence: u64,
        /// Open orders, for `orders`.
        #[serde(skip_serializing_if = "Option::is_none")]
        orders: Option<Vec<body::Order>>,
        /// Balances, for `balances`.
        #[serde(skip_serializing_if = "Option::is_none")]
        balances: Option<Vec<body::Balance>>,
        /// Withdrawals that are not closed, for `withdrawals`.
        #[serde(skip_serializing_if = "Option::is_none")]
        withdrawals: Option<Vec<Withdrawal>>,
    },
    /// The changes asked for are not known here any more: a snapshot follows.
    Resync {
        /// What was asked for.
        account_sequence: u64,
    },
    /// The fills between the last change that a client has seen and the snapshot after a `resync`.
    MissedFills {
        /// The account sequence after which they begin.
        after: u64,
        /// The account sequence of the snapshot.
        until: u64,
        /// Whether these are all; if not, the others are under `GET /api/v1/fills`.
        complete: bool,
        /// The fills, oldest first.
        fills: Vec<NumberedFill>,
    },
    /// The access token's time is over: the private channels are closed until the next `auth`.
    AuthExpired {},
    /// This server is about to stop: connect again, after so long.
    Shutdown {
        /// Milliseconds to wait, different for each connection.
        reconnect_after_ms: u64,
    },
}

/// What has changed of an account.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    /// An order.
    Order(&'a body::Order),
    /// A fill.
    Fill(&'a body::Fill),
    /// A balance.
    Balance(&'a body::Balance),
    /// A withdrawal.
    Withdrawal(&'a Withdrawal),
}

/// A withdrawal as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawal {
    /// Its id.
    pub id: uuid::Uuid,
    /// Of what.
    pub asset: String,
    /// How much.
    pub amount: String,
    /// Where it stands.
    pub state: wire::enums::WithdrawalState,
}

/// A market and what it lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MarketStatus {
    /// The market.
    pub market: String,
    /// What it lets through.
    pub state: MarketState,
}

impl Message<'_> {
    /// Writes it.
    ///
    /// # Panics
    ///
    /// Never: messages are plain values with text keys.
    #[must_use]
    pub fn text(&self) -> Utf8Bytes {
        serde_json::to_string(self).expect("messages are plain values with text keys").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Request>(text).ok();
        let channels = vec!["book:BTC-USD".to_owned()];
        assert_eq!(
            read(r#"{"op":"subscribe","id":1,"channels":["book:BTC-USD"]}"#),
            Some(Request::Subscribe { id: Some(1), channels })
        );
        assert_eq!(
            read(r#"{"op":"resume","accountSequence":7}"#),
            Some(Request::Resume {
                id: None,
                account_sequence: 7,
                channels: None,
                incarnation: None
            })
        );
        for text in [
            "",
            "{}",
            "[]",
            "1",
            r#"{"op":"subscribe"}"#,
            r#"{"op":"buy"}"#,
            r#"{"op":"ping","x":1}"#,
            r#"{"op":"auth","token":1}"#,
            r#"{"op":"resume","accountSequence":-1}"#,
            r#"{"op":"resume","accountSequence":1.5}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
