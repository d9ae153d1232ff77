//! Jaeger's query API, as far as its pages and Grafana ask for it, and a plain page of our own.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use store::{Db, StoreError};
use tower::limit::ConcurrencyLimitLayer;
use trace::{PROCESSOR, SERVER, Span, Stage, Value};

use crate::explain::explain;
use crate::find::{PROCESSOR_OPERATIONS, Query, find, search};
use crate::{format_trace_id, page, parse_trace_id};

/// Traces of one search at most, and where nothing is said.
const LIMIT_MAX: usize = 200;
const LIMIT: usize = 20;
/// How far a search looks back where nothing is said: an hour, in microseconds.
const LOOKBACK: u64 = 3_600_000_000;
/// Searches at once: each reads up to some thousand rows.
const AT_ONCE: usize = 4;

/// Serves what is kept, to whoever runs the exchange. Spans have no names and no amounts of anybody.
pub fn router(db: Db) -> Router {
    Router::new()
        .route("/", get(page_of_many))
        .route("/search", get(page_of_many))
        .route("/trace/{id}", get(page_of_one))
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(operations_of))
        .route("/api/operations", get(operations))
        .route("/api/traces", get(traces))
        .route("/api/traces/{id}", get(trace))
        .route("/api/dependencies", get(async || data(JsonValue::Array(Vec::new()), 0)))
        .layer(ConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(db)
}

/// What goes wrong, in Jaeger's shape.
struct Failure(StatusCode, String);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "traces cannot be read");
        Self(StatusCode::SERVICE_UNAVAILABLE, "the trace store does not answer".to_owned())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let error = json!({ "code": status.as_u16(), "msg": message });
        (
            status,
            Json(json!({ "data": null, "total": 0, "limit": 0, "offset": 0, "errors": [error] })),
        )
            .into_response()
    }
}

fn data(data: JsonValue, total: usize) -> Json<JsonValue> {
    Json(json!({ "data": data, "total": total, "limit": 0, "offset": 0, "errors": null }))
}

async fn services(State(db): State<Db>) -> Result<Json<JsonValue>, Failure> {
    let names = names(&db).await?;
    Ok(data(json!(names.keys().collect::<Vec<_>>()), names.len()))
}

/// Every service with its spans' names.
async fn names(db: &Db) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let mut all = store::traces::operations(db).await?;
    let mut server: Vec<String> = Stage::ALL.iter().map(|stage| stage.name().to_owned()).collect();
    let now = now();
    for row in store::traces::requests(db, now.saturating_sub(LOOKBACK), now, 0, 16).await? {
        for request in trace::unpack_requests(&row.payload, |_| true).unwrap_or_default() {
            let name = format!("{} {}", request.method, request.route);
            if !server.contains(&name) {
                server.push(name);
            }
        }
    }
    server.sort();
    all.insert(SERVER.to_owned(), server);
    all.insert(PROCESSOR.to_owned(), PROCESSOR_OPERATIONS.map(str::to_owned).into());
    Ok(all)
}

async fn operations_of(
    State(db): State<Db>,
    Path(service): Path<String>,
) -> Result<Json<JsonValue>, Failure> {
    let names = names(&db).await?.remove(&service).unwrap_or_default();
    let total = names.len();
    Ok(data(json!(names), total))
}

#[derive(Deserialize)]
struct OfService {
    service: String,
}

async fn operations(
    State(db): State<Db>,
    Parameters(of): Parameters<OfService>,
) -> Result<Json<JsonValue>, Failure> {
    let names = names(&db).await?.remove(&of.service).unwrap_or_default();
    let shape = |name: &String| json!({ "name": name, "spanKind": "" });
    let total = names.len();
    Ok(data(names.iter().map(shape).collect(), total))
}

/// What Jaeger's search takes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    pub(crate) service: Option<String>,
    pub(crate) operation: Option<String>,
    start: Option<String>,
    end: Option<String>,
    pub(crate) min_duration: Option<String>,
    pub(crate) max_duration: Option<String>,
    tags: Option<String>,
    pub(crate) limit: Option<String>,
    #[serde(rename = "traceID")]
    trace_id: Option<String>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Asked {
    pub(crate) fn query(&self) -> Result<Query, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let number = |text: &Option<String>, name: &str, default: u64| match given(text) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} must be a whole number")),
        };
        let length = |text: &Option<String>, name: &str, default: u64| match given(text) {
            None => Ok(default),
            Some(text) => micros(&text).ok_or(format!("{name} must be like 1.5s, 200ms or 300us")),
        };
        let until = number(&self.end, "end", now())?;
        let tags = match given(&self.tags) {
            None => BTreeMap::new(),
            Some(text) => serde_json::from_str(&text)
                .map_err(|_| "tags must be a JSON object of texts".to_owned())?,
        };
        let limit = number(&self.limit, "limit", LIMIT as u64)?;
        Ok(Query {
            service: given(&self.service).ok_or("service must be given")?,
            operation: given(&self.operation).filter(|name| name != "all"),
            from: number(&self.start, "start", until.saturating_sub(LOOKBACK))?,
            until,
            micros_min: length(&self.min_duration, "minDuration", 0)?,
            micros_max: length(&self.max_duration, "maxDuration", u64::MAX)?,
            tags,
            limit: usize::try_from(limit).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX),
        })
    }
}

