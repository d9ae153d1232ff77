//! The plain page: a search, and a trace as a waterfall. No script; its style is named by its hash.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use trace::anomaly::{Explanation, took};
use trace::{Span, Value};

use crate::format_trace_id;
use crate::jaeger::Asked;

const STYLE: &str = include_str!("page.css");

/// What a browser may do with the page: nothing but show it in its own style, and send its form back.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title>\
         <style>{STYLE}</style></head><body><h1><a href=\"/\">KrystalineX traces</a></h1>{body}</body></html>",
        escape(title)
    );
    let mut response = (status, Html(text)).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Says what is wrong.
pub(crate) fn failed(status: StatusCode, words: &str) -> Response {
    let body = format!("<p class=\"bad\">{}.</p><p><a href=\"/\">Search</a></p>", escape(words));
    page(status, "No trace", &body)
}

/// Shows what a search has found.
pub(crate) fn many(
    names: &BTreeMap<String, Vec<String>>,
    asked: &Asked,
    found: &Result<Vec<Vec<Span>>, String>,
) -> Response {
    let mut body =
        String::from("<p>Every order has its trace. The newest that fit are shown first.</p>");
    form(&mut body, names, asked);
    match found {
        Err(words) => {
            let _ = write!(body, "<p class=\"bad\">{}.</p>", escape(words));
        }
        Ok(traces) if traces.is_empty() => {
            body.push_str("<p>Nothing fits. Place an order, wait a second, and search again.</p>");
        }
        Ok(traces) => list(&mut body, traces),
    }
    page(StatusCode::OK, "KrystalineX traces", &body)
}

fn form(body: &mut String, names: &BTreeMap<String, Vec<String>>, asked: &Asked) {
    let chosen = asked.service.as_deref().unwrap_or_default();
    body.push_str(
        "<form method=\"get\" action=\"/search\"><label>Service<select name=\"service\">",
    );
    for service in names.keys() {
        let selected = if service == chosen { " selected" } else { "" };
        let _ = write!(body, "<option{selected}>{}</option>", escape(service));
    }
    body.push_str(
        "</select></label><label>Operation<select name=\"operation\"><option>all</option>",
    );
    for operation in names.get(chosen).into_iter().flatten() {
        let selected = if asked.operation.as_ref() == Some(operation) { " selected" } else { "" };
        let _ = write!(body, "<option{selected}>{}</option>", escape(operation));
    }
    body.push_str("</select></label>");
    let fields = [
        ("Took at least", "minDuration", &asked.min_duration, "e.g. 100ms"),
        ("Took at most", "maxDuration", &asked.max_duration, "e.g. 2s"),
        ("Traces", "limit", &asked.limit, "20"),
    ];
    for (label, name, value, hint) in fields {
        let value = escape(value.as_deref().unwrap_or_default());
        let _ = write!(
            body,
            "<label>{label}<input name=\"{name}\" value=\"{value}\" placeholder=\"{hint}\" size=\"10\"></label>"
        );
    }
    body.push_str("<button>Search</button></form>");
}

fn list(body: &mut String, traces: &[Vec<Span>]) {
    body.push_str(
        "<div class=\"wide\"><table><thead><tr><th>Trace<th>Request<th class=\"aside\">Services\
         <th class=\"number aside\">Spans<th class=\"number\">Took</tr></thead><tbody>",
    );
    for spans in traces {
        let Some(first) = spans.first() else { continue };
        let root = spans.iter().find(|span| span.kind == trace::Kind::Server).unwrap_or(first);
        let services: std::collections::BTreeSet<&str> =
            spans.iter().map(|span| span.service.as_str()).collect();
        let id = format_trace_id(first.trace_id);
        let bad = if spans.iter().any(|span| span.failed) { " class=\"bad\"" } else { "" };
        let _ = write!(
            body,
            "<tr><td><a href=\"/trace/{id}\"><code>{}</code></a><td{bad} class=\"name\">{}<td class=\"aside\">{}\
             <td class=\"number aside\">{}<td class=\"number\">{}</tr>",
            id.get(..16).unwrap_or(&id),
            escape(&root.name),
            escape(&services.into_iter().collect::<Vec<_>>().join(", ")),
            spans.len(),
            took(root.micros)
        );
    }
    body.push_str("</tbody></table></div>");
}

