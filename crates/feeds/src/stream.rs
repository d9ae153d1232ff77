//! A source that tells us over a WebSocket.
//!
//! Invariant: whatever comes, memory and work are bounded: the size of a message, the messages of a second, and how many of
//! them may be of no use before the connection is given up.

use std::time::Duration;

use breaker::{Breaker, Permit};
use futures::StreamExt as _;
use http::Uri;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::board::Taken;
use crate::dial::{Stream, dial};
use crate::source::Source;
use crate::work::{Work, jittered};
use crate::{binance, work};

/// The longest message. A trade has two hundred bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// The buffers of a connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// Messages of a second; the rest waits in the system's buffers, and then at the source.
const MESSAGES_PER_SECOND_MAX: u32 = 2_000;
/// Messages without any use, in one connection.
const USELESS_MAX: u32 = 1_000;

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Listens for as long as it is let.
pub(crate) async fn run(work: &Work, source: &Source, breaker: &Breaker) {
    let mut tries = 0;
    loop {
        let wanted = work.wanted();
        if wanted.is_empty() {
            tokio::time::sleep(work.timing.look).await;
            continue;
        }
        match breaker.permit() {
            Err(refused) => {
                work.failed("the circuit breaker is open");
                tokio::time::sleep(jittered(refused.retry_in)).await;
            }
            Ok(permit) => {
                let begun = Instant::now();
                let why = connection(work, source, &wanted, permit).await;
                work.failed(why);
                // One that gave prices for a while has earned a quick return.
                let good = begun.elapsed() > work.timing.stale;
                tries = if good { 0 } else { tries + 1 };
                let wait = work::backoff(&work.timing, tries);
                tracing::info!(feed = source.kind.name(), why, wait_ms = %wait.as_millis(), "a price feed's connection ended");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Connects and listens. Returns why it ended.
async fn connection(
    work: &Work,
    source: &Source,
    wanted: &[String],
    permit: Permit<'_>,
) -> &'static str {
    let connecting = tokio::time::timeout(work.timing.connect_max, connect(source, wanted));
    match connecting.await {
        Ok(Ok(socket)) => {
            work.connected();
            listen(work, socket, wanted, permit).await
        }
        Ok(Err(why)) => {
            permit.failed();
            why
        }
        Err(_) => {
            permit.failed();
            "it does not answer"
        }
    }
}

async fn connect(source: &Source, wanted: &[String]) -> Result<Socket, &'static str> {
    let stream = dial(source).await.map_err(|error| {
        tracing::debug!(feed = source.kind.name(), %error, "a price feed cannot be reached");
        "it cannot be reached"
    })?;
    let scheme = if source.is_secure() { "wss" } else { "ws" };
    let url = Uri::builder()
        .scheme(scheme)
        .authority(source.authority())
        .path_and_query(binance::path(source, wanted))
        .build()
        .map_err(|_| "its address cannot be asked")?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let done = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await;
    done.map(|(socket, _)| socket).map_err(|error| {
        tracing::debug!(feed = source.kind.name(), %error, "a price feed refuses");
        "it refuses"
    })
}

async fn listen(
    work: &Work,
    mut socket: Socket,
    wanted: &[String],
    permit: Permit<'_>,
) -> &'static str {
    // The call is a good one when the first price has come.
    let mut permit = Some(permit);
    let mut silent_until = Instant::now() + work.timing.stale;
    let mut look_at = Instant::now() + work.timing.look;
    let mut pace = Pace::new();
    let mut useless = 0;
    loop {
        let now = Instant::now();
        if now >= silent_until {
            return "it says nothing";
        }
        if now >= look_at {
            look_at = now + work.timing.look;
            if work.wanted() != wanted {
                return "it is to be asked for other markets";
            }
        }
        let next = tokio::time::timeout_at(silent_until.min(look_at), socket.next()).await;
        let text = match next {
            Err(_) => continue,
            Ok(None | Some(Ok(Message::Close(_)))) => return "it has ended the connection",
            Ok(Some(Err(_))) => return "it has broken the connection, or the protocol",
            Ok(Some(Ok(Message::Text(text)))) => Some(text),
            // Pings are answered by the socket itself.
            Ok(Some(Ok(_))) => None,
        };
        let quote = text.as_ref().and_then(|text| binance::read(text));
        let taken = quote.map(|quote| work.take(&quote));
        match taken {
            Some(Taken::Used) => {
                silent_until = Instant::now() + work.timing.stale;
                if let Some(permit) = permit.take() {
                    permit.succeeded();
                }
            }
            Some(Taken::Old) => {}
            Some(Taken::Unfit(_)) => useless += 1,
            Some(Taken::Unknown) | None if text.is_some() => {
                work.trouble("it says what cannot be read");
                useless += 1;
            }
            Some(Taken::Unknown) | None => {}
        }
        if useless > USELESS_MAX {
            return "it says nothing of use";
        }
        pace.keep().await;
    }
}

/// Counts the messages of a second.
struct Pace {
    begun: Instant,
    count: u32,
}

impl Pace {
    fn new() -> Self {
        Self { begun: Instant::now(), count: 0 }
    }

    /// Waits for the second's end when there were too many in it.
    async fn keep(&mut self) {
        const SECOND: Duration = Duration::from_secs(1);
        self.count += 1;
        if self.begun.elapsed() >= SECOND {
            *self = Self::new();
        } else if self.count >= MESSAGES_PER_SECOND_MAX {
            tokio::time::sleep_until(self.begun + SECOND).await;
            *self = Self::new();
        }
    }
}
