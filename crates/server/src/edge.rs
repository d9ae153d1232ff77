//! The edge that every request passes: trace id, caller, limits, timeout, and the answer's headers.
//!
//! Invariant: no answer leaves without a trace id, and no failure leaves as anything but a problem: a handler's panic
//! is answered 500 and logged, never a cut connection.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use trace::{Micros, Origin};
use units::Sequence;

use crate::access;
use crate::app::App;
use crate::keys::{self, KeyPrincipal};
use crate::limits::Left;
use crate::problem::{Code, Problem};
use crate::rates;
use crate::token::{BadToken, Principal};
use crate::way::{self, Way};

/// How long a read waits for the sequence that it asks for.
const SEQUENCE_WAIT: Duration = Duration::from_secs(1);
/// A server that is this far behind marks what it answers, and takes no orders.
pub(crate) const BEHIND_MAX: Duration = Duration::from_secs(2);

const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const SEQUENCE: HeaderName = HeaderName::from_static("x-sequence");
const MIN_SEQUENCE: HeaderName = HeaderName::from_static("x-min-sequence");
const STALE: HeaderName = HeaderName::from_static("x-stale");
const AS_OF: HeaderName = HeaderName::from_static("x-as-of");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What the edge has found out about a request.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The W3C trace id that it is part of.
    pub trace_id: u128,
    /// The caller's span, where it has named one.
    pub parent: Option<Parent>,
    /// Where it comes from, proxies that are trusted aside.
    pub address: IpAddr,
    /// Who asks.
    pub caller: Auth,
    /// The journal row that a read must have seen, if it says so.
    pub min_sequence: Option<Sequence>,
}

/// A caller's span, of a trace that is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The span.
    pub span_id: u64,
    /// Whether the caller keeps the trace.
    pub sampled: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nobody has said who.
    Anonymous,
    /// A user with a valid token.
    User(Principal),
    /// A user's program, with a key; what it may do is in [`crate::access`].
    Key(KeyPrincipal),
    /// A token that is not taken.
    Refused(BadToken),
}

impl FromRequestParts<App> for Context {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get().copied().ok_or_else(|| Problem::new(Code::Defect))
    }
}

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Context::from_request_parts(parts, app).await?.caller {
            Auth::User(principal) | Auth::Key(KeyPrincipal { principal, .. }) => Ok(principal),
            caller => Err(access::nobody(caller)),
        }
    }
}

/// Passes one request through.
pub(crate) async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (begun, started) = (Instant::now(), Micros::now());
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let mut context = context(&app, &request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = is_preflight(&app, &method, origin.as_ref());
    let mut refused = None;
    if keys::is_signed(request.headers()) && !is_preflight {
        match keys::authenticate(&app, context.address, request).await {
            Ok((key, signed)) => {
                context.caller = Auth::Key(key);
                request = signed;
            }
            Err(problem) => {
                refused = Some(problem);
                request = Request::default();
            }
        }
    }
    // Who has failed to prove a key is nobody, and counts as such.
    let left = rates::take(&app, &context, &method, route);
    let work = async {
        match (left, refused) {
            _ if is_preflight => StatusCode::NO_CONTENT.into_response(),
            (Some(left), _) if !left.allowed => {
                Problem::new(Code::TooManyRequests).retry_after(left.reset_seconds).into_response()
            }
            (_, Some(problem)) => problem.into_response(),
            _ => admit(&app, &mut context, &method, route, request, next).await,
        }
    };
    let (answer, way) = way::noting(started, work).await;
    let mut response = finish(&app, answer, &context, left, origin.as_ref());
    if method == Method::OPTIONS && response.status() == StatusCode::NO_CONTENT {
        preflight(response.headers_mut());
    }
    if app.live.behind() > BEHIND_MAX && route.starts_with("/api/v1") {
        mark_stale(&app, response.headers_mut());
    }
    let status = response.status();
    let is_traced = is_traced(&context, &method, route, status);
    // What is only read costs no more than this.
    if is_traced || way.sent.is_some() {
        let request = answered(&context, started, &method, route, status, way);
        if request.sent.is_some() || is_order(&method, route) {
            way::server_timing(response.headers_mut(), &trace::stages(&request));
        }
        if is_traced {
            app.recorder.request(request);
        }
    }
    telemetry::http_request(method.as_str(), route, status.as_u16(), begun.elapsed());
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        app.audit.refused(context.address, route, status.as_u16(), context.trace_id);
    }
    if status.is_server_error() {
        let trace_id = wire::id::format_trace(context.trace_id);
        tracing::warn!(%method, route, status = status.as_u16(), trace_id, "request failed");
    }
    response
}

