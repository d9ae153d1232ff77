//! A TCP proxy that can cut, delay and swallow: the network between two processes, under our control.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What one pump moves at a time. Large, so that a delay costs latency and not throughput.
const BUFFER: usize = 256 * 1024;
/// How often a pump that holds bytes back looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Open = 0,
    /// Connections are refused, and those that were open are closed.
    Cut = 1,
    /// Connections stay and are accepted, and nothing passes in either direction: a partition.
    Hole = 2,
    /// What the client sends passes, what it would be answered does not.
    Deaf = 3,
    /// What the client sends does not pass, what it is told does.
    Mute = 4,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    mode: AtomicU8,
    delay_ms: AtomicU32,
    ended: AtomicBool,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Shared {
    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }

    /// Tells whether bytes in a direction are held back.
    fn holds(&self, upward: bool) -> bool {
        let one_way = if upward { Mode::Mute } else { Mode::Deaf };
        self.mode() == Mode::Hole as u8 || self.mode() == one_way as u8
    }
}

/// A running proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy to a port of the local host.
    pub(crate) fn start(target: u16) -> Self {
        let port = broker::free_port().expect("there is a free port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            mode: AtomicU8::new(Mode::Open as u8),
            delay_ms: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads new connections to another port, as after a restart of what is behind.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// Changes what happens to bytes from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
        if mode == Mode::Cut {
            self.close_all();
        }
    }

    /// Delays everything that clients send.
    pub(crate) fn delay(&self, by: Duration) {
        let millis = u32::try_from(by.as_millis()).unwrap_or(u32::MAX);
        self.shared.delay_ms.store(millis, Ordering::SeqCst);
    }

    /// Closes every connection; new ones are taken as the mode says.
    pub(crate) fn close_all(&self) {
        let open = std::mem::take(&mut *self.shared.open.lock().expect("no pump panics"));
        for (client, server) in open {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.close_all();
        // Wakes the one that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else {
            thread::sleep(LOOK_EVERY);
            continue;
        };
        if shared.mode() == Mode::Cut as u8 {
            continue;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Whatever goes wrong ends the connection, as networks do.
            let _ = carry(client, &shared);
        });
    }
}

fn carry(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.target.load(Ordering::SeqCst)));
    let server = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    {
        let mut open = shared.open.lock().expect("no pump panics");
        open.retain(|(client, _)| client.peer_addr().is_ok());
        open.push((client.try_clone()?, server.try_clone()?));
    }
    // A cut that came between the look and the note.
    if shared.mode() == Mode::Cut as u8 {
        return Ok(());
    }
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let down = Arc::clone(shared);
    thread::spawn(move || pump(from, to, &down, false));
    pump(client, server, shared, true);
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, upward: bool) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        let delay = shared.delay_ms.load(Ordering::SeqCst);
        if upward && delay > 0 {
            thread::sleep(Duration::from_millis(u64::from(delay)));
        }
        // What arrives during a partition arrives late when it ends, as with a network that sends again.
        while shared.holds(upward) && !shared.ended.load(Ordering::SeqCst) {
            thread::sleep(LOOK_EVERY);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
