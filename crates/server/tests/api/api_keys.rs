//! Requests that are signed with a key.

use std::thread;

use serde_json::{Value, json};
use server::access::{self, Access};
use uuid::Uuid;

use crate::Case;
use crate::http;
use crate::signing::{Key, next, now, until};
use crate::world::{PASSWORD, World, config, limit};
use crate::ws::Client;

pub const CASES: &[Case] = &[
    ("a_key_is_shown_once_and_signs", a_key_is_shown_once_and_signs),
    ("a_signed_request_is_carried_out_once", a_signed_request_is_carried_out_once),
    ("a_replay_elsewhere_is_the_same_command", a_replay_elsewhere_is_the_same_command),
    ("what_is_not_signed_right_is_refused", what_is_not_signed_right_is_refused),
    ("a_revoked_key_ends_on_every_server", a_revoked_key_ends_on_every_server),
    ("a_key_is_used_from_its_addresses_alone", a_key_is_used_from_its_addresses_alone),
    ("a_key_has_its_time", a_key_has_its_time),
    ("bad_keys_are_not_made", bad_keys_are_not_made),
    ("a_key_is_made_by_who_proves_to_be_the_owner", a_key_is_made_by_who_proves_to_be_the_owner),
    ("a_user_has_so_many_keys", a_user_has_so_many_keys),
    ("the_table_of_routes_is_the_description", the_table_of_routes_is_the_description),
    ("every_route_takes_what_the_table_says", every_route_takes_what_the_table_says),
    ("a_key_opens_the_private_channels", a_key_opens_the_private_channels),
    ("anothers_keys_are_not_there", anothers_keys_are_not_there),
    ("a_new_password_ends_keys", a_new_password_ends_keys),
];

const KEYS: &str = "/api/v1/auth/api-keys";
const BALANCES: &str = "/api/v1/wallet/balances";

fn a_key_is_shown_once_and_signs(world: &World) {
    let user = world.funded("1000.00", "0");
    let body = json!({
        "label": "my bot", "scopes": ["read", "trade"], "expiresInDays": 30, "password": PASSWORD
    });
    let made = user.post(KEYS, &body).expect(201);
    let key = Key::of(&user, &made);
    // 256 bits in base64.
    assert_eq!(key.secret.strip_prefix("kxs_").map(str::len), Some(43));
    assert_eq!(made["key"]["scopes"], json!(["read", "trade"]));
    assert!(made["key"]["expiresAt"].is_string() && made["key"]["lastUsedAt"].is_null(), "{made}");
    assert_eq!(key.get(BALANCES).expect(200)["balances"][0]["available"], "1000.00");
    assert_eq!(key.get("/api/v1/orders?status=open&limit=10").expect(200)["items"], json!([]));
    let order = key.post("/api/v1/orders", &limit("buy", "47000.00", "0.001")).expect(201);
    let path = format!("/api/v1/orders/{}", order["id"].as_str().expect("an id"));
    key.send("DELETE", &path, None).expect(200);
    let listed = || user.get(KEYS).expect(200)["items"][0].clone();
    assert!(!listed().to_string().contains(&key.secret), "a secret is shown once");
    until("the last use is written", || listed()["lastUsedAt"].is_string());
    assert_eq!(listed()["lastAddress"], "127.0.0.1");
    let sealed: Vec<u8> = world.runtime.block_on(async {
        let client = world.db.get().await.expect("the database answers");
        let id: Uuid = key.id.parse().expect("an id");
        let text = "SELECT secret_sealed FROM api_keys WHERE id = $1";
        client.query_one(text, &[&id]).await.expect("there is the key").get(0)
    });
    let secret = key.secret.as_bytes();
    assert!(!sealed.windows(8).any(|part| secret.windows(8).any(|other| part == other)));
    let audited = world.audited("keys.create", &world.id_of(&user));
    assert!(!json!(audited).to_string().contains(&key.secret));
}

fn a_signed_request_is_carried_out_once(world: &World) {
    let user = world.funded("1000.00", "0");
    let key = Key::new(&user, &["read", "trade"]);
    let order = key.sign("POST", "/api/v1/orders", Some(&limit("buy", "47000.00", "0.001")));
    order.send(world.address).expect(201);
    let before = world.digest();
    for _ in 0..3 {
        assert_eq!(order.send(world.address).problem(401), "replayed");
    }
    let read = key.sign("GET", BALANCES, None);
    read.send(world.address).expect(200);
    assert_eq!(read.send(world.address).problem(401), "replayed");
    assert_eq!(world.digest(), before);
    // The same at once: one of them is the first.
    let order = key.sign("POST", "/api/v1/orders", Some(&limit("buy", "46000.00", "0.001")));
    let statuses: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> =
            (0..8).map(|_| scope.spawn(|| order.send(world.address).status)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 401)), "{statuses:?}");
    user.delete("/api/v1/orders").expect(200);
}

