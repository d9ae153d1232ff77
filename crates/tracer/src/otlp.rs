//! OTLP over HTTP, as a browser or another service sends it, and our spans in its form.
//!
//! Invariant: what comes in is bounded in number and length, and never passes for ours: nobody else may send spans of
//! `kx-server` or `kx-payment-processor`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, Status};
use prost::Message as _;
use store::Db;
use telemetry::Metric;
use tower::limit::ConcurrencyLimitLayer;
use trace::{Kind, PROCESSOR, SERVER, Span, Value};

/// Bytes of one request at most.
const BYTES_MAX: usize = 1 << 20;
/// Spans of one request at most; what is more is rejected, and said so.
const SPANS_MAX: usize = 1_000;
/// Requests that are written at once.
const AT_ONCE: usize = 4;
/// Attributes of one span that are kept.
const ATTRIBUTES_MAX: usize = 32;
/// Characters of a name or a value that are kept.
const CHARS_MAX: usize = 256;
/// How far from now a span may begin, in microseconds: a day.
const AWAY_MAX: u64 = 86_400_000_000;

/// Takes spans at `/v1/traces`.
pub fn router(db: Db) -> Router {
    Router::new()
        .route("/v1/traces", post(receive).options(preflight))
        .layer(DefaultBodyLimit::max(BYTES_MAX))
        .layer(ConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(db)
}

/// A browser asks whether a page may send. It may: nothing but spans is taken, and nothing is told.
async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// The two forms of OTLP over HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

async fn receive(State(db): State<Db>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    let form = match kind {
        Some("application/x-protobuf") => Form::Protobuf,
        Some("application/json") => Form::Json,
        _ => {
            return (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "application/x-protobuf or application/json",
            )
                .into_response();
        }
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it uncompressed").into_response();
    }
    let read = match form {
        Form::Protobuf => ExportTraceServiceRequest::decode(body).map_err(|_| ()),
        Form::Json => serde_json::from_slice(&body).map_err(|_| ()),
    };
    let Ok(request) = read else {
        return (StatusCode::BAD_REQUEST, "it is no ExportTraceServiceRequest").into_response();
    };
    let (spans, rejected) = from_proto(request);
    if let Err(error) = store::traces::write_spans(&db, &spans).await {
        tracing::warn!(%error, "spans of another service could not be kept");
        telemetry::add_labelled(Metric::TracesDropped, &["store"], 1);
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let answer = ExportTraceServiceResponse {
        partial_success: (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "a span has no ids, no time near now, a service that may not be named here, or came after the first 1000"
                .to_owned(),
        }),
    };
    let (kind, body) = match form {
        Form::Protobuf => ("application/x-protobuf", answer.encode_to_vec()),
        Form::Json => ("application/json", serde_json::to_vec(&answer).unwrap_or_default()),
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, body).into_response()
}

/// Reads another's spans; returns how many are none that can be kept.
fn from_proto(request: ExportTraceServiceRequest) -> (Vec<Span>, i64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    let (mut spans, mut rejected) = (Vec::new(), 0);
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.iter().find(|pair| pair.key == "service.name");
        let service = service.and_then(|pair| text(pair.value.as_ref()?)).unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let read = read_span(&span, &service, now).filter(|_| spans.len() < SPANS_MAX);
            match read {
                Some(span) => spans.push(span),
                None => rejected += 1,
            }
        }
    }
    (spans, rejected)
}

fn read_span(span: &ProtoSpan, service: &str, now: u64) -> Option<Span> {
    let service = cut(service);
    if service.is_empty() || [SERVER, PROCESSOR].contains(&service.as_str()) {
        return None;
    }
    let trace_id = u128::from_be_bytes(span.trace_id.as_slice().try_into().ok()?);
    let span_id = u64::from_be_bytes(span.span_id.as_slice().try_into().ok()?);
    let parent_id = span.parent_span_id.as_slice().try_into().map_or(0, u64::from_be_bytes);
    let begun = span.start_time_unix_nano / 1_000;
    let micros = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) / 1_000;
    if trace_id == 0 || span_id == 0 || begun.abs_diff(now) > AWAY_MAX || micros > AWAY_MAX {
        return None;
    }
    let attributes = span.attributes.iter().take(ATTRIBUTES_MAX).filter_map(|pair| {
        let value = match pair.value.as_ref()?.value.as_ref()? {
            AnyValue::BoolValue(value) => Value::Bool(*value),
            AnyValue::IntValue(number) => Value::Integer(*number),
            _ => Value::Text(cut(&text(pair.value.as_ref()?)?)),
        };
        Some((cut(&pair.key), value))
    });
    let failed = span.status.as_ref().is_some_and(|status| status.code == SpanStatus::Error as i32);
    Some(Span {
        trace_id,
        span_id,
        parent_id,
        service,
        name: cut(&span.name),
        kind: Kind::of_number(span.kind),
        begun,
        micros,
        // A name that comes twice counts once.
        attributes: attributes.collect::<BTreeMap<_, _>>().into_iter().collect(),
        follows: Vec::new(),
        failed,
    })
}

