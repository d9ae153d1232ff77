//! Limits by class, user, key and address, and ways round them that are none (X47).

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use server::PasswordCost;

use crate::Case;
use crate::http::{self, Reply};
use crate::signing::{Key, now};
use crate::world::{PASSWORD, User, World, config};
use crate::ws::Client;

pub const CASES: &[Case] = &[
    ("sessions_and_keys_share_a_users_allowance", sessions_and_keys_share_a_users_allowance),
    ("no_spelling_of_a_path_is_another_route", no_spelling_of_a_path_is_another_route),
    ("guessing_keys_is_limited", guessing_keys_is_limited),
    ("a_key_has_an_allowance_of_its_own", a_key_has_an_allowance_of_its_own),
    ("messages_count_over_all_connections", messages_count_over_all_connections),
    ("a_storm_of_logins_is_nobodys_failure", a_storm_of_logins_is_nobodys_failure),
];

const TRANSFER: &str = "/api/v1/wallet/transfer";

/// A transfer that is refused by its form: it counts, and moves nothing.
fn transfer(user: &User) -> Reply {
    user.post(TRANSFER, &json!({ "asset": "USD", "amount": "0", "to": user.wallet }))
}

fn sessions_and_keys_share_a_users_allowance(world: &World) {
    let mut limited = config();
    // A minute's allowance: nothing of it comes back while this runs, however slow the machine is.
    limited.rate_limits.money_per_minute_max = 4;
    let address = world.serve(limited);
    let user = world.user();
    let first = User { address, ..user.clone() };
    let second = User { address, ..world.login(&user.email, &user.wallet) };
    let key = Key { address, ..Key::new(&user, &["withdraw"]) };
    let body = json!({ "asset": "USD", "amount": "0", "to": user.wallet });
    let reply = transfer(&first);
    assert_eq!(reply.status, 422);
    assert_eq!(
        (reply.header("ratelimit-limit"), reply.header("ratelimit-remaining")),
        (Some("4"), Some("3"))
    );
    assert_eq!(transfer(&second).status, 422);
    assert_eq!(key.post(TRANSFER, &body).status, 422);
    assert_eq!(
        first.post("/api/v1/wallet/withdraw", &json!({})).status,
        422,
        "another route of the class"
    );
    for refused in [transfer(&first), transfer(&second), key.post(TRANSFER, &body)] {
        assert_eq!(refused.problem(429), "too_many_requests");
        assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
        let wait: u32 =
            refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        assert!((1..=15).contains(&wait), "{wait}");
        assert_eq!(refused.header("ratelimit-reset"), Some(wait.to_string().as_str()));
    }
    // Other classes and other users have their own.
    first.get("/api/v1/wallet/balances").expect(200);
    let other = User { address, ..world.user() };
    assert_eq!(transfer(&other).status, 422);
}

fn no_spelling_of_a_path_is_another_route(world: &World) {
    let mut limited = config();
    limited.rate_limits.attempts_per_minute_max = 3;
    let address = world.serve(limited);
    let send = |path: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        http::send(address, "POST", path, &all, Some(b"{}")).status
    };
    for _ in 0..3 {
        assert_eq!(send("/api/v1/auth/login", &[]), 422);
    }
    for path in [
        "/api/v1/auth/login",
        "/api/v1/auth/login?x=1",
        "/api/v1/auth/login?",
        "/api/v1/auth/verify",
        "/api/v1/auth/register",
    ] {
        assert_eq!(send(path, &[]), 429, "{path}");
    }
    for headers in [
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-for", "198.51.100.8, 198.51.100.9"),
        ("forwarded", "for=198.51.100.7"),
        ("x-real-ip", "198.51.100.7"),
        ("x-http-method-override", "GET"),
        ("x-method-override", "PUT"),
        ("x-original-url", "/health"),
        ("x-rewrite-url", "/health"),
    ] {
        assert_eq!(send("/api/v1/auth/login", &[headers]), 429, "{headers:?}");
    }
    // Other spellings lead nowhere at all.
    for path in [
        "/API/v1/auth/login",
        "/api/v1/auth/Login",
        "/api/v1/auth/login/",
        "//api/v1/auth/login",
        "/api/v1/auth/./login",
    ] {
        assert_eq!(send(path, &[]), 404, "{path}");
    }
    assert!(matches!(send("/api/v1/auth/%6cogin", &[]), 404 | 429));
}

