//! Listens and serves: connections are counted, heads and bodies are given a time, and a shutdown lets what is under way
//! finish.
//!
//! Invariant: nothing a connection does can hold the server up: a head that does not come within its time closes it, a
//! connection beyond the limit is told so and closed at once, a failure to accept is waited out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use telemetry::Metric;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::app::App;
use crate::config::ServerConfig;
use crate::edge::Peer;
use crate::tls::Identity;

/// The longest head of a request, in bytes; hyper answers a longer one 431, and one of more than 100 headers, which is its
/// own limit. (To set it, even to the same, costs an allocation a request.)
const HEAD_BYTES_MAX: usize = 32 * 1_024;
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`). Whoever comes when there
/// is no room tries again only after a second: thousands of clients come at once when a server is back.
const BACKLOG: u32 = 4_096;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 94\r\n\r\n\
    {\"type\":\"/docs#unavailable\",\"title\":\"Too many connections.\",\"status\":503,\"code\":\"unavailable\"}";

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else listens there.
    #[error("Port already in use: {0}")]
    PortInUse(u16),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Begins to listen.
///
/// # Errors
///
/// [`ServeError`], in the runbook's words where the port is in use.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    listen(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortInUse(address.port()),
        _ => ServeError::Listen { address, source },
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A port whose last listener has just gone is free. Windows means something else by it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Listens and serves the application until `shutdown` is over and what was under way is finished.
///
/// # Errors
///
/// [`ServeError`] when it cannot listen.
pub async fn serve(
    config: &ServerConfig,
    app: App,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = bind(config.listen).await?;
    serve_on(listener, app, shutdown).await;
    Ok(())
}

/// Serves the application on a listener until `shutdown` is over and what was under way is finished.
pub async fn serve_on(listener: TcpListener, app: App, shutdown: impl Future<Output = ()>) {
    let router = crate::router(app.clone());
    let notice = app.config.drain_notice;
    let drained = async {
        shutdown.await;
        // `/ready` says no while connections are still taken, so that whoever balances load looks elsewhere first.
        app.drain();
        tokio::time::sleep(notice).await;
    };
    serve_router(listener, router, &app.config, drained).await;
}

/// Serves any router with the limits of `config`, over TLS where it has an identity: the page while the exchange comes up, too,
/// and with [`ServerConfig::plain`] the development inbox and the processor's health page.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    config: &ServerConfig,
    shutdown: impl Future<Output = ()>,
) {
    let closing = watch::Sender::new(false);
    let places = Arc::new(Semaphore::new(config.connections_max));
    tokio::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            },
        };
        // Small answers must not wait for the acknowledgement of the ones before.
        let _ = stream.set_nodelay(true);
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let connection = Connection {
                    peer,
                    router: router.clone(),
                    header_timeout: config.header_timeout,
                    closing: closing.subscribe(),
                };
                let identity = config.identity.clone();
                let open = Open::one_more();
                tokio::spawn(async move {
                    match identity {
                        None => connection.serve(stream).await,
                        Some(identity) => connection.secure(stream, &identity).await,
                    }
                    drop((place, open));
                });
            }
            Err(_) => {
                tokio::spawn(refuse(stream));
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    // Every connection has a place: when all places are free, all requests are finished.
    let all = u32::try_from(config.connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(config.drain_timeout, places.acquire_many(all)).await.is_err() {
        tracing::warn!("some requests were still under way when the time to drain was over");
    }
}

/// Connections of all ports of the process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Shows how many connections there are: two that change it at once may have shown it in the wrong order.
pub(crate) fn show_connections() {
    telemetry::set_count(Metric::HttpConnections, OPEN.load(Relaxed));
}

/// Counts a connection for as long as it lives.
struct Open;

impl Open {
    fn one_more() -> Self {
        telemetry::set_count(Metric::HttpConnections, OPEN.fetch_add(1, Relaxed) + 1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        telemetry::set_count(Metric::HttpConnections, OPEN.fetch_sub(1, Relaxed) - 1);
    }
}

/// One connection, before anything has come.
struct Connection {
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    closing: watch::Receiver<bool>,
}

impl Connection {
    /// Makes it secret, in the time that a head may take, and serves it.
    async fn secure(self, stream: TcpStream, identity: &Identity) {
        match tokio::time::timeout(self.header_timeout, identity.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake did not come to its end in time"),
        }
    }

    async fn serve(self, stream: impl Stream) {
        let Self { peer, router, header_timeout, mut closing } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            router.clone().oneshot(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let told = async {
            // A sender that is gone means the same as one that says so.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// What a connection can be served on.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

async fn refuse(mut stream: TcpStream) {
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(FULL)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hundreds_may_wait_to_be_accepted() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        // The system tells nobody that there is no room: the second attempt comes a second later.
        let patience = Duration::from_millis(900);
        let waiting: Vec<_> = (0..300)
            .map(|_| std::net::TcpStream::connect_timeout(&address, patience).unwrap())
            .collect();
        assert_eq!(waiting.len(), 300);
        let error = bind(address).await.unwrap_err();
        assert_eq!(error.to_string(), format!("Port already in use: {}", address.port()));
    }

    #[test]
    fn the_refusal_of_a_connection_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
