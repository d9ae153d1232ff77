//! The ways by which somebody tries to log in, and how many failures each may have.
//!
//! Invariant: failures of others never keep an owner out who comes from a device or an address that the account knows.
//! Failures are counted per address, and per account and way: all unknown devices together, each known one by itself.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use store::users::User;
use uuid::Uuid;

use super::cookie;
use crate::app::App;
use crate::edge::Context;
use crate::limits::{Allowance, Caller, Class};
use crate::problem::{Code, Problem};
use crate::token::{Kind, Pass};

/// The time over which failures are counted.
const PERIOD: Duration = Duration::from_secs(15 * 60);
/// One address may fail so many times as often as one account: an office has more than one user.
const ADDRESS_FACTOR: u32 = 5;
pub(super) const COOKIE: &str = "kx_device";
const COOKIE_PATH: &str = "/api/v1/auth";

/// How somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From a device that the user has logged in with.
    Device(Uuid),
    /// From an address that the user has logged in from.
    Address,
    /// From elsewhere.
    Unknown,
}

impl Way {
    /// Finds out the way to an account. `token` is the device's, where it is not in its cookie.
    pub(super) fn find(
        app: &App,
        headers: &HeaderMap,
        token: Option<&str>,
        user: Option<&User>,
        known_address: bool,
    ) -> Self {
        let token = token.map(str::to_owned).or_else(|| cookie(headers, COOKIE));
        let pass = token
            .and_then(|token| app.tokens.verify_pass(Kind::Device, &token, app.now_seconds()).ok());
        match pass {
            Some(pass) if user.is_some_and(|user| user.id == pass.user) => Self::Device(pass.id),
            _ if known_address => Self::Address,
            _ => Self::Unknown,
        }
    }

    /// Tells whether it is a device that the account knows.
    pub(super) fn is_known_device(self) -> bool {
        matches!(self, Self::Device(_))
    }

    /// Returns the device's token for after a login: the one that it has, for another while, or its first.
    pub(super) fn device_token(self, app: &App, user: Uuid) -> String {
        let id = match self {
            Self::Device(id) => id,
            Self::Address | Self::Unknown => Uuid::new_v4(),
        };
        app.tokens.sign_pass(Kind::Device, &Pass { user, id }, app.now_seconds())
    }
}

/// One attempt at an account, counted before it is made.
pub(super) struct Attempt {
    account: Option<(Caller, Allowance)>,
    address: Option<(Caller, Allowance)>,
}

impl Attempt {
    /// Counts an attempt, or refuses it where there were too many failures.
    pub(super) fn begin(
        app: &App,
        context: &Context,
        account: &str,
        way: Way,
    ) -> Result<Self, Problem> {
        let count = app.config.rate_limits.account_failures_max;
        if count == 0 {
            return Ok(Self { account: None, address: None });
        }
        let allowance = Allowance { count, period: PERIOD };
        let address = Caller::address(context.address);
        let of_address = Allowance { count: count.saturating_mul(ADDRESS_FACTOR), period: PERIOD };
        // Whoever shares an address with others must not be kept out by their failures either.
        let looked = match way {
            Way::Device(_) => None,
            Way::Address | Way::Unknown => {
                Some(app.limiter.look(address, Class::Failures, of_address))
            }
        };
        // A NUL is in no e-mail address, so no account is another's way.
        let key = match way {
            Way::Device(id) => format!("{account}\0device\0{id}"),
            Way::Address => format!("{account}\0address\0{address:?}"),
            Way::Unknown => account.to_owned(),
        };
        let caller = app.limiter.email(&key);
        // Taken before it is known whether it fails: attempts at once must not all find one left.
        let left = match looked {
            Some(looked) if !looked.allowed => looked,
            _ => app.limiter.take(caller, Class::Failures, allowance),
        };
        if left.allowed {
            Ok(Self { account: Some((caller, allowance)), address: Some((address, of_address)) })
        } else {
            Err(Problem::new(Code::TooManyAttempts).retry_after(left.reset_seconds))
        }
    }

    /// It failed: that counts for the address too.
    pub(super) fn failed(self, app: &App) {
        if let Some((address, allowance)) = self.address {
            let _ = app.limiter.take(address, Class::Failures, allowance);
        }
    }

    /// It was right: this way has no failures any more. The address keeps its own, or an attacker's account would clear them.
    pub(super) fn right(self, app: &App) {
        if let Some((caller, _)) = self.account {
            app.limiter.forget(caller, Class::Failures);
        }
    }
}

/// Counts a wrong token that names no account.
pub(super) fn failed_from(app: &App, context: &Context) {
    let count = app.config.rate_limits.account_failures_max.saturating_mul(ADDRESS_FACTOR);
    if count > 0 {
        let allowance = Allowance { count, period: PERIOD };
        let _ = app.limiter.take(Caller::address(context.address), Class::Failures, allowance);
    }
}

/// Refuses an address that has sent too many wrong tokens.
pub(super) fn check_address(app: &App, context: &Context) -> Result<(), Problem> {
    let count = app.config.rate_limits.account_failures_max.saturating_mul(ADDRESS_FACTOR);
    let allowance = Allowance { count, period: PERIOD };
    let look = || app.limiter.look(Caller::address(context.address), Class::Failures, allowance);
    match (count > 0).then(look) {
        Some(left) if !left.allowed => {
            Err(Problem::new(Code::TooManyAttempts).retry_after(left.reset_seconds))
        }
        _ => Ok(()),
    }
}

/// Has a browser keep its device's token, which no page can read.
pub(super) fn set_cookie(app: &App, headers: &mut HeaderMap, token: &str) {
    let secure = if app.config.tls { "; Secure" } else { "" };
    let seconds = Kind::Device.seconds();
    let cookie = format!(
        "{COOKIE}={token}; Path={COOKIE_PATH}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
    );
    if let Ok(value) = HeaderValue::try_from(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}
