//! API keys: requests that a program signs, without a session. docs/API-KEYS.md describes them.
//!
//! Invariant: a signed request is carried out once, within seconds of its timestamp, as it was signed, from where the key
//! may be used, and only where its scopes reach ([`crate::access`] says where that is). A key that has ended is refused on
//! every server: ends are told by notices of the database, and what is kept in memory is read anew every minute anyhow.

mod cache;
mod network;
mod replay;
mod routes;
mod signature;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use uuid::Uuid;

use crate::app::{App, Inner};
use crate::body;
use crate::config::ServerConfig;
use crate::limits::{Allowance, Caller, Class};
use crate::problem::{Code, Problem};
use crate::token::Principal;

use cache::{Cache, Key};
use replay::{Replays, Seen};
use signature::Signed;

pub(crate) use routes::{label, routes};

const KEY: &str = "x-kx-key";
const TIMESTAMP: &str = "x-kx-timestamp";
const SIGNATURE: &str = "x-kx-signature";
/// Digits of a timestamp in milliseconds; more come in the year 33658.
const TIMESTAMP_DIGITS_MAX: usize = 15;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Sees balances, orders, fills and movements.
    pub const READ: Self = Self(1);
    /// Places, changes and cancels orders.
    pub const TRADE: Self = Self(2);
    /// Moves money out, to listed destinations alone.
    pub const WITHDRAW: Self = Self(4);
    /// Every scope with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::READ, "read"), (Self::TRADE, "trade"), (Self::WITHDRAW, "withdraw")];

    /// Tells whether all of the others are among these.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(scope, _)| self.contains(*scope)).map(|(_, name)| name)
    }
}

/// Who asks with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPrincipal {
    /// The key's owner; the key's id stands where a session's would.
    pub principal: Principal,
    /// The key.
    pub key: Uuid,
    /// What it may do.
    pub scopes: Scopes,
}

/// The signature of a request, by which a repeat of it on another server is the same command.
#[derive(Clone, Debug)]
pub(crate) struct RequestSignature(pub(crate) Arc<str>);

/// What a server keeps of keys.
pub(crate) struct ApiKeys {
    cache: Cache,
    replays: Replays,
    window: Duration,
    /// Signatures from before this server began, in milliseconds since 1970, are refused: it does not know them.
    begun: u64,
}

impl ApiKeys {
    pub(crate) fn new(config: &ServerConfig, now: Duration) -> Self {
        Self {
            cache: Cache::default(),
            replays: Replays::new(config.keys.window),
            window: config.keys.window,
            begun: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What a key's secret is sealed for, in [`crate::vault`]: it opens for this key of this user alone.
fn purpose(user: Uuid) -> String {
    format!("secret of an API key of {user}")
}

/// Hears of ended keys, and writes last uses, for as long as the application lives.
pub(crate) fn start(app: &App) {
    cache::follow(app.downgrade());
    cache::write_uses(app.downgrade());
}

/// What a client says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    /// The key's id.
    pub(crate) key: &'a str,
    /// Milliseconds since 1970.
    pub(crate) timestamp: &'a str,
    /// The signature, in hexadecimal.
    pub(crate) signature: &'a str,
}

/// Tells whether a request says that it is signed.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    [KEY, TIMESTAMP, SIGNATURE].iter().any(|name| headers.contains_key(*name))
}

/// Finds out who has signed a request, reading its body for it.
///
/// # Errors
///
/// A refusal: 401 for what is not signed right, 403 for an address that the key may not be used from.
pub async fn authenticate(
    app: &App,
    address: IpAddr,
    request: Request,
) -> Result<(KeyPrincipal, Request), Problem> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let method = parts.method.clone();
    let headers = parts.headers.clone();
    let invalid = || Problem::new(Code::KeyInvalid);
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(invalid().detail("A request is signed, or has an access token; not both."));
    }
    let claim = Claim {
        key: one(&headers, KEY).ok_or_else(invalid)?,
        timestamp: one(&headers, TIMESTAMP).ok_or_else(invalid)?,
        signature: one(&headers, SIGNATURE).ok_or_else(invalid)?,
    };
    let key = prepare(app, address, &claim).await?;
    let bytes = body::read(body, app).await?;
    let signed = Signed {
        timestamp: claim.timestamp,
        method: method.as_str(),
        target: &target,
        body: &bytes,
        idempotency_key: headers.get("idempotency-key").map(|value| value.as_bytes()),
    };
    let principal = finish(app, address, &key, &claim, &signed)?;
    parts.extensions.insert(RequestSignature(claim.signature.into()));
    Ok((principal, Request::from_parts(parts, Body::from(bytes))))
}

