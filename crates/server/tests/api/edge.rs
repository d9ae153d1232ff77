//! The edge: trace ids, limits, timeouts, health, and going away in good order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::Case;
use crate::http;
use crate::world::{World, config, limit};

pub const CASES: &[Case] = &[
    ("health_says_alive_ready_and_trading", health_says_alive_ready_and_trading),
    (
        "every_answer_has_a_trace_id_and_the_security_headers",
        every_answer_has_a_trace_id_and_the_security_headers,
    ),
    ("requests_are_limited_per_caller", requests_are_limited_per_caller),
    (
        "forwarded_addresses_count_only_from_a_trusted_proxy",
        forwarded_addresses_count_only_from_a_trusted_proxy,
    ),
    ("slow_and_bloated_heads_are_closed", slow_and_bloated_heads_are_closed),
    (
        "a_body_that_is_announced_too_long_is_not_waited_for",
        a_body_that_is_announced_too_long_is_not_waited_for,
    ),
    ("connections_beyond_the_limit_are_told", connections_beyond_the_limit_are_told),
    ("a_series_of_refusals_leaves_an_audit_row", a_series_of_refusals_leaves_an_audit_row),
    ("a_shutdown_lets_requests_finish", a_shutdown_lets_requests_finish),
    ("public_pages_say_what_there_is", public_pages_say_what_there_is),
    ("only_configured_origins_may_call_from_a_page", only_configured_origins_may_call_from_a_page),
    (
        "a_server_that_does_not_know_the_journal_takes_no_commands",
        a_server_that_does_not_know_the_journal_takes_no_commands,
    ),
];

fn health_says_alive_ready_and_trading(world: &World) {
    assert_eq!(world.get("/health").expect(200)["status"], "ok");
    let ready = world.get("/ready").expect(200);
    assert_eq!((&ready["ready"], &ready["failing"]), (&json!(true), &json!([])));
    assert!(ready["durability"].is_string(), "{ready}");
    let trading = world.get("/api/health/trading").expect(200);
    assert_eq!((&trading["operational"], &trading["halted"]), (&json!(true), &json!([])));
    assert_eq!(trading["markets"][0]["symbol"], "BTC/USD");
    let page = world.get("/status");
    let policy = page.header("content-security-policy").expect("the page has a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    assert!(page.status == 200 && page.text().contains("BTC/USD"), "{}", page.text());
    assert_eq!(world.get("/status/style.css").status, 200);
    let metrics = world.get("/metrics");
    assert!(metrics.text().contains("http_request_duration_seconds_bucket"), "{}", metrics.text());
    for path in 0..50 {
        world.get(&format!("/no-such-path-{path}"));
    }
    let metrics = world.get("/metrics").text();
    assert!(!metrics.contains("no-such-path"), "a label's values are bounded");
}

fn every_answer_has_a_trace_id_and_the_security_headers(world: &World) {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for path in ["/health", "/nothing", "/api/v1/orders", "/docs", "/api/v1/markets"] {
        let headers = [("traceparent", parent.as_str()), ("origin", "https://evil.example")];
        let reply = http::send(world.address, "GET", path, &headers, None);
        assert_eq!(reply.header("x-trace-id"), Some(trace), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(reply.header("content-security-policy").is_some(), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
        assert_eq!(reply.header("server"), None, "{path}");
    }
    let made = world.get("/health");
    assert_eq!(made.header("x-trace-id").map(str::len), Some(32));
}

fn requests_are_limited_per_caller(world: &World) {
    let mut limited = config();
    limited.rate_limits.user_per_second_max = 5;
    limited.rate_limits.orders_per_second_max = 3;
    let mut user = world.funded("10000.00", "0");
    user.address = world.serve(limited);
    let first = user.get("/api/v1/wallet/balances");
    assert_eq!(
        (first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (Some("5"), Some("4"))
    );
    // The query and the path's spelling make no other route of it; every route of a class counts as one.
    let statuses: Vec<_> = (0..20)
        .map(|at| user.get(&format!("/api/v1/orders?status=open&limit={}", at + 1)))
        .collect();
    let refused = statuses.iter().find(|reply| reply.status == 429).expect("the limit is reached");
    assert_eq!(refused.problem(429), "too_many_requests");
    assert!(refused.header("retry-after").is_some());
    let mut orders = (0..10).map(|_| user.order(&limit("buy", "47000.00", "0.001")));
    assert!(orders.any(|reply| reply.status == 429), "orders have their own limit");
    world.get("/health").expect(200);
    user.address = world.address;
    user.delete("/api/v1/orders").expect(200);
}

fn forwarded_addresses_count_only_from_a_trusted_proxy(world: &World) {
    let mut limited = config();
    limited.rate_limits.anonymous_per_second_max = 3;
    let untrusting = world.serve(limited.clone());
    let ask = |address, from: &str| {
        http::send(address, "GET", "/api/v1/markets", &[("x-forwarded-for", from)], None).status
    };
    let many =
        |address| (0..8).map(|at| ask(address, &format!("198.51.100.{at}"))).collect::<Vec<_>>();
    assert!(many(untrusting).contains(&429), "a made-up address is no other caller");
    limited.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    let trusting = world.serve(limited);
    assert!(many(trusting).iter().all(|status| *status == 200), "a trusted proxy's word counts");
}

fn slow_and_bloated_heads_are_closed(world: &World) {
    let mut quick = config();
    quick.header_timeout = Duration::from_millis(300);
    quick.body_timeout = Duration::from_millis(300);
    let address = world.serve(quick);
    // A head that never ends.
    let mut slow = TcpStream::connect(address).expect("it listens");
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").expect("it can be written");
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(begun.elapsed() < Duration::from_secs(10), "it is closed in time");
    // A body that never ends.
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let reply = http::raw(address, head.as_bytes());
    assert_eq!(reply.problem(408), "request_timeout");
    // Too many headers, and too long ones.
    let many: String = (0..1_000).map(|at| format!("x-{at}: y\r\n")).collect();
    let reply =
        http::raw(address, format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes());
    assert!(matches!(reply.status, 400 | 431), "{}", reply.status);
    let long = "y".repeat(64 * 1_024);
    let reply = http::raw(
        address,
        format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n").as_bytes(),
    );
    assert!(matches!(reply.status, 400 | 431), "{}", reply.status);
    world.get("/health").expect(200);
}

fn a_body_that_is_announced_too_long_is_not_waited_for(world: &World) {
    for path in ["/api/v1/auth/login", "/api/v1/auth/logout"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10485760\r\n\r\n"
        );
        // Nothing of it is sent: a server that waited for it would answer 408.
        let reply = http::raw(world.address, head.as_bytes());
        assert_eq!(reply.problem(413), "body_too_large", "{path}");
    }
}

fn connections_beyond_the_limit_are_told(world: &World) {
    let mut small = config();
    small.connections_max = 2;
    let address = world.serve(small);
    let hold = || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("it can be written");
        let mut part = [0; 15];
        stream.read_exact(&mut part).expect("it is answered");
        assert_eq!(&part, b"HTTP/1.1 200 OK");
        stream
    };
    let held = [hold(), hold()];
    let refused = http::send(address, "GET", "/health", &[], None);
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["code"], "unavailable");
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    while http::send(address, "GET", "/health", &[], None).status != 200 {
        assert!(Instant::now() < until, "a place becomes free");
    }
}

fn a_series_of_refusals_leaves_an_audit_row(world: &World) {
    for _ in 0..8 {
        assert_eq!(world.get("/api/v1/orders").status, 401);
    }
    let found = || {
        let db = world.db.clone();
        world.runtime.block_on(async move {
            let client = db.get().await.expect("the database answers");
            let text = "SELECT count(*) FROM audit_log WHERE level = 'warn' AND action = 'edge.refused_series'";
            client.query_one(text, &[]).await.expect("it counts").get::<_, i64>(0)
        })
    };
    let until = Instant::now() + Duration::from_secs(10);
    while found() == 0 {
        assert!(Instant::now() < until, "the entry is written");
    }
    let change = world.runtime.block_on(async {
        let client = world.db.get().await.expect("the database answers");
        client.execute("DELETE FROM audit_log", &[]).await
    });
    assert!(change.is_err(), "the audit log is append-only");
}

fn a_shutdown_lets_requests_finish(world: &World) {
    let stop = CancellationToken::new();
    let mut slow = config();
    slow.drain_notice = Duration::from_secs(2);
    let (address, serving) = world.serve_until(slow, stop.clone());
    // A request whose body is still on its way when the shutdown begins.
    let mut user = world.funded("1000.00", "0");
    let body = limit("buy", "47000.00", "0.001").to_string();
    let head = format!(
        "POST /api/v1/orders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        user.token,
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(head.as_bytes()).expect("it can be written");
    stream.write_all(&body.as_bytes()[..10]).expect("it can be written");
    stop.cancel();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let ready = http::send(address, "GET", "/ready", &[], None);
        if ready.status == 503 {
            assert!(ready.text().contains("draining"), "{}", ready.text());
            break;
        }
        assert!(Instant::now() < until, "it says that it drains");
    }
    assert_eq!(http::send(address, "GET", "/health", &[], None).status, 200);
    stream.write_all(&body.as_bytes()[10..]).expect("it can be written");
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"HTTP/1.1 201 Created");
    drop(stream);
    world.runtime.block_on(serving).expect("it ends");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    user.address = world.address;
    user.delete("/api/v1/orders").expect(200);
}

