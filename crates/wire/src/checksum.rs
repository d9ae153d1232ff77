//! The book's checksum: CRC-32 (ISO-HDLC, as in zip and PNG) over the best ten levels of each side.
//!
//! A client that keeps a book by snapshot and diffs computes it the same way and compares; where it differs, it
//! has lost something and takes a new snapshot.

/// Levels of each side that the checksum covers.
pub const LEVELS: usize = 10;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum = byte;
        let mut bit = 0;
        while bit < 8 {
            // The generator polynomial, its bits reversed.
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xEDB8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[byte as usize] = sum;
        byte += 1;
    }
    table
}

/// Returns the CRC-32 of some bytes.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        let [low, ..] = sum.to_le_bytes();
        sum = TABLE[usize::from(low ^ byte)] ^ (sum >> 8);
    }
    !sum
}

/// Returns a book's checksum: of `price:quantity` of the best ten bids, best first, then the best ten
/// asks, best first, all joined by `|`, each as it stands in the messages.
#[must_use]
pub fn book<'a>(
    bids: impl IntoIterator<Item = (&'a str, &'a str)>,
    asks: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> u32 {
    let mut text = String::with_capacity(LEVELS * 2 * 32);
    for (price, quantity) in bids.into_iter().take(LEVELS).chain(asks.into_iter().take(LEVELS)) {
        if !text.is_empty() {
            text.push('|');
        }
        text.push_str(price);
        text.push(':');
        text.push_str(quantity);
    }
    crc32(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_standard_one() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_book_sums_as_documented() {
        let bids = [("64000.00", "0.5"), ("63999.99", "1")];
        let asks = [("64000.01", "2")];
        assert_eq!(book(bids, asks), crc32(b"64000.00:0.5|63999.99:1|64000.01:2"));
        assert_eq!(book([], []), 0);
        let many = [("1", "1"); 12];
        assert_eq!(book(many, []), book(many[..10].iter().copied(), []));
    }
}
