//! Requests for orders, read: text to the core's types, with the field and the rule named where one is broken.
//!
//! The form is checked here and what fits together (a limit order has a price, and so on) by the core, which
//! refuses it with `order_invalid`; the cases that a client runs into most are named here, by their field.

use engine::{ClientOrderId, NewOrder, OrderRef};
use units::{AccountId, MarketId, PriceTicks, QuantityLots, Time};

use crate::body::{AmendOrderRequest, PlaceOrderRequest};
use crate::decimal::{self, DecimalError};
use crate::enums::{OrderType, SelfTradePrevention, Side, TimeInForce};
use crate::render::MarketWords;
use crate::{DecimalInput, time};

/// A field with a bad value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct FieldError {
    /// The field, as it is written in the body.
    pub field: &'static str,
    /// The stable name of the rule.
    pub code: &'static str,
    /// The rule, as the end of a sentence that begins with the field.
    pub message: String,
    /// The nearest values that would pass.
    pub nearest: Vec<String>,
}

impl FieldError {
    /// Says that a field has to be there.
    #[must_use]
    pub fn required(field: &'static str) -> Self {
        Self::rule(field, "required", "is required".into())
    }

    /// Says which rule a field breaks.
    #[must_use]
    pub fn rule(field: &'static str, code: &'static str, message: String) -> Self {
        Self { field, code, message, nearest: Vec::new() }
    }

