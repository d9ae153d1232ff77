//! The exchange's own people.

use engine::{Action, Event};
use serde_json::{Value, json};
use store::anomalies::Report;
use store::audit::chain::NotedHead;
use trace::anomaly::{Anomaly, Ended, Figures, News};
use units::{Amount, Sequence, Time};

use crate::Case;
use crate::http;
use crate::signing::{Key, until};
use crate::world::{USD, User, World, config, limit};

pub const CASES: &[Case] = &[
    ("roles_open_the_doors_that_they_say", roles_open_the_doors_that_they_say),
    ("an_operator_halts_and_resumes_a_market", an_operator_halts_and_resumes_a_market),
    ("withdrawals_are_decided_by_somebody_else", withdrawals_are_decided_by_somebody_else),
    ("a_locked_user_is_out_on_every_server", a_locked_user_is_out_on_every_server),
    ("admins_give_roles_and_one_is_left", admins_give_roles_and_one_is_left),
    ("users_are_found_and_shown_without_secrets", users_are_found_and_shown_without_secrets),
    ("the_audit_log_is_listed_and_exported", the_audit_log_is_listed_and_exported),
    ("the_audit_log_is_chained", the_audit_log_is_chained),
    ("the_journal_notes_the_audit_logs_head", the_journal_notes_the_audit_logs_head),
    ("anomalies_are_listed_and_traces_explained", anomalies_are_listed_and_traces_explained),
];

const ADMIN: &str = "/api/v1/admin";
const UNIT: u128 = 10_000_000_000;

fn roles_open_the_doors_that_they_say(world: &World) {
    let (support, operator) = (world.staff("support"), world.staff("operator"));
    let user = world.user();
    let id = world.id_of(&user);
    support.get(&format!("{ADMIN}/users/{id}")).expect(200);
    support.get(&format!("{ADMIN}/audit")).expect(200);
    let status = support.get(&format!("{ADMIN}/status")).expect(200);
    assert!(status["status"].is_string() && status["sections"].is_array(), "{status}");
    assert_eq!(user.get(&format!("{ADMIN}/status")).problem(403), "role_missing");
    let lock = format!("{ADMIN}/users/{id}/lock");
    assert_eq!(support.send("POST", &lock, &[], None).problem(403), "role_missing");
    let role = format!("{ADMIN}/users/{id}/role");
    let body = json!({ "role": "admin" });
    assert_eq!(operator.send("PUT", &role, &[], Some(&body)).problem(403), "role_missing");
    assert_eq!(
        operator
            .send(
                "PUT",
                &format!("{ADMIN}/users/{}/role", world.id_of(&operator)),
                &[],
                Some(&body)
            )
            .problem(403),
        "role_missing"
    );
    // A role that is taken away is away with the next request.
    world.set_role(&support, "user");
    assert_eq!(support.get(&format!("{ADMIN}/audit")).problem(403), "role_missing");
    // Operators need two-factor authentication for whatever they do.
    let plain = world.user();
    world.set_role(&plain, "operator");
    assert_eq!(plain.get(&format!("{ADMIN}/users")).problem(403), "two_factor_needed");
    assert_eq!(plain.send("POST", &lock, &[], None).problem(403), "two_factor_needed");
    // Other methods are not tricked into.
    let headers = [("x-http-method-override", "POST")];
    assert_eq!(user.send("GET", &lock, &headers, None).status, 405);
    user.get("/api/v1/auth/me").expect(200);
}

