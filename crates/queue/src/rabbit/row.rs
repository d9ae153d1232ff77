//! A journal row as the fan-out carries it.

use bytes::{Buf, BufMut, Bytes};
use journal::Row;
use units::{Hash32, Sequence, Time};

/// The version of these bytes; a follower that does not know it reads the journal instead.
const VERSION: u8 = 1;
/// Bytes before the payload.
const HEADER: usize = 1 + 8 + 8 + 8 + 8 + 2 + 2 + 4 + 32 + 32;

pub(super) fn encode(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + row.payload.len());
    bytes.put_u8(VERSION);
    bytes.put_u64(row.sequence.get());
    bytes.put_u64(row.time.micros());
    bytes.put_u64(row.incarnation);
    bytes.put_u64(row.epoch);
    bytes.put_u16(row.format);
    bytes.put_u16(row.rules);
    bytes.put_u32(row.commands);
    bytes.extend_from_slice(&row.previous_hash.0);
    bytes.extend_from_slice(&row.hash.0);
    bytes.extend_from_slice(&row.payload);
    bytes
}

/// Reads a row; `None` where the bytes are none. Whether it is the journal's, its hash says.
pub(super) fn decode(mut bytes: Bytes) -> Option<Row> {
    if bytes.len() < HEADER || bytes.get_u8() != VERSION {
        return None;
    }
    let sequence = Sequence::new(bytes.get_u64());
    let time = Time::from_micros(bytes.get_u64());
    let (incarnation, epoch) = (bytes.get_u64(), bytes.get_u64());
    let (format, rules, commands) = (bytes.get_u16(), bytes.get_u16(), bytes.get_u32());
    let mut hash = || {
        let mut hash = [0; 32];
        bytes.copy_to_slice(&mut hash);
        Hash32(hash)
    };
    let (previous_hash, hash) = (hash(), hash());
    let payload = bytes.to_vec();
    Some(Row {
        sequence,
        time,
        incarnation,
        epoch,
        format,
        rules,
        commands,
        payload,
        previous_hash,
        hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_out_as_it_went_in() {
        let row = Row {
            sequence: Sequence::new(7),
            time: Time::from_micros(8),
            incarnation: u64::MAX,
            epoch: 9,
            format: 1,
            rules: 2,
            commands: 3,
            payload: b"payload".to_vec(),
            previous_hash: Hash32([1; 32]),
            hash: Hash32([2; 32]),
        };
        let bytes = Bytes::from(encode(&row));
        assert_eq!(decode(bytes.clone()), Some(row));
        assert_eq!(decode(bytes.slice(..HEADER - 1)), None);
        assert_eq!(decode(Bytes::from_static(&[9; 200])), None, "an unknown version");
    }
}