    /// Says that a field must be one of some words.
    #[must_use]
    pub fn word(field: &'static str, words: &[&'static str]) -> Self {
        Self::rule(field, "unknown_value", format!("must be one of {}", words.join(", ")))
    }

    /// Says why a field's decimal is refused.
    #[must_use]
    pub fn decimal(field: &'static str, error: &DecimalError) -> Self {
        Self {
            field,
            code: error.code(),
            message: error.to_string(),
            nearest: error.nearest().into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Reads a new order for a market that the caller has found by the request's symbol.
///
/// # Errors
///
/// [`FieldError`] for the first field with a bad value.
pub fn place(
    request: &PlaceOrderRequest,
    account: AccountId,
    market: MarketId,
    words: &MarketWords<'_>,
) -> Result<NewOrder, FieldError> {
    let order_type =
        required_word("orderType", &request.order_type, OrderType::parse, OrderType::WORDS)?;
    let side = required_word("side", &request.side, Side::parse, Side::WORDS)?;
    let price = price("price", request.price.as_ref(), words)?;
    let trigger = self::price("triggerPrice", request.trigger_price.as_ref(), words)?;
    let quantity = quantity("quantity", request.quantity.as_ref(), words)?;
    let display = self::quantity("displayQuantity", request.display_quantity.as_ref(), words)?;
    let quote_amount = request
        .quote_amount
        .as_ref()
        .map(|input| decimal::parse_amount(words.quote, input.as_str()))
        .transpose()
        .map_err(|error| FieldError::decimal("quoteAmount", &error))?;
    fits(order_type, request)?;
    Ok(NewOrder {
        account,
        market,
        side: side.into(),
        order_type: order_type.into(),
        time_in_force: time_in_force(request, order_type)?,
        post_only: request.post_only,
        price,
        quantity: quantity.unwrap_or_default(),
        quote_amount,
        trigger,
        display,
        self_trade_prevention: self_trade_prevention(request)?,
        client_order_id: request.client_order_id.as_deref().map(client_order_id).transpose()?,
    })
}

/// Reads a change of an open order.
///
/// # Errors
///
/// [`FieldError`] for the first field with a bad value, or where nothing is to be changed.
pub fn amend(
    request: &AmendOrderRequest,
    account: AccountId,
    order: OrderRef,
    words: &MarketWords<'_>,
) -> Result<engine::AmendOrder, FieldError> {
    let price = price("price", request.price.as_ref(), words)?;
    let quantity = quantity("quantity", request.quantity.as_ref(), words)?;
    if price.is_none() && quantity.is_none() {
        let message = "or quantity is required".to_owned();
        return Err(FieldError::rule("price", "required", message));
    }
    Ok(engine::AmendOrder { account, order, price, quantity })
}

/// Reads a client's own order id.
///
/// # Errors
///
/// [`FieldError`] that names the characters and the length.
pub fn client_order_id(text: &str) -> Result<ClientOrderId, FieldError> {
    ClientOrderId::new(text).ok_or_else(|| {
        let message = "must be 1 to 36 of A-Z a-z 0-9 . _ : / -".to_owned();
        FieldError::rule("clientOrderId", "client_order_id_invalid", message)
    })
}

/// Checks the fields that a kind of order must have and must not have.
fn fits(order_type: OrderType, request: &PlaceOrderRequest) -> Result<(), FieldError> {
    let limited = matches!(order_type, OrderType::Limit | OrderType::StopLimit);
    let stop = matches!(order_type, OrderType::StopLimit | OrderType::StopMarket);
    let market = order_type == OrderType::Market;
    let rules = [
        ("price", request.price.is_some(), limited, limited),
        ("triggerPrice", request.trigger_price.is_some(), stop, stop),
        ("quoteAmount", request.quote_amount.is_some(), market, false),
        ("quantity", request.quantity.is_some(), true, request.quote_amount.is_none()),
        ("displayQuantity", request.display_quantity.is_some(), limited, false),
    ];
    for (field, given, allowed, needed) in rules {
        if needed && !given {
            return Err(FieldError::required(field));
        }
        if given && !allowed {
            let message = format!("must not be given for a {order_type} order");
            return Err(FieldError::rule(field, "not_allowed", message));
        }
    }
    Ok(())
}

fn time_in_force(
    request: &PlaceOrderRequest,
    order_type: OrderType,
) -> Result<engine::TimeInForce, FieldError> {
    let word = match &request.time_in_force {
        Some(word) => TimeInForce::parse(word)
            .ok_or_else(|| FieldError::word("timeInForce", TimeInForce::WORDS))?,
        None => match order_type {
            OrderType::Market | OrderType::StopMarket => TimeInForce::Ioc,
            OrderType::Limit | OrderType::StopLimit => TimeInForce::Gtc,
        },
    };
    let date = request.good_till_date.as_deref().map(good_till_date).transpose()?;
    match (word, date) {
        (TimeInForce::Gtd, Some(date)) => Ok(engine::TimeInForce::Gtd(date)),
        (TimeInForce::Gtd, None) => Err(FieldError::required("goodTillDate")),
        (_, Some(_)) => {
            let message = "must be given for timeInForce gtd alone".to_owned();
            Err(FieldError::rule("goodTillDate", "not_allowed", message))
        }
        (TimeInForce::Gtc, None) => Ok(engine::TimeInForce::Gtc),
        (TimeInForce::Ioc, None) => Ok(engine::TimeInForce::Ioc),
        (TimeInForce::Fok, None) => Ok(engine::TimeInForce::Fok),
    }
}

fn good_till_date(text: &str) -> Result<Time, FieldError> {
    time::parse(text).ok_or_else(|| {
        let message = "must be an RFC 3339 time with at most six digits of fraction".to_owned();
        FieldError::rule("goodTillDate", "time_malformed", message)
    })
}

fn self_trade_prevention(
    request: &PlaceOrderRequest,
) -> Result<engine::SelfTradePrevention, FieldError> {
    // `allow` is for replays of recorded data: a client that asks for it is told the other words.
    let words = &SelfTradePrevention::WORDS[..3];
    match request.self_trade_prevention.as_deref() {
        None => Ok(engine::SelfTradePrevention::default()),
        Some(word) => SelfTradePrevention::parse(word)
            .filter(|value| *value != SelfTradePrevention::Allow)
            .map(Into::into)
            .ok_or_else(|| FieldError::word("selfTradePrevention", words)),
    }
}

fn required_word<T>(
    field: &'static str,
    word: &Option<String>,
    parse: impl Fn(&str) -> Option<T>,
    words: &[&'static str],
) -> Result<T, FieldError> {
    let word = word.as_deref().ok_or_else(|| FieldError::required(field))?;
    parse(word).ok_or_else(|| FieldError::word(field, words))
}

fn price(
    field: &'static str,
    input: Option<&DecimalInput>,
    words: &MarketWords<'_>,
) -> Result<Option<PriceTicks>, FieldError> {
    input
        .map(|input| decimal::parse_price(words.market, words.quote, input.as_str()))
        .transpose()
        .map_err(|error| FieldError::decimal(field, &error))
}

fn quantity(
    field: &'static str,
    input: Option<&DecimalInput>,
    words: &MarketWords<'_>,
) -> Result<Option<QuantityLots>, FieldError> {
    input
        .map(|input| decimal::parse_quantity(words.market, words.base, input.as_str()))
        .transpose()
        .map_err(|error| FieldError::decimal(field, &error))
}
