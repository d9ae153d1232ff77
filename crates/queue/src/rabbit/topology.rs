//! What there must be at the broker: declared by whoever comes first, found alike by everybody else.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::connection::failed;
use crate::{DEAD_LETTERS, ORDERS, QueueError};

/// The exchange that tells followers of committed rows.
pub(super) const JOURNAL: &str = "journal";
/// Bytes that wait in `orders` at most; what would exceed them is refused by the broker: some million commands.
const ORDERS_BYTES_MAX: i64 = 1 << 30;
/// Bytes of dead letters that are kept; the oldest give way.
const DEAD_LETTERS_BYTES_MAX: i64 = 1 << 28;

/// Declares both queues.
///
/// # Errors
///
/// [`QueueError::WrongQueue`] where there is one of the name that is not as ours must be.
pub(super) async fn declare_queues(connection: &Connection) -> Result<(), QueueError> {
    let mut orders = FieldTable::default();
    orders.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    orders.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    orders.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(ORDERS_BYTES_MAX));
    orders.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    // No `x-delivery-limit`: RabbitMQ 3 has none unless it is told, and takes -1, RabbitMQ 4's word for none, for a limit
    // that every message has passed when it comes again. RabbitMQ 4's own limit of 20 is beyond what a command lives to
    // see; a policy may lift it.
    declare(connection, ORDERS, orders).await?;
    let mut dead = FieldTable::default();
    dead.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    dead.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(DEAD_LETTERS_BYTES_MAX));
    declare(connection, DEAD_LETTERS, dead).await
}

/// Declares one queue, on a channel of its own: a refusal closes it.
async fn declare(
    connection: &Connection,
    name: &str,
    arguments: FieldTable,
) -> Result<(), QueueError> {
    let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let Err(error) = channel.queue_declare(name.into(), options, arguments).await else {
        // It closes with its connection, if not now.
        let _ = channel.close(200, "declared".into()).await;
        return Ok(());
    };
    match error.kind() {
        ErrorKind::ProtocolError(protocol)
            if *protocol.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) =>
        {
            Err(QueueError::WrongQueue(format!(
                "RabbitMQ has a queue `{name}` that is not as KrystalineX declares it ({}). Look at what is in it, delete \
                 it (rabbitmqctl delete_queue {name}), and start again",
                protocol.get_message()
            )))
        }
        _ => Err(failed(&error)),
    }
}

/// Declares the exchange.
///
/// # Errors
///
/// [`QueueError`].
pub(super) async fn declare_exchange(channel: &Channel) -> Result<(), QueueError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(JOURNAL.into(), ExchangeKind::Fanout, options, FieldTable::default())
        .await
        .map_err(|error| failed(&error))
}