/// Tells whether somebody places or changes an order: a repeat and a refusal, which send no command, have stages too.
fn is_order(method: &Method, route: &str) -> bool {
    *method != Method::GET && route.starts_with("/api/v1/orders")
}

/// Tells whether a request is kept as a trace: every change, every failure of ours, and what a caller asks for.
fn is_traced(context: &Context, method: &Method, route: &str, status: StatusCode) -> bool {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let ours = route.starts_with("/api/");
    ours && (changes || context.parent.is_some_and(|parent| parent.sampled))
        || status.is_server_error()
}

/// Puts together what a request's trace is made of.
fn answered(
    context: &Context,
    begun: Micros,
    method: &Method,
    route: &str,
    status: StatusCode,
    way: Way,
) -> trace::Request {
    let ended = Micros::now().since(begun);
    trace::Request {
        trace_id: context.trace_id,
        span_id: trace::new_span_id(),
        parent_id: context.parent.map_or(0, |parent| parent.span_id),
        is_foreign: context.parent.is_some(),
        origin: Origin::now(),
        begun,
        method: method_name(method),
        route: route.into(),
        status: status.as_u16(),
        authenticated: way.authenticated.unwrap_or(ended),
        ended,
        sent: way.sent,
        timing: way.timing,
    }
}

fn method_name(method: &Method) -> Cow<'static, str> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let names = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let place = known.iter().position(|known| known == method);
    place
        .and_then(|place| names.get(place))
        .map_or(Cow::Borrowed("other"), |name| Cow::Borrowed(*name))
}

/// Runs a request that is within its limits, if its caller may send it.
async fn admit(
    app: &App,
    context: &mut Context,
    method: &Method,
    route: &str,
    mut request: Request,
    next: Next,
) -> Response {
    match access::check(app, context, method, route).await {
        Err(problem) => return problem.into_response(),
        Ok(Some(staff)) => _ = request.extensions_mut().insert(staff),
        Ok(None) => {}
    }
    match min_sequence(app, method, request.headers()).await {
        Err(problem) => problem.into_response(),
        Ok(min_sequence) => {
            context.min_sequence = min_sequence;
            way::authenticated();
            request.extensions_mut().insert(*context);
            run(app, request, next).await
        }
    }
}

/// Runs the handler within its time, panics caught.
async fn run(app: &App, request: Request, next: Next) -> Response {
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(app.config.request_timeout, handler).await {
        Ok(Ok(response)) => response,
        // The panic hook has logged where and why.
        Ok(Err(_)) => Problem::new(Code::Defect).into_response(),
        Err(_) => Problem::new(Code::Timeout).into_response(),
    }
}

fn context(app: &App, request: &Request) -> Context {
    let headers = request.headers();
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
    let address = if app.config.trusted_proxies.contains(&peer) {
        forwarded_for(headers, &app.config.trusted_proxies).unwrap_or(peer)
    } else {
        peer
    };
    let (trace_id, parent) = match traceparent(headers) {
        Some((trace_id, parent)) => (trace_id, Some(parent)),
        None => (trace::new_trace_id(), None),
    };
    Context { trace_id, parent, address, caller: authenticate(app, headers), min_sequence: None }
}

/// Finds out whose access token a request has, if it has one. Costs no SQL.
#[must_use]
pub fn authenticate(app: &App, headers: &HeaderMap) -> Auth {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Auth::Anonymous;
    };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if values.next().is_none() => app.authenticate(token),
        _ => Auth::Refused(BadToken::Invalid),
    }
}

/// Returns the last address that no trusted proxy has: what comes before it may be made up.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let mut hops = Vec::new();
    for value in headers.get_all("x-forwarded-for") {
        hops.extend(value.to_str().ok()?.split(',').map(str::trim));
    }
    let addresses = hops.iter().rev().map_while(|hop| hop.parse::<IpAddr>().ok());
    addresses.map(|hop| hop.to_canonical()).find(|hop| !trusted.contains(hop))
}

/// Reads a `traceparent`, if it is a valid one.
fn traceparent(headers: &HeaderMap) -> Option<(u128, Parent)> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let hex = |part: &str, len: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.len() == len && part.bytes().all(digit)
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !known || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) || span == "0000000000000000" {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some((trace, Parent { span_id: u64::from_str_radix(span, 16).ok()?, sampled }))
}

