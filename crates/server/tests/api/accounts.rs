//! Passwords, sessions, the e-mail address, the profile, exports, and the end of an account.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use server::JwtSecret;

use crate::Case;
use crate::http::{self, Reply};
use crate::world::{PASSWORD, User, World, config};

pub const CASES: &[Case] = &[
    ("a_changed_password_ends_every_session", a_changed_password_ends_every_session),
    ("a_forgotten_password_is_reset_once", a_forgotten_password_is_reset_once),
    ("asking_for_a_reset_tells_nothing", asking_for_a_reset_tells_nothing),
    ("guessed_reset_tokens_are_limited", guessed_reset_tokens_are_limited),
    ("sessions_are_listed_and_ended", sessions_are_listed_and_ended),
    ("a_reused_refresh_token_warns_its_owner", a_reused_refresh_token_warns_its_owner),
    ("others_failures_keep_no_owner_out", others_failures_keep_no_owner_out),
    ("failures_are_limited_per_address", failures_are_limited_per_address),
    ("guesses_at_once_count_one_by_one", guesses_at_once_count_one_by_one),
    ("changes_at_once_wait_for_each_other", changes_at_once_wait_for_each_other),
    ("a_password_is_hashed_anew_when_the_cost_changes", a_password_is_hashed_anew),
    ("a_storm_of_logins_is_sent_away", a_storm_of_logins_is_sent_away),
    ("a_profile_takes_names_and_nothing_else", a_profile_takes_names_and_nothing_else),
    ("a_new_address_is_confirmed_and_the_old_one_told", a_new_address_is_confirmed),
    ("an_export_has_everything_and_opens_inert", an_export_has_everything_and_opens_inert),
    ("an_account_is_closed_only_when_it_is_empty", an_account_is_closed_only_when_it_is_empty),
    ("keys_are_rotated_without_logging_anybody_out", keys_are_rotated),
    ("tokens_of_one_kind_are_none_of_another", tokens_of_one_kind_are_none_of_another),
    ("forged_tokens_are_refused", forged_tokens_are_refused),
];

const NEW_PASSWORD: &str = "a new horse and battery";

pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    http::send(address, "POST", path, &all, Some(body.to_string().as_bytes()))
}

fn login(world: &World, email: &str, password: &str) -> Reply {
    let body = json!({ "email": email, "password": password, "refreshIn": "body" });
    world.post("/api/v1/auth/login", &body)
}

/// Returns a user's access token replaced by that of an answer.
pub fn with_session(user: &User, session: &Value) -> User {
    let text = |key: &str| session[key].as_str().expect("a session has tokens").to_owned();
    User { token: text("accessToken"), refresh: text("refreshToken"), ..user.clone() }
}

fn is_frozen(user: &User) -> bool {
    !user.get("/api/v1/account/profile").expect(200)["withdrawalsFrozenUntil"].is_null()
}

fn refresh(world: &World, token: &str) -> Reply {
    world.post("/api/v1/auth/refresh", &json!({ "refreshToken": token }))
}

fn a_changed_password_ends_every_session(world: &World) {
    let user = world.user();
    let other = world.login(&user.email, &user.wallet);
    assert!(!is_frozen(&user));
    let change = |body: Value| user.post("/api/v1/auth/password/change", &body);
    let wrong = json!({ "password": "not the password", "newPassword": NEW_PASSWORD });
    assert_eq!(change(wrong).problem(401), "credentials_invalid");
    for new in ["short", &"x".repeat(129), &user.email] {
        let body = json!({ "password": PASSWORD, "newPassword": new });
        assert_eq!(change(body).problem(422), "value_invalid", "{new}");
    }
    assert_eq!(other.get("/api/v1/auth/me").status, 200, "nothing has changed yet");
    let body = json!({ "password": PASSWORD, "newPassword": NEW_PASSWORD, "refreshIn": "body" });
    let now = with_session(&user, &change(body).expect(200));
    now.get("/api/v1/auth/me").expect(200);
    for old in [&user, &other] {
        assert_eq!(old.get("/api/v1/auth/me").problem(401), "unauthenticated");
        assert_eq!(refresh(world, &old.refresh).problem(401), "refresh_invalid");
    }
    assert_eq!(login(world, &user.email, PASSWORD).problem(401), "credentials_invalid");
    assert_eq!(login(world, &user.email, NEW_PASSWORD).status, 200);
    assert!(is_frozen(&now), "withdrawals are frozen");
    let mail = world.mail(&user.email, |mail| mail.subject.contains("the password was changed"));
    assert!(mail.text.contains("127.0.0.1") && mail.html.contains("127.0.0.1"), "{mail:?}");
}

