//! Receivers that speak as ntfy and Slack do, a relay before them, and a client.

use std::collections::VecDeque;
use std::sync::Arc;

use alerts::{HttpUrl, NtfySettings, Relay, Settings};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

pub(crate) const TOPIC: &str = "krystalinex-alerts-a1b2c3d4e5f60718";

/// One request: its address, its authorization, its body.
pub(crate) type Seen = (String, Option<String>, Value);

/// What a receiver has been sent, and what it will answer.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
}

impl Receiver {
    /// Starts it on a free port.
    pub(crate) async fn start(answers: &[StatusCode]) -> (Self, String) {
        let receiver = Self::default();
        receiver.answers.lock().extend(answers);
        let router = Router::new().fallback(take).with_state(receiver.clone());
        let url = serve(router).await;
        (receiver, url)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn take(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = receiver.answers.lock().pop_front().unwrap_or(StatusCode::OK);
    receiver.seen.lock().push((uri.to_string(), token.map(str::to_owned), body));
    answer
}

pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it listens"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// An address at which nobody listens.
pub(crate) async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("it listened"))
}

pub(crate) async fn relay(ntfy: &str, slack: Option<&str>) -> String {
    let url = |text: &str| HttpUrl::parse(text).expect("an address");
    let ntfy = NtfySettings { url: url(ntfy), topic: TOPIC.to_owned(), token: Some("tk_1".into()) };
    serve(Relay::new(Settings { ntfy, slack: slack.map(url) }).router()).await
}

pub(crate) async fn ask(method: &str, url: &str, body: impl Into<Bytes>) -> (u16, String) {
    let uri: Uri = url.parse().expect("an address");
    let stream = TcpStream::connect(uri.authority().expect("a host").as_str()).await;
    let stream = stream.expect("the relay listens");
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(uri.path())
        .header("host", "localhost")
        .body(Full::new(body.into()))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
