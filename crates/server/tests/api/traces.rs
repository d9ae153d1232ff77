//! Every order's trace: its stages in the answer, its spans for everybody who has its id.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use queue::{CommandPublisher, PublishOutcome};
use serde_json::{Value, json};

use crate::Case;
use crate::http::Reply;
use crate::world::{User, World, config, limit};

pub const CASES: &[Case] = &[
    ("an_orders_answer_has_its_stages", an_orders_answer_has_its_stages),
    (
        "a_repeat_a_refusal_and_a_202_have_the_stages_that_they_had",
        a_repeat_a_refusal_and_a_202_have_the_stages_that_they_had,
    ),
    ("a_trace_id_of_ours_begins_with_the_time", a_trace_id_of_ours_begins_with_the_time),
    ("a_callers_trace_goes_on", a_callers_trace_goes_on),
    ("a_read_is_traced_where_the_caller_samples", a_read_is_traced_where_the_caller_samples),
    ("a_trace_is_shown_whole_and_names_nobody", a_trace_is_shown_whole_and_names_nobody),
    ("what_is_no_trace_is_not_shown", what_is_no_trace_is_not_shown),
    ("the_stages_percentiles_are_public", the_stages_percentiles_are_public),
];

/// The stages of a command that was decided in time.
const STAGES: [&str; 8] =
    ["authenticate", "validate", "publish", "queue", "decide", "append", "broadcast", "answer"];

/// Reads the stages of an answer, in microseconds, in their order, and the whole.
fn stages(reply: &Reply) -> (Vec<(String, u64)>, u64) {
    let header = reply.header("server-timing").expect("an order's answer has its stages");
    let micros = |text: &str| -> u64 {
        let (millis, micros) = text.split_once('.').expect("three digits of a millisecond");
        assert_eq!(micros.len(), 3, "{header}");
        millis.parse::<u64>().expect("it is a number") * 1_000
            + micros.parse::<u64>().expect("it is")
    };
    let mut all: Vec<(String, u64)> = header
        .split(", ")
        .map(|entry| {
            let mut parts = entry.split(';');
            let name = parts.next().expect("it has a name").to_owned();
            let took = parts.next().and_then(|part| part.strip_prefix("dur="));
            (name, micros(took.expect("it has a duration")))
        })
        .collect();
    let (name, whole) = all.pop().expect("there is a last");
    assert_eq!(name, "total", "{header}");
    let sum: u64 = all.iter().map(|(_, micros)| micros).sum();
    assert_eq!(sum, whole, "the stages are the whole: {header}");
    (all, whole)
}

fn names(reply: &Reply) -> Vec<String> {
    stages(reply).0.into_iter().map(|(name, _)| name).collect()
}

fn trace_id(reply: &Reply) -> String {
    reply.header("x-trace-id").expect("every answer has one").to_owned()
}

fn path(trace_id: &str) -> String {
    format!("/api/v1/public/trace/{trace_id}")
}

/// Waits for a trace that is as it must be.
fn trace(world: &World, id: &str, ready: impl Fn(&[Value]) -> bool) -> Value {
    world.wait("the trace", || {
        let reply = world.get(&path(id));
        let trace = (reply.status == 200).then(|| reply.json())?;
        ready(trace["spans"].as_array().expect("it has spans")).then_some(trace)
    })
}

fn has(spans: &[Value], name: &str) -> bool {
    spans.iter().any(|span| span["name"] == name)
}

fn is_whole(spans: &[Value]) -> bool {
    ["append", "project orders", "project money", "project market_data"]
        .iter()
        .all(|name| has(spans, name))
}

/// Places an order whose row was told before it was read; hardly ever a second try.
fn told(world: &World, user: &User) -> (Reply, Duration) {
    world.wait("an order with all stages", || {
        let began = Instant::now();
        let reply = user.order(&limit("buy", "47000.00", "0.01"));
        let took = began.elapsed();
        reply.expect(201);
        (!names(&reply).iter().any(|name| name == "journal")).then_some((reply, took))
    })
}