/// Asks for a reset and returns the token that was mailed.
fn reset_token(world: &World, email: &str) -> String {
    let asked = world.post("/api/v1/auth/password/forgot", &json!({ "email": email }));
    assert_eq!(asked.status, 202, "{}", asked.text());
    let mail = world.mail(email, |mail| mail.subject.contains("set a new password"));
    let long = |word: &&str| word.len() == 43;
    mail.text.split_whitespace().find(long).expect("the mail has a token").to_owned()
}

fn a_forgotten_password_is_reset_once(world: &World) {
    let user = world.user();
    let token = reset_token(world, &user.email);
    let reset = |token: &str, password: &str| {
        let body = json!({ "token": token, "newPassword": password });
        world.post("/api/v1/auth/password/reset", &body)
    };
    assert_eq!(reset("nonsense", NEW_PASSWORD).problem(401), "reset_invalid");
    assert_eq!(reset(&user.refresh, NEW_PASSWORD).problem(401), "reset_invalid");
    assert_eq!(reset(&token, "short").problem(422), "value_invalid");
    assert_eq!(reset(&token, &user.email).problem(422), "value_invalid");
    assert_eq!(user.get("/api/v1/auth/me").status, 200, "the token is still good");
    // Two at once: one wins.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let (reset, token) = (&reset, &token);
        let all: Vec<_> =
            (0..8).map(|_| scope.spawn(move || reset(token, NEW_PASSWORD).status)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 401)), "{statuses:?}");
    assert_eq!(reset(&token, "another new password").problem(401), "reset_invalid");
    assert_eq!(user.get("/api/v1/auth/me").problem(401), "unauthenticated");
    assert_eq!(refresh(world, &user.refresh).problem(401), "refresh_invalid");
    assert_eq!(login(world, &user.email, PASSWORD).problem(401), "credentials_invalid");
    let now = with_session(&user, &login(world, &user.email, NEW_PASSWORD).expect(200));
    assert!(is_frozen(&now));
    world.mail(&user.email, |mail| mail.subject.contains("a new password was set by mail"));
}

fn asking_for_a_reset_tells_nothing(world: &World) {
    let user = world.user();
    let ask = |email: &str, headers: &[(&str, &str)]| {
        let body = json!({ "email": email });
        let reply = post(world.address, "/api/v1/auth/password/forgot", headers, &body);
        (reply.status, reply.text())
    };
    assert_eq!(ask("nobody@example.com", &[]), (202, String::new()));
    assert_eq!(ask("not an address", &[]).0, 422);
    // The link goes where it was configured to go, whatever a request says of its host.
    let mut linked = config();
    linked.public_url = Some("https://exchange.example".to_owned());
    let address = world.serve(linked);
    let poisoned = [
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
        ("origin", "https://evil.example"),
    ];
    let body = json!({ "email": user.email });
    let asked = post(address, "/api/v1/auth/password/forgot", &poisoned, &body);
    assert_eq!((asked.status, asked.text()), (202, String::new()));
    let mail = world.mail(&user.email, |mail| mail.subject.contains("set a new password"));
    assert!(mail.text.contains("https://exchange.example/reset-password#token="), "{mail:?}");
    assert!(!mail.text.contains("evil") && !mail.html.contains("evil"), "{mail:?}");
    // Within a minute there is no second mail; the first token stays good.
    let tokens = || -> i64 {
        world.sql(
            "SELECT count(*) FROM password_resets JOIN users ON users.id = user_id WHERE email = $1",
            &[&user.email],
        )
    };
    assert_eq!(tokens(), 1);
    assert_eq!(ask(&user.email, &[]), (202, String::new()));
    let other = world.user();
    reset_token(world, &other.email);
    assert_eq!(tokens(), 1, "a request within the minute makes no other token");
}

