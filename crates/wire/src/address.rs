//! `kx1…` addresses: an account's name for others, as bech32m.
//!
//! Invariant: an address has 24 characters and one spelling; up to four wrong characters are always found. It says
//! nothing of its owner but that the account exists or not.

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use units::AccountId;

/// The length of every address: `kx1`, 15 characters of data, 6 of checksum.
pub const LENGTH: usize = 24;

const HRP: &str = "kx";
/// The first byte of the data. Another one means another kind of address, which this release does not know.
const ACCOUNT: u8 = 0;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not 24 characters that begin with `kx1`.
    #[error("must be 24 characters that begin with kx1")]
    Form,
    /// A character is wrong: the checksum does not fit.
    #[error("must be an address without a typing error: its checksum does not fit")]
    Checksum,
    /// Of a kind that is not known here.
    #[error("must be the address of an account")]
    Kind,
}

/// Returns an account's address.
///
/// # Panics
///
/// Never: nine bytes are within what bech32m can carry.
#[must_use]
pub fn format(account: AccountId) -> String {
    let mut data = [ACCOUNT; 9];
    data[1..].copy_from_slice(&account.get().to_be_bytes());
    bech32::encode_lower::<Bech32m>(Hrp::parse_unchecked(HRP), &data)
        .expect("nine bytes fit bech32m")
}

/// Reads an address: all lower case, or all upper case as QR codes have it.
///
/// # Errors
///
/// [`AddressError`], which says what to look at.
pub fn parse(text: &str) -> Result<AccountId, AddressError> {
    let prefix = text.get(..3).ok_or(AddressError::Form)?;
    if text.len() != LENGTH || !prefix.eq_ignore_ascii_case("kx1") {
        return Err(AddressError::Form);
    }
    let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| AddressError::Checksum)?;
    // 15 characters are 75 bits for the 72 of nine bytes: the three left over must be zero, or one account
    // would have eight addresses.
    checked.validate_segwit_padding().map_err(|_| AddressError::Kind)?;
    let mut bytes = checked.byte_iter();
    let kind = bytes.next();
    let mut id = [0; 8];
    for byte in &mut id {
        *byte = bytes.next().ok_or(AddressError::Form)?;
    }
    if kind != Some(ACCOUNT) || bytes.next().is_some() {
        return Err(AddressError::Kind);
    }
    Ok(AccountId::new(u64::from_be_bytes(id)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prop_addresses_are_read_back(id: u64) {
            let text = format(AccountId::new(id));
            prop_assert_eq!(text.len(), LENGTH);
            prop_assert_eq!(parse(&text), Ok(AccountId::new(id)));
            prop_assert_eq!(parse(&text.to_uppercase()), Ok(AccountId::new(id)));
        }

        #[test]
        fn prop_one_wrong_character_is_found(id: u64, at in 3..LENGTH, c in "[a-z0-9]") {
            let text = format(AccountId::new(id));
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &c);
            prop_assert!(wrong == text || parse(&wrong).is_err());
        }

        #[test]
        fn prop_no_text_panics(text in "\\PC{0,40}|kx1[a-z0-9]{21}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let good = format(AccountId::FIRST_CUSTOMER);
        assert!(good.starts_with("kx1"), "{good}");
        let mixed = format!("K{}", &good[1..]);
        assert_eq!(parse(&mixed), Err(AddressError::Checksum));
        assert_eq!(parse(&good[..23]), Err(AddressError::Form));
        assert_eq!(parse(""), Err(AddressError::Form));
        let other = bech32::encode::<Bech32m>(Hrp::parse_unchecked("bc"), &[0; 9]).unwrap();
        assert_eq!(parse(&other), Err(AddressError::Form));
        let kind = bech32::encode::<Bech32m>(Hrp::parse_unchecked("kx"), &[1; 9]).unwrap();
        assert_eq!(parse(&kind), Err(AddressError::Kind));
        let old = bech32::encode::<bech32::Bech32>(Hrp::parse_unchecked("kx"), &[0; 9]).unwrap();
        assert_eq!(parse(&old), Err(AddressError::Checksum));
    }
}
