//! Which limits a request counts against: by its route's class, its user, its key and its address.
//!
//! Invariant: the route's template is what is counted, not the path, so that no spelling and no query makes another of it;
//! and a user's sessions and keys share one allowance, so that more of them are not more.

use std::time::Duration;

use axum::http::Method;
use units::AccountId;

use crate::access::{self, Access};
use crate::app::App;
use crate::edge::{Auth, Context};
use crate::limits::{Allowance, Caller, Class, Left};
use crate::token::Principal;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Takes one from every allowance that a request counts against, and returns the tightest; `None` where there is no limit.
pub(crate) fn take(app: &App, context: &Context, method: &Method, route: &str) -> Option<Left> {
    let class = class(method, route)?;
    let (user, key) = match context.caller {
        Auth::User(user) => (Some(user), None),
        Auth::Key(key) => (Some(key.principal), Some(key.key)),
        Auth::Anonymous | Auth::Refused(_) => (None, None),
    };
    let limits = &app.config.rate_limits;
    let address = Caller::address(context.address);
    let mut tightest = None;
    let mut count = |caller, class, count, period| {
        if count > 0 {
            let left = app.limiter.take(caller, class, Allowance { count, period });
            tightest = Some(tightest.map_or(left, |known| tighter(known, left)));
        }
    };
    match user {
        _ if class == Class::Attempts => {
            count(address, class, limits.attempts_per_minute_max, MINUTE);
        }
        Some(user) if class == Class::Orders && is_market_maker(app, user.account) => {}
        Some(user) => {
            let (max, period) = own(app, class);
            count(Caller::User(user.user), class, max, period);
            if let Some(key) = key {
                count(Caller::Key(key), Class::All, limits.key_per_second_max, SECOND);
            }
            count(address, Class::All, limits.address_per_second_max, SECOND);
        }
        // Whoever says nobody is one caller for everything: all that can come of it is public, or a refusal.
        None => count(address, Class::PublicReads, limits.anonymous_per_second_max, SECOND),
    }
    tightest
}

/// Takes one message over a WebSocket from its address's allowance, and from its user's.
pub(crate) fn take_message(app: &App, context: &Context, user: Option<Principal>) -> bool {
    let count = app.config.rate_limits.messages_per_second_max;
    if count == 0 {
        return true;
    }
    let allowance = Allowance { count, period: SECOND };
    let take = |caller| app.limiter.take(caller, Class::Messages, allowance).allowed;
    take(Caller::address(context.address)) && user.is_none_or(|user| take(Caller::User(user.user)))
}

fn own(app: &App, class: Class) -> (u32, Duration) {
    let limits = &app.config.rate_limits;
    match class {
        Class::Orders => (limits.orders_per_second_max, SECOND),
        Class::Money => (limits.money_per_minute_max, MINUTE),
        _ => (limits.user_per_second_max, SECOND),
    }
}

/// Returns of two allowances the one that is used up sooner.
fn tighter(one: Left, other: Left) -> Left {
    let rank = |left: &Left| (left.allowed, left.remaining);
    if rank(&other) < rank(&one) { other } else { one }
}

fn is_market_maker(app: &App, account: AccountId) -> bool {
    app.live.read(|state| state.account(account).is_some_and(|account| account.flags.market_maker))
}

/// Tells what a route is counted as; `None` for what machines ask to see whether we live.
fn class(method: &Method, route: &str) -> Option<Class> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match route {
        "/health" | "/ready" | "/metrics" | "/api/health/trading" => None,
        "/api/v1/orders" | "/api/v1/orders/{id}" | "/api/v1/convert" if !reads => {
            Some(Class::Orders)
        }
        "/api/v1/auth/me" | "/api/v1/auth/logout" | "/api/v1/auth/api-keys"
            if reads || route.ends_with("logout") =>
        {
            Some(Class::PrivateReads)
        }
        "/api/v1/auth/sessions" | "/api/v1/auth/sessions/{id}" => Some(Class::PrivateReads),
        _ if route.starts_with("/api/v1/auth/") => Some(Class::Attempts),
        _ if route.starts_with("/api/v1/wallet/") && !reads => Some(Class::Money),
        _ => match access::of(method.as_str(), route) {
            Some(Access::Public) | None => Some(Class::PublicReads),
            Some(_) => Some(Class::PrivateReads),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_an_order_counts_as_one() {
        assert_eq!(class(&Method::POST, "/api/v1/orders"), Some(Class::Orders));
        assert_eq!(class(&Method::DELETE, "/api/v1/orders/{id}"), Some(Class::Orders));
        assert_eq!(class(&Method::POST, "/api/v1/convert"), Some(Class::Orders));
        assert_eq!(class(&Method::GET, "/api/v1/orders"), Some(Class::PrivateReads));
        assert_eq!(class(&Method::GET, "/api/v1/markets"), Some(Class::PublicReads));
        assert_eq!(class(&Method::GET, "none"), Some(Class::PublicReads));
        assert_eq!(class(&Method::POST, "/api/v1/wallet/transfer"), Some(Class::Money));
        assert_eq!(class(&Method::GET, "/api/v1/wallet/withdraw"), Some(Class::PrivateReads));
        assert_eq!(class(&Method::POST, "/api/v1/auth/login"), Some(Class::Attempts));
        assert_eq!(class(&Method::POST, "/api/v1/auth/api-keys"), Some(Class::Attempts));
        assert_eq!(class(&Method::GET, "/health"), None);
    }

    #[test]
    fn the_tightest_allowance_is_told() {
        let left = |allowed, remaining| Left { allowed, count: 9, remaining, reset_seconds: 1 };
        assert_eq!(tighter(left(true, 5), left(true, 3)), left(true, 3));
        assert_eq!(tighter(left(false, 5), left(true, 3)), left(false, 5));
    }
}
