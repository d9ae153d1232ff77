//! The server's configuration, as the binary hands it over: checked, typed, without defaults that are secret.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::tls::Identity;

/// The key that access tokens are signed with.
#[derive(Clone)]
pub struct JwtSecret(Vec<u8>);

/// Why a text is no signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwtSecret {
    /// Empty, or nothing but space.
    #[error("Invalid JWT_SECRET: it must not be empty")]
    Empty,
    /// Guessable in principle.
    #[error("Invalid JWT_SECRET: it must have at least 32 bytes")]
    Short,
    /// Guessable in practice.
    #[error("Invalid JWT_SECRET: it is a well-known or repeating text")]
    Weak,
}

impl JwtSecret {
    /// The least number of bytes: as many as the signature's hash has.
    pub const BYTES_MIN: usize = 32;

    /// Takes a key.
    ///
    /// # Errors
    ///
    /// [`InvalidJwtSecret`] for a key that could be guessed; it never repeats the key.
    pub fn new(text: &str) -> Result<Self, InvalidJwtSecret> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidJwtSecret::Empty);
        }
        if text.len() < Self::BYTES_MIN {
            return Err(InvalidJwtSecret::Short);
        }
        let mut distinct = [false; 256];
        text.bytes().for_each(|byte| distinct[usize::from(byte)] = true);
        let distinct = distinct.iter().filter(|seen| **seen).count();
        let lower = text.to_ascii_lowercase();
        let known =
            ["changeme", "change-me", "change_me", "your-secret", "your_secret", "secretsecret"];
        if distinct < 8 || known.iter().any(|word| lower.contains(word)) {
            return Err(InvalidJwtSecret::Weak);
        }
        Ok(Self(text.as_bytes().to_vec()))
    }

    /// Returns the key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

/// What the server is run for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// For trying out: mail goes to the development inbox.
    #[default]
    Development,
    /// For real.
    Production,
}

/// Requests that one caller may make; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests a second from one address without a token.
    pub anonymous_per_second_max: u32,
    /// Requests a second of one user, orders apart.
    pub user_per_second_max: u32,
    /// Order requests a second of one user; market makers have no such limit. The core has its own, by journal time.
    pub orders_per_second_max: u32,
    /// Attempts a minute to log in, register or verify, from one address.
    pub attempts_per_minute_max: u32,
    /// Failed attempts to log in to one account in 15 minutes.
    pub account_failures_max: u32,
    /// Requests a second of one key, whatever they are.
    pub key_per_second_max: u32,
    /// Requests a second of everybody who is signed in from one address.
    pub address_per_second_max: u32,
    /// Requests a minute of one user that move money.
    pub money_per_minute_max: u32,
    /// WebSocket messages a second from one address, over all its connections.
    pub messages_per_second_max: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            anonymous_per_second_max: 100,
            user_per_second_max: 100,
            orders_per_second_max: 2_000,
            attempts_per_minute_max: 60,
            account_failures_max: 10,
            key_per_second_max: 2_000,
            address_per_second_max: 20_000,
            money_per_minute_max: 600,
            messages_per_second_max: 500,
        }
    }
}

impl RateLimits {
    /// No limits: for measuring.
    pub const NONE: Self = Self {
        anonymous_per_second_max: 0,
        user_per_second_max: 0,
        orders_per_second_max: 0,
        attempts_per_minute_max: 0,
        account_failures_max: 0,
        key_per_second_max: 0,
        address_per_second_max: 0,
        money_per_minute_max: 0,
        messages_per_second_max: 0,
    };
}

/// Why a text says no limits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be `none`, or such as `anonymous=100,user=100,orders=2000,attempts=60,failures=10`; 0: no limit"
)]
pub struct InvalidRateLimits;

impl FromStr for RateLimits {
    type Err = InvalidRateLimits;

    /// Reads `none`, or some of the limits by name; the others are as by default.
    fn from_str(text: &str) -> Result<Self, InvalidRateLimits> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let mut limits = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, number) = pair.split_once('=').ok_or(InvalidRateLimits)?;
            let number = number.parse().map_err(|_| InvalidRateLimits)?;
            match name {
                "anonymous" => limits.anonymous_per_second_max = number,
                "user" => limits.user_per_second_max = number,
                "orders" => limits.orders_per_second_max = number,
                "attempts" => limits.attempts_per_minute_max = number,
                "failures" => limits.account_failures_max = number,
                "key" => limits.key_per_second_max = number,
                "address" => limits.address_per_second_max = number,
                "money" => limits.money_per_minute_max = number,
                "messages" => limits.messages_per_second_max = number,
                _ => return Err(InvalidRateLimits),
            }
        }
        Ok(limits)
    }
}

/// How signed requests are taken.
#[derive(Clone, Debug)]
pub struct KeyRules {
    /// How far off a request's timestamp may be, either way.
    pub window: Duration,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self { window: Duration::from_secs(5) }
    }
}