fn an_orders_answer_has_its_stages(world: &World) {
    let user = world.funded("100000.00", "0");
    let (reply, took) = told(world, &user);
    let (all, whole) = stages(&reply);
    assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), STAGES);
    assert!(u128::from(whole) <= took.as_micros(), "{whole} of {took:?}");
    assert!(whole > 0);
    assert!(!reply.header("server-timing").expect("it has").contains("estimated"));
    let cancelled = user.delete("/api/v1/orders");
    cancelled.expect(200);
    stages(&cancelled);
    assert_eq!(user.get("/api/v1/orders").header("server-timing"), None, "a read has no stages");
    assert_eq!(world.get("/api/v1/markets").header("server-timing"), None);
}

/// A queue that keeps what it is given, or takes nothing.
#[derive(Default)]
struct Dead {
    messages: Mutex<Vec<Bytes>>,
    unroutable: bool,
}

#[async_trait]
impl CommandPublisher for Dead {
    async fn publish(&self, message: Bytes, _trace_id: u128) -> PublishOutcome {
        if self.unroutable {
            return PublishOutcome::Unroutable;
        }
        self.messages.lock().expect("nobody panics with it").push(message);
        PublishOutcome::Confirmed
    }

    fn ready(&self) -> bool {
        true
    }
}

fn a_repeat_a_refusal_and_a_202_have_the_stages_that_they_had(world: &World) {
    let user = world.funded("10000.00", "0");
    let send = |user: &User, key: &str, body: &Value| {
        user.send("POST", "/api/v1/orders", &[("idempotency-key", key)], Some(body))
    };
    let order = limit("buy", "47000.00", "0.01");
    send(&user, "stages", &order).expect(201);
    let repeat = send(&user, "stages", &order);
    repeat.expect(200);
    assert_eq!(names(&repeat), ["authenticate", "answer"], "nothing was sent");
    let other = send(&user, "stages", &limit("buy", "47001.00", "0.01"));
    assert!(other.status >= 400);
    assert_eq!(names(&other), ["authenticate", "answer"]);
    // Refused by the rules of reading, and by the sequencer: too much money.
    let refused = user.order(&json!({ "market": "BTC/USD" }));
    assert_eq!(refused.status, 422);
    assert_eq!(names(&refused), ["authenticate", "answer"]);
    let poor = user.order(&limit("buy", "47000.00", "100"));
    assert_eq!(poor.status, 422, "{}", poor.text());
    let all = names(&poor);
    assert!(all == STAGES || all.contains(&"journal".to_owned()), "{all:?}");
    let nobody = User { token: "none".to_owned(), ..user.clone() };
    assert_eq!(names(&nobody.order(&order)), ["authenticate", "answer"]);
    // Nobody decides it in time: where the time went after the queue took it is not known, and not made up.
    let mut quick = config();
    quick.outcome_timeout = Duration::from_millis(200);
    let through = |dead: Dead| {
        let (address, _) = world.serve_with(quick.clone(), Arc::new(dead), world.stop.clone());
        User { address, ..user.clone() }
    };
    let pending = through(Dead::default()).order(&order);
    pending.expect(202);
    let (all, whole) = stages(&pending);
    let journal = all.iter().find(|(name, _)| name == "journal").expect("it waited").1;
    assert!(journal * 2 > whole, "the wait is most of it: {all:?}");
    let expected = ["authenticate", "validate", "publish", "journal", "answer"];
    assert_eq!(names(&pending), expected);
    let unroutable = through(Dead { unroutable: true, ..Dead::default() }).order(&order);
    assert_eq!(unroutable.status, 503);
    assert_eq!(names(&unroutable), ["authenticate", "validate", "publish", "answer"]);
    // Kept as traces, too.
    trace(world, &trace_id(&pending), |spans| has(spans, "await outcome"));
    let failed = trace(world, &trace_id(&unroutable), |spans| has(spans, "publish"));
    assert_eq!(failed["spans"][0]["failed"], true, "{failed}");
    user.delete("/api/v1/orders").expect(200);
}

