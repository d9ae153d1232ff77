//! A private RabbitMQ node: made under one directory, started on ports of its own, killed, started again and stopped by
//! the program that needs it.
//!
//! Invariant: nothing of it outlives its owner. A guard process holds the other end of a pipe; when the owner is gone,
//! however that came, the guard kills what still runs. Neither the machine's own RabbitMQ nor its port mapper is touched:
//! the node has its own name, cookie, ports, port mapper, password and data.

mod administrator;
mod guard;
mod node;
mod ports;
mod programs;
mod settings;

use std::path::PathBuf;

pub use guard::Guard;
pub use node::Broker;
pub use ports::free_port;
pub use programs::Programs;

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// RabbitMQ or Erlang is not installed.
    #[error(
        "{missing} was not found: install RabbitMQ (Debian, Ubuntu: apt-get install rabbitmq-server; \
         Fedora: dnf install rabbitmq-server; macOS: brew install rabbitmq)"
    )]
    NotInstalled {
        /// The program that is missing.
        missing: &'static str,
    },
    /// A file or directory could not be made, or a program not started.
    #[error("{what} {path}")]
    Files {
        /// What could not be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no free port.
    #[error("there is no free port")]
    NoPort,
    /// The node ended, or takes no connections in time.
    #[error("RabbitMQ {what}; it said last: {said}")]
    Node {
        /// What is wrong.
        what: &'static str,
        /// The end of what it said.
        said: String,
    },
    /// The management API refused something.
    #[error("RabbitMQ's management API {what}")]
    Management {
        /// What is wrong.
        what: String,
    },
    /// `rabbitmqctl` failed.
    #[error("rabbitmqctl {arguments} failed: {said}")]
    Control {
        /// What it was told.
        arguments: String,
        /// What it said.
        said: String,
    },
}

impl BrokerError {
    fn files(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { what, path, source }
    }
}

/// Ports of the local host that a node must have; one that is not named is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed {
    /// AMQP.
    pub amqp: Option<u16>,
    /// The management API and its page.
    pub management: Option<u16>,
    /// The metrics.
    pub metrics: Option<u16>,
}

/// As whom a node speaks TLS: two PEM files, absolute.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
}

/// How a node is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the management API runs, on a port of its own.
    pub management: bool,
    /// Whether `/metrics` and `/metrics/per-object` are served, on a port of their own.
    pub metrics: bool,
    /// The ports that are not left to chance.
    pub ports: Fixed,
    /// Memory at which the node takes no more messages, in bytes.
    pub memory_bytes_max: u64,
    /// Erlang's scheduler threads.
    pub schedulers: u32,
    /// Whether the directory is gone with the node's owner.
    pub throwaway: bool,
    /// Whether it takes connections over TLS too, on a port of their own.
    pub identity: Option<Identity>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            management: false,
            metrics: false,
            ports: Fixed::default(),
            memory_bytes_max: 1024 * 1024 * 1024,
            schedulers: 1,
            throwaway: false,
            identity: None,
        }
    }
}