fn a_replay_elsewhere_is_the_same_command(world: &World) {
    let user = world.funded("1000.00", "0");
    let other = world.serve(config());
    let key = Key::new(&user, &["read", "trade"]);
    let order = key.sign("POST", "/api/v1/orders", Some(&limit("buy", "47000.00", "0.001")));
    let first = order.send(world.address).expect(201);
    // The other server has not seen the signature; what it stands for is known to all.
    assert_eq!(order.send(other).expect(200)["id"], first["id"]);
    let open = user.get("/api/v1/orders?status=open").expect(200);
    assert_eq!(open["items"].as_array().map(Vec::len), Some(1), "{open}");
    // The key of the repeat is signed, too.
    let headers = [("idempotency-key", "once")];
    let body = limit("buy", "46000.00", "0.001");
    let mut keyed = key.sign_at(now(), "POST", "/api/v1/orders", &headers, Some(&body));
    keyed.send(world.address).expect(201);
    keyed.headers[0].1 = "twice".to_owned();
    assert_eq!(keyed.send(other).problem(401), "key_invalid");
    keyed.headers.remove(0);
    assert_eq!(keyed.send(other).problem(401), "key_invalid");
    user.delete("/api/v1/orders").expect(200);
}

fn what_is_not_signed_right_is_refused(world: &World) {
    let user = world.funded("1000.00", "0");
    let key = Key::new(&user, &["read", "trade", "withdraw"]);
    let before = world.digest();
    let sign = || key.sign("POST", "/api/v1/orders", Some(&limit("buy", "47000.00", "0.001")));
    let refused = |what: &str, change: &dyn Fn(&mut crate::signing::Signed), code: &str| {
        let mut signed = sign();
        change(&mut signed);
        assert_eq!(signed.send(world.address).problem(401), code, "{what}");
    };
    fn set(signed: &mut crate::signing::Signed, name: &str, value: &str) {
        let header = signed.headers.iter_mut().find(|(known, _)| known == name);
        header.expect("the header is there").1 = value.to_owned();
    }
    refused("another body", &|signed| signed.body = Some(b"{}".to_vec()), "key_invalid");
    refused("no body", &|signed| signed.body = None, "key_invalid");
    refused("another method", &|signed| signed.method = "DELETE".to_owned(), "key_invalid");
    refused("another query", &|signed| signed.path.push_str("?x=1"), "key_invalid");
    refused("another path", &|signed| signed.path = BALANCES.to_owned(), "key_invalid");
    let later = (now() + 1_000).to_string();
    refused("another timestamp", &|signed| set(signed, "x-kx-timestamp", &later), "key_invalid");
    let unknown = Uuid::from_u128(7).to_string();
    refused("another key", &|signed| set(signed, "x-kx-key", &unknown), "key_invalid");
    for text in ["", "x", "' OR 1=1; --", "../../etc"] {
        refused("no key", &|signed| set(signed, "x-kx-key", text), "key_invalid");
        refused("no signature", &|signed| set(signed, "x-kx-signature", text), "key_invalid");
        refused("no timestamp", &|signed| set(signed, "x-kx-timestamp", text), "timestamp_invalid");
    }
    for text in ["-1", "+1", "1e3", "99999999999999999999999999"] {
        refused("no timestamp", &|signed| set(signed, "x-kx-timestamp", text), "timestamp_invalid");
    }
    refused(
        "upper case",
        &|signed| {
            let at = signed.headers.iter().position(|(name, _)| name == "x-kx-signature");
            let value = &mut signed.headers[at.expect("it is signed")].1;
            *value = value.to_uppercase();
        },
        "key_invalid",
    );
    for missing in ["x-kx-key", "x-kx-timestamp", "x-kx-signature"] {
        refused(
            missing,
            &|signed| signed.headers.retain(|(name, _)| name != missing),
            "key_invalid",
        );
    }
    refused(
        "twice",
        &|signed| {
            let again = signed.headers.last().cloned().expect("there are headers");
            signed.headers.push(again);
            let key = ("x-kx-key".to_owned(), unknown.clone());
            signed.headers.push(key);
        },
        "key_invalid",
    );
    let bearer = format!("Bearer {}", user.token);
    refused(
        "two credentials",
        &|signed| signed.headers.push(("authorization".to_owned(), bearer.clone())),
        "key_invalid",
    );
    for off in [60_000_i128, -60_000, 3_600_000, -86_400_000] {
        let at = u128::try_from(i128::try_from(now()).expect("it fits") + off).expect("after 1970");
        let signed = key.sign_at(at, "GET", BALANCES, &[], None);
        assert_eq!(signed.send(world.address).problem(401), "timestamp_invalid", "{off}");
    }
    // A bad signature is refused where no credentials are needed, too.
    let mut public = key.sign("GET", "/api/v1/markets", None);
    set(&mut public, "x-kx-signature", &"0".repeat(64));
    assert_eq!(public.send(world.address).problem(401), "key_invalid");
    let large = json!({ "label": "x".repeat(100_000) });
    assert_eq!(key.post("/api/v1/orders", &large).problem(413), "body_too_large");
    assert_eq!(world.digest(), before);
    key.get(BALANCES).expect(200);
}

