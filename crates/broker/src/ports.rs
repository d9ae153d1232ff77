//! Ports that stay free while a node is down.

use std::net::{Ipv4Addr, TcpListener};

use uuid::Uuid;

use crate::BrokerError;

/// Below what Linux gives to outgoing connections: nobody is given such a port by chance while its owner is down for a
/// moment and wants it back.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;
const TRIES_MAX: u32 = 200;

/// Finds a free port on the local host that the system does not give to outgoing connections, so that it can be bound
/// again after a restart.
///
/// # Errors
///
/// [`BrokerError::NoPort`].
pub fn free_port() -> Result<u16, BrokerError> {
    for _ in 0..TRIES_MAX {
        let random = Uuid::new_v4().as_u128() % u128::from(COUNT);
        let port = FIRST + u16::try_from(random).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(BrokerError::NoPort)
}
