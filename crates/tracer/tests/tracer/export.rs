//! Spans on their way to a collector: by HTTP, by gRPC, and to one that is no good.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, header};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;
use tonic::{Response, Status};
use trace::{PROCESSOR, Recorder, SERVER};
use tracer::{Endpoint, Exporter};

use crate::world::{LIMIT, World, counter, id, note, request, wait};

/// What a collector was sent: the secret, and the spans.
type Sent = (Option<String>, ExportTraceServiceRequest);

struct Collector(mpsc::UnboundedSender<Sent>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let secret = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let _ = self.0.send((secret.map(str::to_owned), request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc(sender: mpsc::UnboundedSender<Sent>) -> SocketAddr {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let incoming = TcpIncoming::bind(any).expect("a port is free");
    let address = incoming.local_addr().expect("it is bound");
    let service = TraceServiceServer::new(Collector(sender));
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    address
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

async fn http(sender: mpsc::UnboundedSender<Sent>) -> SocketAddr {
    let take = async |State(sender): State<mpsc::UnboundedSender<Sent>>,
                      headers: HeaderMap,
                      body: Bytes| {
        assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
        let secret = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let read = ExportTraceServiceRequest::decode(body).expect("it is OTLP");
        let _ = sender.send((secret.map(str::to_owned), read));
        ExportTraceServiceResponse::default().encode_to_vec()
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(sender);
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn attribute<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    let pair = resource.attributes.iter().find(|pair| pair.key == name)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Checks that an order's spans arrive as they are.
async fn arrives(address: SocketAddr, protocol: &str, mut arrived: mpsc::UnboundedReceiver<Sent>) {
    let world = World::start().await;
    let endpoint = Endpoint::parse(
        &format!("http://{address}"),
        Some(protocol),
        Some("authorization=Bearer hush"),
    );
    let exporter = Exporter::start(endpoint.expect("it is an address"), "here".to_owned());
    let recorder = Arc::new(Recorder::default());
    let writing = world.writing(&recorder, Some(exporter));
    let trace_id = id(3_000);
    let mut made = request(trace_id, 3_000, 7);
    made.parent_id = 0xb7ad;
    let root = made.span_id;
    note(&recorder, made);
    let (secret, export) =
        tokio::time::timeout(LIMIT, arrived.recv()).await.expect("it arrives").expect("it is open");
    writing.stop().await;
    assert_eq!(secret.as_deref(), Some("Bearer hush"));
    let mut services = HashMap::new();
    let mut parents = HashMap::new();
    for resource in export.resource_spans {
        let of = resource.resource.expect("it says whose they are");
        assert_eq!(attribute(&of, "service.instance.id"), Some("here"));
        assert!(attribute(&of, "service.version").is_some_and(|version| !version.is_empty()));
        let service = attribute(&of, "service.name").expect("it has a name").to_owned();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert_eq!(span.trace_id, trace_id.to_be_bytes());
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            parents.insert(span.span_id.clone(), (span.name.clone(), span.parent_span_id));
            services.entry(service.clone()).or_insert_with(Vec::new).push(span.name);
        }
    }
    for names in services.values_mut() {
        names.sort_unstable();
    }
    let server =
        ["POST /api/v1/orders", "answer", "authenticate", "await outcome", "publish", "validate"];
    assert_eq!(services[SERVER], server);
    assert_eq!(services[PROCESSOR], ["append", "batch", "decide", "process", "settle"]);
    assert_eq!(services.len(), 2);
    for (name, parent) in parents.values() {
        if *name == server[0] {
            assert_eq!(*parent, 0xb7ad_u64.to_be_bytes(), "the caller's");
            continue;
        }
        let (of, _) = &parents[parent];
        let expected = match name.as_str() {
            "process" => "publish",
            "append" | "batch" | "decide" | "settle" => "process",
            _ => server[0],
        };
        assert_eq!(of, expected, "{name}");
    }
    assert_eq!(parents[&root.to_be_bytes().to_vec()].0, server[0]);
    assert_eq!(world.count("trace_requests").await, 0, "it was told to keep nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_an_orders_spans_by_grpc() {
    let (sender, arrived) = mpsc::unbounded_channel();
    arrives(grpc(sender).await, "grpc", arrived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_an_orders_spans_by_http() {
    let (sender, arrived) = mpsc::unbounded_channel();
    arrives(http(sender).await, "http/protobuf", arrived).await;
}

/// Offers more than can wait, to a collector that takes nothing.
async fn takes_nothing(address: SocketAddr, protocol: &str) {
    let world = World::start().await;
    let endpoint = Endpoint::parse(&format!("http://{address}"), Some(protocol), None);
    let exporter = Exporter::start(endpoint.expect("it is an address"), "here".to_owned());
    let recorder = Arc::new(Recorder::default());
    let writing = world.writing(&recorder, Some(exporter));
    let dropped = || counter("kx_traces_dropped_total{reason=\"export\"}");
    let failed = || counter("kx_trace_export_failures_total");
    let before = (dropped(), failed());
    // As many spans as may wait; what comes then has no room.
    (0..10_000).for_each(|_| recorder.request(request(5, 3_000, 7)));
    wait("something to be dropped or to fail", async || {
        recorder.request(request(5, 3_000, 7));
        (dropped() > before.0 || failed() > before.1).then_some(())
    })
    .await;
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_what_it_is_not_sent_and_nothing_else() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    takes_nothing(address, "http/protobuf").await;
    takes_nothing(address, "grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_what_it_is_not_sent_and_nothing_else() {
    let (listener, address) = listener().await;
    drop(listener);
    takes_nothing(address, "http/protobuf").await;
    takes_nothing(address, "grpc").await;
}