fn an_operator_halts_and_resumes_a_market(world: &World) {
    let operator = world.staff("operator");
    let me = world.id_of(&operator);
    let user = world.funded("1000.00", "0");
    let eth = |price: &str| json!({ "market": "ETH/USD", "side": "buy", "orderType": "limit", "price": price, "quantity": "0.01" });
    let order = user.order(&eth("2900.00")).expect(201);
    let halt = format!("{ADMIN}/markets/ETH-USD/halt");
    let reason = json!({ "reason": "=maintenance" });
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let halted = operator.send("POST", &halt, &[("traceparent", trace)], Some(&reason)).expect(200);
    assert_eq!(halted, json!({ "market": "ETH/USD", "state": "halted" }));
    assert_eq!(user.order(&eth("2900.00")).problem(422), "market_closed");
    let path = format!("/api/v1/orders/{}", order["id"].as_str().expect("an id"));
    user.delete(&path).expect(200);
    let resume = format!("{ADMIN}/markets/ETH-USD/resume");
    let resumed = operator.send("POST", &resume, &[("idempotency-key", "r-1")], None).expect(200);
    assert_eq!(resumed["state"], "open");
    operator.send("POST", &resume, &[("idempotency-key", "r-1")], None).expect(200);
    user.order(&eth("2900.00")).expect(201);
    user.delete("/api/v1/orders").expect(200);
    assert_eq!(
        world.audited("admin.market_halt", &me),
        [
            json!({ "role": "operator", "reason": "=maintenance", "target": "ETH/USD", "before": "open", "after": "halted" })
        ]
    );
    let list =
        operator.get(&format!("{ADMIN}/audit?action=admin.market_halt&userId={me}")).expect(200);
    let row = &list["items"][0];
    assert_eq!((&row["address"], &row["traceId"]), (&json!("127.0.0.1"), &json!(&trace[3..35])));
    for symbol in ["NO-SUCH", "..%2F", "ETH-USD%00", "x"] {
        let path = format!("{ADMIN}/markets/{symbol}/halt");
        assert_eq!(operator.send("POST", &path, &[], None).status, 404, "{symbol}");
    }
}

fn withdrawals_are_decided_by_somebody_else(world: &World) {
    let operator = world.staff("operator");
    let user = world.funded("100.00", "0");
    let request = |user: &User| {
        let body = json!({ "asset": "USD", "amount": "10.00", "destination": "bank" });
        let made = user.post("/api/v1/wallet/withdraw", &body).expect(201);
        made["id"].as_str().expect("an id").to_owned()
    };
    let decide = |id: &str, what: &str| {
        operator.send("POST", &format!("{ADMIN}/withdrawals/{id}/{what}"), &[], None)
    };
    let (first, second, third) = (request(&user), request(&user), request(&user));
    until("the queue shows them", || {
        let queue = operator.get(&format!("{ADMIN}/withdrawals?limit=500")).expect(200);
        let items = queue["items"].as_array().expect("items").clone();
        [&first, &second, &third]
            .iter()
            .all(|id| items.iter().any(|item| item["id"] == id.as_str()))
    });
    let approved = decide(&first, "approve").expect(200);
    assert_eq!(
        (&approved["state"], &approved["destination"]),
        (&json!("approved"), &json!("bank"))
    );
    assert_eq!((&approved["email"], &approved["amount"]), (&json!(user.email), &json!("10.00")));
    assert_eq!(decide(&first, "approve").problem(409), "withdrawal_state");
    assert_eq!(decide(&second, "reject").expect(200)["state"], "cancelled");
    until("its owner reads who has given it back", || {
        let one = user.get(&format!("/api/v1/wallet/withdraw/{second}")).expect(200);
        let list = user.get("/api/v1/wallet/withdraw").expect(200);
        let money = user.get("/api/v1/wallet/transactions").expect(200);
        let said = |list: &serde_json::Value| {
            let all = list["items"].as_array().cloned().unwrap_or_default();
            all.iter().any(|item| item["reason"] == "rejected_by_operator")
        };
        one["state"] == "rejected"
            && one["reason"] == "rejected_by_operator"
            && said(&list)
            && said(&money)
    });
    assert_eq!(world.balance(&user, USD).held, Amount::new(20 * UNIT));
    assert_eq!(decide(&second, "approve").problem(409), "withdrawal_state");
    assert_eq!(decide(&first, "reject").expect(200)["state"], "cancelled", "until it is sent");
    // An account that was frozen since it was asked for lets nothing out.
    world.change("UPDATE users SET withdrawals_frozen_until = clock_timestamp() + interval '1 day' WHERE email = $1", &user);
    assert_eq!(decide(&third, "approve").problem(422), "withdrawal_frozen");
    decide(&third, "reject").expect(200);
    assert_eq!(world.balance(&user, USD).available, Amount::new(100 * UNIT));
    // Nobody decides what is their own.
    let body = json!({ "asset": "USD", "amount": "5.00" });
    operator.post("/api/v1/wallet/deposit", &body).expect(201);
    let own = operator.post(
        "/api/v1/wallet/withdraw",
        &json!({ "asset": "USD", "amount": "5.00", "destination": "bank" }),
    );
    let own = own.expect(201)["id"].as_str().expect("an id").to_owned();
    for what in ["approve", "reject"] {
        assert_eq!(decide(&own, what).problem(403), "own_request");
        assert_eq!(decide("00000000-0000-0000-0000-000000000009", what).problem(404), "not_found");
        assert_eq!(decide("x", what).problem(404), "not_found");
    }
    let audited = world.audited("admin.withdrawal_approve", &world.id_of(&operator));
    let done = json!({ "target": first, "before": "requested", "after": "approved" });
    let is_done =
        |row: &Value| ["target", "before", "after"].iter().all(|name| row[name] == done[name]);
    assert!(audited.iter().any(is_done), "{audited:?}");
    assert_eq!(
        operator.get(&format!("{ADMIN}/withdrawals?state=nonsense")).problem(422),
        "value_invalid"
    );
}

