//! UUIDs as they are written, 128 bits as the core has them.

use units::CommandId;
use uuid::Uuid;

/// Returns the UUID that is a command's id.
#[must_use]
pub fn to_uuid(id: CommandId) -> Uuid {
    Uuid::from_u128(id.get())
}

/// Returns the command id that is a UUID.
#[must_use]
pub fn from_uuid(id: Uuid) -> CommandId {
    CommandId::new(id.as_u128())
}

/// Prints an id: lower case, with hyphens.
#[must_use]
pub fn format(id: CommandId) -> String {
    to_uuid(id).hyphenated().to_string()
}

/// Reads an id in the one form in which it is printed (upper case is taken too); `None` for anything else, the
/// nil UUID included, which is no command's.
#[must_use]
pub fn parse(text: &str) -> Option<CommandId> {
    // The crate also reads braces, URNs and 32 digits without hyphens: one id has one name here.
    if text.len() != 36 {
        return None;
    }
    let id = Uuid::try_parse(text).ok().filter(|id| !id.is_nil())?;
    Some(from_uuid(id))
}

/// Prints a trace id: 32 hexadecimal digits, as in `traceparent`.
#[must_use]
pub fn format_trace(trace: u128) -> String {
    format!("{trace:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_name() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        let id = parse(text).expect("it is a UUID");
        assert_eq!(format(id), text);
        assert_eq!(parse(&text.to_uppercase()), Some(id));
        let refused = [
            "",
            "0",
            "-1",
            "9223372036854775808",
            "1 OR 1=1",
            "'; --",
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a8057}",
            "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
            "00000000-0000-0000-0000-000000000000",
            "01890a5d-ac96-774b-bcce-b302099a805g",
            "01890a5d_ac96_774b_bcce_b302099a8057",
        ];
        for text in refused {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
