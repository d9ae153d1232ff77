//! What everybody may see of a trace whose id they have, and how long the stages of orders take.
//!
//! Invariant: nothing here names a user, an account, an order or an amount. A trace's id is known to whoever sent the
//! request, and to whom they tell it.

use axum::Json as Out;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use trace::{PROCESSOR, SERVER, Span, Value};
use units::Time;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::time::Timestamp;

use crate::app::App;
use crate::problem::{Code, Problem, ProblemBody};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(trace)).routes(routes!(latency))
}

/// A trace.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublicTrace {
    /// Its id: 32 hexadecimal digits.
    trace_id: String,
    /// From the first span's beginning to the last one's end, in microseconds.
    duration_micros: u64,
    /// The spans, in the order in which they began.
    spans: Vec<PublicSpan>,
}

/// A piece of work.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublicSpan {
    /// Its id: 16 hexadecimal digits.
    span_id: String,
    /// The span that it is part of; `null`: none.
    parent_span_id: Option<String>,
    /// Whose work it is.
    service: String,
    /// What work.
    name: String,
    /// `internal`, `server`, `client`, `producer` or `consumer`.
    kind: &'static str,
    /// When it began.
    started_at: Timestamp,
    /// Microseconds after the trace's first span began.
    offset_micros: u64,
    /// How long it took, in microseconds.
    duration_micros: u64,
    /// Whether it failed.
    failed: bool,
    /// What else is known, by OpenTelemetry's names; for other services' spans nothing.
    #[schema(value_type = Object)]
    attributes: serde_json::Map<String, serde_json::Value>,
}

/// Shows the whole way of a request.
#[utoipa::path(get, path = "/api/v1/public/trace/{traceId}", tag = "Traces",
    params(("traceId" = String, Path, description = "The X-Trace-Id of an answer")), responses(
    (status = 200, body = PublicTrace, description = "The spans that are known; those of the last second may be missing"),
    (status = 404, body = ProblemBody, description = "Nothing is known of it (any more)"),
    (status = 422, body = ProblemBody, description = "It is no trace id")))]
async fn trace(State(app): State<App>, Path(text): Path<String>) -> Result<Response, Problem> {
    let id = tracer::parse_trace_id(&text).filter(|_| text.len() == 32);
    let id =
        id.ok_or_else(|| Problem::value("traceId", "format", "must have 32 hexadecimal digits"))?;
    let spans = tracer::find(&app.db, id).await;
    let spans = spans.map_err(|error| Problem::unavailable("cannot read a trace", &error))?;
    let Some(from) = spans.iter().map(|span| span.begun).min() else {
        return Err(Problem::new(Code::NotFound));
    };
    let until = spans.iter().map(|span| span.begun.saturating_add(span.micros)).max();
    let trace = PublicTrace {
        trace_id: tracer::format_trace_id(id),
        duration_micros: until.unwrap_or(from).saturating_sub(from),
        spans: spans.iter().map(|span| public(span, from)).collect(),
    };
    Ok(Out(trace).into_response())
}

fn public(span: &Span, from: u64) -> PublicSpan {
    let ours = [SERVER, PROCESSOR].contains(&span.service.as_str());
    let attribute = |(name, value): &(String, Value)| {
        let value = match value {
            Value::Text(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Bool(value) => (*value).into(),
        };
        (name.clone(), value)
    };
    let attributes = span.attributes.iter().filter(|_| ours).map(attribute).collect();
    PublicSpan {
        span_id: format!("{:016x}", span.span_id),
        parent_span_id: (span.parent_id != 0).then(|| format!("{:016x}", span.parent_id)),
        service: span.service.clone(),
        name: span.name.clone(),
        kind: span.kind.name(),
        started_at: Time::from_micros(span.begun).into(),
        offset_micros: span.begun.saturating_sub(from),
        duration_micros: span.micros,
        failed: span.failed,
        attributes,
    }
}

/// How long the stages of orders have taken lately.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Latencies {
    /// How many seconds are counted, at most.
    window_seconds: u32,
    /// Each market in which orders were placed.
    markets: Vec<MarketLatency>,
}

/// How long the stages of one market's orders have taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarketLatency {
    /// The market.
    market: String,
    /// The stages in the order of the way, and `total`.
    stages: Vec<StageLatency>,
}

/// How long one stage has taken.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StageLatency {
    /// The stage; `total`: from the request to its answer.
    stage: &'static str,
    /// Orders that were measured.
    count: u64,
    /// Half of them took at most this, in microseconds.
    p50_micros: u64,
    /// 95 of 100 took at most this.
    p95_micros: u64,
    /// 99 of 100 took at most this.
    p99_micros: u64,
}

/// Says how long each stage of orders takes, as this server has measured it in the last five minutes.
#[utoipa::path(get, path = "/api/v1/public/latency", tag = "Traces", responses((status = 200, body = Latencies)))]
async fn latency(State(app): State<App>) -> Response {
    let stage = |each: trace::Percentiles| StageLatency {
        stage: each.stage.map_or("total", trace::Stage::name),
        count: each.count,
        p50_micros: each.p50,
        p95_micros: each.p95,
        p99_micros: each.p99,
    };
    let markets = app.recorder.latency().percentiles().into_iter().map(|(market, stages)| {
        MarketLatency { market, stages: stages.into_iter().map(stage).collect() }
    });
    let answer = Latencies { window_seconds: 300, markets: markets.collect() };
    let mut response = Out(answer).into_response();
    let short = HeaderValue::from_static("public, max-age=1");
    response.headers_mut().insert(header::CACHE_CONTROL, short);
    response
}