/// Cuts what is too long, and what no database takes.
fn cut(text: &str) -> String {
    text.chars().filter(|char| *char != '\0').take(CHARS_MAX).collect()
}

fn text(value: &Any) -> Option<String> {
    match value.value.as_ref()? {
        AnyValue::StringValue(text) => Some(text.clone()),
        AnyValue::DoubleValue(number) => Some(number.to_string()),
        AnyValue::BoolValue(value) => Some(value.to_string()),
        AnyValue::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Writes spans as OTLP has them, by service.
pub(crate) fn to_proto(spans: &[Span], instance: &str) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<&str, Vec<ProtoSpan>> = BTreeMap::new();
    for span in spans {
        services.entry(&span.service).or_default().push(proto(span));
    }
    let resource = |(service, spans): (&str, Vec<ProtoSpan>)| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![
                pair("service.name", &service.into()),
                pair("service.version", &env!("CARGO_PKG_VERSION").into()),
                pair("service.instance.id", &instance.into()),
            ],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "krystalinex".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            spans,
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    };
    ExportTraceServiceRequest { resource_spans: services.into_iter().map(resource).collect() }
}

fn proto(span: &Span) -> ProtoSpan {
    let begun = span.begun.saturating_mul(1_000);
    let parent = if span.parent_id == 0 { Vec::new() } else { span.parent_id.to_be_bytes().into() };
    let link = |of: &u64| Link {
        trace_id: span.trace_id.to_be_bytes().into(),
        span_id: of.to_be_bytes().into(),
        ..Link::default()
    };
    ProtoSpan {
        trace_id: span.trace_id.to_be_bytes().into(),
        span_id: span.span_id.to_be_bytes().into(),
        parent_span_id: parent,
        name: span.name.clone(),
        kind: span.kind.number(),
        start_time_unix_nano: begun,
        end_time_unix_nano: begun.saturating_add(span.micros.saturating_mul(1_000)),
        attributes: span.attributes.iter().map(|(name, value)| pair(name, value)).collect(),
        links: span.follows.iter().map(link).collect(),
        status: span
            .failed
            .then(|| Status { code: SpanStatus::Error as i32, message: String::new() }),
        ..ProtoSpan::default()
    }
}

fn pair(name: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyValue::StringValue(text.clone()),
        Value::Integer(number) => AnyValue::IntValue(*number),
        Value::Bool(value) => AnyValue::BoolValue(*value),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(Any { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Span {
            trace_id: 5,
            span_id: 6,
            parent_id: 7,
            service: "kx-web".to_owned(),
            name: "submit".to_owned(),
            kind: Kind::Client,
            begun: since.as_micros().try_into().unwrap(),
            micros: 1_234,
            attributes: vec![("a".to_owned(), Value::Bool(true)), ("b".to_owned(), 3_u32.into())],
            follows: Vec::new(),
            failed: true,
        }
    }

    #[test]
    fn a_span_comes_in_as_it_went_out_in_both_forms() {
        let sent = to_proto(&[span()], "here");
        let decoded = ExportTraceServiceRequest::decode(sent.encode_to_vec().as_slice()).unwrap();
        assert_eq!(from_proto(decoded), (vec![span()], 0));
        let json = serde_json::to_vec(&sent).unwrap();
        assert_eq!(from_proto(serde_json::from_slice(&json).unwrap()), (vec![span()], 0));
    }

    #[test]
    fn what_cannot_be_kept_is_rejected_and_what_is_too_long_is_cut() {
        let rejected = |change: fn(&mut Span)| {
            let mut span = span();
            change(&mut span);
            from_proto(to_proto(&[span], "here"))
        };
        for change in [
            |span: &mut Span| span.trace_id = 0,
            |span: &mut Span| span.span_id = 0,
            |span: &mut Span| span.service = SERVER.to_owned(),
            |span: &mut Span| span.service = String::new(),
            |span: &mut Span| span.begun = 1,
            |span: &mut Span| span.micros = AWAY_MAX + 1,
        ] {
            assert_eq!(rejected(change), (Vec::new(), 1));
        }
        let (spans, _) = rejected(|span| span.name = "x\0".repeat(1_000));
        assert_eq!(spans[0].name.len(), CHARS_MAX);
        let many: Vec<Span> = (1..=1_003).map(|span_id| Span { span_id, ..span() }).collect();
        let (spans, rejected) = from_proto(to_proto(&many, "here"));
        assert_eq!((spans.len(), rejected), (SPANS_MAX, 3));
    }
}
