//! Request limits, local to one server.
//!
//! Invariant: memory is bounded. A caller that was not heard of for as long as its burst takes to refill is forgotten,
//! and where too many are remembered at once the ones that have refilled go first.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use parking_lot::Mutex;
use uuid::Uuid;

const SHARDS: usize = 16;
/// Callers that one shard remembers.
const CALLERS_MAX: usize = 8_192;

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An address; of IPv6 its first 64 bits, which one customer has whole.
    Address(IpAddr),
    /// A user.
    User(Uuid),
    /// An API key.
    Key(Uuid),
    /// An e-mail address, hashed.
    Email(u64),
}

impl Caller {
    /// Counts an address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let mut segments = v6.segments();
                segments[4..].fill(0);
                Self::Address(IpAddr::from(segments))
            }
            v4 => Self::Address(v4),
        }
    }
}

/// What is counted: each has its own allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// What everybody may see, and everything else.
    PublicReads,
    /// What a user alone may see.
    PrivateReads,
    /// Requests that move money.
    Money,
    /// Everything of one key, or of everybody signed in from one address.
    All,
    /// Messages over WebSockets.
    Messages,
    /// Requests that failed to prove a key.
    KeyFailures,
    /// Requests that place, change or cancel orders.
    Orders,
    /// Attempts to log in, register or verify.
    Attempts,
    /// Failed attempts to log in.
    Failures,
}

/// An allowance: so many in a period, all at once if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How many.
    pub count: u32,
    /// In which time.
    pub period: Duration,
}

/// What is left of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whether this one was within it.
    pub allowed: bool,
    /// The whole allowance.
    pub count: u32,
    /// How many more would be taken now.
    pub remaining: u32,
    /// Seconds until the next one is taken, or until all is refilled where one would be taken now.
    pub reset_seconds: u32,
}

type Key = (Caller, Class);
type Entry = (Key, u64);

/// Counts requests.
pub struct Limiter {
    begun: Instant,
    hasher: RandomState,
    /// Of each caller and class, the moment at which its allowance is whole again.
    shards: [Mutex<HashTable<Entry>>; SHARDS],
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Limiter {
    /// Takes one from a caller's allowance, if there is one left.
    #[must_use]
    pub fn take(&self, caller: Caller, class: Class, allowance: Allowance) -> Left {
        self.take_at(caller, class, allowance, self.begun.elapsed(), true)
    }

    /// Looks whether one is left, without taking it.
    #[must_use]
    pub fn look(&self, caller: Caller, class: Class, allowance: Allowance) -> Left {
        self.take_at(caller, class, allowance, self.begun.elapsed(), false)
    }

    /// Forgets what a caller has used.
    pub fn forget(&self, caller: Caller, class: Class) {
        let key = (caller, class);
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.shard(hash).lock().find_entry(hash, |(other, _)| *other == key) {
            entry.remove();
        }
    }

    /// Hashes an e-mail address for [`Caller::Email`], with a key of this process.
    #[must_use]
    pub fn email(&self, email: &str) -> Caller {
        Caller::Email(self.hasher.hash_one(email))
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Entry>> {
        // Bits that the table inside does not go by.
        &self.shards[usize::try_from((hash >> 32) % 16).expect("16 shards")]
    }

    /// The generic cell rate algorithm: one number per caller, the moment at which its allowance is whole again.
    fn take_at(
        &self,
        caller: Caller,
        class: Class,
        allowance: Allowance,
        now: Duration,
        take: bool,
    ) -> Left {
        let now = nanos(now);
        let period = nanos(allowance.period);
        let step = (period / u64::from(allowance.count.max(1))).max(1);
        let key = (caller, class);
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        let mut known = shard.find_mut(hash, |(other, _)| *other == key);
        let whole = known.as_ref().map_or(0, |(_, whole)| *whole).max(now);
        let next = whole.saturating_add(step);
        let allowed = next - now <= period;
        let used = if allowed && take { next } else { whole };
        if allowed && take {
            match &mut known {
                Some((_, whole)) => *whole = next,
                None => self.remember(&mut shard, hash, (key, next), now),
            }
        }
        drop(shard);
        let remaining = (period.saturating_sub(used - now)) / step;
        let wait = if allowed { used - now } else { next - now - period };
        Left {
            allowed,
            count: allowance.count,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_seconds: u32::try_from(wait.div_ceil(1_000_000_000)).unwrap_or(u32::MAX),
        }
    }

    fn remember(&self, shard: &mut HashTable<Entry>, hash: u64, entry: Entry, now: u64) {
        if shard.len() >= CALLERS_MAX {
            shard.retain(|(_, whole)| *whole > now);
            if shard.len() >= CALLERS_MAX {
                // Too many callers at once to tell them apart: better forget them all than refuse the new ones.
                shard.clear();
            }
        }
        shard.insert_unique(hash, entry, |(key, _)| self.hasher.hash_one(key));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FIVE: Allowance = Allowance { count: 5, period: Duration::from_secs(1) };

    fn caller(last: u8) -> Caller {
        Caller::address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn an_allowance_is_used_up_and_refills() {
        let limiter = Limiter::default();
        let take = |caller, millis| {
            limiter.take_at(caller, Class::PublicReads, FIVE, Duration::from_millis(millis), true)
        };
        for left in (0..5).rev() {
            let taken = take(caller(1), 0);
            assert!(taken.allowed);
            assert_eq!(taken.remaining, left);
        }
        let refused = take(caller(1), 0);
        assert!(!refused.allowed);
        assert_eq!(refused.reset_seconds, 1);
        assert!(take(caller(2), 0).allowed, "another caller has its own");
        assert!(take(caller(1), 200).allowed, "a fifth of a second refills one");
        assert!(!take(caller(1), 200).allowed);
        assert!(take(caller(1), 5_000).allowed);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limiter = Limiter::default();
        for number in 0..400_000_u128 {
            let user = Caller::User(Uuid::from_u128(number));
            let _ = limiter.take_at(user, Class::PublicReads, FIVE, Duration::ZERO, true);
        }
        let remembered: usize = limiter.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(remembered <= SHARDS * CALLERS_MAX, "{remembered}");
    }

    #[test]
    fn one_customers_addresses_are_one_caller() {
        let of = |text: &str| Caller::address(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), caller(1));
    }
}
