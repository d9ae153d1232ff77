//! What was far from usual, and why a request was slow.

use axum::Json as Out;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use store::anomalies::{Filter, Kept};
use trace::anomaly::{self, Explanation, Figures, Finding};
use utoipa::{IntoParams, ToSchema};
use wire::time::Timestamp;

use super::unavailable;
use crate::app::App;
use crate::body::{Query, page_size};
use crate::problem::{Code, Problem, ProblemBody};

/// What is usual, in microseconds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usual {
    /// Half take at most this.
    p50_micros: u64,
    /// 99 of 100 take at most this.
    p99_micros: u64,
    /// The mean.
    mean_micros: u64,
    /// The standard deviation.
    sigma_micros: u64,
    /// Minutes that it was learned from.
    minutes: u32,
}

impl From<Figures> for Usual {
    fn from(usual: Figures) -> Self {
        Self {
            p50_micros: usual.p50,
            p99_micros: usual.p99,
            mean_micros: usual.mean,
            sigma_micros: usual.sigma,
            minutes: usual.windows,
        }
    }
}

/// A stage of an operation that took far longer than usual.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Anomaly {
    /// Its number.
    id: i64,
    /// 1 to 5, 1 is the worst; the worst that it was.
    severity: u8,
    /// What was asked for: a command's action, or a method and route.
    operation: String,
    /// The stage.
    stage: &'static str,
    /// The server that has seen it.
    source: String,
    /// The first minute that was far from usual.
    begun_at: Timestamp,
    /// The end of the last minute that was judged.
    judged_at: Timestamp,
    /// When it was over; `null`: it is open.
    ended_at: Option<Timestamp>,
    /// Why it was over: `usual` again, `idle` (too few requests to tell), `adopted` (it is what is usual now) or `forsaken`
    /// (nobody judges it any more).
    ended_because: Option<String>,
    /// Minutes that were far from usual.
    minutes: u32,
    /// Requests in them.
    requests: u64,
    /// What a tenth of the last such minute's requests exceeded, a twentieth where there were many, in microseconds.
    observed_micros: u64,
    /// The same of the worst minute.
    worst_micros: u64,
    /// What was usual when it began.
    usual: Usual,
    /// The slowest request of the worst minute.
    trace_id: String,
}

impl From<Kept> for Anomaly {
    fn from(kept: Kept) -> Self {
        let anomaly = kept.anomaly;
        Self {
            id: kept.id,
            severity: anomaly.severity,
            operation: anomaly.operation,
            stage: anomaly.stage.name(),
            source: kept.source,
            begun_at: kept.begun_at.into(),
            judged_at: kept.judged_at.into(),
            ended_at: kept.ended_at.map(Into::into),
            ended_because: kept.ended_because,
            minutes: anomaly.windows,
            requests: anomaly.requests,
            observed_micros: anomaly.observed,
            worst_micros: anomaly.worst,
            usual: anomaly.usual.into(),
            trace_id: tracer::format_trace_id(anomaly.trace_id),
        }
    }
}

/// A page of anomalies.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AnomalyPage {
    /// The anomalies, newest first.
    items: Vec<Anomaly>,
    /// Goes into `beforeId` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before_id: Option<i64>,
}

/// Which anomalies.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AnomalyQuery {
    /// `true`: those that are open; `false`: those that are over.
    open: Option<String>,
    /// Of this severity, 1 to 5, or a worse one.
    severity: Option<String>,
    /// Older than this one.
    before_id: Option<String>,
    /// 1 to 500; 50 unless given.
    limit: Option<String>,
}

impl AnomalyQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let open = self.open.as_deref().map(|text| {
            text.parse()
                .map_err(|_| Problem::value("open", "unknown_value", "must be true or false"))
        });
        let severity = self.severity.as_deref().map(|text| {
            let number = text.parse().ok().filter(|number| (1..=5).contains(number));
            number.ok_or_else(|| Problem::value("severity", "out_of_range", "must be 1 to 5"))
        });
        let before = self.before_id.as_deref().map(|text| {
            text.parse().map_err(|_| Problem::value("beforeId", "id_invalid", "must be a row's id"))
        });
        Ok(Filter {
            open: open.transpose()?,
            severity: severity.transpose()?,
            before_id: before.transpose()?,
        })
    }
}

