//! The messages of Coinbase's `full` channel, line by line: a local time, then a JSON object.
//!
//! Invariant: a line is either wholly understood or a fault; types of message that carry no order are
//! skipped by name.

use std::borrow::Cow;

use engine::Side;
use serde::Deserialize;

use super::decimal::{Decimal, Written};
use super::order_flow::parse_side;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The feed's own number.
    pub sequence: u64,
    /// Whether it is part of the snapshot: its time is empty.
    pub snapshot: bool,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// A new order: to be fed.
    Received {
        /// The order.
        order: Cow<'a, str>,
        /// Its side.
        side: Side,
        /// Its kind and numbers.
        kind: Received,
    },
    /// An order rests in the book now (in the snapshot: to be fed).
    Open {
        /// The order.
        order: Cow<'a, str>,
        /// Its side.
        side: Side,
        /// Its limit price.
        price: Written,
        /// What remains of it.
        remaining: Written,
    },
    /// An order has left the book.
    Done {
        /// The order.
        order: Cow<'a, str>,
        /// Whether it was cancelled: to be fed.
        cancelled: bool,
        /// What remained of it, where the message says so.
        remaining: Option<Written>,
    },
    /// A trade.
    Match {
        /// The resting order.
        maker: Cow<'a, str>,
        /// The incoming order.
        taker: Cow<'a, str>,
        /// The resting order's side.
        side: Side,
        /// The price.
        price: Written,
        /// The size.
        size: Written,
    },
    /// An order was made smaller: to be fed.
    Change {
        /// The order.
        order: Cow<'a, str>,
        /// What remains of it now.
        remaining: Option<Written>,
    },
    /// Nothing about the book.
    Skipped,
}

impl Body<'_> {
    /// Returns the order that it is about; a match is about two.
    pub(crate) fn order(&self) -> Option<&str> {
        match self {
            Self::Received { order, .. }
            | Self::Open { order, .. }
            | Self::Done { order, .. }
            | Self::Change { order, .. } => Some(order),
            Self::Match { .. } | Self::Skipped => None,
        }
    }
}

/// A new order's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A limit order.
    Limit {
        /// Its limit.
        price: Written,
        /// Its size.
        size: Written,
    },
    /// A market order: a size, an amount of the quote asset, or both.
    Market {
        /// Its size.
        size: Option<Written>,
        /// The most that it may spend.
        funds: Option<Written>,
    },
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    order_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    maker_order_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    taker_order_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    order_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    side: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    price: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    size: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    funds: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    remaining_size: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    new_size: Option<Cow<'a, str>>,
}

/// Reads a line.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Message<'_>, String> {
    let start = line.iter().position(|&byte| byte == b'{').ok_or("no JSON object")?;
    let raw: Raw<'_> = serde_json::from_slice(&line[start..]).map_err(|error| error.to_string())?;
    let body = parse_body(&raw)?;
    if body == Body::Skipped {
        return Ok(Message { sequence: raw.sequence.unwrap_or(0), snapshot: false, body });
    }
    let sequence = raw.sequence.ok_or("the sequence is missing")?;
    let snapshot = raw.time.as_deref().unwrap_or_default().is_empty();
    if snapshot && !matches!(body, Body::Open { .. }) {
        return Err(format!("a message of type {} without its time", raw.kind));
    }
    Ok(Message { sequence, snapshot, body })
}

fn parse_body<'a>(raw: &Raw<'a>) -> Result<Body<'a>, String> {
    Ok(match &*raw.kind {
        "received" => Body::Received {
            order: id("order_id", &raw.order_id)?,
            side: side(raw)?,
            kind: received(raw)?,
        },
        "open" => Body::Open {
            order: id("order_id", &raw.order_id)?,
            side: side(raw)?,
            price: positive("price", &raw.price)?,
            remaining: positive("remaining_size", &raw.remaining_size)?,
        },
        "done" => Body::Done {
            order: id("order_id", &raw.order_id)?,
            cancelled: match raw.reason.as_deref() {
                Some("canceled") => true,
                Some("filled") => false,
                other => return Err(format!("reason {other:?} is neither canceled nor filled")),
            },
            remaining: optional("remaining_size", &raw.remaining_size)?,
        },
        "match" => Body::Match {
            maker: id("maker_order_id", &raw.maker_order_id)?,
            taker: id("taker_order_id", &raw.taker_order_id)?,
            side: side(raw)?,
            price: positive("price", &raw.price)?,
            size: positive("size", &raw.size)?,
        },
        "change" => Body::Change {
            order: id("order_id", &raw.order_id)?,
            remaining: optional("new_size", &raw.new_size)?,
        },
        "activate" | "heartbeat" | "subscriptions" | "last_match" => Body::Skipped,
        other => return Err(format!("type {other:?} is not known")),
    })
}