fn a_locked_user_is_out_on_every_server(world: &World) {
    let operator = world.staff("operator");
    let other = world.serve(config());
    let user = world.funded("100.00", "0");
    let (id, key) = (world.id_of(&user), Key::new(&user, &["read", "trade"]));
    let there = User { address: other, ..user.clone() };
    there.get("/api/v1/auth/me").expect(200);
    key.sign("GET", "/api/v1/wallet/balances", None).send(other).expect(200);
    let lock = format!("{ADMIN}/users/{id}/lock");
    let locked = operator.post(&lock, &json!({ "reason": "stolen" })).expect(200);
    assert!(locked["lockedAt"].is_string(), "{locked}");
    assert_eq!((&locked["sessions"], &locked["keys"]), (&json!(0), &json!(0)));
    operator.post(&lock, &json!({})).expect(200);
    for user in [&user, &there] {
        until("the session has ended", || user.get("/api/v1/auth/me").status == 401);
        let ask = || key.sign("GET", "/api/v1/wallet/balances", None).send(user.address).status;
        until("the key has ended", || ask() == 401);
    }
    let login =
        json!({ "email": user.email, "password": "correct horse battery", "refreshIn": "body" });
    assert_eq!(world.post("/api/v1/auth/login", &login).status, 401);
    let refresh = json!({ "refreshToken": user.refresh });
    assert_eq!(world.post("/api/v1/auth/refresh", &refresh).status, 401);
    let flags =
        || world.live.read(|state| state.account(user.account).map(|account| account.flags.locked));
    assert_eq!(flags(), Some(true));
    assert_eq!(
        world.audited("admin.lock", &world.id_of(&operator)).len(),
        1,
        "once for one change"
    );
    operator.post(&format!("{ADMIN}/users/{id}/unlock"), &json!({})).expect(200);
    assert_eq!(flags(), Some(false));
    let back = world.login(&user.email, &user.wallet);
    back.order(&limit("buy", "47000.00", "0.001")).expect(201);
    back.delete("/api/v1/orders").expect(200);
    assert_eq!(user.get("/api/v1/auth/me").status, 401, "what has ended stays so");
    assert_eq!(key.get("/api/v1/wallet/balances").status, 401);
    // Nobody locks out who stands beside or above them, nor themselves.
    let peer = world.id_of(&world.staff("operator"));
    let admin = world.id_of(&world.staff("admin"));
    for above in [peer, admin] {
        let path = format!("{ADMIN}/users/{above}/lock");
        assert_eq!(operator.post(&path, &json!({})).problem(403), "role_above");
    }
    let own = format!("{ADMIN}/users/{}/lock", world.id_of(&operator));
    assert_eq!(operator.post(&own, &json!({})).problem(403), "own_request");
    assert_eq!(
        operator.post(&format!("{ADMIN}/users/x/lock"), &json!({})).problem(404),
        "not_found"
    );
}

