//! What goes through the queue: a command, the journal it is meant for, and what its server had seen of it.

use engine::Command;
use units::{Sequence, Time};

use crate::codec::{BadBytes, Code, Reader, Writer, get_command, put_command};

/// The version of a message's bytes.
const VERSION: u8 = 1;

/// The longest message. The longest command (a market's definition) takes less than 700 bytes.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// A command on its way to the sequencer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The journal it is meant for.
    pub incarnation: u64,
    /// The last row that its server had seen.
    pub seen: Sequence,
    /// The command.
    pub command: Command,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A newer release, or no release of ours, has written it.
    #[error("a message of the unknown version {0}")]
    UnknownVersion(u8),
    /// More bytes than a message has.
    #[error("a message of {0} bytes, where {MESSAGE_BYTES_MAX} are the most")]
    TooLong(usize),
    /// The bytes are not what they should be.
    #[error("a message that cannot be read: {0}")]
    Bytes(BadBytes),
}

impl Message {
    /// Returns the message's bytes.
    ///
    /// # Panics
    ///
    /// When a symbol in the command is longer than 256 bytes; whoever makes the command has checked it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(128);
        w.u8(VERSION);
        w.raw(&self.incarnation.to_be_bytes());
        self.seen.put(&mut w);
        put_command(&self.command, Time::ZERO, &mut w);
        w.into_bytes()
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`BadMessage`]; what is refused belongs to the dead letters.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(BadMessage::TooLong(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        let version = r.u8().map_err(BadMessage::Bytes)?;
        if version != VERSION {
            return Err(BadMessage::UnknownVersion(version));
        }
        Self::body(r).map_err(BadMessage::Bytes)
    }

    fn body(mut r: Reader<'_>) -> Result<Self, BadBytes> {
        let incarnation = u64::from_be_bytes(r.array()?);
        let seen = Code::get(&mut r)?;
        let command = get_command(Time::ZERO, &mut r)?;
        r.finish()?;
        Ok(Self { incarnation, seen, command })
    }
}
