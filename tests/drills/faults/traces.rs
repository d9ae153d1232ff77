//! Traces: one order's way through all processes, every order's under load, and a delay in its own stage.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Http, wait_for};
use serde_json::{Value, json};

use crate::drill::Run;
use crate::hole::Hole;
use crate::journal::Told;
use crate::process::{PATIENCE, Process};
use crate::traces::{self, Span, server_timing, spans, stored};
use crate::user::Client;

/// The longest piece of time that may be without a span, in microseconds.
const GAP_MAX: u64 = 1_000;
/// How far two processes' clocks may show differently, in microseconds: each places its spans by its own.
const CLOCKS: u64 = 1_000;
fn order() -> Value {
    json!({"market": "BTC/USD", "side": "buy", "orderType": "limit", "price": "64000.00", "quantity": "0.01"})
}

fn nanos() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}

pub(super) fn trace(run: &mut Run<'_>) {
    run.stand.cancel_all();
    for _ in 0..run.or_long(3, 50) {
        one(run);
    }
    for _ in 0..run.or_long(1, 5) {
        decided_later(run);
    }
    run.check();
}

/// An order that is answered 202, for nobody decides, has its whole trace once it is decided.
fn decided_later(run: &mut Run<'_>) {
    let user = run.stand.own_users[0].clone();
    let mut client = run.stand.client(&user);
    client.send("GET", "/api/v1/orders", &[], None).expect("it answers");
    run.stand.processors.iter_mut().for_each(Process::pause);
    run.faults += 1;
    let id = format!("{:032x}", u128::from(run.random.next()).max(1) << 64 | 1);
    let headers = [("traceparent", format!("00-{id}-00f067aa0ba902b7-01"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = client.send("POST", "/api/v1/orders", &headers, Some(&order()));
    run.stand.processors.iter_mut().for_each(Process::resume);
    assert_eq!(answer.expect("it answers").status, 202, "nobody has decided it");
    let mut http = run.stand.servers[client.server()].http();
    let found = whole_trace(&mut http, &id, "answer");
    let named = |name: &str| found.iter().find(|span| span.name == name).expect(name);
    assert!(named("process").from + CLOCKS >= named("answer").until, "{found:#?}");
    run.note(format!("{} spans of an order that was answered 202", found.len()));
}

/// Waits until the public trace has all that its order leads to, and this span too.
fn whole_trace(http: &mut Http, id: &str, also: &str) -> Vec<Span> {
    let wanted = [also, "append", "project orders", "project money", "project market_data"];
    wait_for("the whole trace", PATIENCE, || {
        // Whoever asks without a pause is sent away (429).
        std::thread::sleep(Duration::from_millis(500));
        let answer = http.get(&format!("/api/v1/public/trace/{id}")).ok()?;
        let spans = if answer.status == 200 { spans(&answer.json()) } else { Vec::new() };
        let has = |name: &str| spans.iter().any(|span| span.name == name);
        wanted.into_iter().all(has).then_some(spans)
    })
}

/// Sends one order as a page would, and follows it through every process.
fn one(run: &mut Run<'_>) {
    let user = run.stand.own_users[0].clone();
    let mut client = run.stand.client(&user);
    let (high, low) = (u128::from(run.random.next()), u128::from(run.random.next()));
    let id = format!("{:032x}", (high << 64 | low).max(1));
    let web = format!("{:016x}", run.random.next().max(1));
    let parent = format!("00-{id}-{web}-01");
    let mut begun = nanos();
    let answer = wait_for("an order", PATIENCE, || {
        begun = nanos();
        let headers = [("traceparent", parent.as_str())];
        let answer = client.send("POST", "/api/v1/orders", &headers, Some(&order()));
        answer.ok().filter(|answer| answer.status == 201)
    });
    let ended = nanos();
    let timing = server_timing(&answer).expect("an order's answer has its stages");
    let sum: u64 = timing.iter().filter(|(name, _)| *name != "total").map(|(_, took)| took).sum();
    assert!(sum.abs_diff(timing["total"]) <= 8, "rounded, the stages are the whole: {timing:?}");
    let server = &run.stand.servers[client.server()];
    let (mut http, jaeger) = (server.http(), server.jaeger_port);
    let export = json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "kx-web" } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": id, "spanId": web, "name": "submit order", "kind": 3,
            "startTimeUnixNano": begun, "endTimeUnixNano": ended }] }] }] });
    let mut collector = at(server.otlp_port);
    collector.post("/v1/traces", &export).expect("it answers").expect(200);
    let found = whole_trace(&mut http, &id, "submit order");
    is_one_tree(&found, &web);
    nothing_is_unexplained(run, &found);
    // The same spans by Jaeger's API: by the trace's id, and by a search for what the page has sent.
    let ids: HashSet<String> = found.iter().map(|span| span.id.clone()).collect();
    for path in [format!("/api/traces/{id}"), "/api/traces?service=kx-web&limit=1".to_owned()] {
        let answer = at(jaeger).get(&path).expect("it answers").expect(200);
        let shown = answer["data"][0]["spans"].as_array().expect("it has spans").clone();
        let shown: HashSet<String> =
            shown.iter().filter_map(|span| span["spanID"].as_str().map(str::to_owned)).collect();
        assert_eq!(shown, ids, "{path}");
    }
    let services = at(jaeger).get("/api/services").expect("it answers").expect(200);
    for service in ["kx-payment-processor", "kx-server", "kx-web"] {
        let all = services["data"].as_array().expect("a list");
        assert!(all.iter().any(|name| name == service), "{services}");
    }
    let count = found.len();
    run.note(format!("{count} spans of 3 services; server {:.1} ms", millis(timing["total"])));
}

fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1_000.0
}

fn at(port: u16) -> Http {
    Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Checks that every span's parent is there, and that what belongs into its parent is within it.
fn is_one_tree(spans: &[Span], web: &str) {
    let services: HashSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, HashSet::from(["kx-payment-processor", "kx-server", "kx-web"]));
    assert!(spans.len() >= 12, "{} spans", spans.len());
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "every span has an id of its own");
    for span in spans {
        let Some(parent) = &span.parent else {
            assert_eq!(span.id, web, "{} is part of nothing", span.name);
            continue;
        };
        let parent = by_id.get(parent.as_str());
        let parent = parent.unwrap_or_else(|| panic!("the parent of {span:?} is not there"));
        assert!(span.from + CLOCKS >= parent.from, "{span:?} begins before {parent:?}");
        // What is handed on ends when it ends.
        let goes_on = matches!(parent.kind.as_str(), "producer" | "consumer");
        assert!(goes_on || span.until <= parent.until + CLOCKS, "{span:?} ends after {parent:?}");
    }
    let root = spans.iter().find(|span| span.parent.as_deref() == Some(web));
    assert_eq!(root.map(|span| span.name.as_str()), Some("POST /api/v1/orders"));
}

/// Checks that at every moment between request and answer some span says what was done.
fn nothing_is_unexplained(run: &mut Run<'_>, spans: &[Span]) {
    let named = |name: &str| {
        let span = spans.iter().find(|span| span.name == name);
        span.unwrap_or_else(|| panic!("there is no {name}"))
    };
    let root = named("POST /api/v1/orders");
    // Waiting explains nothing: what was waited for does.
    let explains = |span: &&Span| {
        !matches!(span.name.as_str(), "submit order" | "POST /api/v1/orders" | "await outcome")
    };
    let gap = traces::longest_gap(root, spans.iter().filter(explains));
    assert!(gap <= GAP_MAX, "{gap} µs of the order's time are without a span: {spans:#?}");
    let web = named("submit order");
    let around = (web.until - web.from).saturating_sub(root.until - root.from);
    run.note(format!("longest gap {gap} µs; outside of the server {:.1} ms", millis(around)));
}

/// Starts every process again, with a collector or without.
fn with_collector(run: &mut Run<'_>, collector: Option<&Hole>) {
    let url = collector.map(|hole| format!("http://127.0.0.1:{}", hole.port));
    for process in run.stand.servers.iter_mut().chain(&mut run.stand.processors) {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_deref()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", url.as_ref().map(|_| "http/protobuf")),
        ] {
            match value {
                Some(value) => process.set(name, value),
                None => process.unset(name),
            }
        }
        process.terminate();
        process.spawn();
    }
    run.stand.wait_ready();
}

fn sum(processes: &[Process], name: &str, parts: &[&str]) -> f64 {
    processes.iter().filter_map(|process| process.metric(name, parts)).sum::<f64>() + 0.0
}

