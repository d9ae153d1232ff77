//! Ports that stay free while a node is down.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use uuid::Uuid;

use crate::BrokerError;

/// Below what Linux gives to outgoing connections: nobody is given such a port by chance while its owner is down for a
/// moment and wants it back.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;
const TRIES_MAX: u32 = 200;

/// What this process was given before: whoever asks for several must not be given one twice.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Finds a free port on the local host that the system does not give to outgoing connections, so that it can be bound
/// again after a restart. None is given twice to one process.
///
/// # Errors
///
/// [`BrokerError::NoPort`].
pub fn free_port() -> Result<u16, BrokerError> {
    for _ in 0..TRIES_MAX {
        let random = Uuid::new_v4().as_u128() % u128::from(COUNT);
        let port = FIRST + u16::try_from(random).unwrap_or_default();
        let is_free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if is_free && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
    Err(BrokerError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_often_is_given_another_each_time() {
        let ports: HashSet<u16> = (0..500).map(|_| free_port().expect("there is one")).collect();
        assert_eq!(ports.len(), 500);
    }
}
