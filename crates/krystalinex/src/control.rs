//! The way from a tool to a running `up`, whose queue is inside its process: a socket in the data directory that only its
//! owner can open.
//!
//! A tool sends a command's message, its length before it as four bytes, big-endian; the answer is one line: `done`, `unknown`,
//! or `rejected CODE`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::{Event, Origin};
use journal::{MESSAGE_BYTES_MAX, Message};
use queue::PublishOutcome;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::demo::Sender;

/// How long a command's outcome may take.
const OUTCOME_MAX: Duration = Duration::from_secs(10);
/// The longest name that a socket may have on every system.
const NAME_BYTES_MAX: usize = 100;

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Listens for tools until `stop`. An exchange that cannot listen goes on without.
pub fn listen(data_dir: &Path, sender: Sender, stop: CancellationToken) {
    let path = path(data_dir);
    // One that a killed process left cannot be bound over; the data directory's lock says that nobody uses it.
    let _ = std::fs::remove_file(&path);
    let bound = if path.as_os_str().len() > NAME_BYTES_MAX {
        Err(io::Error::other("the data directory's name is too long for a socket"))
    } else {
        UnixListener::bind(&path)
    };
    let private = |listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map(|()| listener)
    };
    let listener = match bound.and_then(private) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(reason = %error, "tools such as `markets apply` cannot reach this process");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    // One tool at a time: they are rare, and nobody else can open the socket.
                    if let Err(error) = serve(stream, &sender).await {
                        tracing::debug!(reason = %error, "a tool's connection ended");
                    }
                }
            }
        }
        let _ = std::fs::remove_file(path);
    });
}

async fn serve(mut stream: UnixStream, sender: &Sender) -> io::Result<()> {
    loop {
        let length = match stream.read_u32().await {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("a message that is too long"));
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        let answer = answer(bytes, sender).await;
        stream.write_all(answer.as_bytes()).await?;
        stream.write_all(b"\n").await?;
    }
}

async fn answer(bytes: Vec<u8>, sender: &Sender) -> String {
    let id = match Message::decode(&bytes) {
        Ok(message) if message.command.origin == Origin::Client => message.command.id,
        Ok(_) => return "rejected forbidden".to_owned(),
        Err(error) => return format!("rejected {error}"),
    };
    let mut waiter = sender.live.expect(id);
    if sender.publisher.publish(bytes.into(), 0).await == PublishOutcome::Unroutable {
        return "rejected the queue takes no commands".to_owned();
    }
    match waiter.outcome(OUTCOME_MAX).await {
        None => "unknown".to_owned(),
        Some(outcome) => match &outcome.entry().event {
            Event::Rejected(reject) => format!("rejected {}", reject.code()),
            _ => "done".to_owned(),
        },
    }
}

/// A tool's connection to a running `up`.
pub struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// Connects to the `up` that runs with this data directory.
    ///
    /// # Errors
    ///
    /// None does, or it is not ours.
    pub async fn connect(data_dir: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(path(data_dir)).await?) })
    }

    /// Sends a command and returns the answer.
    ///
    /// # Errors
    ///
    /// The connection is lost; the outcome is unknown then.
    pub async fn send(&mut self, message: &Message) -> io::Result<String> {
        let bytes = message.encode();
        self.stream.write_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).await?;
        self.stream.write_all(&bytes).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        Ok(line.trim().to_owned())
    }
}