pub(super) fn traces(run: &mut Run<'_>) {
    const STEP: usize = 1_000;
    let hole = Hole::start();
    with_collector(run, Some(&hole));
    let psql = run.stand.psql();
    let since = psql.value("SELECT clock_timestamp()");
    let first = run.stand.known.orders.len();
    let defects = run.stand.known.defects.len();
    let began = Instant::now();
    let load = run.load();
    let wanted = run.or_long(3_000, 100_000_usize);
    for _ in 0..wanted.div_ceil(STEP) {
        run.wait_orders(&load, STEP);
    }
    let latencies = load.journal.latencies_since(began);
    run.end(load);
    run.faults += 1;
    assert_eq!(run.stand.known.defects.len(), defects, "{:?}", run.stand.known.defects);
    let orders: Vec<u128> = run.stand.known.orders[first..]
        .iter()
        .filter_map(|order| match &order.told {
            Told::Accepted { id, .. } => u128::from_str_radix(&id.replace('-', ""), 16).ok(),
            _ => None,
        })
        .collect();
    assert!(orders.len() >= wanted, "{} of {wanted} orders were accepted", orders.len());
    let mut complete = HashMap::new();
    let mut left = Vec::new();
    // What was noted last is written within a second.
    for _ in 0..30 {
        let found = stored(&psql, &since);
        left = orders.iter().filter(|id| !found.complete.contains_key(id)).copied().collect();
        left.sort_unstable();
        let what = |id: &u128| found.wanting.get(id).map_or("nothing is there", String::as_str);
        let some = left.iter().take(5).map(|id| format!("{id:032x}: {}", what(id)));
        let some: Vec<String> = some.collect();
        complete = found.complete;
        if left.is_empty() {
            break;
        }
        println!("    {} traces are not complete yet: {some:?}", left.len());
        std::thread::sleep(Duration::from_secs(1));
    }
    let total = orders.len();
    run.note(format!("{} of {total} orders have their complete trace", total - left.len()));
    assert!(left.is_empty(), "{} of {total} orders have no complete trace", left.len());
    sample(run, &orders, &complete);
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    run.note(format!(
        "orders took {median:.0} ms in the middle, with a collector that never answers"
    ));
    report(run);
    with_collector(run, None);
    run.check();
}

/// Asks for some of the traces as anybody would.
fn sample(run: &mut Run<'_>, orders: &[u128], complete: &HashMap<u128, u128>) {
    const SAMPLE: usize = 200;
    for place in 0..SAMPLE {
        let order = orders[usize::try_from(run.random.below(orders.len() as u64)).unwrap_or(0)];
        let trace_id = complete[&order];
        let server = &run.stand.servers[place % run.stand.servers.len()];
        let mut http = server.http();
        // As many people as there are: one alone is limited.
        let from = format!("10.9.{}.{}", place / 250, place % 250 + 1);
        let path = format!("/api/v1/public/trace/{trace_id:032x}");
        let answer = http.send("GET", &path, &[("x-forwarded-for", &from)], None);
        let found = spans(&answer.expect("it answers").expect(200));
        let has = |name: &str| found.iter().any(|span| span.name == name);
        assert!(found.len() >= 12 && has("append") && has("answer"), "{path}: {found:#?}");
    }
    run.note(format!("{SAMPLE} of them were read by the public API"));
}

/// Notes what the processes have counted of their traces.
fn report(run: &mut Run<'_>) {
    let stages = "kx_stage_duration_seconds_count";
    let count = |run: &Run<'_>, stage: &str| {
        sum(&run.stand.servers, stages, &[&format!("stage=\"{stage}\"")])
    };
    let (journal, append) = (count(run, "journal"), count(run, "append"));
    run.note(format!(
        "answers whose row was read before it was told: {journal} of {}",
        journal + append
    ));
    let lost = wait_for("what was not exported to be counted", PATIENCE, || {
        let of = |processes: &[Process]| {
            sum(processes, "kx_traces_dropped_total", &["export"])
                + sum(processes, "kx_trace_export_failures_total", &[])
        };
        let lost = of(&run.stand.servers) + of(&run.stand.processors);
        (lost > 0.0).then_some(lost)
    });
    run.note(format!("{lost} exports and traces were given up and counted"));
    let kept = sum(&run.stand.servers, "kx_traces_dropped_total", &["store"])
        + sum(&run.stand.servers, "kx_traces_dropped_total", &["no_room"]);
    assert!(kept < 0.5, "{kept} traces were not kept");
}

