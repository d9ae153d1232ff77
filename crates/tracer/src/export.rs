//! Traces on their way to a collector, by OTLP: gRPC or HTTP.
//!
//! Invariant: what waits to be exported is bounded. A collector that is slow or away costs traces, which are counted.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use telemetry::Metric;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig};
use trace::{Names, Noted, Span, sequencer_spans, server_spans, stages};

use crate::otlp::to_proto;

/// Exports that may wait: each has half a second's spans.
const WAITING_MAX: usize = 16;
/// Spans that one request carries at most: about half a megabyte.
const SPANS_AT_ONCE: usize = 2_048;
/// How long a collector may take for one.
const TAKE_MAX: Duration = Duration::from_secs(10);

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, port 4317 as a rule.
    #[default]
    Grpc,
    /// HTTP with protocol buffers, port 4318 as a rule.
    Http,
}

/// Where a collector is. Its headers may be secrets and are never printed.
#[derive(Clone)]
pub struct Endpoint {
    uri: Uri,
    protocol: Protocol,
    headers: HeaderMap,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uri, protocol, .. } = self;
        f.debug_struct("Endpoint")
            .field("uri", uri)
            .field("protocol", protocol)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads what OpenTelemetry's variables say: the address of the collector, `grpc` or `http/protobuf`, and headers as
    /// `name=value,name=value`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words, without what may be secret.
    pub fn parse(url: &str, protocol: Option<&str>, headers: Option<&str>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        let with_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() || with_user
        {
            return Err(
                "it must be http://host:port or https://host:port, without a user".to_owned()
            );
        }
        let protocol = match protocol {
            Some("grpc") => Protocol::Grpc,
            Some("http/protobuf") => Protocol::Http,
            Some(_) => return Err("the protocol must be grpc or http/protobuf".to_owned()),
            // Port 4318 is HTTP's.
            None if uri.port_u16() == Some(4318) => Protocol::Http,
            None => Protocol::default(),
        };
        let mut all = HeaderMap::new();
        for pair in headers.unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("a header is not name=value")?;
            let name: HeaderName =
                name.trim().parse().map_err(|_| "a header's name is none".to_owned())?;
            let mut value = HeaderValue::try_from(value.trim())
                .map_err(|_| format!("the header {name} has a value that cannot be sent"))?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        Ok(Self { uri, protocol, headers: all })
    }

    /// Where HTTP exports go: the address itself where it has a path of its own, else its `/v1/traces`.
    fn traces_uri(&self) -> String {
        let base = self.uri.to_string();
        let base = base.trim_end_matches('/');
        if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
    }
}

/// Exports to one collector. Its task ends with it.
#[derive(Clone, Debug)]
pub struct Exporter {
    sender: mpsc::Sender<Vec<Span>>,
}

impl Exporter {
    /// Starts exporting. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(endpoint: Endpoint, instance: String) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(endpoint, instance, receiver));
        Self { sender }
    }

    /// Takes what was noted, as far as there is room. Never waits.
    pub(crate) fn send(&self, noted: &Noted) {
        if noted.is_empty() {
            return;
        }
        let Ok(room) = self.sender.try_reserve() else {
            telemetry::add_labelled(
                Metric::TracesDropped,
                &["export"],
                noted.requests.len().try_into().unwrap_or(u64::MAX),
            );
            return;
        };
        room.send(spans(noted));
    }
}

/// Builds this process' own spans of what was noted: another's parts it exports itself.
fn spans(noted: &Noted) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in &noted.requests {
        spans.extend(server_spans(request, &stages(request)));
    }
    for batch in &noted.batches {
        let timing = &batch.timing;
        for ((trace_id, command), times) in batch.commands.iter().zip(&timing.commands) {
            if *trace_id == 0 {
                continue;
            }
            let names = Names { trace_id: *trace_id, command: *command };
            let received = timing.origin.wall(timing.begun.plus(times.received));
            spans.extend(sequencer_spans(names, times, timing, received, batch.sequence));
        }
    }
    spans
}