/// Lists stages that took far longer than usual, newest first.
#[utoipa::path(get, path = "/api/v1/admin/anomalies", tag = "Admin", security(("bearer" = [])), params(AnomalyQuery),
    responses((status = 200, body = AnomalyPage), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 422, body = ProblemBody)))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<AnomalyQuery>,
) -> Result<Out<AnomalyPage>, Problem> {
    let size = page_size(query.limit.as_deref())?;
    let rows = store::anomalies::list(&app.db, query.filter()?, size + 1).await;
    let mut rows = rows.map_err(|error| unavailable(&error))?;
    let more = rows.len() > size;
    rows.truncate(size);
    let next_before_id = rows.last().map(|row| row.id).filter(|_| more);
    Ok(Out(AnomalyPage { items: rows.into_iter().map(Anomaly::from).collect(), next_before_id }))
}

/// Why a request took as long as it did.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceExplanation {
    /// The trace.
    trace_id: String,
    /// What was asked for: a command's action, or a method and route.
    operation: String,
    /// In words.
    words: Vec<String>,
    /// How long it took, in microseconds.
    duration_micros: u64,
    /// What is usual for the operation; `null` where it is not known yet.
    usual: Option<Usual>,
    /// How many times the median it took.
    factor: Option<f64>,
    /// The stage in which most was lost; `null` where every stage was as usual, or what is usual is not known.
    main_stage: Option<&'static str>,
    /// The stages, in the order of the way.
    stages: Vec<ExplainedStage>,
    /// What else was unusual at that minute; `null` where that is not known, or not yet.
    findings: Option<Vec<UnusualThing>>,
}

/// A stage beside what is usual for it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplainedStage {
    /// The stage.
    stage: &'static str,
    /// How long it took, in microseconds.
    duration_micros: u64,
    /// What is usual; `null` where it is not known yet.
    usual: Option<Usual>,
    /// How many times the median it took.
    factor: Option<f64>,
    /// Whether it took longer than 99 of 100 do, by a millisecond at least.
    unusual: bool,
    /// Whether it was worked out of two machines' clocks.
    estimated: bool,
}

/// Something that was unusual at that minute.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnusualThing {
    /// A metric, or `requests`, `append_p99_seconds`, `restart`, `deploy`, `takeover`, `anomaly`.
    name: String,
    /// In words.
    words: String,
    /// The number that it rests on.
    value: f64,
    /// What is usual; `null` where nothing is compared.
    usual: Option<f64>,
}

impl From<Finding> for UnusualThing {
    fn from(finding: Finding) -> Self {
        let Finding { name, words, value, usual } = finding;
        Self { name, words, value, usual }
    }
}

/// Says why the slowest request of a trace took as long as it did: which stage, how far from what is usual, and what else
/// was unusual at that minute.
#[utoipa::path(get, path = "/api/v1/admin/traces/{traceId}/explanation", tag = "Admin", security(("bearer" = [])),
    params(("traceId" = String, Path, description = "The X-Trace-Id of an answer")),
    responses((status = 200, body = TraceExplanation), (status = 403, body = ProblemBody, description = "`role_missing`"),
    (status = 404, body = ProblemBody, description = "Nothing is known of it (any more)"),
    (status = 422, body = ProblemBody, description = "It is no trace id")))]
pub(super) async fn explain(
    State(app): State<App>,
    Path(text): Path<String>,
) -> Result<Out<TraceExplanation>, Problem> {
    let id = tracer::parse_trace_id(&text).filter(|_| text.len() == 32);
    let id =
        id.ok_or_else(|| Problem::value("traceId", "format", "must have 32 hexadecimal digits"))?;
    let explained = tracer::explain(&app.db, id).await.map_err(|error| unavailable(&error))?;
    let explained = explained.ok_or_else(|| Problem::new(Code::NotFound))?;
    Ok(Out(answer(id, explained)))
}

fn answer(id: u128, explained: Explanation) -> TraceExplanation {
    let stage = |each: anomaly::Explained| ExplainedStage {
        stage: each.stage.name(),
        duration_micros: each.observed,
        usual: each.usual.map(Into::into),
        factor: each.factor,
        unusual: each.is_unusual,
        estimated: each.estimated,
    };
    TraceExplanation {
        trace_id: tracer::format_trace_id(id),
        operation: explained.operation,
        words: explained.words,
        duration_micros: explained.whole.observed,
        usual: explained.whole.usual.map(Into::into),
        factor: explained.whole.factor,
        main_stage: explained.main.map(trace::Stage::name),
        stages: explained.stages.into_iter().map(stage).collect(),
        findings: explained.findings.map(|all| all.into_iter().map(Into::into).collect()),
    }
}