fn guessed_reset_tokens_are_limited(world: &World) {
    let mut limited = config();
    limited.rate_limits.account_failures_max = 2;
    let address = world.serve(limited);
    let body = json!({ "token": "a guess", "newPassword": NEW_PASSWORD });
    let statuses: Vec<u16> =
        (0..30).map(|_| post(address, "/api/v1/auth/password/reset", &[], &body).status).collect();
    assert_eq!(statuses.first(), Some(&401));
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

fn sessions_are_listed_and_ended(world: &World) {
    let user = world.user();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let body = json!({ "email": user.email, "password": PASSWORD, "refreshIn": "body" });
    let browser =
        post(world.address, "/api/v1/auth/login", &[("user-agent", agent)], &body).expect(200);
    let browser = with_session(&user, &browser);
    let third = world.login(&user.email, &user.wallet);
    let list = |user: &User| user.get("/api/v1/auth/sessions").expect(200)["items"].clone();
    let items = list(&user);
    let items = items.as_array().expect("a list");
    assert_eq!(items.len(), 3, "{items:?}");
    let current: Vec<_> = items.iter().filter(|item| item["current"] == true).collect();
    assert_eq!(current.len(), 1, "{items:?}");
    let firefox = items.iter().find(|item| item["device"] == "Firefox on Linux");
    let firefox = firefox.expect("the browser is named");
    assert_eq!(firefox["address"], "127.0.0.1");
    for key in ["createdAt", "lastUsedAt", "expiresAt"] {
        assert!(firefox[key].is_string(), "{firefox}");
    }
    let path = format!("/api/v1/auth/sessions/{}", firefox["id"].as_str().expect("an id"));
    // Another's session is not there.
    let stranger = world.user();
    assert_eq!(stranger.delete(&path).problem(404), "not_found");
    assert_eq!(browser.get("/api/v1/auth/me").status, 200);
    assert_eq!(user.delete(&path).status, 204);
    assert_eq!(user.delete(&path).problem(404), "not_found", "it is over already");
    assert_eq!(browser.get("/api/v1/auth/me").problem(401), "unauthenticated");
    assert_eq!(refresh(world, &browser.refresh).problem(401), "refresh_invalid");
    assert_eq!(user.delete("/api/v1/auth/sessions").expect(200)["sessionsEnded"], 1);
    assert_eq!(third.get("/api/v1/auth/me").problem(401), "unauthenticated");
    assert_eq!(list(&user).as_array().map(Vec::len), Some(1));
    assert_eq!(stranger.get("/api/v1/auth/me").status, 200);
}

fn a_reused_refresh_token_warns_its_owner(world: &World) {
    let user = world.user();
    let second = with_session(&user, &refresh(world, &user.refresh).expect(200));
    // The thief's copy, used after the owner: both are out.
    assert_eq!(refresh(world, &user.refresh).problem(401), "refresh_invalid");
    assert_eq!(refresh(world, &second.refresh).problem(401), "refresh_invalid");
    for one in [&user, &second] {
        assert_eq!(one.get("/api/v1/auth/me").problem(401), "unauthenticated");
    }
    world.mail(&user.email, |mail| mail.subject.contains("a session was ended"));
    world.wait("an audit row says so", || {
        let rows: i64 = world.sql(
            "SELECT count(*) FROM audit_log JOIN users ON users.id = user_id \
              WHERE action = 'auth.refresh_reused' AND level = 'warn' AND email = $1",
            &[&user.email],
        );
        (rows >= 1).then_some(())
    });
    // Trying again and again sends no further mail.
    for _ in 0..3 {
        assert_eq!(refresh(world, &user.refresh).problem(401), "refresh_invalid");
    }
    let waiting: i64 = world.sql(
        "SELECT count(*) FROM mail_outbox WHERE recipient = $1 AND kind = 'session_reused'",
        &[&user.email],
    );
    let came = world.inbox.mails().into_iter().filter(|mail| {
        mail.mail.to == user.email && mail.mail.subject.contains("a session was ended")
    });
    assert_eq!((waiting, came.count()), (0, 1));
}

fn others_failures_keep_no_owner_out(world: &World) {
    let mut limited = config();
    limited.rate_limits.account_failures_max = 3;
    limited.trusted_proxies = vec!["127.0.0.1".parse().expect("an address")];
    let address = world.serve(limited);
    let from = |ip: &str, body: &Value| {
        post(address, "/api/v1/auth/login", &[("x-forwarded-for", ip)], body)
    };
    let user = world.user();
    let good = json!({ "email": user.email, "password": PASSWORD, "refreshIn": "body" });
    let bad = json!({ "email": user.email, "password": "not the password" });
    let first = from("192.0.2.1", &good).expect(200);
    let device = first["deviceToken"].as_str().expect("a device gets a token").to_owned();
    // Attackers from everywhere use up what unknown devices may fail.
    let statuses: Vec<u16> =
        (1..=8).map(|at| from(&format!("198.51.100.{at}"), &bad).status).collect();
    assert_eq!(statuses[..3], [401, 401, 401]);
    assert!(statuses[3..].iter().all(|status| *status == 429), "{statuses:?}");
    let refused = from("203.0.113.1", &good);
    assert_eq!(refused.problem(429), "too_many_attempts", "an unknown device waits");
    assert!(refused.header("retry-after").is_some());
    // The owner's device gets in from anywhere, and so does a known address.
    let mut with_device = good.clone();
    with_device["deviceToken"] = json!(device);
    from("203.0.113.2", &with_device).expect(200);
    from("192.0.2.1", &good).expect(200);
    let cookie = format!("kx_device={device}");
    let headers = [("x-forwarded-for", "203.0.113.3"), ("cookie", cookie.as_str())];
    post(address, "/api/v1/auth/login", &headers, &good).expect(200);
    // Another's device, or a forged one, is an unknown one.
    let stranger = world.user();
    let other = json!({ "email": stranger.email, "password": PASSWORD, "refreshIn": "body" });
    let other = from("203.0.113.9", &other).expect(200);
    for token in [other["deviceToken"].as_str().expect("a token"), &user.token, "nonsense"] {
        with_device["deviceToken"] = json!(token);
        assert_eq!(from("203.0.113.4", &with_device).problem(429), "too_many_attempts");
    }
    // A known device has its own limit.
    let mut guesses = bad.clone();
    guesses["deviceToken"] = json!(device);
    let statuses: Vec<u16> = (0..5).map(|_| from("203.0.113.5", &guesses).status).collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

fn failures_are_limited_per_address(world: &World) {
    let mut limited = config();
    limited.rate_limits.account_failures_max = 2;
    let address = world.serve(limited);
    let user = world.user();
    let mut good = json!({ "email": user.email, "password": PASSWORD, "refreshIn": "body" });
    let first = post(address, "/api/v1/auth/login", &[], &good).expect(200);
    // One address sprays one password over many accounts.
    let statuses: Vec<u16> = (0..14)
        .map(|at| {
            let body =
                json!({ "email": format!("spray-{at}@example.com"), "password": "Password12345" });
            // Who is not behind a trusted proxy is the connection's address, whatever the header says.
            let forged = format!("198.51.100.{at}");
            post(address, "/api/v1/auth/login", &[("x-forwarded-for", &forged)], &body).status
        })
        .collect();
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10..], [429; 4]);
    // Whoever shares that address waits too, unless the account knows the device.
    let refused = post(address, "/api/v1/auth/login", &[], &good);
    assert_eq!(refused.problem(429), "too_many_attempts");
    good["deviceToken"] = first["deviceToken"].clone();
    post(address, "/api/v1/auth/login", &[], &good).expect(200);
}

