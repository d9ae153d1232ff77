//! Cursors: where a page ends, opaque to clients.
//!
//! A forged one can only ever point elsewhere in its owner's own list, because every list is asked for by its owner.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::problem::Problem;

const VERSION: u8 = 1;
const BYTES: usize = 25;

/// Writes a cursor.
pub(crate) fn write(major: u64, minor: Uuid) -> String {
    let mut bytes = [VERSION; BYTES];
    bytes[1..9].copy_from_slice(&major.to_be_bytes());
    bytes[9..].copy_from_slice(minor.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor; `None` for none.
///
/// # Errors
///
/// A refusal where it is not one of ours.
pub(crate) fn read(text: Option<&str>) -> Result<Option<(u64, Uuid)>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let refused = || {
        Problem::value("cursor", "cursor_invalid", "must be the nextCursor of a page of this list")
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
    let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| refused())?;
    let mut major = [0; 8];
    major.copy_from_slice(&bytes[1..9]);
    let major = u64::from_be_bytes(major);
    // PostgreSQL counts to 2^63.
    if bytes[0] != VERSION || i64::try_from(major).is_err() {
        return Err(refused());
    }
    let minor = Uuid::from_slice(&bytes[9..]).map_err(|_| refused())?;
    Ok(Some((major, minor)))
}

/// Cuts a list that was asked for with one row too many, and returns the cursor after its last row.
pub(crate) fn cut<T>(
    rows: &mut Vec<T>,
    size: usize,
    of: impl Fn(&T) -> (u64, Uuid),
) -> Option<String> {
    if rows.len() <= size {
        return None;
    }
    rows.truncate(size);
    let (major, minor) = of(rows.last()?);
    Some(write(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_back_and_forgeries_are_refused() {
        let at = (1_790_000_000_000_000, Uuid::from_u128(7));
        let text = write(at.0, at.1);
        assert_eq!(read(Some(&text)).unwrap(), Some(at));
        assert_eq!(read(None).unwrap(), None);
        let beyond = write(u64::MAX, Uuid::nil());
        for text in ["", "0", "-1", "nonsense", "' OR 1=1", &text[1..], &beyond, "AAAA"] {
            assert!(read(Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_full_page_has_a_next_one() {
        let of = |row: &u64| (*row, Uuid::nil());
        let mut rows = vec![3, 2, 1];
        assert_eq!(cut(&mut rows, 3, of), None);
        assert_eq!(cut(&mut rows, 2, of), Some(write(2, Uuid::nil())));
        assert_eq!(rows, [3, 2]);
    }
}