fn a_revoked_key_ends_on_every_server(world: &World) {
    let user = world.user();
    let other = world.serve(config());
    let key = Key::new(&user, &["read"]);
    let ask = |address| key.sign("GET", BALANCES, None).send(address);
    ask(world.address).expect(200);
    ask(other).expect(200);
    let path = format!("{KEYS}/{}", key.id);
    assert_eq!(user.delete(&path).status, 204);
    assert_eq!(ask(world.address).problem(401), "key_invalid", "here at once");
    until("the other server hears of it", || ask(other).status == 401);
    assert_eq!(user.delete(&path).problem(404), "not_found");
    assert_eq!(user.get(KEYS).expect(200)["items"], json!([]));
}

fn a_key_is_used_from_its_addresses_alone(world: &World) {
    let user = world.user();
    let addresses = ["192.0.2.0/24", "2001:db8::1"];
    let body = json!({
        "label": "x", "scopes": ["read"], "addresses": addresses, "password": PASSWORD
    });
    let made = user.post(KEYS, &body).expect(201);
    assert_eq!(made["key"]["addresses"], json!(["192.0.2.0/24", "2001:db8::1/128"]));
    let key = Key::of(&user, &made);
    let from = |address, from: &str| {
        key.sign_at(next(), "GET", BALANCES, &[("x-forwarded-for", from)], None).send(address)
    };
    assert_eq!(from(world.address, "192.0.2.9").problem(403), "key_address");
    let mut trusting = config();
    trusting.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    let trusting = world.serve(trusting);
    from(trusting, "192.0.2.9").expect(200);
    from(trusting, "2001:db8::1").expect(200);
    assert_eq!(from(trusting, "192.0.3.9").problem(403), "key_address");
    assert_eq!(from(trusting, "192.0.2.9, 198.51.100.1").problem(403), "key_address");
}

fn a_key_has_its_time(world: &World) {
    let user = world.user();
    let key = Key::new(&user, &["read"]);
    world.change(
        "UPDATE api_keys SET expires_at = created_at WHERE user_id = (SELECT id FROM users WHERE email = $1)",
        &user,
    );
    assert_eq!(key.get(BALANCES).problem(401), "key_invalid");
}

fn bad_keys_are_not_made(world: &World) {
    let user = world.user();
    let good = json!({ "label": "x", "scopes": ["read"], "password": PASSWORD });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, status) in [
        (json!({}), 422),
        (json!({ "label": "x" }), 422),
        (json!({ "scopes": ["read"] }), 422),
        (with("label", json!("")), 422),
        (with("label", json!("x".repeat(65))), 422),
        (with("label", json!("a\u{0}b")), 422),
        (with("label", json!("\u{202e}abc")), 422),
        (with("label", json!(1)), 400),
        (with("scopes", json!([])), 422),
        (with("scopes", json!(["admin"])), 422),
        (with("scopes", json!(["READ"])), 422),
        (with("scopes", json!("read")), 400),
        (with("scopes", json!(["withdraw"])), 422),
        (with("addresses", json!(["localhost"])), 422),
        (with("addresses", json!(["10.0.0.1/8"])), 422),
        (with("addresses", json!(vec!["10.0.0.1"; 33])), 422),
        (with("expiresInDays", json!(0)), 422),
        (with("expiresInDays", json!(3_651)), 422),
        (with("expiresInDays", json!(-1)), 400),
        (with("role", json!("admin")), 400),
        (with("secret", json!("mine")), 400),
    ] {
        assert_eq!(user.post(KEYS, &body).status, status, "{body}");
    }
    assert_eq!(user.get(KEYS).expect(200)["items"], json!([]));
}