fn public_pages_say_what_there_is(world: &World) {
    let markets = world.get("/api/v1/markets").expect(200);
    let first = &markets["markets"][0];
    assert_eq!((&first["symbol"], &first["tickSize"]), (&json!("BTC/USD"), &json!("0.01")));
    assert_eq!((&first["lotSize"], &first["takerFee"]), (&json!("0.00000001"), &json!("0.002")));
    let status = world.get("/api/v1/public/status").expect(200);
    assert_eq!((&status["status"], &status["sandbox"]), (&json!("operational"), &json!(true)));
}

fn only_configured_origins_may_call_from_a_page(world: &World) {
    let mut open = config();
    open.cors_origins = vec!["https://app.example".to_owned()];
    let address = world.serve(open);
    let ask = |method: &str, origin: &str| {
        http::send(address, method, "/api/v1/markets", &[("origin", origin)], None)
    };
    let allowed = ask("OPTIONS", "https://app.example");
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    assert!(allowed.header("access-control-allow-methods").is_some_and(|all| all.contains("POST")));
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let refused = ask("OPTIONS", origin);
        assert_eq!(refused.status, 405, "{origin}");
        assert_eq!(refused.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(ask("GET", origin).header("access-control-allow-origin"), None, "{origin}");
    }
    assert!(ask("GET", "https://app.example").header("access-control-allow-origin").is_some());
}

fn a_server_that_does_not_know_the_journal_takes_no_commands(world: &World) {
    let mut user = world.user();
    user.address = world.serve_lost(config());
    let before = world.digest();
    let reply = user.delete("/api/v1/orders");
    assert_eq!(reply.problem(503), "behind");
    assert!(reply.header("retry-after").is_some());
    let ready = user.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("follower"), "{}", ready.text());
    assert_eq!(user.get("/api/health/trading").status, 503);
    assert_eq!(user.get("/health").status, 200);
    assert_eq!(world.digest(), before);
}
