//! A port that accepts, keeps every connection, and never says a word.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::process::Process;

/// A port that swallows.
pub(crate) struct Hole {
    pub(crate) port: u16,
    kept: Arc<Mutex<Vec<TcpStream>>>,
    accepted: Arc<AtomicUsize>,
}

impl Hole {
    pub(crate) fn start() -> Self {
        let port = broker::free_port().expect("there is a free port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        let hole = Self { port, kept: Arc::default(), accepted: Arc::default() };
        let (kept, accepted) = (Arc::clone(&hole.kept), Arc::clone(&hole.accepted));
        // Ends with the drill: one sleeping thread and a port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepted.fetch_add(1, Ordering::SeqCst);
                kept.lock().expect("nobody panics here").push(stream);
            }
        });
        hole
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// What a process is led to by its settings, and trading does not stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    Collector,
    PriceFeeds,
    MailServer,
}

impl Outside {
    pub(crate) const ALL: [Self; 3] = [Self::Collector, Self::PriceFeeds, Self::MailServer];

    /// Returns the setting's name.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Collector => "OTEL_EXPORTER_OTLP_ENDPOINT",
            Self::PriceFeeds => "KX_PRICE_FEEDS",
            Self::MailServer => "SMTP_URL",
        }
    }

    /// Leads a process to a port from its next start on.
    pub(crate) fn lead(self, process: &mut Process, port: u16) {
        let value = match self {
            Self::Collector => format!("http://127.0.0.1:{port}"),
            Self::PriceFeeds => {
                format!("binance=ws://127.0.0.1:{port},kraken=http://127.0.0.1:{port}")
            }
            Self::MailServer => format!("smtp://127.0.0.1:{port}"),
        };
        process.set(self.setting(), &value);
    }
}