async fn run(endpoint: Endpoint, instance: String, mut receiver: mpsc::Receiver<Vec<Span>>) {
    let mut collector = match Collector::new(endpoint) {
        Ok(collector) => collector,
        Err(reason) => {
            tracing::error!(reason, "traces cannot be exported");
            return;
        }
    };
    let mut was_taken = true;
    while let Some(spans) = receiver.recv().await {
        for some in spans.chunks(SPANS_AT_ONCE) {
            let sending = collector.send(to_proto(some, &instance));
            let failed = match tokio::time::timeout(TAKE_MAX, sending).await {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(_) => Some("it did not answer in time".to_owned()),
            };
            if failed.is_some() {
                telemetry::add(Metric::TraceExportFailures, 1);
            }
            if failed.is_none() != was_taken {
                was_taken = failed.is_none();
                match &failed {
                    Some(reason) => tracing::warn!(reason, "the collector does not take traces"),
                    None => tracing::info!("the collector takes traces again"),
                }
            }
        }
    }
}

enum Collector {
    Grpc(TraceServiceClient<Channel>, MetadataMap),
    Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String, HeaderMap),
}

impl Collector {
    fn new(endpoint: Endpoint) -> Result<Self, String> {
        match endpoint.protocol {
            Protocol::Grpc => {
                let mut channel = Channel::builder(endpoint.uri.clone()).connect_timeout(TAKE_MAX);
                if endpoint.uri.scheme_str() == Some("https") {
                    let tls = ClientTlsConfig::new().with_native_roots();
                    channel = channel.tls_config(tls).map_err(|error| error.to_string())?;
                }
                let metadata = MetadataMap::from_headers(endpoint.headers);
                Ok(Self::Grpc(TraceServiceClient::new(channel.connect_lazy()), metadata))
            }
            Protocol::Http => {
                let connector = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
                let connector = connector.map_err(|error| error.to_string())?;
                let connector = connector.https_or_http().enable_http1().build();
                let client = Client::builder(TokioExecutor::new()).build(connector);
                let uri = endpoint.traces_uri();
                Ok(Self::Http(client, uri, endpoint.headers))
            }
        }
    }

    async fn send(&mut self, spans: ExportTraceServiceRequest) -> Result<(), String> {
        match self {
            Self::Grpc(client, metadata) => {
                let mut request = tonic::Request::new(spans);
                *request.metadata_mut() = metadata.clone();
                client.export(request).await.map(drop).map_err(|status| status.code().to_string())
            }
            Self::Http(client, uri, headers) => {
                let body = Full::new(Bytes::from(spans.encode_to_vec()));
                let mut request = Request::post(uri.as_str())
                    .header(header::CONTENT_TYPE, "application/x-protobuf")
                    .body(body)
                    .map_err(|error| error.to_string())?;
                request.headers_mut().extend(headers.clone());
                let answer = client.request(request).await.map_err(|error| error.to_string())?;
                let status = answer.status();
                if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_as_opentelemetry_names_it() {
        let of = |url| Endpoint::parse(url, None, None);
        assert_eq!(of("http://jaeger:4317").map(|end| end.protocol), Ok(Protocol::Grpc));
        let http = of("http://jaeger:4318/").expect("it is an address");
        assert_eq!(
            (http.protocol, http.traces_uri()),
            (Protocol::Http, "http://jaeger:4318/v1/traces".into())
        );
        let whole = Endpoint::parse("https://x/otlp/v1/traces", Some("http/protobuf"), None);
        assert_eq!(whole.map(|end| end.traces_uri()), Ok("https://x/otlp/v1/traces".into()));
        for wrong in ["jaeger:4317", "ftp://x", "http://me:secret@x", ""] {
            let error = of(wrong).expect_err(wrong);
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Endpoint::parse("http://x", Some("http/json"), None).is_err());
        let with = Endpoint::parse("http://x", None, Some("authorization=Bearer hush, x-a=1"));
        let with = with.expect("it is an address");
        assert_eq!(with.headers.len(), 2);
        assert!(!format!("{with:?} {:?}", with.headers).contains("hush"));
        assert!(Endpoint::parse("http://x", None, Some("nonsense")).is_err());
    }
}
