//! Keys in memory, so that a signed request costs no SQL.
//!
//! Invariant: nothing is kept while nobody hears of ends, and what was read before a notice is not kept after it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use store::keys::{self, KeyRow, Use};
use store::{Db, StoreError};
use units::{AccountId, Time};
use uuid::Uuid;

use super::Scopes;
use super::network::Network;
use crate::app::{App, Inner};
use crate::problem::chain;

/// Keys that are kept.
const KEYS_MAX: usize = 20_000;
/// How long a key is kept before it is read anew, notices or not.
const KEPT_MAX: Duration = Duration::from_secs(60);
/// How often last uses are written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

/// A key as it is needed to check a signature.
pub(super) struct Key {
    pub(super) id: Uuid,
    pub(super) user: Uuid,
    pub(super) account: AccountId,
    pub(super) scopes: Scopes,
    pub(super) secret: Vec<u8>,
    networks: Vec<Network>,
    expires_at: Option<Time>,
    read_at: Instant,
}

impl Key {
    /// Tells whether the key's time is over.
    pub(super) fn is_over(&self, app: &Inner) -> bool {
        let now = u64::try_from(app.clock.now().as_micros()).unwrap_or(u64::MAX);
        self.expires_at.is_some_and(|end| end.micros() <= now)
    }

    /// Tells whether the key may be used from an address.
    pub(super) fn is_allowed_from(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address))
    }
}

/// Keys in memory, and what is to be written of their use.
#[derive(Default)]
pub(super) struct Cache {
    keys: RwLock<HashMap<Uuid, Arc<Key>>>,
    /// One more with every notice: what was read before is not kept after.
    notices: AtomicU64,
    listening: AtomicBool,
    uses: Mutex<HashMap<Uuid, (IpAddr, Duration)>>,
}

impl Cache {
    /// Tells whether a key is in memory.
    pub(super) fn knows(&self, id: Uuid) -> bool {
        self.keys.read().contains_key(&id)
    }

    /// Finds a key that has not been revoked and whose owner is not locked out.
    pub(super) async fn find(&self, app: &App, id: Uuid) -> Result<Option<Arc<Key>>, StoreError> {
        let known = self.keys.read().get(&id).cloned();
        if let Some(key) = known.filter(|key| key.read_at.elapsed() < KEPT_MAX) {
            return Ok(Some(key));
        }
        let before = self.notices.load(Ordering::Acquire);
        let row = keys::find(&app.db, id).await?;
        let Some(key) = row.and_then(|row| open(app, &row)).map(Arc::new) else {
            self.keys.write().remove(&id);
            return Ok(None);
        };
        let mut all = self.keys.write();
        // Under the lock that notices take, too.
        if self.listening.load(Ordering::Acquire) && self.notices.load(Ordering::Acquire) == before
        {
            if all.len() >= KEYS_MAX {
                all.clear();
            }
            all.insert(id, Arc::clone(&key));
        }
        Ok(Some(key))
    }

    /// Remembers that a key was used.
    pub(super) fn used(&self, id: Uuid, address: IpAddr, now: Duration) {
        let mut uses = self.uses.lock();
        if uses.len() < KEYS_MAX || uses.contains_key(&id) {
            uses.insert(id, (address, now));
        }
    }

    /// Forgets a key, here at once: the notice says so to every server.
    pub(super) fn forget(&self, id: Uuid) {
        let mut all = self.keys.write();
        self.notices.fetch_add(1, Ordering::AcqRel);
        all.remove(&id);
    }

    fn forget_all(&self, listening: bool) {
        let mut all = self.keys.write();
        self.notices.fetch_add(1, Ordering::AcqRel);
        self.listening.store(listening, Ordering::Release);
        all.clear();
    }
}

fn open(app: &App, row: &KeyRow) -> Option<Key> {
    if row.locked || row.revoked_at.is_some() {
        return None;
    }
    let networks: Result<Vec<Network>, ()> = row.networks.iter().map(|text| text.parse()).collect();
    let purpose = super::purpose(row.user);
    let secret = app.vault.open(&purpose, row.id, &row.sealed);
    let (Ok(networks), Some(secret)) = (networks, secret) else {
        tracing::warn!(key = %row.id, "a key cannot be read: was it sealed with another secret?");
        return None;
    };
    if !row.sealed.starts_with(app.vault.key_id()) {
        reseal(app, row, app.vault.seal(&purpose, row.id, &secret));
    }
    Some(Key {
        id: row.id,
        user: row.user,
        account: row.account,
        scopes: Scopes(row.scopes),
        secret,
        networks,
        expires_at: row.expires_at,
        read_at: Instant::now(),
    })
}

/// Seals a secret anew that was sealed with a former key of the server, so that this one may go.
fn reseal(app: &App, row: &KeyRow, sealed: Vec<u8>) {
    let (db, id, old) = (app.db.clone(), row.id, row.sealed.clone());
    tokio::spawn(async move {
        if let Err(error) = keys::reseal(&db, id, &old, &sealed).await {
            tracing::warn!(error = %chain(&error), key = %id, "cannot seal a key's secret anew now");
        }
    });
}

/// Hears of keys that have ended.
pub(super) fn follow(inner: Weak<Inner>) {
    tokio::spawn(async move {
        while let Some(db) = inner.upgrade().map(|inner| inner.db.clone()) {
            if let Err(error) = listen(&db, &inner).await {
                tracing::warn!(error = %chain(&error), "cannot hear of ended keys now");
            }
            if let Some(inner) = inner.upgrade() {
                inner.keys.cache.forget_all(false);
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

async fn listen(db: &Db, inner: &Weak<Inner>) -> Result<(), StoreError> {
    let mut notices = keys::listen(db).await?;
    if let Some(inner) = inner.upgrade() {
        inner.keys.cache.forget_all(true);
    }
    loop {
        // Looks now and then whether anybody is left to listen for.
        let next = tokio::time::timeout(KEPT_MAX, notices.next()).await;
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        match next {
            Ok(Some(key)) => inner.keys.cache.forget(key),
            Ok(None) => return Ok(()),
            Err(_) => {}
        }
    }
}

/// Writes last uses now and then, many at once.
pub(super) fn write_uses(inner: Weak<Inner>) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            let Some(inner) = inner.upgrade() else { break };
            let uses = std::mem::take(&mut *inner.keys.cache.uses.lock());
            if uses.is_empty() {
                continue;
            }
            let time =
                |at: Duration| Time::from_micros(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
            let uses: Vec<Use> = uses
                .into_iter()
                .map(|(key, (address, at))| Use { key, address, at: time(at) })
                .collect();
            // What cannot be written now is out of date by the next time.
            if let Err(error) = keys::touch(&inner.db, &uses).await {
                tracing::warn!(error = %chain(&error), "cannot write the keys' last uses now");
            }
        }
    });
}