fn a_trace_id_of_ours_begins_with_the_time(world: &World) {
    let user = world.funded("10000.00", "0");
    let millis = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.expect("it is after 1970").as_millis()
    };
    let before = millis();
    // None, and what is no traceparent: each begins a trace of ours.
    let mut seen = Vec::new();
    for parent in [
        None,
        Some("nonsense"),
        Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        let headers: Vec<_> = parent.iter().map(|text| ("traceparent", *text)).collect();
        let body = limit("buy", "47000.00", "0.01");
        let reply = user.send("POST", "/api/v1/orders", &headers, Some(&body));
        reply.expect(201);
        let id = trace_id(&reply);
        let begun = u128::from_str_radix(&id[..12], 16).expect("it is hexadecimal");
        assert!(before <= begun && begun <= millis(), "{parent:?}: {id}");
        let shown = trace(world, &id, |spans| has(spans, "POST /api/v1/orders"));
        assert_eq!(shown["spans"][0]["parentSpanId"], Value::Null, "{shown}");
        assert!(!seen.contains(&id));
        seen.push(id);
    }
    user.delete("/api/v1/orders").expect(200);
}

fn a_callers_trace_goes_on(world: &World) {
    let user = world.funded("10000.00", "0");
    let body = limit("buy", "47000.00", "0.01");
    // The second is one that the caller does not keep: an order is traced all the same.
    for (id, flags) in
        [("4bf92f3577b34da6a3ce929d0e0e4701", "01"), ("4bf92f3577b34da6a3ce929d0e0e4700", "00")]
    {
        let parent = format!("00-{id}-00f067aa0ba902b7-{flags}");
        let headers = [("traceparent", parent.as_str())];
        let reply = user.send("POST", "/api/v1/orders", &headers, Some(&body));
        reply.expect(201);
        assert_eq!(trace_id(&reply), id);
        let shown = trace(world, id, is_whole);
        let spans = shown["spans"].as_array().expect("it has spans");
        let root = spans.iter().find(|span| span["name"] == "POST /api/v1/orders");
        assert_eq!(root.expect("it is there")["parentSpanId"], "00f067aa0ba902b7");
    }
    // Another request of the same trace joins it.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4701-00f067aa0ba90299-01";
    user.send("DELETE", "/api/v1/orders", &[("traceparent", parent)], None).expect(200);
    trace(world, "4bf92f3577b34da6a3ce929d0e0e4701", |spans| {
        has(spans, "POST /api/v1/orders") && has(spans, "DELETE /api/v1/orders")
    });
}

fn a_read_is_traced_where_the_caller_samples(world: &World) {
    let id = |number: u32| format!("5bf92f3577b34da6a3ce929d0e0e{number:04}");
    let read = |number: u32, flags: &str| {
        let parent = format!("00-{}-00f067aa0ba902b7-{flags}", id(number));
        let headers = [("traceparent", parent.as_str())];
        crate::http::send(world.address, "GET", "/api/v1/markets", &headers, None).expect(200);
    };
    read(1, "00");
    let untold = trace_id(&world.get("/api/v1/markets"));
    read(2, "01");
    // What was asked for last is there: so would be what was asked for before.
    let shown = trace(world, &id(2), |spans| has(spans, "GET /api/v1/markets"));
    let names: Vec<_> =
        shown["spans"].as_array().expect("spans").iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["GET /api/v1/markets", "authenticate", "answer"]);
    assert_eq!(world.get(&path(&id(1))).problem(404), "not_found");
    assert_eq!(world.get(&path(&untold)).problem(404), "not_found");
}