fn received(raw: &Raw<'_>) -> Result<Received, String> {
    match raw.order_type.as_deref() {
        Some("limit") => Ok(Received::Limit {
            price: positive("price", &raw.price)?,
            size: positive("size", &raw.size)?,
        }),
        Some("market") => {
            let size = optional("size", &raw.size)?.filter(|size| !size.value.is_zero());
            let funds = optional("funds", &raw.funds)?.filter(|funds| !funds.value.is_zero());
            if size.is_none() && funds.is_none() {
                return Err("a market order with neither size nor funds".to_owned());
            }
            Ok(Received::Market { size, funds })
        }
        other => Err(format!("order_type {other:?} is neither limit nor market")),
    }
}

fn id<'a>(name: &str, text: &Option<Cow<'a, str>>) -> Result<Cow<'a, str>, String> {
    match text {
        Some(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(format!("the {name} is missing")),
    }
}

fn side(raw: &Raw<'_>) -> Result<Side, String> {
    parse_side(raw.side.as_deref().unwrap_or_default())
}

fn optional(name: &str, text: &Option<Cow<'_, str>>) -> Result<Option<Written>, String> {
    let Some(text) = text else { return Ok(None) };
    let written = Decimal::parse(text.as_bytes());
    written.map(Some).map_err(|reason| format!("the {name} {reason}: {text:?}"))
}

fn positive(name: &str, text: &Option<Cow<'_, str>>) -> Result<Written, String> {
    let written = optional(name, text)?.ok_or_else(|| format!("the {name} is missing"))?;
    if written.value.is_zero() { Err(format!("the {name} is zero")) } else { Ok(written) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_order_may_have_size_and_funds() {
        let line = br#"2016-03-12 00:08:51,601 {"type":"received","sequence":5,"order_id":"t","order_type":"market","size":"0.1","price":null,"side":"buy","funds":"49.3","time":"2016"}"#;
        let message = parse(line).expect("is well formed");
        assert!(!message.snapshot);
        let Body::Received { kind: Received::Market { size, funds }, .. } = message.body else {
            panic!("a market order is read as one");
        };
        assert_eq!(size.map(|size| size.value.to_string()).as_deref(), Some("0.1"));
        assert_eq!(funds.map(|funds| funds.value.to_string()).as_deref(), Some("49.3"));
    }

    #[test]
    fn an_open_order_without_a_time_is_of_the_snapshot() {
        let line = br#"t {"type":"open","sequence":5,"order_id":"m","remaining_size":"4","price":"412.75","side":"buy","time":""}"#;
        assert!(parse(line).expect("is well formed").snapshot);
    }

    #[test]
    fn a_broken_message_is_refused_with_its_reason() {
        for (line, reason) in [
            ("2016-03-12", "no JSON object"),
            (r#"{"type":"melt","sequence":1}"#, "type \"melt\" is not known"),
            (
                r#"{"type":"open","sequence":1,"order_id":"a","side":"buy","price":"x","remaining_size":"1","time":"1"}"#,
                "the price is not a decimal number: \"x\"",
            ),
            (
                r#"{"type":"done","sequence":1,"order_id":"a","reason":"lost","time":"1"}"#,
                "reason Some(\"lost\") is neither canceled nor filled",
            ),
        ] {
            assert_eq!(parse(line.as_bytes()).map(|_| ()), Err(reason.to_owned()));
        }
        assert!(parse(br#"t {"type":"open","seq"#).is_err(), "a cut line is refused");
    }
}
