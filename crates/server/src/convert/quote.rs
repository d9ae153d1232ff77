//! Quotes: priced from the book, signed, kept nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{Reject, Side, State};
use units::{Amount, AssetId, MarketId, PriceTicks, QuantityLots, Time};
use uuid::Uuid;
use wire::order::FieldError;

use super::QuoteRequest;
use crate::problem::Problem;
use crate::token::Tokens;

const BODY_BYTES: usize = 43;
const BYTES: usize = BODY_BYTES + 32;
const LABEL: &str = "convert quote";

/// What a quote promises to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    pub market: MarketId,
    pub side: Side,
    pub price: PriceTicks,
    pub quantity: QuantityLots,
    pub expires_at: Time,
    pub nonce: Uuid,
}

impl Quote {
    fn bytes(&self) -> [u8; BODY_BYTES] {
        let mut bytes = [0; BODY_BYTES];
        bytes[..2].copy_from_slice(&self.market.get().to_be_bytes());
        bytes[2] = u8::from(self.side == Side::Sell);
        bytes[3..11].copy_from_slice(&self.price.get().to_be_bytes());
        bytes[11..19].copy_from_slice(&self.quantity.get().to_be_bytes());
        bytes[19..27].copy_from_slice(&self.expires_at.micros().to_be_bytes());
        bytes[27..].copy_from_slice(self.nonce.as_bytes());
        bytes
    }

    /// Writes the quote with a signature for this user.
    pub(super) fn sign(&self, tokens: &Tokens, user: Uuid) -> String {
        let body = self.bytes();
        let signature = tokens.keyed_hash(LABEL, &[user.as_bytes(), &body]);
        URL_SAFE_NO_PAD.encode([&body[..], &signature[..]].concat())
    }

    /// Reads a quote that was signed for this user; `None` for anything else.
    pub(super) fn verify(tokens: &Tokens, user: Uuid, text: &str) -> Option<Self> {
        let bytes: [u8; BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (body, signature) = bytes.split_at(BODY_BYTES);
        if !tokens.verify_keyed_hash(LABEL, &[user.as_bytes(), body], signature) {
            return None;
        }
        let number = |at: usize| body[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some(Self {
            market: MarketId::new(u16::from_be_bytes([body[0], body[1]])),
            side: if body[2] == 1 { Side::Sell } else { Side::Buy },
            price: PriceTicks::new(number(3)?)?,
            quantity: QuantityLots::new(number(11)?),
            expires_at: Time::from_micros(number(19)?),
            nonce: Uuid::from_slice(&body[27..]).ok()?,
        })
    }
}

/// A conversion, priced.
pub(super) struct Priced {
    pub side: Side,
    pub price: PriceTicks,
    pub quantity: QuantityLots,
    pub give: Amount,
    pub receive: Amount,
}

/// Finds the market between the two assets, and the side that gives one for the other.
pub(super) fn market(
    state: &State,
    request: &QuoteRequest,
) -> Result<(AssetId, AssetId, (MarketId, Side)), Problem> {
    let asset = |field: &'static str, symbol: Option<&str>| {
        let symbol = symbol.ok_or_else(|| Problem::value(field, "required", "is required"))?;
        let rule = "must be one of the exchange's assets";
        let found = state.asset_by_symbol(symbol);
        found.ok_or_else(|| Problem::value(field, "asset_unknown", rule))
    };
    let from = asset("from", request.from.as_deref())?;
    let to = asset("to", request.to.as_deref())?;
    let side = |market: &engine::MarketView<'_>| {
        let config = market.config;
        if (config.base, config.quote) == (from, to) {
            Some((market.id, Side::Sell))
        } else if (config.quote, config.base) == (from, to) {
            Some((market.id, Side::Buy))
        } else {
            None
        }
    };
    let found = state.markets().find_map(|market| side(&market));
    let rule = "must be an asset that has a market with the one to give";
    found
        .map(|market| (from, to, market))
        .ok_or_else(|| Problem::value("to", "market_unknown", rule))
}