fn a_trace_is_shown_whole_and_names_nobody(world: &World) {
    let user = world.funded("10000.00", "0");
    let key = "a-key-that-nobody-else-has";
    // Read from the answer, and not sent in: numbers that nothing else in a trace has.
    let body = limit("buy", "47123.45", "0.01234567");
    let headers = [("idempotency-key", key), ("user-agent", "a-browser-of-somebody")];
    let reply = user.send("POST", "/api/v1/orders", &headers, Some(&body));
    let order = reply.expect(201);
    let shown = trace(world, &trace_id(&reply), is_whole);
    let spans = shown["spans"].as_array().expect("it has spans");
    assert!(spans.len() >= 13, "{shown}");
    let ids: Vec<&Value> = spans.iter().map(|span| &span["spanId"]).collect();
    let mut roots = 0;
    for span in spans {
        match &span["parentSpanId"] {
            Value::Null => roots += 1,
            parent => assert!(ids.contains(&parent), "{span}"),
        }
        let (at, took) = (span["offsetMicros"].as_u64(), span["durationMicros"].as_u64());
        let end = at.expect("a number") + took.expect("a number");
        assert!(end <= shown["durationMicros"].as_u64().expect("a number"), "{span}");
    }
    assert_eq!(roots, 1, "{shown}");
    for service in ["kx-server", "kx-payment-processor"] {
        assert!(spans.iter().any(|span| span["service"] == service), "{shown}");
    }
    let text = shown.to_string();
    let id = order["id"].as_str().expect("an order has an id");
    for private in [
        user.email.as_str(),
        &user.email[..user.email.find('@').unwrap_or(0)],
        &user.wallet,
        &user.token,
        id,
        &id.replace('-', ""),
        key,
        "47123",
        "1234567",
        "a-browser-of-somebody",
        "127.0.0.1",
    ] {
        assert!(!private.is_empty() && !text.contains(private), "{private} is in {text}");
    }
    // An account's number is too short to look for in a text; it has no attribute that it could be in.
    let attributes = spans.iter().filter_map(|span| span["attributes"].as_object()).flatten();
    for (name, _) in attributes {
        assert!(is_plain(name), "{name} is not among what may be shown");
    }
    user.delete("/api/v1/orders").expect(200);
}

/// What a span of ours may say.
fn is_plain(attribute: &str) -> bool {
    [
        "db.collection.name",
        "db.operation.name",
        "db.system.name",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "kx.action",
        "kx.estimated",
        "kx.journal.sequence",
        "kx.market",
        "kx.waited_us",
        "messaging.destination.name",
        "messaging.operation.type",
        "messaging.system",
    ]
    .contains(&attribute)
}

fn what_is_no_trace_is_not_shown(world: &World) {
    let unknown = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(world.get(&path(unknown)).problem(404), "not_found");
    for nonsense in [
        "1",
        "nonsense",
        "00000000000000000000000000000000",
        "0af7651916cd43dd8448eb211c80319cc",
        "0af7651916cd43dd8448eb211c80319g",
        "+af7651916cd43dd8448eb211c80319c",
        "%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8%F0%9F%92%B8",
    ] {
        let reply = world.get(&path(nonsense));
        assert_eq!(reply.status, 422, "{nonsense}: {}", reply.text());
    }
}

fn the_stages_percentiles_are_public(world: &World) {
    let user = world.funded("10000.00", "0");
    told(world, &user);
    let stages = world.wait("the market's stages", || {
        let all = world.get("/api/v1/public/latency").expect(200);
        let markets = all["markets"].as_array().expect("a list").clone();
        let market = markets.into_iter().find(|market| market["market"] == "BTC/USD")?;
        let stages = market["stages"].as_array().expect("a list").clone();
        let has_all = STAGES.iter().all(|name| stages.iter().any(|stage| stage["stage"] == *name));
        has_all.then_some(stages)
    });
    assert_eq!(stages.last().expect("there are some")["stage"], "total");
    for stage in &stages {
        let number = |name: &str| stage[name].as_u64().unwrap_or_else(|| panic!("{stage}"));
        assert!(number("count") > 0, "{stage}");
        assert!(number("p50Micros") <= number("p95Micros"), "{stage}");
        assert!(number("p95Micros") <= number("p99Micros"), "{stage}");
    }
    user.delete("/api/v1/orders").expect(200);
}
