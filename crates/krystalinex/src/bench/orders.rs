//! The orders that the whole exchange is loaded with: several markets, many users, half the orders cross.
//!
//! Invariant: every script buys as much as it sells in every market at prices that cross, so the books neither
//! empty nor grow.

use std::net::SocketAddr;

use engine::{Action, AssetConfig, Limits, MarketConfig, Settings};
use server::token::{Principal, Tokens};
use units::{AccountId, Amount, AssetId, PriceTicks, QuantityLots, RatePpm, ReferenceHash};
use uuid::Uuid;

use super::flow::Random;
use super::http;
use super::load::Script;

/// The markets.
const MARKETS: [&str; 4] = ["BTC/USD", "ETH/USD", "BTC/USDT", "ETH/USDT"];
/// Orders in one connection's script.
const SCRIPT_ORDERS: usize = 128;
/// Users that share the hot wallet.
const HOT_USERS: u64 = 32;
/// What each account has of each asset, in ledger units: ten thousand million whole, which no load uses up.
const FUNDS: Amount = Amount::new(1_000_000_000_000_000_000);

/// A user of the exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    /// The user's id.
    pub id: Uuid,
    /// The user's account.
    pub account: AccountId,
}

impl User {
    /// Makes an access token.
    pub(crate) fn token(&self, tokens: &Tokens, now: u64) -> String {
        let session = Uuid::new_v4();
        tokens.sign(&Principal { user: self.id, account: self.account, session }, now)
    }
}

/// A journal's first commands: assets, markets, funded accounts; `hot` has a market maker's limits.
pub(crate) fn opening(users: &[User], hot: Option<AccountId>) -> Vec<Action> {
    let asset = |symbol: &str| AssetConfig { symbol: symbol.into(), scale: 8, transfer_scale: 8 };
    let incarnation = Uuid::new_v4().as_u64_pair().0;
    let mut actions = vec![
        Action::Genesis(Settings { incarnation, salt: incarnation.rotate_left(17), sandbox: true }),
        Action::SetLimits(Limits::default()),
    ];
    actions.extend(["BTC", "ETH", "USD", "USDT"].map(|symbol| Action::DefineAsset(asset(symbol))));
    for (symbol, base, quote) in
        [(MARKETS[0], 0, 2), (MARKETS[1], 1, 2), (MARKETS[2], 0, 3), (MARKETS[3], 1, 3)]
    {
        actions.push(Action::DefineMarket(market(symbol, AssetId::new(base), AssetId::new(quote))));
    }
    for user in users {
        actions.push(Action::OpenAccount { account: user.account });
        for asset in 0..4_u16 {
            let reference = u128::from(user.account.get()) << 16 | u128::from(asset);
            actions.push(Action::Deposit {
                account: user.account,
                asset: AssetId::new(asset),
                amount: FUNDS,
                reference: ReferenceHash::new(reference),
                sandbox: true,
            });
        }
    }
    if let Some(account) = hot {
        let flags = engine::AccountFlags { market_maker: true, ..Default::default() };
        actions.push(Action::SetAccountFlags { account, flags });
    }
    actions
}

/// Returns the incarnation that a journal with this opening has.
pub(crate) fn incarnation(opening: &[Action]) -> u64 {
    match opening.first() {
        Some(Action::Genesis(settings)) => settings.incarnation,
        _ => 0,
    }
}

/// Tick 0.01, lot 0.0001, both assets with eight decimals.
fn market(symbol: &str, base: AssetId, quote: AssetId) -> MarketConfig {
    MarketConfig {
        symbol: symbol.into(),
        base,
        quote,
        base_units_per_lot: 10_000,
        quote_units_per_tick_lot: 100,
        tick_size: Amount::new(1_000_000),
        notional_min: Amount::ZERO,
        quantity_max: QuantityLots::new(1_000_000_000),
        maker_fee: RatePpm::new(1_000),
        taker_fee: RatePpm::new(2_000),
        band: Some(RatePpm::new(100_000)),
        halt_move: None,
        initial_price: PriceTicks::new(5_000_000),
    }
}

/// Who trades with whom.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pairing {
    /// Anybody with anybody.
    Any,
    /// The first user is one side of every trade, taker and maker in turn.
    Hot,
}

/// Makes the scripts of `connections` connections.
pub(crate) fn scripts(
    address: SocketAddr,
    users: &[User],
    tokens: &Tokens,
    connections: usize,
    pairing: Pairing,
) -> Vec<Script> {
    let now = now_seconds();
    let headers: Vec<String> = users.iter().map(|user| user.token(tokens, now)).collect();
    // The server limits a user, the core an account: the hot wallet is measured and not the server's limit, so it
    // belongs to many users here.
    let hot = users.first().map(|user| {
        let shared = |_| User { id: Uuid::new_v4(), ..*user }.token(tokens, now);
        (0..HOT_USERS).map(shared).collect::<Vec<_>>()
    });
    let hot = hot.unwrap_or_default();
    let count = u64::try_from(users.len()).unwrap_or(1).max(2);
    let mut random = Random::new(20_160_312);
    let script = |_| {
        let mut script = Vec::with_capacity(SCRIPT_ORDERS);
        while script.len() < SCRIPT_ORDERS {
            let market = MARKETS[index(random.below(4))];
            let lots = 1 + random.below(500);
            let (mut buyer, seller) = match pairing {
                Pairing::Any => (random.below(count), random.below(count)),
                Pairing::Hot => (0, 1 + random.below(count - 1)),
            };
            if buyer == seller {
                buyer = (buyer + 1) % count;
            }
            let (buyer, seller) = match pairing {
                Pairing::Hot if random.below(2) == 0 => (seller, buyer),
                _ => (buyer, seller),
            };
            for (user, side, ticks) in [
                (buyer, "buy", 5_000_000 + random.below(20)),
                (seller, "sell", 5_000_000 - random.below(20)),
            ] {
                // A hot wallet that met its own orders and gave way would fill the book with them.
                let body = format!(
                    "{{\"market\":\"{market}\",\"side\":\"{side}\",\"orderType\":\"limit\",\
                     \"price\":\"{}.{:02}\",\"quantity\":\"{}.{:04}\",\
                     \"selfTradePrevention\":\"cancel_oldest\"}}",
                    ticks / 100,
                    ticks % 100,
                    lots / 10_000,
                    lots % 10_000
                );
                let token = match (pairing, user) {
                    (Pairing::Hot, 0) => hot.get(index(random.below(HOT_USERS))),
                    _ => headers.get(index(user)),
                };
                let token = token.map(String::as_str);
                script.push(http::request("POST", "/api/v1/orders", address, token, Some(&body)));
            }
        }
        // Neighbours would always trade with each other; shuffled, an order meets whoever is there.
        for last in (1..script.len()).rev() {
            let other = index(random.below(u64::try_from(last + 1).unwrap_or(1)));
            script.swap(last, other);
        }
        script
    };
    (0..connections).map(script).collect()
}

/// Returns the seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