/// What may leave an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawalRules {
    /// Whether money leaves to listed destinations alone, whatever the user has chosen. A key's always does.
    pub must_be_listed: bool,
    /// How long a destination must have been listed.
    pub cooling_off: Duration,
    /// What may leave in 24 hours: assets with decimals. An asset that is not named has no limit.
    pub daily_max: Vec<(String, String)>,
}

impl Default for WithdrawalRules {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self { must_be_listed: false, cooling_off: DAY, daily_max: Vec::new() }
    }
}

/// What hashing a password costs (argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Hashes made at once, so that logins cannot take all memory and processors.
    pub parallel_max: usize,
}

impl Default for PasswordCost {
    /// OWASP's first choice for argon2id: 19 MiB, two passes, one lane; on half of the processors, so that logins leave the
    /// other half to orders. (The threads that hash also give way to all others: [`crate::auth::password`].)
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { memory_kib: 19_456, passes: 2, parallel_max: (processors / 2).max(1) }
    }
}

/// The server's configuration.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What it is run for.
    pub mode: Mode,
    /// Whether the demo's market maker quotes here around a price that is made up; `/api/v1/public/status` says so.
    pub simulated_prices: bool,
    /// Which other exchanges are asked for prices to compare ours with; none by default.
    pub price_feeds: feeds::Settings,
    /// The signing key of access tokens.
    pub jwt_secret: JwtSecret,
    /// The signing key before this one, which is still taken.
    pub jwt_secret_previous: Option<JwtSecret>,
    /// The key that secrets in the database are sealed with; from the signing key where there is none.
    pub data_key: Option<JwtSecret>,
    /// Where people reach this exchange, for links in mail; without one, mail has no links.
    pub public_url: Option<String>,
    /// How long a change of security settings freezes withdrawals.
    pub withdrawal_freeze: Duration,
    /// Whether browsers reach it over TLS, so that cookies may be marked so.
    pub tls: bool,
    /// The certificate and key of the server's own port; `None`: plain HTTP, for a proxy in front of it.
    pub identity: Option<Identity>,
    /// Addresses whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins of other sites that may call the API from a browser; closed by default.
    pub cors_origins: Vec<String>,
    /// Requests that one caller may make.
    pub rate_limits: RateLimits,
    /// How signed requests are taken.
    pub keys: KeyRules,
    /// What may leave an account.
    pub withdrawals: WithdrawalRules,
    /// What hashing a password costs.
    pub password_cost: PasswordCost,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a request may take in all.
    pub request_timeout: Duration,
    /// How long an order request waits for its outcome before it is answered 202.
    pub outcome_timeout: Duration,
    /// How long requests may go on after the shutdown has begun.
    pub drain_timeout: Duration,
    /// How long `/ready` says no before connections are closed, so that balancers notice.
    pub drain_notice: Duration,
}

impl ServerConfig {
    /// Returns the same limits for a port of plain HTTP.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self { identity: None, ..self.clone() }
    }

    /// The runbook's port.
    pub const PORT: u16 = 5000;

    /// Returns the defaults with a signing key.
    #[must_use]
    pub fn new(jwt_secret: JwtSecret) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, Self::PORT)),
            mode: Mode::Development,
            simulated_prices: false,
            price_feeds: feeds::Settings::default(),
            jwt_secret,
            jwt_secret_previous: None,
            data_key: None,
            public_url: None,
            withdrawal_freeze: Duration::from_secs(24 * 60 * 60),
            tls: false,
            identity: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            rate_limits: RateLimits::default(),
            keys: KeyRules::default(),
            withdrawals: WithdrawalRules::default(),
            password_cost: PasswordCost::default(),
            connections_max: 10_240,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            outcome_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            drain_notice: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessable_keys_are_refused_and_never_repeated() {
        let new = |text: &str| JwtSecret::new(text).map(|_| ());
        assert_eq!(new(""), Err(InvalidJwtSecret::Empty));
        assert_eq!(new("  \t\n"), Err(InvalidJwtSecret::Empty));
        assert_eq!(new("0123456789abcdef0123456789abcde"), Err(InvalidJwtSecret::Short));
        assert_eq!(new(&"a".repeat(64)), Err(InvalidJwtSecret::Weak));
        assert_eq!(new("changeme-changeme-changeme-changeme"), Err(InvalidJwtSecret::Weak));
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(new(good), Ok(()));
        assert!(!format!("{:?}", JwtSecret::new(good)).contains("0123"));
        assert!(new("").unwrap_err().to_string().starts_with("Invalid JWT_SECRET"));
    }

    #[test]
    fn limits_are_read_by_name() {
        assert_eq!("none".parse(), Ok(RateLimits::NONE));
        assert_eq!("".parse(), Ok(RateLimits::default()));
        let some =
            RateLimits { user_per_second_max: 5, account_failures_max: 0, ..RateLimits::default() };
        assert_eq!("user=5, failures=0".parse(), Ok(some));
        for text in ["off", "user", "user=", "user=-1", "users=1", "user=1;orders=2"] {
            assert_eq!(text.parse::<RateLimits>(), Err(InvalidRateLimits), "{text}");
        }
    }
}