fn guesses_at_once_count_one_by_one(world: &World) {
    let mut limited = config();
    limited.rate_limits.account_failures_max = 3;
    let address = world.serve(limited);
    let user = world.user();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let email = &user.email;
        let guess = move |at: usize| {
            // Spellings of one address are one account.
            let email = if at.is_multiple_of(2) { email.to_uppercase() } else { email.clone() };
            let body = json!({ "email": email, "password": format!("a guess, number {at}") });
            post(address, "/api/v1/auth/login", &[], &body).status
        };
        let all: Vec<_> = (0..30).map(|at| scope.spawn(move || guess(at))).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
}

fn changes_at_once_wait_for_each_other(world: &World) {
    let user = world.user();
    let sessions: Vec<User> = (0..4).map(|_| world.login(&user.email, &user.wallet)).collect();
    let new_email = world.fresh_email();
    let body = json!({ "newEmail": new_email, "password": PASSWORD });
    assert_eq!(user.post("/api/v1/account/email", &body).status, 202);
    let code = json!({ "code": world.code(&new_email) });
    let reset = json!({ "token": reset_token(world, &user.email), "newPassword": NEW_PASSWORD });
    let change = json!({ "password": PASSWORD, "newPassword": NEW_PASSWORD, "refreshIn": "body" });
    let replies: Vec<Reply> = thread::scope(|scope| {
        let (user, code, reset, change) = (&user, &code, &reset, &change);
        let mut all = Vec::new();
        for session in &sessions {
            all.push(scope.spawn(move || session.delete("/api/v1/auth/sessions")));
            all.push(scope.spawn(move || session.post("/api/v1/auth/password/change", change)));
            all.push(scope.spawn(move || refresh(world, &session.refresh)));
        }
        all.push(scope.spawn(move || user.post("/api/v1/account/email/confirm", code)));
        all.push(scope.spawn(move || world.post("/api/v1/auth/password/reset", reset)));
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    for reply in replies {
        assert!(reply.status < 500, "{} {}", reply.status, reply.text());
    }
}

fn a_password_is_hashed_anew(world: &World) {
    let user = world.user();
    let hash = || -> String {
        world.sql("SELECT password_hash FROM users WHERE email = $1", &[&user.email])
    };
    assert!(hash().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash());
    let mut dearer = config();
    dearer.password_cost.passes = 2;
    let address = world.serve(dearer);
    let body = json!({ "email": user.email, "password": PASSWORD });
    let wrong = json!({ "email": user.email, "password": "not the password" });
    post(address, "/api/v1/auth/login", &[], &wrong).problem(401);
    assert!(hash().contains("t=1,"), "a wrong password changes nothing");
    post(address, "/api/v1/auth/login", &[], &body).expect(200);
    assert!(hash().starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{}", hash());
    post(address, "/api/v1/auth/login", &[], &body).expect(200);
}

fn a_storm_of_logins_is_sent_away(world: &World) {
    let mut slow = config();
    // One at a time, so that a storm of them piles up; and none is given up because this machine is busy with other things.
    slow.password_cost = server::PasswordCost { memory_kib: 2_048, passes: 1, parallel_max: 1 };
    slow.request_timeout = Duration::from_secs(300);
    let address = world.serve(slow);
    let body = json!({ "email": "nobody@example.com", "password": "not the password" });
    let statuses: Vec<u16> = thread::scope(|scope| {
        let body = &body;
        let one = move || post(address, "/api/v1/auth/login", &[], body).status;
        let all: Vec<_> = (0..40).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses.contains(&401), "{statuses:?}");
    // When the storm is over, everybody is served.
    assert_eq!(post(address, "/api/v1/auth/login", &[], &body).status, 401);
}

fn a_profile_takes_names_and_nothing_else(world: &World) {
    let user = world.user();
    let profile = user.get("/api/v1/account/profile").expect(200);
    assert_eq!(profile["email"], user.email.as_str());
    assert_eq!(profile["displayName"], "");
    assert_eq!(profile["twoFactor"], false);
    let patch = |body: &Value| user.send("PATCH", "/api/v1/account/profile", &[], Some(body));
    let changed = patch(&json!({ "displayName": "Ann O'Neill" })).expect(200);
    assert_eq!(changed["displayName"], "Ann O'Neill");
    for name in [
        "<script>alert(1)</script>",
        "=cmd",
        "a\u{0}b",
        "a\u{202e}b",
        " ",
        &"x".repeat(51),
        &"x".repeat(10_000),
    ] {
        assert_eq!(patch(&json!({ "displayName": name })).problem(422), "value_invalid", "{name}");
    }
    for body in [
        json!({ "displayName": 1 }),
        json!({ "displayName": "Ann", "role": "admin" }),
        json!({ "email": "other@example.com" }),
        json!({ "withdrawalsFrozenUntil": null }),
    ] {
        assert_eq!(patch(&body).problem(400), "body_malformed", "{body}");
    }
    assert_eq!(user.get("/api/v1/account/profile").expect(200), changed);
}

fn a_new_address_is_confirmed(world: &World) {
    let user = world.user();
    let other = world.login(&user.email, &user.wallet);
    let taken = world.user();
    let new_email = world.fresh_email();
    let ask = |email: &str, password: &str| {
        user.post("/api/v1/account/email", &json!({ "newEmail": email, "password": password }))
    };
    let confirm = |code: &str| user.post("/api/v1/account/email/confirm", &json!({ "code": code }));
    assert_eq!(confirm("123456").problem(422), "code_invalid", "nothing waits");
    assert_eq!(ask(&new_email, "not the password").problem(401), "credentials_invalid");
    assert_eq!(ask("not an address", PASSWORD).problem(422), "value_invalid");
    // An address that has an account is answered alike, and gets no mail.
    assert_eq!(ask(&taken.email, PASSWORD).status, 202);
    assert_eq!(ask(&new_email.to_uppercase(), PASSWORD).status, 202);
    let code = world.code(&new_email);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(confirm(wrong).problem(422), "code_invalid");
    let changed = confirm(&code).expect(200);
    assert_eq!(changed["email"], new_email.as_str());
    assert_eq!(changed["sessionsEnded"], 1);
    assert_eq!(confirm(&code).problem(422), "code_invalid", "it was used");
    assert_eq!(user.get("/api/v1/auth/me").expect(200)["email"], new_email.as_str());
    assert_eq!(other.get("/api/v1/auth/me").problem(401), "unauthenticated");
    assert!(is_frozen(&user));
    world.mail(&user.email, |mail| mail.subject.contains("the e-mail address was changed"));
    let taken_mail = |mail: &server::mail::Received| {
        mail.mail.to == taken.email && mail.mail.subject.contains("confirm your new address")
    };
    assert!(!world.inbox.mails().iter().any(taken_mail), "nobody is told who has an account");
    assert_eq!(login(world, &user.email, PASSWORD).problem(401), "credentials_invalid");
    login(world, &new_email, PASSWORD).expect(200);
    // Five wrong guesses use up a code.
    let third = world.fresh_email();
    assert_eq!(ask(&third, PASSWORD).status, 202);
    let code = world.code(&third);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        assert_eq!(confirm(wrong).problem(422), "code_invalid");
    }
    assert_eq!(confirm(&code).problem(422), "code_invalid", "the guesses are used up");
}

fn an_export_has_everything_and_opens_inert(world: &World) {
    let user = world.funded("10000.00", "1");
    let body = json!({ "email": user.email, "password": PASSWORD });
    let agent = "=cmd|'/c calc'!A1";
    post(world.address, "/api/v1/auth/login", &[("user-agent", agent)], &body).expect(200);
    user.limit("buy", "47000.00", "0.01");
    let body = json!({ "asset": "USD", "amount": "5.00", "destination": "@SUM(A1)" });
    user.post("/api/v1/wallet/withdraw", &body).expect(201);
    let projected = |part: &str, count: usize| {
        world.wait("the projections have come so far", || {
            let export = user.get("/api/v1/account/export").expect(200);
            (export[part].as_array().map(Vec::len) == Some(count)).then_some(export)
        })
    };
    projected("orders", 1);
    let export = projected("withdrawals", 1);
    assert_eq!(export["profile"][0]["email"], user.email.as_str());
    assert_eq!(export["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!(export["transactions"].as_array().map(Vec::len), Some(3), "{export}");
    assert_eq!(export["withdrawals"][0]["destination"], "@SUM(A1)");
    assert_eq!(export["fills"], json!([]));
    let text = export.to_string().to_lowercase();
    for word in ["argon2", "token_hash", "password_hash", "reference_salt"] {
        assert!(!text.contains(word), "{word}");
    }
    let csv = |part: &str| {
        let reply = user.get(&format!("/api/v1/account/export?format=csv&part={part}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8"));
        assert!(
            reply.header("content-disposition").is_some_and(|text| text.contains("attachment"))
        );
        reply.text()
    };
    assert!(csv("sessions").contains("\"'=cmd|'/c calc'!A1\""), "{}", csv("sessions"));
    assert!(csv("withdrawals").contains("\"'@SUM(A1)\""), "{}", csv("withdrawals"));
    assert!(csv("balances").contains("USD,"), "{}", csv("balances"));
    assert_eq!(csv("transactions").lines().count(), 4);
    for query in ["format=xml", "format=csv&part=users", "part=orders"] {
        let path = format!("/api/v1/account/export?{query}");
        assert_eq!(user.get(&path).problem(422), "value_invalid", "{query}");
    }
    // Another's export has nothing of it.
    let stranger = world.user();
    let text = stranger.get("/api/v1/account/export").expect(200).to_string();
    assert!(!text.contains(&user.email) && !text.contains("@SUM"), "{text}");
}

fn an_account_is_closed_only_when_it_is_empty(world: &World) {
    let user = world.funded("10.00", "0");
    let other = world.login(&user.email, &user.wallet);
    let close =
        |password: &str| user.post("/api/v1/account/close", &json!({ "password": password }));
    assert_eq!(close("not the password").problem(401), "credentials_invalid");
    assert_eq!(close(PASSWORD).problem(422), "account_not_empty", "there is money");
    let body = json!({ "asset": "USD", "amount": "10.00", "destination": "somewhere" });
    let withdrawal = user.post("/api/v1/wallet/withdraw", &body).expect(201);
    assert_eq!(close(PASSWORD).problem(422), "account_not_empty", "a withdrawal is open");
    let path = format!("/api/v1/wallet/withdraw/{}", withdrawal["id"].as_str().expect("an id"));
    user.delete(&path).expect(200);
    let friend = world.user();
    let body = json!({ "asset": "USD", "amount": "10.00", "to": friend.wallet });
    user.post("/api/v1/wallet/transfer", &body).expect(201);
    assert_eq!(close(PASSWORD).status, 204);
    for one in [&user, &other] {
        assert_eq!(one.get("/api/v1/auth/me").problem(401), "unauthenticated");
        assert_eq!(refresh(world, &one.refresh).problem(401), "refresh_invalid");
    }
    assert_eq!(login(world, &user.email, PASSWORD).problem(401), "credentials_invalid");
    let closed = world.live.read(|state| state.account(user.account).map(|one| one.flags.closed));
    assert_eq!(closed, Some(true));
    let account = i64::try_from(user.account.get()).expect("it is small");
    let left: String = world.sql(
        "SELECT email || '|' || display_name || '|' || password_hash FROM users WHERE account_id = $1",
        &[&account],
    );
    assert!(left.starts_with("closed-") && left.ends_with("@closed.invalid||"), "{left}");
    let named: i64 = world.sql(
        "SELECT count(*) FROM sessions JOIN users ON users.id = user_id \
          WHERE account_id = $1 AND (address IS NOT NULL OR user_agent <> '')",
        &[&account],
    );
    assert_eq!(named, 0);
    world.mail(&user.email, |mail| mail.subject.contains("your account is closed"));
    // The address is free again.
    world.register(&user.email);
}

fn keys_are_rotated(world: &World) {
    let user = world.user();
    let mut rotated = config();
    rotated.jwt_secret_previous = Some(rotated.jwt_secret.clone());
    rotated.jwt_secret = JwtSecret::new("fedcba9876543210-of-the-tests-next").expect("it is long");
    let mut again = config();
    again.jwt_secret = JwtSecret::new("00112233445566778899-of-the-tests").expect("it is long");
    let mut moved = user.clone();
    moved.address = world.serve(rotated);
    moved.get("/api/v1/auth/me").expect(200);
    let body = json!({ "refreshToken": moved.refresh });
    let session = post(moved.address, "/api/v1/auth/refresh", &[], &body).expect(200);
    let newer = with_session(&moved, &session);
    newer.get("/api/v1/auth/me").expect(200);
    // A server that still has the old key alone does not know the new one.
    let mut elsewhere = newer.clone();
    elsewhere.address = world.address;
    assert_eq!(elsewhere.get("/api/v1/auth/me").problem(401), "unauthenticated");
    moved.address = world.serve(again);
    assert_eq!(moved.get("/api/v1/auth/me").problem(401), "unauthenticated", "a key is gone");
}

/// X40: tokens in each other's places.
fn tokens_of_one_kind_are_none_of_another(world: &World) {
    let user = world.user();
    let body = json!({ "email": user.email, "password": PASSWORD, "refreshIn": "body" });
    let session = world.post("/api/v1/auth/login", &body).expect(200);
    let device = session["deviceToken"].as_str().expect("a token").to_owned();
    for token in [&device, &user.refresh] {
        let other = User { token: token.clone(), ..user.clone() };
        assert_eq!(other.get("/api/v1/auth/me").problem(401), "unauthenticated");
    }
    for token in [&device, &user.token] {
        assert_eq!(refresh(world, token).problem(401), "refresh_invalid");
        let step = json!({ "secondStepToken": token, "code": "123456" });
        let refused = world.post("/api/v1/auth/login/second-step", &step);
        assert_eq!(refused.problem(401), "second_step_invalid");
    }
    user.get("/api/v1/auth/me").expect(200);
}

/// X35 to X38: over the wire; the claims one by one are tested beside the code.
fn forged_tokens_are_refused(world: &World) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    let user = world.user();
    let parts: Vec<_> = user.token.split('.').collect();
    let header = BASE64.decode(parts[0]).expect("a header");
    let header = String::from_utf8(header).expect("it is text");
    let mut tokens = Vec::new();
    for alg in ["none", "None", "nOnE", "HS512", "RS256", "ES256"] {
        let other = header.replace("HS256", alg);
        assert_ne!(other, header);
        tokens.push(format!("{}.{}.{}", BASE64.encode(&other), parts[1], parts[2]));
        tokens.push(format!("{}.{}.", BASE64.encode(&other), parts[1]));
        tokens.push(format!("{}.{}", BASE64.encode(&other), parts[1]));
    }
    for more in [
        r#","kid":"../../dev/null""#,
        r#","kid":"x' UNION SELECT 'key'--""#,
        r#","jku":"https://evil.example/keys""#,
        r#","jwk":{"kty":"oct","k":"AAAA"}"#,
        r#","crit":["exp"]"#,
    ] {
        let other = header.replace('}', &format!("{more}}}"));
        tokens.push(format!("{}.{}.{}", BASE64.encode(&other), parts[1], parts[2]));
    }
    let claims = BASE64.decode(parts[1]).expect("claims");
    let claims = String::from_utf8(claims).expect("they are text");
    for (from, to) in
        [("krystalinex-api", "other-api"), ("\"exp\":", "\"xep\":"), ("\"acc\":", "\"acc\":1")]
    {
        let other = claims.replacen(from, to, 1);
        assert_ne!(other, claims);
        tokens.push(format!("{}.{}.{}", parts[0], BASE64.encode(&other), parts[2]));
    }
    tokens.push(user.token[..user.token.len() - 1].to_owned());
    tokens.push(format!("{}A", user.token));
    for token in tokens {
        let forged = User { token: token.clone(), ..user.clone() };
        assert_eq!(forged.get("/api/v1/auth/me").problem(401), "unauthenticated", "{token}");
    }
    user.get("/api/v1/auth/me").expect(200);
}