/// Shows one trace, and why it took so long.
pub(crate) fn one(spans: &[Span], explanation: Option<&Explanation>) -> Response {
    let from = spans.iter().map(|span| span.begun).min().unwrap_or(0);
    let until = spans.iter().map(|span| span.begun + span.micros).max().unwrap_or(from);
    let whole = until.saturating_sub(from).max(1);
    let id = format_trace_id(spans.first().map_or(0, |span| span.trace_id));
    let mut body = format!(
        "<p>Trace <code>{id}</code> · {} spans · {}</p><div class=\"wide\"><table><thead><tr><th>Span\
         <th class=\"aside\">Service<th>{}<th class=\"number\">Took</tr></thead><tbody>",
        spans.len(),
        took(whole),
        "Time"
    );
    for (depth, span) in in_order(spans) {
        row(&mut body, span, depth, (from, whole));
    }
    body.push_str("</tbody></table></div>");
    if let Some(explanation) = explanation {
        explain(&mut body, explanation);
    }
    let _ = write!(body, "<p><a href=\"/api/traces/{id}\">As JSON</a></p>");
    page(StatusCode::OK, &format!("Trace {id}"), &body)
}

/// Says why a request took so long, and shows each stage beside what is usual.
fn explain(body: &mut String, explanation: &Explanation) {
    body.push_str("<h2>Why it took so long</h2>");
    for words in &explanation.words {
        let _ = write!(body, "<p>{}</p>", escape(words));
    }
    body.push_str(
        "<div class=\"wide\"><table><thead><tr><th>Stage<th class=\"number\">Took<th class=\"number\">Usually\
         <th class=\"number\">99 of 100 at most<th class=\"number\">Times</tr></thead><tbody>",
    );
    for stage in &explanation.stages {
        let bad = if stage.is_unusual { " class=\"bad\"" } else { "" };
        let usual = |of: fn(&trace::anomaly::Figures) -> u64| {
            stage.usual.as_ref().map_or_else(|| "–".to_owned(), |usual| took(of(usual)))
        };
        let times = stage.factor.map_or_else(|| "–".to_owned(), |factor| format!("{factor:.1}"));
        let _ = write!(
            body,
            "<tr><td{bad}>{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{}<td class=\"number\">{times}</tr>",
            stage.stage.name(),
            took(stage.observed),
            usual(|usual| usual.p50),
            usual(|usual| usual.p99),
        );
    }
    body.push_str("</tbody></table></div>");
}

fn row(body: &mut String, span: &Span, depth: usize, (from, whole): (u64, u64)) {
    let class = match span.service.as_str() {
        name @ ("kx-web" | "kx-gateway" | "kx-server" | "kx-payment-processor") => name,
        _ => "other",
    };
    // In thousandths of the whole; what is too short to be seen gets a sliver.
    let begun = span.begun.saturating_sub(from) * 1_000 / whole;
    let width = (span.micros * 1_000 / whole).clamp(3, 1_000);
    let begun = begun.min(1_000 - width);
    let details: Vec<String> = span
        .attributes
        .iter()
        .map(|(name, value)| match value {
            Value::Text(text) => format!("{name} = {text}"),
            Value::Integer(number) => format!("{name} = {number}"),
            Value::Bool(value) => format!("{name} = {value}"),
        })
        .collect();
    let bad = if span.failed { " bad" } else { "" };
    let _ = write!(
        body,
        "<tr><td class=\"name{bad}\" title=\"{}\"><span class=\"depth\">{}</span>{}<td class=\"aside\"><span class=\"{class}\">{}</span>\
         <td class=\"bar\"><svg viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\"><rect class=\"track\" width=\"1000\" height=\"16\"/>\
         <rect class=\"{class}\" x=\"{begun}\" y=\"2\" width=\"{width}\" height=\"12\"/></svg><td class=\"number\">{}</tr>",
        escape(&details.join("\n")),
        "· ".repeat(depth.min(12)),
        escape(&span.name),
        escape(&span.service),
        took(span.micros)
    );
}

