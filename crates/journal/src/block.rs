//! LZ4 blocks with their length in front, bounded both ways.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use crate::codec::BadBytes;

/// Bytes of the length in front.
const PREFIX: usize = 4;

/// One byte of an LZ4 block makes at most this many: a length greater than that is a lie.
const RATIO_MAX: usize = 255;

/// Compresses `plain`.
///
/// # Panics
///
/// When `plain` has 2^32 bytes or more; rows and chunks are far smaller.
pub(crate) fn compress(plain: &[u8]) -> Vec<u8> {
    let length = u32::try_from(plain.len()).expect("a block is smaller than 4 GiB");
    let room = get_maximum_output_size(plain.len()).saturating_add(PREFIX);
    let mut block = vec![0; room];
    let (prefix, body) = block.split_at_mut(PREFIX);
    prefix.copy_from_slice(&length.to_be_bytes());
    let written = compress_into(plain, body).expect("the room is the greatest that LZ4 needs");
    block.truncate(written.saturating_add(PREFIX));
    block
}

/// Decompresses a block of at most `plain_max` bytes into `plain`.
///
/// # Errors
///
/// [`BadBytes`] when the block is not one, or is larger than allowed.
pub(crate) fn decompress(
    block: &[u8],
    plain_max: usize,
    plain: &mut Vec<u8>,
) -> Result<(), BadBytes> {
    let bad = |what| BadBytes { what, at: 0 };
    let Some((prefix, body)) = block.split_first_chunk::<PREFIX>() else {
        return Err(bad("a block without its length"));
    };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > plain_max || length > body.len().saturating_mul(RATIO_MAX) {
        return Err(bad("a block's length beyond its limit"));
    }
    plain.clear();
    plain.resize(length, 0);
    match decompress_into(body, plain) {
        Ok(written) if written == length => Ok(()),
        _ => Err(bad("a block that is not LZ4 of its length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back() {
        for plain in [&b""[..], b"a", &[7; 100_000]] {
            let mut out = vec![1, 2, 3];
            decompress(&compress(plain), 100_000, &mut out).unwrap();
            assert_eq!(out, plain);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_takes_no_memory() {
        let block = compress(&[0; 2_000]);
        assert!(decompress(&block, 1_999, &mut Vec::new()).is_err());

        let mut lie = vec![0xff, 0xff, 0xff, 0xff];
        lie.extend_from_slice(&block[4..]);
        let mut out = Vec::new();
        assert!(decompress(&lie, usize::MAX, &mut out).is_err());
        assert_eq!(out.capacity(), 0);
    }
}