fn guessing_keys_is_limited(world: &World) {
    let mut limited = config();
    limited.rate_limits.attempts_per_minute_max = 4;
    let address = world.serve(limited);
    let user = world.user();
    let key = Key { address, ..Key::new(&user, &["read"]) };
    key.get("/api/v1/wallet/balances").expect(200);
    let guess = |number: u128| {
        let id = uuid::Uuid::from_u128(number).to_string();
        Key { id, ..key.clone() }.get("/api/v1/wallet/balances")
    };
    for number in 0..4 {
        assert_eq!(guess(number).problem(401), "key_invalid");
    }
    let refused = guess(5);
    assert_eq!(refused.problem(429), "too_many_attempts");
    assert!(refused.header("retry-after").is_some());
    // Who has shown a key a moment ago is not shut out by a neighbour who guesses.
    key.get("/api/v1/wallet/balances").expect(200);
}

fn a_key_has_an_allowance_of_its_own(world: &World) {
    let mut limited = config();
    limited.rate_limits.key_per_second_max = 1;
    let address = world.serve(limited);
    let user = world.user();
    let key = Key { address, ..Key::new(&user, &["read"]) };
    // Signed beforehand and sent on many connections at once: some come within one second.
    let at = now();
    let requests: Vec<_> = (0..40)
        .map(|number| {
            let path = format!("/api/v1/orders?limit={}", number + 1);
            key.sign_at(at, "GET", &path, &[], None)
        })
        .collect();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = requests.iter().map(|one| scope.spawn(|| one.send(address))).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    let refused = replies.iter().find(|reply| reply.status == 429).expect("the limit is reached");
    assert_eq!(refused.header("ratelimit-limit"), Some("1"));
    User { address, ..user }.get("/api/v1/orders").expect(200);
}

fn messages_count_over_all_connections(world: &World) {
    let mut limited = config();
    limited.rate_limits.messages_per_second_max = 1;
    let address = world.serve(limited);
    let mut clients =
        [Client::connect(address), Client::connect(address), Client::connect(address)];
    // Few enough that no connection passes its own limit.
    for _ in 0..12 {
        for client in &mut clients {
            client.try_send(&json!({ "op": "ping" }));
        }
    }
    let codes: Vec<u16> = clients.iter_mut().map(Client::closed).collect();
    assert!(codes.contains(&1008), "{codes:?}");
}

/// Who is sent away because too many log in at once has not failed: that does not count against the account.
fn a_storm_of_logins_is_nobodys_failure(world: &World) {
    let user = world.user();
    let mut busy = config();
    // Slow enough for a few threads to fill the queue, and never empty it.
    busy.password_cost = PasswordCost { memory_kib: 19_456, passes: 8, parallel_max: 1 };
    busy.rate_limits.account_failures_max = 3;
    busy.trusted_proxies = vec![Ipv4Addr::LOCALHOST.into()];
    let address = world.serve(busy);
    let login = |email: &str, from: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "refreshIn": "body" });
        let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
        let body = body.to_string();
        http::send(address, "POST", "/api/v1/auth/login", &headers, Some(body.as_bytes()))
    };
    let over = AtomicBool::new(false);
    let sent_away = std::thread::scope(|scope| {
        for thread in 0..40 {
            let (over, login) = (&over, &login);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let email = format!("nobody-{thread}-{number}@example.com");
                    let status = login(&email, &format!("10.{thread}.{}.1", number % 200)).status;
                    assert!(matches!(status, 401 | 429), "{status}");
                }
            });
        }
        let mut sent_away = 0;
        for _ in 0..2_000 {
            let reply = login(&user.email, "192.0.2.9");
            if reply.status == 429 {
                assert_eq!(reply.problem(429), "too_many_requests");
                assert!(reply.header("retry-after").is_some());
                sent_away += 1;
            }
            if sent_away > 6 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        sent_away
    });
    assert!(sent_away > 6, "the storm has filled the queue");
    login(&user.email, "192.0.2.9").expect(200);
}