/// A stolen session makes no key, and the money stays where it is for a while after one was made.
fn a_key_is_made_by_who_proves_to_be_the_owner(world: &World) {
    let user = world.funded("100.00", "0");
    let ask = |with: Value| {
        let mut body =
            json!({ "label": "x", "scopes": ["withdraw"], "addresses": ["127.0.0.0/8"] });
        body.as_object_mut().expect("an object").extend(with.as_object().cloned().expect("one"));
        user.post(KEYS, &body)
    };
    let frozen = || {
        let profile = user.get("/api/v1/account/profile").expect(200);
        profile["withdrawalsFrozenUntil"].is_string()
    };
    let missing = ask(json!({}));
    assert_eq!(missing.problem(422), "value_invalid");
    assert_eq!(missing.json()["errors"][0]["field"], "password");
    assert_eq!(ask(json!({ "password": "wrong" })).problem(401), "credentials_invalid");
    assert_eq!(user.get(KEYS).expect(200)["items"], json!([]));
    assert!(!frozen(), "nothing has changed");
    let key = Key::of(&user, &ask(json!({ "password": PASSWORD })).expect(201));
    assert!(frozen(), "a key is a way in");
    let body = json!({ "asset": "USD", "amount": "1.00", "destination": "bank" });
    assert_eq!(key.post("/api/v1/wallet/withdraw", &body).problem(422), "withdrawal_frozen");
    // Where there is a second factor, it is asked for too.
    let staff = world.staff("support");
    let body = json!({ "label": "x", "scopes": ["read"], "password": PASSWORD });
    assert_eq!(staff.post(KEYS, &body).problem(401), "second_factor_required");
}

fn a_user_has_so_many_keys(world: &World) {
    let user = world.user();
    let body = json!({ "label": "x", "scopes": ["read"], "password": PASSWORD });
    let statuses: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..24).map(|_| scope.spawn(|| user.post(KEYS, &body).status)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 20, "{statuses:?}");
    assert_eq!(user.post(KEYS, &body).problem(422), "too_many_keys");
}

/// Returns every route of the description: method, path, and whether it needs credentials.
fn described() -> Vec<(String, String, bool)> {
    let openapi = serde_json::to_value(server::openapi()).expect("it is plain data");
    let mut routes = Vec::new();
    for (path, item) in openapi["paths"].as_object().expect("there are paths") {
        for (method, operation) in item.as_object().expect("a path has methods") {
            let locked = operation["security"].as_array().is_some_and(|all| !all.is_empty());
            routes.push((method.to_uppercase(), path.clone(), locked));
        }
    }
    routes
}

fn the_table_of_routes_is_the_description(_: &World) {
    let described = described();
    for (method, path, locked) in &described {
        let access = access::of(method, path);
        let access =
            access.unwrap_or_else(|| panic!("{method} {path} is not in the table of access"));
        assert_eq!(*locked, access != Access::Public, "{method} {path}");
    }
    for (method, path, access) in access::TABLE {
        let known = described.iter().any(|(m, p, _)| m == method && p == path);
        assert!(known || *access == Access::Public, "{method} {path} is not in the description");
    }
}