/// How long each stage has taken in the middle of some orders, in microseconds.
type Medians = BTreeMap<String, u64>;

fn measured(client: &mut Client, orders: usize) -> Medians {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut seen = 0;
    while seen < orders {
        let timing = wait_for("an order", PATIENCE, || ask(client));
        if timing.contains_key("append") {
            timing.into_iter().for_each(|(stage, took)| all.entry(stage).or_default().push(took));
            seen += 1;
        }
    }
    let median = |(stage, mut took): (String, Vec<u64>)| {
        took.sort_unstable();
        (stage, took[took.len() / 2])
    };
    all.into_iter().map(median).collect()
}

/// Places an order; returns its stages where it was decided in time.
fn ask(client: &mut Client) -> Option<Medians> {
    let answer = client.send("POST", "/api/v1/orders", &[], Some(&order())).ok()?;
    (answer.status == 201).then(|| server_timing(&answer)).flatten()
}

/// Checks that a delay shows in one of some stages and in no other.
fn shows(
    run: &mut Run<'_>,
    what: &str,
    by: Duration,
    before: &Medians,
    after: &Medians,
    own: &[&str],
) {
    let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
    let rise = |stage: &String| {
        let was = before.get(stage).copied().unwrap_or_default();
        after[stage].saturating_sub(was)
    };
    let rises: Vec<String> =
        after.keys().map(|stage| format!("{stage} +{:.1}", millis(rise(stage)))).collect();
    run.note(format!("{what}, {:.0} ms: {} ms", millis(by), rises.join(", ")));
    let stages = after.keys().filter(|stage| *stage != "total");
    let (mine, others): (Vec<_>, Vec<_>) = stages.partition(|stage| own.contains(&stage.as_str()));
    let most = mine.into_iter().map(rise).max().unwrap_or_default();
    assert!(most >= by * 8 / 10, "{what}: {own:?} have risen by {most} of {by} µs");
    for stage in others {
        assert!(rise(stage) < by / 2, "{what} shows in {stage}: {} µs", rise(stage));
    }
}

pub(super) fn stages(run: &mut Run<'_>) {
    const ORDERS: usize = 15;
    const DELAY: Duration = Duration::from_millis(400);
    run.stand.cancel_all();
    let user = run.stand.own_users[0].clone();
    let mut client = run.stand.client(&user);
    measured(&mut client, 3);
    let before = measured(&mut client, ORDERS);
    let active = run.stand.wait_active();

    run.stand.processors[active].database.delay(DELAY);
    let after = measured(&mut client, ORDERS);
    run.stand.processors[active].database.delay(Duration::ZERO);
    shows(run, "a slow database of the payment-processor", DELAY, &before, &after, &["append"]);

    // The server's way to the broker: its command is under way until the payment-processor has it.
    let server = client.server();
    run.stand.servers[server].broker.delay(DELAY);
    let after = measured(&mut client, ORDERS);
    run.stand.servers[server].broker.delay(Duration::ZERO);
    shows(run, "a server's slow way to the broker", DELAY, &before, &after, &["publish"]);

    let mut best: Option<Medians> = None;
    for _ in 0..3 {
        let active = run.stand.wait_active();
        let processor = &mut run.stand.processors[active];
        processor.pause();
        let timing = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&mut client));
            // The order is sent soon within it; the rest of the pause it waits.
            std::thread::sleep(2 * DELAY);
            processor.resume();
            asking.join().expect("no client panics")
        });
        let queued = |timing: &Medians| timing.get("queue").copied().unwrap_or_default();
        if let Some(timing) = timing.filter(|timing| timing.contains_key("append")) {
            best = Some(match best {
                Some(best) if queued(&best) >= queued(&timing) => best,
                _ => timing,
            });
        }
    }
    let after = best.expect("an order was decided after a pause");
    shows(run, "a paused payment-processor", DELAY, &before, &after, &["queue"]);
    run.faults += 5;
    run.stand.cancel_all();
    run.check();
}