fn admins_give_roles_and_one_is_left(world: &World) {
    let admin = world.staff("admin");
    world.change("UPDATE users SET role = 'user' WHERE role = 'admin' AND email <> $1", &admin);
    let (me, user) = (world.id_of(&admin), world.user());
    let id = world.id_of(&user);
    let give = |id: &str, role: &str| {
        admin.send("PUT", &format!("{ADMIN}/users/{id}/role"), &[], Some(&json!({ "role": role })))
    };
    assert_eq!(give(&me, "user").problem(409), "last_admin");
    assert_eq!(give(&id, "support").expect(200)["role"], "support");
    user.get(&format!("{ADMIN}/users")).expect(200);
    give(&id, "admin").expect(200);
    give(&me, "operator").expect(200);
    assert_eq!(give(&id, "user").problem(403), "role_missing");
    for role in ["root", "", "ADMIN", "admin "] {
        world.set_role(&admin, "admin");
        assert_eq!(give(&id, role).problem(422), "value_invalid", "{role}");
    }
    let roles = admin.get(&format!("{ADMIN}/roles")).expect(200);
    let items = roles["items"].as_array().expect("items").clone();
    assert!(
        items.iter().any(|item| item["id"] == id.as_str() && item["role"] == "admin"),
        "{roles}"
    );
    let audited = world.audited("admin.role", &me);
    assert_eq!((&audited[0]["before"], &audited[0]["after"]), (&json!("user"), &json!("support")));
    assert_eq!(audited[0]["target"], id.as_str());
}

fn users_are_found_and_shown_without_secrets(world: &World) {
    let (support, user) = (world.staff("support"), world.funded("12.50", "0"));
    let id = world.id_of(&user);
    let found = support.get(&format!("{ADMIN}/users?email={}", user.email)).expect(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["items"][0]["id"], id.as_str());
    let one = support.get(&format!("{ADMIN}/users/{id}")).expect(200);
    assert_eq!(one["balances"][0]["available"], "12.50");
    let text = format!("{one}{found}").to_lowercase();
    for secret in ["argon2", "password", "salt", "hash", "secret", "sealed"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let first = support.get(&format!("{ADMIN}/users?limit=2")).expect(200);
    let cursor = first["nextCursor"].as_str().expect("there are more");
    let second = support.get(&format!("{ADMIN}/users?limit=2&cursor={cursor}")).expect(200);
    assert_ne!(first["items"][1]["id"], second["items"][0]["id"]);
    for bad in ["limit=0", "limit=501", "cursor=x", "email=%00"] {
        assert_eq!(support.get(&format!("{ADMIN}/users?{bad}")).status, 422, "{bad}");
    }
    assert_eq!(support.get(&format!("{ADMIN}/users?role=admin")).status, 400);
    for wild in ["%25", "_", "'%20OR%20'1'='1"] {
        let found = support.get(&format!("{ADMIN}/users?email={wild}")).expect(200);
        assert_eq!(found["items"], json!([]), "{wild}");
    }
    for id in ["0", "x", "00000000-0000-0000-0000-000000000009"] {
        assert_eq!(support.get(&format!("{ADMIN}/users/{id}")).problem(404), "not_found", "{id}");
    }
}

fn the_audit_log_is_listed_and_exported(world: &World) {
    let support = world.staff("support");
    let me = world.id_of(&support);
    for _ in 0..3 {
        let reply = support.get(&format!("{ADMIN}/audit.csv?userId={me}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8"));
        assert!(
            reply.header("content-disposition").is_some_and(|text| text.contains("attachment"))
        );
        assert!(reply.text().contains("\"id\",\"createdAt\",\"level\""), "{}", reply.text());
        assert!(reply.text().contains("admin.audit_export"), "who takes the log away is in it");
    }
    let page = support.get(&format!("{ADMIN}/audit?userId={me}&limit=2&action=admin.")).expect(200);
    let next = page["nextBeforeId"].as_i64().expect("there are more");
    let rest = support
        .get(&format!("{ADMIN}/audit?userId={me}&beforeId={next}&action=admin."))
        .expect(200);
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1), "{rest}");
    let newer = support.get(&format!("{ADMIN}/audit?from=2999-01-01T00:00:00Z")).expect(200);
    assert_eq!(newer["items"], json!([]));
    for bad in
        ["level=x", "from=x", "until=yesterday", "userId=x", "beforeId=x", "limit=0", "action=%00"]
    {
        assert_eq!(support.get(&format!("{ADMIN}/audit?{bad}")).status, 422, "{bad}");
        if bad != "limit=0" {
            assert_eq!(support.get(&format!("{ADMIN}/audit.csv?{bad}")).status, 422, "{bad}");
        }
    }
    let user = world.user();
    assert_eq!(user.get(&format!("{ADMIN}/audit.csv")).problem(403), "role_missing");
    assert_eq!(
        http::send(world.address, "GET", &format!("{ADMIN}/audit.csv"), &[], None).status,
        401
    );
}