/// Prices a conversion by walking the book as it is now.
pub(super) fn price(
    state: &State,
    request: &QuoteRequest,
    give: AssetId,
    (market, side): (MarketId, Side),
) -> Result<Priced, Problem> {
    let words = crate::orders::render::words(state, market)?;
    let config = words.market;
    let text = request.amount.as_ref();
    let text = text.ok_or_else(|| Problem::value("amount", "required", "is required"))?.as_str();
    let refused = |error| Problem::from(FieldError::decimal("amount", &error));
    let (limit, quantity) = match side {
        Side::Sell => {
            let quantity = wire::decimal::parse_quantity(config, words.base, text);
            let quantity = quantity.map_err(refused)?;
            (sell_limit(state, market, quantity), quantity)
        }
        Side::Buy => {
            let asset = &state.assets()[usize::from(give.get())];
            let amount = wire::decimal::parse_amount(asset, text).map_err(refused)?;
            match buy_limit(state, market, config, amount) {
                Some((limit, quantity)) => (Some(limit), quantity),
                None => (None, QuantityLots::ZERO),
            }
        }
    };
    let limit = limit.ok_or_else(|| Problem::refused(Reject::NoLiquidity))?;
    if quantity.is_zero() {
        let rule = "must be enough for one lot";
        return Err(Problem::value("amount", "amount_too_small", rule));
    }
    let notional = walk(state, market, side, config, quantity).unwrap_or_default();
    let base = config.base_amount(quantity).unwrap_or_default();
    let (give, gross) = match side {
        Side::Buy => (notional, base),
        Side::Sell => (base, notional),
    };
    let fee = config.taker_fee.of_rounded_up(gross);
    let receive = gross.checked_sub(fee).unwrap_or_default();
    Ok(Priced { side, price: limit, quantity, give, receive })
}

/// Returns the lowest bid that it takes to sell a quantity; `None` where the book does not have it.
fn sell_limit(state: &State, market: MarketId, quantity: QuantityLots) -> Option<PriceTicks> {
    let mut left = quantity.get();
    state.depth(market, Side::Buy).find_map(|level| {
        left = left.saturating_sub(level.quantity.get());
        (left == 0).then_some(level.price)
    })
}

/// Returns the highest ask, and the quantity, that an amount buys when all of it is held at that price.
fn buy_limit(
    state: &State,
    market: MarketId,
    config: &engine::MarketConfig,
    amount: Amount,
) -> Option<(PriceTicks, QuantityLots)> {
    let mut offered: u64 = 0;
    let mut before: Option<(PriceTicks, QuantityLots)> = None;
    for level in state.depth(market, Side::Sell) {
        let lot = u128::from(level.price.get()) * u128::from(config.quote_units_per_tick_lot);
        let affordable = u64::try_from(amount.get() / lot.max(1)).unwrap_or(u64::MAX);
        offered = offered.saturating_add(level.quantity.get());
        if affordable <= offered {
            let here = (level.price, QuantityLots::new(affordable));
            // The levels before may offer more than the amount affords at this one's price.
            return Some(before.filter(|before| before.1 > here.1).unwrap_or(here));
        }
        before = Some((level.price, QuantityLots::new(offered)));
    }
    None
}

/// Returns what a quantity costs, or earns, at the book as it is now.
fn walk(
    state: &State,
    market: MarketId,
    side: Side,
    config: &engine::MarketConfig,
    quantity: QuantityLots,
) -> Option<Amount> {
    let mut left = quantity.get();
    let mut total = Amount::ZERO;
    for level in state.depth(market, side.opposite()) {
        let here = left.min(level.quantity.get());
        total = total.checked_add(config.notional(level.price, QuantityLots::new(here))?)?;
        left -= here;
        if left == 0 {
            return Some(total);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::config::JwtSecret;

    use super::*;

    #[test]
    fn a_quote_is_its_users_and_cannot_be_changed() {
        let tokens = Tokens::new(&JwtSecret::new("0123456789abcdef0123456789abcdef").unwrap());
        let (user, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let quote = Quote {
            market: MarketId::new(3),
            side: Side::Sell,
            price: PriceTicks::new(5_000_000).unwrap(),
            quantity: QuantityLots::new(7),
            expires_at: Time::from_micros(9),
            nonce: Uuid::from_u128(5),
        };
        let text = quote.sign(&tokens, user);
        assert_eq!(Quote::verify(&tokens, user, &text), Some(quote));
        assert_eq!(Quote::verify(&tokens, other, &text), None);
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(Quote::verify(&tokens, user, &URL_SAFE_NO_PAD.encode(&bytes)), None, "{at}");
            bytes[at] ^= 1;
        }
        assert_eq!(Quote::verify(&tokens, user, "nonsense"), None);
    }
}