/// Waits for the row that a read must have seen.
async fn min_sequence(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Sequence>, Problem> {
    let Some(value) = headers.get(&MIN_SEQUENCE).filter(|_| *method == Method::GET) else {
        return Ok(None);
    };
    let sequence = value.to_str().ok().and_then(|text| parse_sequence(app, text)).transpose()?;
    let Some(sequence) = sequence else {
        let detail = "X-Min-Sequence must be an X-Sequence of an earlier answer.";
        return Err(Problem::new(Code::HeaderMalformed).detail(detail));
    };
    if app.live.sequence() >= sequence || app.live.wait_for(sequence, SEQUENCE_WAIT).await {
        Ok(Some(sequence))
    } else {
        Err(Problem::new(Code::Behind))
    }
}

/// Reads `incarnation.sequence`, or a sequence alone.
fn parse_sequence(app: &App, text: &str) -> Option<Result<Sequence, Problem>> {
    let sequence = match text.split_once('.') {
        None => text,
        Some((incarnation, sequence)) => {
            if u64::from_str_radix(incarnation, 16).ok()? != app.live.incarnation() {
                return Some(Err(Problem::new(Code::OtherJournal)));
            }
            sequence
        }
    };
    let plain = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| sequence.parse().ok()).flatten().map(|number| Ok(Sequence::new(number)))
}

/// Says which journal row an answer shows.
pub(crate) fn with_sequence(app: &App, sequence: Sequence, mut response: Response) -> Response {
    let text = format!("{:x}.{sequence}", app.live.incarnation());
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(SEQUENCE, value);
    }
    response
}

fn mark_stale(app: &App, headers: &mut HeaderMap) {
    let as_of = app.live.read(engine::State::time);
    headers.insert(STALE, HeaderValue::from_static("true"));
    if let Ok(value) = HeaderValue::try_from(wire::time::format(as_of)) {
        headers.insert(AS_OF, value);
    }
}

/// Writes a refusal's body and the headers that every answer has.
fn finish(
    app: &App,
    mut response: Response,
    context: &Context,
    left: Option<Left>,
    origin: Option<&HeaderValue>,
) -> Response {
    let trace_id = wire::id::format_trace(context.trace_id);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = write(response, problem, &trace_id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(trace_id) {
        headers.insert(TRACE_ID, value);
    }
    if let Some(left) = left {
        headers.insert(LIMIT, HeaderValue::from(left.count));
        headers.insert(REMAINING, HeaderValue::from(left.remaining));
        headers.insert(RESET, HeaderValue::from(left.reset_seconds));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if app.config.tls {
        let value = HeaderValue::from_static("max-age=63072000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    if let Some(origin) = origin.filter(|origin| allows(app, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        let exposed = "server-timing, x-trace-id, x-sequence, retry-after, location, ratelimit-limit, ratelimit-remaining, ratelimit-reset";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    response
}

/// Tells whether a page of this origin may read answers. Closed unless configured, and never with cookies.
fn allows(app: &App, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    app.config.cors_origins.iter().any(|allowed| allowed == origin)
}

/// Tells whether a browser asks if a page of an allowed origin may send a request.
fn is_preflight(app: &App, method: &Method, origin: Option<&HeaderValue>) -> bool {
    *method == Method::OPTIONS && origin.is_some_and(|origin| allows(app, origin))
}

fn preflight(headers: &mut HeaderMap) {
    let pairs = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key, x-kx-key, x-kx-signature, x-kx-timestamp, x-min-sequence, traceparent",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn write(response: Response, problem: Problem, trace_id: &str) -> Response {
    let status = problem.code().status();
    let retry_after = problem.retry_after_seconds();
    let body = serde_json::to_vec(&problem.body(trace_id)).unwrap_or_default();
    let (mut parts, _) = response.into_parts();
    let headers = &mut parts.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.remove(header::CONTENT_LENGTH);
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_a_valid_traceparent_is_taken() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id = |text: &str| traceparent(&headers("traceparent", text)).map(|(id, _)| id);
        let expected = u128::from_str_radix(trace, 16).ok();
        assert_eq!(id(&format!("00-{trace}-00f067aa0ba902b7-01")), expected);
        assert_eq!(id(&format!("cc-{trace}-00f067aa0ba902b7-01-more")), expected);
        for text in [
            "",
            "00",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            &format!("00-+{}-00f067aa0ba902b7-01", &trace[1..]),
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn forwarded_addresses_are_read_from_the_trusted_end() {
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let of = |text: &str| forwarded_for(&headers("x-forwarded-for", text), &trusted);
        assert_eq!(of("198.51.100.7"), "198.51.100.7".parse().ok());
        assert_eq!(of("1.2.3.4, 198.51.100.7, 10.0.0.2"), "198.51.100.7".parse().ok());
        assert_eq!(of("nonsense"), None);
        assert_eq!(of("10.0.0.2"), None);
    }
}
