//! E-mail addresses, folded to the one spelling by which they are unique.

use crate::problem::Problem;

/// The longest address, in bytes (RFC 5321).
const BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// Folds an address: lower case, ASCII alone, so that no two that look alike differ.
///
/// # Errors
///
/// A refusal that says what an address is here.
pub(crate) fn fold(text: Option<&str>) -> Result<String, Problem> {
    fold_field("email", text)
}

/// Folds an address that stands in another field.
///
/// # Errors
///
/// Those of [`fold`].
pub(crate) fn fold_field(field: &str, text: Option<&str>) -> Result<String, Problem> {
    let text = text.ok_or_else(|| Problem::value(field, "required", "is required"))?;
    if is_address(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        let rule =
            "must be an address such as name@example.com, in ASCII, of at most 254 characters";
        Err(Problem::value(field, "email_invalid", rule))
    }
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let local_fits = local.len() <= LOCAL_BYTES_MAX
        && local.split('.').all(|part| !part.is_empty() && part.bytes().all(word));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let domain_fits = domain.contains('.') && domain.split('.').all(label);
    text.len() <= BYTES_MAX && local_fits && domain_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_spelling() {
        assert_eq!(fold(Some("Ann.B+c@Example.COM")).unwrap(), "ann.b+c@example.com");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}com", "abc.".repeat(70));
        for text in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.de",
            "a@b..c",
            "a@-b.c",
            "a\0@b.cd",
            "ann@exаmple.com",
            "a@b.c\n",
            "a@b@c.de\u{202e}",
            ".a@b.cd",
            "<a@b.cd>",
            "a@b.cd, c@d.ef",
            &long,
            &longer,
        ] {
            assert!(fold(Some(text)).is_err(), "{text:?}");
        }
        assert!(fold(None).is_err());
    }
}
