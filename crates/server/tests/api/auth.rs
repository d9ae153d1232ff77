//! Registering, verifying, logging in, staying logged in.

use std::thread;

use serde_json::json;

use crate::Case;
use crate::http;
use crate::world::{World, config};

pub const CASES: &[Case] = &[
    ("a_user_registers_verifies_and_trades", a_user_registers_verifies_and_trades),
    (
        "an_address_is_one_user_whatever_comes_at_once",
        an_address_is_one_user_whatever_comes_at_once,
    ),
    ("a_code_is_good_once_and_for_five_guesses", a_code_is_good_once_and_for_five_guesses),
    ("a_login_tells_nothing_of_who_is_there", a_login_tells_nothing_of_who_is_there),
    ("a_refresh_token_works_once", a_refresh_token_works_once),
    ("a_logout_ends_the_session_on_every_server", a_logout_ends_the_session_on_every_server),
    (
        "a_browser_keeps_its_refresh_token_in_a_cookie",
        a_browser_keeps_its_refresh_token_in_a_cookie,
    ),
    ("logins_are_limited_per_account", logins_are_limited_per_account),
    ("answers_have_no_secrets", answers_have_no_secrets),
];

fn a_user_registers_verifies_and_trades(world: &World) {
    let user = world.user();
    let me = user.get("/api/v1/auth/me").expect(200);
    assert_eq!(me["email"], user.email.as_str());
    assert_eq!(me["address"], user.wallet.as_str());
    assert_eq!(me["accountOpen"], true);
}