/// Reads a length of time as Go writes it, in microseconds.
fn micros(text: &str) -> Option<u64> {
    let units = [("us", 1_u64), ("µs", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000)];
    let (number, unit) =
        units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole) || !digits(part) {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(part.len()).ok()?);
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    Some(whole + part.parse::<u64>().ok()? * unit / scale)
}

async fn traces(
    State(db): State<Db>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<JsonValue>, Failure> {
    if let Some(id) = asked.trace_id.as_deref() {
        return trace(State(db), Path(id.to_owned())).await;
    }
    let query = asked.query().map_err(|error| Failure(StatusCode::BAD_REQUEST, error))?;
    let found = search(&db, &query).await?;
    let total = found.len();
    Ok(data(found.iter().map(|spans| shape(spans)).collect(), total))
}

async fn trace(State(db): State<Db>, Path(id): Path<String>) -> Result<Json<JsonValue>, Failure> {
    let spans = one(&db, &id).await?;
    Ok(data(json!([shape(&spans)]), 1))
}

async fn one(db: &Db, id: &str) -> Result<Vec<Span>, Failure> {
    let id = parse_trace_id(id).ok_or(Failure(
        StatusCode::BAD_REQUEST,
        "a trace id has 32 hexadecimal digits".to_owned(),
    ))?;
    let spans = find(db, id).await?;
    if spans.is_empty() {
        return Err(Failure(StatusCode::NOT_FOUND, "trace not found".to_owned()));
    }
    Ok(spans)
}

async fn page_of_many(State(db): State<Db>, Parameters(asked): Parameters<Asked>) -> Response {
    let answer = async {
        let names = names(&db).await?;
        let asked = Asked { service: asked.service.or(Some(SERVER.to_owned())), ..asked };
        let found = match asked.query() {
            Ok(query) => Ok(search(&db, &query).await?),
            Err(error) => Err(error),
        };
        Ok::<_, Failure>(page::many(&names, &asked, &found))
    };
    answer.await.unwrap_or_else(|Failure(status, words)| page::failed(status, &words))
}

async fn page_of_one(State(db): State<Db>, Path(id): Path<String>) -> Response {
    match one(&db, &id).await {
        Ok(spans) => {
            // Without it the page is still worth showing.
            let explained = match spans.first() {
                Some(span) => explain(&db, span.trace_id).await,
                None => Ok(None),
            };
            let explained = explained.unwrap_or_else(|error| {
                tracing::warn!(%error, "a trace cannot be explained");
                None
            });
            page::one(&spans, explained.as_ref())
        }
        Err(Failure(status, words)) => page::failed(status, &words),
    }
}

/// Writes one trace as Jaeger does.
pub(crate) fn shape(spans: &[Span]) -> JsonValue {
    let mut processes: HashMap<&str, String> = HashMap::new();
    let mut shapes = Vec::with_capacity(spans.len());
    for span in spans {
        let next = format!("p{}", processes.len() + 1);
        let process = processes.entry(&span.service).or_insert(next).clone();
        let reference = |kind: &str, of: u64| json!({ "refType": kind, "traceID": format_trace_id(span.trace_id), "spanID": format!("{of:016x}") });
        let parent = (span.parent_id != 0).then(|| reference("CHILD_OF", span.parent_id));
        let follows = span.follows.iter().map(|of| reference("FOLLOWS_FROM", *of));
        let mut tags: Vec<JsonValue> = span.attributes.iter().map(tag).collect();
        tags.push(json!({ "key": "span.kind", "type": "string", "value": span.kind.name() }));
        if span.failed {
            tags.push(json!({ "key": "error", "type": "bool", "value": true }));
        }
        shapes.push(json!({
            "traceID": format_trace_id(span.trace_id),
            "spanID": format!("{:016x}", span.span_id),
            "operationName": span.name,
            "references": parent.into_iter().chain(follows).collect::<Vec<_>>(),
            "startTime": span.begun,
            "duration": span.micros,
            "tags": tags,
            "logs": [],
            "processID": process,
            "warnings": null,
        }));
    }
    let processes: serde_json::Map<String, JsonValue> = processes
        .into_iter()
        .map(|(service, id)| (id, json!({ "serviceName": service, "tags": [] })))
        .collect();
    let trace_id = spans.first().map_or(0, |span| span.trace_id);
    json!({ "traceID": format_trace_id(trace_id), "spans": shapes, "processes": processes, "warnings": null })
}

fn tag((name, value): &(String, Value)) -> JsonValue {
    match value {
        Value::Text(text) => json!({ "key": name, "type": "string", "value": text }),
        Value::Integer(number) => json!({ "key": name, "type": "int64", "value": number }),
        Value::Bool(value) => json!({ "key": name, "type": "bool", "value": value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_jaeger_writes_them() {
        let all = [("1.5s", 1_500_000), ("200ms", 200_000), ("300us", 300), ("2m", 120_000_000)];
        for (text, expected) in all {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
        for text in ["", "s", "1", "-1s", "1.2.3s", "99999999999s", "1e3s"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn a_search_says_what_is_wrong_with_it() {
        let asked = |service: &str, limit: &str| Asked {
            service: Some(service.to_owned()),
            limit: Some(limit.to_owned()),
            ..Asked::default()
        };
        assert_eq!(asked("kx-server", "5").query().map(|query| query.limit), Ok(5));
        assert_eq!(asked("kx-server", "9999").query().map(|query| query.limit), Ok(LIMIT_MAX));
        assert!(asked("", "5").query().is_err());
        assert!(asked("kx-server", "many").query().is_err());
    }
}
