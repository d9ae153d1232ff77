//! The hash that the state's tables use.

/// Mixes a number with a seed into 64 well-spread bits: two rounds of multiply-and-fold (the 128-bit product's
/// halves xored), as wyhash and its kin do.
///
/// The seed is random per journal and never leaves it, so nobody outside can choose keys that collide. The tables
/// are never iterated, so the order in which they keep things cannot leak into a decision.
#[must_use]
#[inline]
pub fn mix(value: u64, seed: u64) -> u64 {
    let first = fold(value ^ 0x9E37_79B9_7F4A_7C15, seed ^ 0xD6E8_FEB8_6659_FD93);
    fold(first ^ seed, 0xA076_1D64_78BD_642F)
}

/// Mixes 128 bits, such as a command's id.
#[must_use]
#[inline]
pub fn mix_wide(value: u128, seed: u64) -> u64 {
    let [low, high] = halves(value);
    let first = fold(low ^ seed ^ 0x9E37_79B9_7F4A_7C15, high ^ 0xD6E8_FEB8_6659_FD93);
    fold(first ^ seed, 0xA076_1D64_78BD_642F)
}

/// Mixes bytes, such as a client order id.
#[must_use]
#[inline]
pub fn mix_bytes(bytes: &[u8], seed: u64) -> u64 {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    bytes.chunks(8).fold(mix(length, seed), |state, chunk| {
        let word = chunk.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        mix(word ^ state, seed)
    })
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let [low, high] = halves(u128::from(a).wrapping_mul(u128::from(b)));
    low ^ high
}

#[inline]
fn halves(wide: u128) -> [u64; 2] {
    let low = u64::try_from(wide & u128::from(u64::MAX)).expect("masked to 64 bits");
    let high = u64::try_from(wide >> 64_u32).expect("shifted to 64 bits");
    [low, high]
}