/// Tells whether a key is in memory, so that a request that it has signed costs no SQL.
#[must_use]
pub fn is_at_hand(app: &App, key: Uuid) -> bool {
    app.keys.cache.knows(key)
}

/// Finds out who has signed a message of `/ws`: as a GET of that path.
///
/// # Errors
///
/// Those of [`authenticate`].
pub(crate) async fn authenticate_socket(
    app: &App,
    address: IpAddr,
    claim: Claim<'_>,
) -> Result<KeyPrincipal, Problem> {
    let key = prepare(app, address, &claim).await?;
    let signed = Signed {
        timestamp: claim.timestamp,
        method: "GET",
        target: "/ws",
        body: b"",
        idempotency_key: None,
    };
    finish(app, address, &key, &claim, &signed)
}

/// Tells whether a key is still good, for a connection that has shown it.
pub(crate) async fn is_good(app: &App, key: Uuid) -> bool {
    matches!(app.keys.cache.find(app, key).await, Ok(Some(key)) if !key.is_over(app))
}

/// Checks what needs no body, cheapest first, and finds the key.
async fn prepare(app: &App, address: IpAddr, claim: &Claim<'_>) -> Result<Arc<Key>, Problem> {
    check_timestamp(app, claim.timestamp)?;
    let id = Uuid::parse_str(claim.key).map_err(|_| Problem::new(Code::KeyInvalid))?;
    if !app.keys.cache.knows(id) {
        // Only what was looked up before costs no SQL: guessing is limited.
        check_failures(app, address)?;
    }
    let found = app.keys.cache.find(app, id).await;
    let found = found.map_err(|error| Problem::unavailable("cannot read a key", &error))?;
    match found.filter(|key| !key.is_over(app)) {
        Some(key) => Ok(key),
        None => Err(failed(app, address)),
    }
}

/// Checks the signature, then what only the key's owner is told.
fn finish(
    app: &App,
    address: IpAddr,
    key: &Arc<Key>,
    claim: &Claim<'_>,
    signed: &Signed<'_>,
) -> Result<KeyPrincipal, Problem> {
    let signature = signature::read(claim.signature);
    let right = signature.filter(|signature| signed.is_signed(&key.secret, signature));
    let Some(signature) = right else {
        return Err(failed(app, address));
    };
    if !key.is_allowed_from(address) {
        return Err(Problem::new(Code::KeyAddress));
    }
    match app.keys.replays.take(&signature) {
        Seen::First => {}
        Seen::Again => return Err(Problem::new(Code::Replayed)),
        Seen::Full => return Err(Problem::new(Code::TooManyRequests)),
    }
    app.keys.cache.used(key.id, address, app.clock.now());
    let principal = Principal { user: key.user, account: key.account, session: key.id };
    Ok(KeyPrincipal { principal, key: key.id, scopes: key.scopes })
}

fn check_timestamp(app: &App, text: &str) -> Result<(), Problem> {
    let plain = (1..=TIMESTAMP_DIGITS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit());
    let now = u64::try_from(app.clock.now().as_millis()).unwrap_or(u64::MAX);
    let window = u64::try_from(app.keys.window.as_millis()).unwrap_or(u64::MAX);
    let near = |at: u64| at.abs_diff(now) <= window && at >= app.keys.begun;
    if plain && text.parse().is_ok_and(near) {
        return Ok(());
    }
    let detail =
        format!("This server's clock says {now}; X-Kx-Timestamp may be off by {window} ms.");
    Err(Problem::new(Code::TimestampInvalid).detail(detail))
}

fn failures(app: &Inner) -> Option<Allowance> {
    let count = app.config.rate_limits.attempts_per_minute_max;
    (count > 0).then_some(Allowance { count, period: Duration::from_secs(60) })
}

fn check_failures(app: &App, address: IpAddr) -> Result<(), Problem> {
    let Some(allowance) = failures(app) else { return Ok(()) };
    let left = app.limiter.look(Caller::address(address), Class::KeyFailures, allowance);
    if left.allowed {
        Ok(())
    } else {
        Err(Problem::new(Code::TooManyAttempts).retry_after(left.reset_seconds))
    }
}

fn failed(app: &App, address: IpAddr) -> Problem {
    if let Some(allowance) = failures(app) {
        let _ = app.limiter.take(Caller::address(address), Class::KeyFailures, allowance);
    }
    Problem::new(Code::KeyInvalid)
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
