//! What every handler stands on: the database, the followed state, the queue, and this server's own memory.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breaker::Breaker;
use feeds::Feeds;
use follower::Live;
use queue::CommandPublisher;
use store::Db;
use tokio::sync::{Semaphore, watch};
use trace::Recorder;

use crate::audit::Audit;
use crate::auth::password::Passwords;
use crate::auth::revoked::Revoked;
use crate::config::ServerConfig;
use crate::edge::Auth;
use crate::health::Pulse;
use crate::keys::ApiKeys;
use crate::limits::Limiter;
use crate::mail::Mailer;
use crate::mail::delivery::Delivery;
use crate::market_data::MarketData;
use crate::operations::Operations;
use crate::token::{BadToken, Tokens};
use crate::vault::Vault;
use crate::ws::Places;

/// Requests that are worked on after they were answered, at once.
const LATER_MAX: usize = 64;
/// Exports of one server at once.
const EXPORTS_MAX: usize = 4;

/// The shell's clock: only sessions, tokens and codes go by it; orders go by journal time.
pub trait Clock: Send + Sync {
    /// Returns the time since 1970.
    fn now(&self) -> Duration;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// What the binary brings.
pub struct Parts {
    /// The configuration.
    pub config: ServerConfig,
    /// The database.
    pub db: Db,
    /// The followed state.
    pub live: Arc<Live>,
    /// The way to the sequencer.
    pub publisher: Arc<dyn CommandPublisher>,
    /// The way to people.
    pub mailer: Arc<dyn Mailer>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where the times of requests are noted.
    pub recorder: Arc<Recorder>,
}

/// Bounds on what would take the database from everybody else.
pub(crate) struct Gates {
    /// Admissions of money that leaves: they wait for locks, each with a connection.
    pub(crate) outgoing: Semaphore,
    /// Changes of accounts' flags, each with a connection of its own.
    pub(crate) flags: Semaphore,
    /// Exports of the audit log.
    pub(crate) exports: Arc<Semaphore>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            outgoing: Semaphore::new(4),
            flags: Semaphore::new(2),
            exports: Arc::new(Semaphore::new(2)),
        }
    }
}

/// The server's application. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What an [`App`] is made of.
pub struct Inner {
    /// The configuration.
    pub config: ServerConfig,
    /// The database.
    pub db: Db,
    /// The followed state.
    pub live: Arc<Live>,
    /// The way to the sequencer.
    pub publisher: Arc<dyn CommandPublisher>,
    /// The market data that is kept beside the followed state.
    pub market_data: Arc<MarketData>,
    /// The places of WebSocket connections.
    pub(crate) places: Places,
    pub(crate) mailer: Arc<dyn Mailer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) revoked: Revoked,
    pub(crate) limiter: Limiter,
    pub(crate) keys: ApiKeys,
    pub(crate) gates: Gates,
    pub(crate) audit: Audit,
    pub(crate) vault: Vault,
    pub(crate) delivery: Delivery,
    /// Around the way to people.
    pub(crate) mail_breaker: Breaker,
    /// Prices of others, for comparison alone.
    pub(crate) feeds: Feeds,
    /// Answers that are worked on after they were given, and exports, are few at a time.
    pub(crate) later: Arc<Semaphore>,
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) pulse: Pulse,
    pub(crate) operations: Operations,
    pub(crate) recorder: Arc<Recorder>,
    draining: watch::Sender<bool>,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// Puts the application together and starts its work in the background, which ends with it. Must be called within
    /// a tokio runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let config = &parts.config;
        let tokens = Tokens::with_previous(&config.jwt_secret, config.jwt_secret_previous.as_ref());
        let signing = std::iter::once(&config.jwt_secret).chain(&config.jwt_secret_previous);
        let vault = Vault::new(config.data_key.iter().chain(signing));
        let passwords = Passwords::new(parts.config.password_cost);
        let feeds =
            crate::prices::start(config.price_feeds.clone(), &parts.live, config.simulated_prices);
        let app = Self(Arc::new(Inner {
            tokens,
            passwords,
            vault,
            delivery: Delivery::default(),
            mail_breaker: crate::mail::delivery::breaker(),
            feeds,
            later: Arc::new(Semaphore::new(LATER_MAX)),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            market_data: MarketData::start(&parts.live, &parts.db),
            places: Places::default(),
            revoked: Revoked::default(),
            limiter: Limiter::default(),
            keys: ApiKeys::new(&parts.config, parts.clock.now()),
            gates: Gates::default(),
            audit: Audit::start(parts.db.clone()),
            pulse: Pulse::default(),
            operations: Operations::default(),
            recorder: parts.recorder,
            draining: watch::Sender::new(false),
            config: parts.config,
            db: parts.db,
            live: parts.live,
            publisher: parts.publisher,
            mailer: parts.mailer,
            clock: parts.clock,
        }));
        crate::auth::revoked::follow(&app);
        crate::health::feel_pulse(&app);
        crate::sweep::start(&app);
        crate::flags::start(&app);
        crate::operations::start(&app);
        crate::keys::start(&app);
        crate::audit::chain(&app);
        crate::mail::delivery::start(&app);
        crate::auth::two_factor::reseal(&app);
        app
    }

    /// Says that the server is about to stop: `/ready` says no from now on.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Tells whether the server is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Hears when the server is about to stop.
    #[must_use]
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Returns the seconds since 1970.
    #[must_use]
    pub fn now_seconds(&self) -> u64 {
        self.clock.now().as_secs()
    }

    /// Finds out who a token is of. Costs no SQL.
    #[must_use]
    pub fn authenticate(&self, token: &str) -> Auth {
        match self.tokens.verify(token, self.now_seconds()) {
            Ok(principal) if self.revoked.contains(principal.session) => {
                Auth::Refused(BadToken::Invalid)
            }
            Ok(principal) => Auth::User(principal),
            Err(bad) => Auth::Refused(bad),
        }
    }

    pub(crate) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(inner: &std::sync::Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(Self)
    }
}