/// Puts each span under its parent, in the order in which they began.
fn in_order(spans: &[Span]) -> Vec<(usize, &Span)> {
    let known: HashMap<u64, usize> =
        spans.iter().enumerate().map(|(place, span)| (span.span_id, place)).collect();
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (place, span) in spans.iter().enumerate() {
        let parent = known.get(&span.parent_id).copied().filter(|parent| *parent != place);
        children.entry(parent).or_default().push(place);
    }
    let mut ordered = Vec::with_capacity(spans.len());
    let mut waiting: Vec<(usize, usize)> = Vec::new();
    let add = |of: Option<usize>, depth: usize, waiting: &mut Vec<(usize, usize)>| {
        let mut below: Vec<usize> = children.get(&of).cloned().unwrap_or_default();
        below.sort_by_key(|place| spans.get(*place).map(|span| span.begun));
        // The last is taken first.
        waiting.extend(below.into_iter().rev().map(|place| (depth, place)));
    };
    add(None, 0, &mut waiting);
    while let Some((depth, place)) = waiting.pop() {
        if let Some(span) = spans.get(place) {
            ordered.push((depth, span));
        }
        add(Some(place), depth + 1, &mut waiting);
    }
    ordered
}

#[cfg(test)]
pub(crate) mod tests {
    use trace::Kind;

    use super::*;

    pub(crate) fn span(span_id: u64, parent_id: u64, begun: u64) -> Span {
        Span {
            trace_id: 1,
            span_id,
            parent_id,
            service: "<b>".to_owned(),
            name: "<script>".to_owned(),
            kind: Kind::Internal,
            begun,
            micros: 5,
            attributes: Vec::new(),
            follows: Vec::new(),
            failed: false,
        }
    }

    #[tokio::test]
    async fn a_page_is_inert_whatever_spans_are_called() {
        let explanation = Explanation {
            operation: "<i>".to_owned(),
            words: vec!["<script> took 5 µs.".to_owned()],
            whole: trace::anomaly::Whole { observed: 5, usual: None, factor: None },
            stages: Vec::new(),
            main: None,
            findings: None,
        };
        let response = one(&[span(1, 0, 10), span(2, 1, 11)], Some(&explanation));
        let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("&lt;script&gt; took 5 µs.") && !text.contains("<script>"), "{text}");
        assert!(!text.contains("<b>") && !text.contains("style=\""), "{text}");
    }

    #[test]
    fn spans_stand_under_their_parents_and_a_circle_ends() {
        let spans =
            [span(1, 0, 10), span(2, 1, 30), span(3, 1, 20), span(4, 3, 25), span(9, 77, 5)];
        let order: Vec<(usize, u64)> =
            in_order(&spans).into_iter().map(|(depth, span)| (depth, span.span_id)).collect();
        assert_eq!(order, [(0, 9), (0, 1), (1, 3), (2, 4), (1, 2)]);
        let at_once = [span(1, 0, 10), span(2, 1, 10), span(3, 1, 10)];
        let order: Vec<u64> = in_order(&at_once).iter().map(|(_, span)| span.span_id).collect();
        assert_eq!(order, [1, 2, 3], "those of one moment stay as they were");
        assert_eq!(in_order(&[span(5, 5, 1)]).len(), 1, "its own parent");
        assert!(in_order(&[span(6, 7, 1), span(7, 6, 1)]).is_empty(), "a circle has no beginning");
    }
}
