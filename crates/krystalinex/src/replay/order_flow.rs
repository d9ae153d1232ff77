//! The order-flow CSV, line by line: `seq,command,order_id,side,price,quantity`.
//!
//! Invariant: a line is either wholly understood or a fault; what a command does not need may be empty.

use engine::Side;

use super::decimal::{Decimal, Written};

/// The header that a file opens with.
pub(crate) const HEADER: &str = "seq,command,order_id,side,price,quantity";

/// The longest order id, in bytes.
const ORDER_ID_BYTES_MAX: usize = 256;

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A limit order, good till cancelled.
    Add,
    /// Cancels what is left of an order.
    Cancel,
    /// Takes a quantity off an order, which keeps its priority.
    Reduce,
    /// A limit order, immediate or cancel.
    Take,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// The line's own number.
    pub seq: u64,
    /// What is asked.
    pub command: Command,
    /// The order.
    pub order_id: &'a str,
    /// Its side; given for `ADD` and `TAKE`.
    pub side: Option<Side>,
    /// Its price; given for `ADD` and `TAKE`.
    pub price: Option<Written>,
    /// The quantity; given for all but `CANCEL`.
    pub quantity: Option<Written>,
}

/// Checks the header.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn check_header(line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|_| "the header is not UTF-8")?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.to_ascii_lowercase() == HEADER {
        Ok(())
    } else {
        Err(format!("the header must be {HEADER}"))
    }
}

/// Reads a line.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Row<'_>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?;
    let mut fields = [""; 6];
    let mut count = 0;
    for field in text.split(',') {
        if let Some(place) = fields.get_mut(count) {
            *place = unquoted(field);
        }
        count += 1;
    }
    if count != 6 {
        return Err(format!("{count} fields instead of 6"));
    }
    let [seq, command, order_id, side, price, quantity] = fields;
    let seq = seq.parse().map_err(|_| format!("seq {seq:?} is not a whole number"))?;
    let command = parse_command(command)?;
    if order_id.len() > ORDER_ID_BYTES_MAX {
        return Err(format!("the order_id is longer than {ORDER_ID_BYTES_MAX} bytes"));
    }
    if order_id.is_empty() && command != Command::Take {
        return Err("the order_id is missing".to_owned());
    }
    let placed = matches!(command, Command::Add | Command::Take);
    let side = match side {
        "" if !placed => None,
        side => Some(parse_side(side)?),
    };
    let price = number("price", price, placed)?;
    let quantity = number("quantity", quantity, command != Command::Cancel)?;
    Ok(Row { seq, command, order_id, side, price, quantity })
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field)
}

fn parse_command(text: &str) -> Result<Command, String> {
    const NAMES: [(&str, Command); 4] = [
        ("ADD", Command::Add),
        ("CANCEL", Command::Cancel),
        ("REDUCE", Command::Reduce),
        ("TAKE", Command::Take),
    ];
    let known = NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    known
        .map(|&(_, command)| command)
        .ok_or_else(|| format!("command {text:?} is none of ADD, CANCEL, REDUCE, TAKE"))
}

/// Reads a side: `buy` or `sell`, or `bid` or `ask`.
pub(crate) fn parse_side(text: &str) -> Result<Side, String> {
    let is = |names: [&str; 3]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(["buy", "bid", "b"]) {
        Ok(Side::Buy)
    } else if is(["sell", "ask", "s"]) {
        Ok(Side::Sell)
    } else {
        Err(format!("side {text:?} is neither buy nor sell"))
    }
}

/// Reads a number that the command needs; one that it does not need is left unread.
fn number(name: &str, text: &str, needed: bool) -> Result<Option<Written>, String> {
    if !needed {
        return Ok(None);
    }
    let written = Decimal::parse(text.as_bytes())
        .map_err(|reason| format!("the {name} {reason}{}", quoted(text)))?;
    if written.value.is_zero() {
        return Err(format!("the {name} is zero"));
    }
    Ok(Some(written))
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_what_its_command_needs() {
        let row = parse(b"7,ADD,a-1,buy,413.02,0.5").expect("is well formed");
        assert_eq!((row.seq, row.command, row.order_id), (7, Command::Add, "a-1"));
        assert_eq!(row.side, Some(Side::Buy));
        assert_eq!(row.price.map(|price| price.value.to_string()).as_deref(), Some("413.02"));
        let row = parse(b"8,CANCEL,a-1,,,").expect("a cancel needs an id alone");
        assert_eq!(
            (row.command, row.side, row.price, row.quantity),
            (Command::Cancel, None, None, None)
        );
        let row = parse(b"9,reduce,\"a-1\",buy,,0.25").expect("a reduce needs a quantity");
        assert_eq!((row.order_id, row.price), ("a-1", None));
    }

    #[test]
    fn a_broken_line_is_refused_with_its_reason() {
        for (line, reason) in [
            ("1,ADD,a,buy,1", "5 fields instead of 6"),
            ("x,ADD,a,buy,1,1", "seq \"x\" is not a whole number"),
            ("1,MOVE,a,buy,1,1", "command \"MOVE\" is none of ADD, CANCEL, REDUCE, TAKE"),
            ("1,ADD,,buy,1,1", "the order_id is missing"),
            ("1,ADD,a,left,1,1", "side \"left\" is neither buy nor sell"),
            ("1,ADD,a,,1,1", "side \"\" is neither buy nor sell"),
            ("1,ADD,a,buy,,1", "the price is missing"),
            ("1,ADD,a,buy,1,-1", "the quantity is negative: \"-1\""),
            ("1,TAKE,a,sell,1,0.00", "the quantity is zero"),
            ("1,REDUCE,a,,,abc", "the quantity is not a decimal number: \"abc\""),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(reason.to_owned()));
        }
    }
}
