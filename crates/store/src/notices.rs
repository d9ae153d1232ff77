//! Notices from PostgreSQL, heard on a connection of its own.

use std::str::FromStr;

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::{Db, StoreError};

/// Notices that wait to be read.
const WAITING_MAX: usize = 1_024;

/// Hears what the notices of one channel name, on a connection of its own.
pub struct Notices<T> {
    receiver: mpsc::Receiver<T>,
    /// The connection lives as long as this.
    _client: tokio_postgres::Client,
}

impl<T> Notices<T> {
    /// Waits for the next one; `None` when the connection is gone: whoever listens forgets what it knows and begins anew.
    pub async fn next(&mut self) -> Option<T> {
        self.receiver.recv().await
    }
}

/// Begins to hear, with a statement that names the channel.
pub(crate) async fn listen<T: FromStr + Send + 'static>(
    db: &Db,
    statement: &'static str,
) -> Result<Notices<T>, StoreError> {
    let (client, mut connection) = db.config().driver().connect(NoTls).await?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
            match message {
                Some(Ok(AsyncMessage::Notification(notice))) => {
                    let Ok(named) = notice.payload().parse() else { continue };
                    if sender.send(named).await.is_err() {
                        break;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
    });
    client.batch_execute(statement).await?;
    Ok(Notices { receiver, _client: client })
}
