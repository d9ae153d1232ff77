//! Connections: where to, under which name, and how long to wait for them.

use std::fmt;
use std::time::Duration;

use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::QueueError;

/// Seconds between two heartbeats. RabbitMQ looks as often, and takes a peer for gone that it has not heard of twice: after
/// two to three times as long. Orders must flow again 15 s after a payment processor has gone silent, takeover included.
const HEARTBEAT_SECONDS: u16 = 4;
/// The largest frame, in bytes; a longer message is several. The library keeps 32 of them for what comes and 32 for what goes, and goes
/// round in them until all are resident: with RabbitMQ's own 128 KiB that is 8 MiB for each connection, of which a process has
/// several.
const FRAME_MAX: u32 = 32 * 1024;
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The first pause before a lost connection is made anew; each further one is twice as long, up to [`PAUSE_MAX`].
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where the broker is, and as whom to log in. Never printed with its password.
#[derive(Clone)]
pub struct Address {
    uri: AMQPUri,
}

/// The text is no address of a broker. It is not repeated: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an address such as amqp://user:password@host:5672/%2f")]
pub struct BadAddress;

impl Address {
    /// Reads an address: `amqp://` or `amqps://`.
    ///
    /// # Errors
    ///
    /// [`BadAddress`].
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let mut uri: AMQPUri = text.parse().map_err(|_| BadAddress)?;
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        uri.query.frame_max = Some(FRAME_MAX);
        let limit = u64::try_from(CONNECT_MAX.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout = Some(limit);
        Ok(Self { uri })
    }

    /// Makes a connection. `purpose` is what the broker's own lists call it.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, QueueError> {
        let name = LongString::from(purpose.to_owned());
        let properties = ConnectionProperties::default().with_connection_name(name);
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(QueueError::Failed(format!("{self} does not answer"))),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        write!(f, "RabbitMQ at {}:{}", authority.host, authority.port)
    }
}

/// What the library says, as this crate says it.
pub(super) fn failed(error: &lapin::Error) -> QueueError {
    QueueError::Failed(error.to_string())
}

/// The pauses between attempts to connect.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    pub(super) fn reset(&mut self) {
        self.0 = PAUSE_MIN;
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}

/// Closes a connection that is not needed any more, without waiting for it: what it had not acknowledged comes again
/// at once, not only when the broker misses its heartbeats.
pub(super) fn close(connection: Connection) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let closing = connection.close(200, "done".into());
            // A connection that is gone already needs no closing.
            let _ = tokio::time::timeout(CONNECT_MAX, closing).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        let address = Address::parse("amqp://admin:hunter2@broker:5673/%2f").expect("it is good");
        assert_eq!(address.to_string(), "RabbitMQ at broker:5673");
        assert_eq!(format!("{address:?}"), "RabbitMQ at broker:5673");
        let bad = Address::parse("amqp://admin:hunter2@:::").expect_err("it has no host");
        assert!(!format!("{bad} {bad:?}").contains("hunter2"));
        assert!(Address::parse("http://broker").is_err());
    }
}
