//! Spans of others, as a browser sends them.

use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use trace::{Kind, SERVER};

use crate::world::{World, note, request};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

async fn post(world: &World, kind: &str, body: Vec<u8>) -> Response<Body> {
    let request = Request::post("/v1/traces").header(header::CONTENT_TYPE, kind);
    let request = request.body(Body::from(body)).expect("it is a request");
    tracer::otlp_router(world.db.clone()).oneshot(request).await.expect("it answers")
}

async fn body(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.expect("it has a body").to_bytes().to_vec()
}

/// A span as OpenTelemetry's JSON has it.
fn span(service: &str, trace_id: u128, span_id: u64) -> Value {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let nanos = |after: u128| (now.as_nanos() + after).to_string();
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            { "key": "service.name", "value": { "stringValue": service } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": format!("{trace_id:032x}"), "spanId": format!("{span_id:016x}"),
            "name": "submit order", "kind": 3,
            "startTimeUnixNano": nanos(0), "endTimeUnixNano": nanos(5_000_000),
            "attributes": [{ "key": "page", "value": { "stringValue": "trade" } }] }] }] }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_come_in_as_json_and_as_protocol_buffers_and_join_the_trace() {
    let world = World::start().await;
    let json = span("kx-web", 21, 6).to_string().into_bytes();
    let response = post(&world, JSON, json.clone()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let answer: Value = serde_json::from_slice(&body(response).await).expect("it is JSON");
    assert_eq!(answer["partialSuccess"], Value::Null, "{answer}");
    let read: ExportTraceServiceRequest =
        serde_json::from_str(&span("kx-bot", 21, 7).to_string()).expect("it is OTLP");
    let response = post(&world, PROTOBUF, read.encode_to_vec()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROTOBUF);
    let answer = ExportTraceServiceResponse::decode(body(response).await.as_slice());
    assert_eq!(answer.expect("it is an answer").partial_success, None);
    // The same again changes nothing.
    assert_eq!(post(&world, JSON, json).await.status(), StatusCode::OK);
    let spans = tracer::find(&world.db, 21).await.expect("it answers");
    let mut all: Vec<_> = spans.iter().map(|span| (span.service.as_str(), span.span_id)).collect();
    all.sort_unstable();
    assert_eq!(all, [("kx-bot", 7), ("kx-web", 6)]);
    assert!(spans.iter().all(|span| span.kind == Kind::Client && span.micros == 5_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_export_is_refused() {
    let world = World::start().await;
    let status = async |kind: &str, body: &[u8]| post(&world, kind, body.to_vec()).await.status();
    assert_eq!(status(PROTOBUF, b"\xff\xff nonsense").await, StatusCode::BAD_REQUEST);
    assert_eq!(status(JSON, b"{").await, StatusCode::BAD_REQUEST);
    assert_eq!(status(JSON, b"[1]").await, StatusCode::BAD_REQUEST);
    assert_eq!(status("text/plain", b"{}").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(status("", b"{}").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(status(JSON, &large).await, StatusCode::PAYLOAD_TOO_LARGE);
    let packed = Request::post("/v1/traces")
        .header(header::CONTENT_TYPE, JSON)
        .header(header::CONTENT_ENCODING, "gzip")
        .body(Body::from("{}"));
    let router = tracer::otlp_router(world.db.clone());
    let response = router.oneshot(packed.expect("a request")).await.expect("it answers");
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(world.count("trace_spans").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_us() {
    let world = World::start().await;
    for service in [SERVER, trace::PROCESSOR, "KX-Server", " kx-server ", "kx-server\u{0}", ""] {
        let response = post(&world, JSON, span(service, 22, 6).to_string().into_bytes()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = serde_json::from_slice(&body(response).await).expect("it is JSON");
        // 64-bit numbers are texts in protocol buffers' JSON.
        let rejected = &answer["partialSuccess"]["rejectedSpans"];
        assert!(*rejected == json!("1") || *rejected == json!(1), "{service:?}: {answer}");
    }
    assert_eq!(world.count("trace_spans").await, 0);
    // A span that has the id of one of ours is not shown in its place.
    let recorder = std::sync::Arc::default();
    let ours = crate::world::id(3_000);
    let made = request(ours, 3_000, 7);
    let root = made.span_id;
    note(&recorder, made);
    world.write(&recorder).await;
    post(&world, JSON, span("kx-web", ours, root).to_string().into_bytes()).await;
    post(&world, JSON, span("kx-web", ours, 0xabc).to_string().into_bytes()).await;
    let spans = tracer::find(&world.db, ours).await.expect("it answers");
    let of_root: Vec<_> = spans.iter().filter(|span| span.span_id == root).collect();
    assert_eq!(of_root.len(), 1);
    assert_eq!(of_root[0].service, SERVER);
    assert_eq!(spans.iter().filter(|span| span.service == "kx-web").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_may_ask_whether_it_may_send() {
    let world = World::start().await;
    let ask = Request::options("/v1/traces")
        .header(header::ORIGIN, "http://localhost:3000")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type")
        .body(Body::empty());
    let router = tracer::otlp_router(world.db.clone());
    let response = router.oneshot(ask.expect("a request")).await.expect("it answers");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = response.headers();
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], "POST");
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
}