fn every_route_takes_what_the_table_says(world: &World) {
    let (owner, other) = (world.funded("1000.00", "0"), world.user());
    let order = owner.limit("buy", "47000.00", "0.001");
    let body = json!({ "asset": "USD", "amount": "5.00", "destination": "somewhere" });
    let withdrawal = owner.post("/api/v1/wallet/withdraw", &body).expect(201);
    let theirs = |path: &str| {
        let thing = if path.contains("withdraw") { &withdrawal } else { &order };
        thing["id"].as_str().expect("an id").to_owned()
    };
    let names = ["read", "trade", "withdraw"];
    let keys: Vec<(&str, Key)> =
        names.iter().map(|name| (*name, Key::new(&other, &[name]))).collect();
    let all = Key::new(&other, &names);
    let support = world.staff("support");
    let (before, mut count) = (world.digest(), 0);
    for (method, path, _) in described() {
        let access = access::of(&method, &path).expect("the table has it");
        let at = path.replace("{symbol}", "BTC-USD").replace("{id}", &theirs(&path));
        let what = format!("{method} {path}");
        let body = (method != "GET").then(|| json!({}));
        let bytes = body.as_ref().map(|body| body.to_string().into_bytes());
        let json_type = [("content-type", "application/json")];
        let nobody = http::send(world.address, &method, &at, &json_type, bytes.as_deref());
        let with = |key: &Key| key.send(&method, &at, body.as_ref());
        count += 2;
        match access {
            Access::Public => {
                assert_ne!(nobody.status, 403, "{what}");
                assert!(!matches!(with(&all).status, 403), "{what}");
                continue;
            }
            Access::Scope(scope) => {
                for (name, key) in &keys {
                    let reply = with(key);
                    if scope.names().any(|needed| needed == *name) {
                        let refused = matches!(reply.status, 401 | 403);
                        // Playing money is there in a sandbox alone; nothing else stands against it.
                        assert!(!refused, "{what} with {name}: {}", reply.text());
                    } else {
                        assert_eq!(reply.problem(403), "scope_missing", "{what} with {name}");
                    }
                    count += 1;
                }
            }
            Access::Session => assert_eq!(with(&all).problem(403), "session_needed", "{what}"),
            Access::Staff(least) => {
                assert_eq!(with(&all).problem(403), "session_needed", "{what}");
                let reply = other.send(&method, &at, &[], body.as_ref());
                assert_eq!(reply.problem(403), "role_missing", "{what}");
                count += 1;
                if least > store::roles::Role::Support {
                    let reply = support.send(&method, &at, &[], body.as_ref());
                    assert_eq!(reply.problem(403), "role_missing", "{what} by support");
                    count += 1;
                }
            }
        }
        assert_eq!(nobody.problem(401), "unauthenticated", "{what}");
        if path.contains("{id}") && !matches!(access, Access::Staff(_)) {
            // With a body that would do, so that only whose it is stands against it.
            let body = (method == "PATCH").then(|| json!({ "quantity": "0.002" }));
            let reply = other.send(&method, &at, &[], body.as_ref());
            assert_eq!(reply.problem(404), "not_found", "{what}");
            count += 1;
        }
    }
    println!("{count} cases of who may call what");
    assert!(count > 150, "{count}");
    assert_eq!(world.digest(), before);
    owner.delete("/api/v1/orders").expect(200);
}

fn a_key_opens_the_private_channels(world: &World) {
    let user = world.funded("1000.00", "0");
    let key = Key::new(&user, &["read", "trade"]);
    let show = |key: &Key, timestamp: &str| {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let signature = key.signature(&[timestamp, "GET", "/ws", empty]);
        json!({ "op": "authKey", "id": 1, "key": key.id, "timestamp": timestamp, "signature": signature })
    };
    let mut client = Client::connect(world.address);
    let shown = show(&key, &now().to_string());
    client.send(&shown);
    assert_eq!(client.next_of("ok")["op"], "authKey");
    client.subscribe(&["orders"]);
    client.next_of("accountSnapshot");
    key.post("/api/v1/orders", &limit("buy", "47000.00", "0.001")).expect(201);
    assert_eq!(client.next_of("account")["channel"], "orders");
    let refused = |shown: &Value, code: &str| {
        let mut client = Client::connect(world.address);
        client.send(shown);
        assert_eq!(client.next_of("error")["code"], code, "{shown}");
        client.send(&json!({ "op": "subscribe", "channels": ["orders"] }));
        assert_eq!(client.next_of("error")["code"], "unauthenticated");
    };
    refused(&shown, "replayed");
    refused(&show(&key, "1"), "timestamp_invalid");
    let trader = Key::new(&user, &["trade"]);
    refused(&show(&trader, &now().to_string()), "scope_missing");
    let wrong = Key { secret: "kxs_another".to_owned(), ..key.clone() };
    refused(&show(&wrong, &now().to_string()), "key_invalid");
    user.delete("/api/v1/orders").expect(200);
    assert_eq!(user.delete(&format!("{KEYS}/{}", key.id)).status, 204);
    client.next_of("authExpired");
}

fn anothers_keys_are_not_there(world: &World) {
    let (user, thief) = (world.user(), world.user());
    let key = Key::new(&user, &["read"]);
    assert_eq!(thief.delete(&format!("{KEYS}/{}", key.id)).problem(404), "not_found");
    assert_eq!(thief.get(KEYS).expect(200)["items"], json!([]));
    for id in ["0", "-1", "1 OR 1=1", "x", &"9".repeat(100)] {
        let path = format!("{KEYS}/{}", id.replace(' ', "%20"));
        assert_eq!(thief.delete(&path).problem(404), "not_found", "{id}");
    }
    key.get(BALANCES).expect(200);
}

fn a_new_password_ends_keys(world: &World) {
    let user = world.user();
    let key = Key::new(&user, &["read"]);
    key.get(BALANCES).expect(200);
    let body =
        json!({ "password": "correct horse battery", "newPassword": "another horse battery" });
    let changed = user.post("/api/v1/auth/password/change", &body);
    assert!(matches!(changed.status, 200 | 204), "{} {}", changed.status, changed.text());
    until("the key has ended", || key.get(BALANCES).status == 401);
}