fn the_audit_log_is_chained(world: &World) {
    let check = || {
        let checked = world.runtime.block_on(store::audit::chain::check(&world.db, &[]));
        checked.expect("the chain can be read")
    };
    let admin = world.staff("admin");
    admin.get(&format!("{ADMIN}/audit.csv?level=error")).body.clear();
    let me = world.id_of(&admin);
    let last = || {
        world.runtime.block_on(async {
            let client = world.db.get().await.expect("the database answers");
            let text = "SELECT l.id FROM audit_log l JOIN audit_chain c ON c.audit_id = l.id \
                         WHERE l.action = 'admin.audit_export' AND l.user_id = $1::text::uuid";
            client
                .query_opt(text, &[&me])
                .await
                .expect("it can be read")
                .map(|row| row.get::<_, i64>(0))
        })
    };
    until("the chain has come to the row", || last().is_some());
    let id = last().expect("it has");
    let good = check();
    assert_eq!(good.fault, None);
    assert!(good.links > 0 && good.head.len() == 32);
    // Whoever owns the tables can change a row, and is found out.
    let change = |to: &str| {
        world.runtime.block_on(async {
            let client = world.db.get().await.expect("the database answers");
            let text = format!(
                "BEGIN; ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only; \
                 UPDATE audit_log SET level = '{to}' WHERE id = {id}; \
                 ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only; COMMIT"
            );
            client.batch_execute(&text).await.expect("the owner may");
        });
    };
    change("warn");
    let fault = check().fault.expect("it is found out");
    assert!(fault.contains(&format!("row {id} ")), "{fault}");
    change("info");
    assert_eq!(check().fault, None);
}

/// Every server of this world would note it: the journal has it once a minute, and it is the chain's.
fn the_journal_notes_the_audit_logs_head(world: &World) {
    let noted = || world.live.read(engine::State::audit_head);
    world.staff("admin").get(&format!("{ADMIN}/audit.csv?level=error"));
    until("a head is noted", || noted().is_some());
    let rows = world
        .block_on(store::journal::rows_after(&world.db, Sequence::new(0), 100_000))
        .expect("the journal can be read");
    let mut heads: Vec<NotedHead> = Vec::new();
    let mut minutes = std::collections::BTreeSet::new();
    for row in rows {
        for entry in journal::read(&row).expect("the row is whole").entries {
            let Action::NoteAuditHead(head) = entry.command.action else { continue };
            assert!(minutes.insert(entry.command.id), "a minute has one head");
            // One that was held up somewhere may have been overtaken.
            if entry.event != Event::Done {
                continue;
            }
            assert!(heads.last().is_none_or(|last| last.head.rows < head.rows));
            heads.push(NotedHead { noted_in: row.sequence, head });
        }
    }
    assert!(!heads.is_empty());
    let first = rows_time(world, &heads[0]);
    let last = rows_time(world, &heads[heads.len() - 1]);
    let between = last.micros_since(first) / 60_000_000;
    assert!(heads.len() as u64 <= between + 2, "{} heads in {between} minutes", heads.len());
    let checked = world.block_on(store::audit::chain::check(&world.db, &heads));
    let checked = checked.expect("the chain can be read");
    assert_eq!((checked.fault, checked.noted_fault), (None, None));
    assert_eq!(checked.noted, heads.len() as u64);
}

