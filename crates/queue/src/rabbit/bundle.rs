//! Several commands in one message of the broker: each message costs the broker a write of its own, a command does not.
//!
//! A message of the type [`COMMAND`], or without a type, is one command. One of the type [`BUNDLE`] has, for each command, its
//! length as four bytes, big-endian, and its bytes; none at all is a nudge. Any other type is a newer release's.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The type of a message that is one command.
pub(super) const COMMAND: &str = "kx.command";
/// The type of a message that has any number of commands.
pub(super) const BUNDLE: &str = "kx.bundle.1";
/// Commands in one bundle at most.
pub(super) const COMMANDS_MAX: usize = 256;
/// Bytes of commands in one bundle at most, the last one apart: below the broker's usual frame.
pub(super) const BYTES_MAX: usize = 64 * 1024;

/// Packs commands.
pub(super) fn pack<'a>(commands: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
    let mut packed = BytesMut::with_capacity(4_096);
    for command in commands {
        packed.put_u32(u32::try_from(command.len()).expect("a command is at most a kilobyte"));
        packed.extend_from_slice(command);
    }
    packed.freeze()
}

/// Unpacks a message of the broker; the reason where it is none that this release can read.
pub(super) fn unpack(kind: Option<&str>, mut body: Bytes) -> Result<Vec<Bytes>, &'static str> {
    match kind {
        None | Some("" | COMMAND) => Ok(vec![body]),
        Some(BUNDLE) => {
            let mut commands = Vec::new();
            while !body.is_empty() {
                if body.len() < 4 {
                    return Err("unreadable");
                }
                let length = usize::try_from(body.get_u32()).unwrap_or(usize::MAX);
                if length > body.len() {
                    return Err("unreadable");
                }
                commands.push(body.split_to(length));
            }
            Ok(commands)
        }
        Some(_) => Err("unknown_version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let commands = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let packed = pack(&commands);
        assert_eq!(unpack(Some(BUNDLE), packed.clone()).expect("it is good"), commands);
        assert_eq!(unpack(Some(BUNDLE), Bytes::new()).expect("it is good"), Vec::<Bytes>::new());
        for cut in [1, 3, 5, packed.len() - 1] {
            assert_eq!(unpack(Some(BUNDLE), packed.slice(..cut)), Err("unreadable"), "{cut}");
        }
        assert_eq!(unpack(Some(BUNDLE), Bytes::from_static(&[0xff; 9])), Err("unreadable"));
    }

    /// Whatever a stranger publishes is taken apart or put aside; nothing is lost or made up on the way.
    #[test]
    fn fuzz_bundles() {
        let time = std::time::Duration::from_secs(2);
        bolero::check!().with_test_time(time).with_type::<Vec<u8>>().for_each(|bytes| {
            let body = Bytes::copy_from_slice(bytes);
            if let Ok(commands) = unpack(Some(BUNDLE), body.clone()) {
                assert_eq!(pack(&commands), body);
            }
            let _ = super::super::row::decode(body);
        });
    }

    #[test]
    fn a_message_without_a_type_is_one_command_and_an_unknown_type_is_put_aside() {
        let body = Bytes::from_static(b"anything");
        for kind in [None, Some(""), Some(COMMAND)] {
            assert_eq!(unpack(kind, body.clone()), Ok(vec![body.clone()]), "{kind:?}");
        }
        assert_eq!(unpack(Some("kx.bundle.2"), body), Err("unknown_version"));
    }
}