fn an_address_is_one_user_whatever_comes_at_once(world: &World) {
    let email = world.fresh_email();
    let spellings = [email.clone(), email.to_uppercase(), email.replace("user", "User")];
    let statuses: Vec<u16> = thread::scope(|scope| {
        let register = |at: usize| {
            let email = &spellings[at % 3];
            let body = json!({ "email": email, "password": "correct horse battery" });
            world.post("/api/v1/auth/register", &body).status
        };
        let all: Vec<_> = (0..30).map(|at| scope.spawn(move || register(at))).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
}

fn a_code_is_good_once_and_for_five_guesses(world: &World) {
    let email = world.fresh_email();
    world.register(&email);
    let login = json!({ "email": email, "password": "correct horse battery" });
    assert_eq!(world.post("/api/v1/auth/login", &login).problem(403), "not_verified");
    let code = world.code(&email);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let verify =
        |code: &str| world.post("/api/v1/auth/verify", &json!({ "email": email, "code": code }));
    for _ in 0..5 {
        assert_eq!(verify(wrong).problem(422), "code_invalid");
    }
    assert_eq!(verify(&code).problem(422), "code_invalid", "the guesses are used up");
    let nobody = json!({ "email": "nobody@example.com", "code": "123456" });
    assert_eq!(world.post("/api/v1/auth/verify", &nobody).problem(422), "code_invalid");
    let resend = json!({ "email": email });
    assert_eq!(world.post("/api/v1/auth/resend-code", &resend).status, 202);
    assert_eq!(world.code(&email), code, "a new code is not sent within 30 seconds");

    let email = world.fresh_email();
    world.register(&email);
    let body = json!({ "email": email, "code": world.code(&email) });
    world.post("/api/v1/auth/verify", &body).expect(200);
    assert_eq!(world.post("/api/v1/auth/verify", &body).problem(422), "code_invalid");
}

fn a_login_tells_nothing_of_who_is_there(world: &World) {
    let user = world.user();
    let answer = |email: &str| {
        let body = json!({ "email": email, "password": "not the password" });
        let reply = world.post("/api/v1/auth/login", &body);
        let mut problem = reply.json();
        assert_eq!(reply.problem(401), "credentials_invalid");
        problem["traceId"] = json!("");
        problem
    };
    assert_eq!(answer(&user.email), answer("nobody@example.com"));
    let long = json!({ "email": user.email, "password": "x".repeat(10_000) });
    assert_eq!(world.post("/api/v1/auth/login", &long).problem(401), "credentials_invalid");
    let resend =
        |email: &str| world.post("/api/v1/auth/resend-code", &json!({ "email": email })).status;
    assert_eq!((resend(&user.email), resend("nobody@example.com")), (202, 202));
}

fn a_refresh_token_works_once(world: &World) {
    let user = world.user();
    let refresh =
        |token: &str| world.post("/api/v1/auth/refresh", &json!({ "refreshToken": token }));
    let second = refresh(&user.refresh).expect(200);
    let (token, access) =
        (second["refreshToken"].as_str().unwrap(), second["accessToken"].as_str().unwrap());
    let mut newer = user.clone();
    newer.token = access.to_owned();
    newer.get("/api/v1/auth/me").expect(200);
    assert_eq!(refresh(&user.refresh).problem(401), "refresh_invalid", "used before");
    assert_eq!(refresh(token).problem(401), "refresh_invalid", "the family is revoked");
    assert_eq!(
        newer.get("/api/v1/auth/me").problem(401),
        "unauthenticated",
        "its access tokens too"
    );
    assert_eq!(refresh("nonsense").problem(401), "refresh_invalid");
    assert_eq!(refresh(&user.token).problem(401), "refresh_invalid", "an access token is none");
}

fn a_logout_ends_the_session_on_every_server(world: &World) {
    let user = world.user();
    let mut elsewhere = user.clone();
    elsewhere.address = world.serve(config());
    elsewhere.get("/api/v1/auth/me").expect(200);
    user.send("POST", "/api/v1/auth/logout", &[], None).expect(204);
    assert_eq!(user.get("/api/v1/auth/me").problem(401), "unauthenticated");
    let revoked = || elsewhere.get("/api/v1/auth/me").status == 401;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !revoked() {
        assert!(std::time::Instant::now() < until, "the other server hears of it");
    }
    let body = json!({ "refreshToken": user.refresh });
    assert_eq!(world.post("/api/v1/auth/refresh", &body).problem(401), "refresh_invalid");
    assert_eq!(world.post("/api/v1/auth/logout", &json!({})).problem(401), "unauthenticated");
}

fn a_browser_keeps_its_refresh_token_in_a_cookie(world: &World) {
    let user = world.user();
    let body = json!({ "email": user.email, "password": "correct horse battery" });
    let login = world.post("/api/v1/auth/login", &body);
    assert_eq!(login.expect(200)["refreshToken"], json!(null));
    let cookie = login.header("set-cookie").expect("a cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/api/v1/auth"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let pair = cookie.split(';').next().expect("a name and a value").to_owned();
    let refresh = |headers: &[(&str, &str)]| {
        http::send(world.address, "POST", "/api/v1/auth/refresh", headers, None)
    };
    let evil = [("cookie", pair.as_str()), ("origin", "https://evil.example")];
    assert_eq!(refresh(&evil).problem(403), "origin_forbidden");
    let cross = [("cookie", pair.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(refresh(&cross).problem(403), "origin_forbidden");
    let answer = refresh(&[("cookie", &pair)]);
    answer.expect(200);
    assert_ne!(answer.header("set-cookie"), Some(cookie.as_str()));
}

fn logins_are_limited_per_account(world: &World) {
    let user = world.user();
    let mut limited = config();
    limited.rate_limits.account_failures_max = 3;
    let address = world.serve(limited);
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password }).to_string();
        let headers = [("content-type", "application/json")];
        http::send(address, "POST", "/api/v1/auth/login", &headers, Some(body.as_bytes()))
    };
    for spelling in [user.email.clone(), user.email.to_uppercase(), user.email.clone()] {
        assert_eq!(login(&spelling, "wrong password").problem(401), "credentials_invalid");
    }
    let refused = login(&user.email, "correct horse battery");
    assert_eq!(refused.problem(429), "too_many_attempts");
    let seconds: u32 =
        refused.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!(seconds >= 1);
    let other = world.user();
    assert_eq!(login(&other.email, "correct horse battery").status, 200, "others are not shut out");
}

fn answers_have_no_secrets(world: &World) {
    let user = world.funded("100.00", "0");
    for path in [
        "/api/v1/auth/me",
        "/api/v1/auth/sessions",
        "/api/v1/auth/2fa",
        "/api/v1/wallet/balances",
        "/api/v1/wallet/transactions",
        "/api/v1/orders",
    ] {
        let text = user.get(path).text().to_lowercase();
        for word in ["password", "argon2", "hash", "salt", "secret"] {
            assert!(!text.contains(word), "{path}: {text}");
        }
    }
    let metrics = world.get("/metrics").text();
    assert!(metrics.contains("http_requests_total") && !metrics.contains("user-"), "{metrics}");
}