fn rows_time(world: &World, noted: &NotedHead) -> Time {
    let row = world.block_on(store::journal::row(&world.db, noted.noted_in));
    row.expect("the journal can be read").expect("the row is there").time
}

fn anomalies_are_listed_and_traces_explained(world: &World) {
    let support = world.staff("support");
    let anomaly = |operation: &str, severity, worst| Anomaly {
        operation: operation.to_owned(),
        stage: trace::Stage::Append,
        severity,
        begun: 29_000_000,
        judged: 29_000_004,
        windows: 5,
        observed: 90_000,
        worst,
        usual: Figures { p50: 2_000, p99: 9_000, mean: 2_400, sigma: 1_100, windows: 60 },
        requests: 500,
        trace_id: 0x2a,
    };
    let report = Report {
        source: "test:1".to_owned(),
        instance: "test pid 1".to_owned(),
        news: vec![
            (News::Opened, anomaly("place_order", 3, 120_000)),
            (News::Opened, anomaly("deposit", 5, 20_000)),
            (News::Worsened, anomaly("place_order", 2, 800_000)),
            (News::Closed(Ended::Usual), anomaly("deposit", 5, 20_000)),
        ],
        ..Report::default()
    };
    world.block_on(store::anomalies::write(&world.db, &report)).expect("it is written");
    let path = format!("{ADMIN}/anomalies");
    let of = |query: &str| {
        let items = support.get(&format!("{path}{query}")).expect(200)["items"].clone();
        let items = items.as_array().expect("a list").clone();
        items.iter().map(|item| item["operation"].as_str().unwrap_or("").to_owned()).collect()
    };
    let names: [Vec<String>; 4] = ["", "?open=true", "?open=false", "?severity=2&limit=1"].map(of);
    assert_eq!(
        names.map(|all| all.join(" ")),
        ["deposit place_order", "place_order", "deposit", "place_order"]
    );
    let page = support.get(&format!("{path}?limit=1")).expect(200);
    let before = &page["nextBeforeId"];
    let page = support.get(&format!("{path}?limit=1&beforeId={before}")).expect(200);
    let item = &page["items"][0];
    let expected = json!({ "p50Micros": 2_000, "p99Micros": 9_000, "meanMicros": 2_400, "sigmaMicros": 1_100, "minutes": 60 });
    assert_eq!(
        (&item["usual"], &item["severity"], &item["worstMicros"]),
        (&expected, &json!(2), &json!(800_000))
    );
    assert_eq!((&item["endedAt"], &item["stage"]), (&Value::Null, &json!("append")));
    assert_eq!(item["traceId"], json!(format!("{:032x}", 0x2a)));
    for query in ["?open=perhaps", "?severity=0", "?severity=6", "?beforeId=x", "?limit=0"] {
        support.get(&format!("{path}{query}")).expect(422);
    }
    let explanation = |id: &str| support.get(&format!("{ADMIN}/traces/{id}/explanation"));
    assert_eq!(explanation(&"f".repeat(32)).problem(404), "not_found");
    explanation("xyz").expect(422);
    let user = world.user();
    assert_eq!(user.get(&path).problem(403), "role_missing");
    assert_eq!(
        user.get(&format!("{ADMIN}/traces/{}/explanation", "f".repeat(32))).problem(403),
        "role_missing"
    );
}
