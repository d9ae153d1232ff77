//! The second factor: turning it on and off, logging in with it, guessing it.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use server::{Clock, JwtSecret, Parts, ServerConfig};
use sha1::Sha1;

use crate::Case;
use crate::accounts::{post, with_session};
use crate::http::Reply;
use crate::world::{PASSWORD, User, World, config};

pub const CASES: &[Case] = &[
    ("a_second_factor_is_turned_on_used_and_turned_off", a_second_factor_is_turned_on_and_off),
    ("a_code_works_once_even_at_once", a_code_works_once_even_at_once),
    ("a_backup_code_works_once", a_backup_code_works_once),
    ("codes_are_guessed_five_times_at_most", codes_are_guessed_five_times_at_most),
    ("no_step_can_be_left_out", no_step_can_be_left_out),
    ("a_changed_password_ends_logins_that_wait", a_changed_password_ends_logins_that_wait),
    ("secrets_are_sealed_and_follow_the_keys", secrets_are_sealed_and_follow_the_keys),
    ("codes_of_another_program_are_taken", codes_of_another_program_are_taken),
];

/// A clock that stands until it is told to go on, so that no step ends while a test looks.
struct Standing(AtomicU64);

impl Clock for Standing {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// A server with a standing clock, and a user of it.
struct Stage {
    clock: Arc<Standing>,
    address: SocketAddr,
    user: User,
}

impl Stage {
    fn new(world: &World, config: ServerConfig) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        // The middle of a step.
        let clock = Arc::new(Standing(AtomicU64::new(now / 30 * 30 + 15)));
        let parts = Parts { clock: Arc::<Standing>::clone(&clock), ..world.parts(config) };
        let (address, _) = world.serve_parts(parts, world.stop.clone());
        let user = world.user();
        let mut stage = Self { clock, address, user };
        stage.user.address = address;
        let session = stage.login(PASSWORD).expect(200);
        stage.user = with_session(&stage.user, &session);
        stage
    }

    /// Goes on by a step: a new code, and the tokens that were made still good.
    fn step(&self) {
        self.clock.0.fetch_add(30, Ordering::SeqCst);
    }

    fn login(&self, password: &str) -> Reply {
        let body = json!({ "email": self.user.email, "password": password, "refreshIn": "body" });
        post(self.address, "/api/v1/auth/login", &[], &body)
    }

    /// Logs in as far as the second step, and returns its token.
    fn first_step(&self) -> String {
        let answer = self.login(PASSWORD).expect(202);
        assert!(answer["accessToken"].is_null(), "{answer}");
        answer["secondStepToken"].as_str().expect("a token").to_owned()
    }

    fn second_step(&self, token: &str, code: &str) -> Reply {
        let body = json!({ "secondStepToken": token, "code": code, "refreshIn": "body" });
        post(self.address, "/api/v1/auth/login/second-step", &[], &body)
    }

    fn enrol(&self) -> Vec<u8> {
        let answer =
            self.user.post("/api/v1/auth/2fa/enrol", &json!({ "password": PASSWORD })).expect(200);
        let text = answer["secret"].as_str().expect("a secret");
        let uri = answer["otpauthUri"].as_str().expect("a link");
        assert!(uri.starts_with("otpauth://totp/") && uri.contains(text), "{uri}");
        base32(text)
    }

    /// Turns the second factor on and returns its secret and the backup codes.
    fn turn_on(&self) -> (Vec<u8>, Vec<String>) {
        let secret = self.enrol();
        let body = json!({ "code": self.code(&secret, 0) });
        let answer = self.user.post("/api/v1/auth/2fa/confirm", &body).expect(200);
        let codes = answer["backupCodes"].as_array().expect("there are codes");
        let codes = codes.iter().map(|code| code.as_str().expect("a text").to_owned()).collect();
        self.step();
        (secret, codes)
    }

    /// Returns the code so many steps from now.
    fn code(&self, secret: &[u8], distance: i64) -> String {
        let now = i64::try_from(self.clock.now().as_secs()).expect("it is not that late");
        totp(secret, now / 30 + distance)
    }
}

fn base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|x| *x == c);
        buffer = (buffer << 5) | u32::try_from(value.expect("it is base32")).expect("it is small");
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 255).expect("it is a byte"));
        }
    }
    bytes
}

fn totp(secret: &[u8], step: i64) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret).expect("any length");
    let hash = mac.chain_update(step.to_be_bytes()).finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes([hash[at] & 127, hash[at + 1], hash[at + 2], hash[at + 3]]);
    format!("{:06}", number % 1_000_000)
}

/// Returns a code that is wrong at any time near.
fn wrong(stage: &Stage, secret: &[u8]) -> String {
    let near: Vec<_> = (-3..=3).map(|distance| stage.code(secret, distance)).collect();
    let mut all = (0..1_000_000).map(|number| format!("{number:06}"));
    all.find(|code| !near.contains(code)).expect("most codes are wrong")
}

fn status(user: &User) -> Value {
    user.get("/api/v1/auth/2fa").expect(200)
}

fn a_second_factor_is_turned_on_and_off(world: &World) {
    let stage = Stage::new(world, config());
    let user = &stage.user;
    let post_2fa = |path: &str, body: Value| user.post(&format!("/api/v1/auth/2fa/{path}"), &body);
    assert_eq!(status(user)["active"], false);
    assert_eq!(post_2fa("confirm", json!({ "code": "123456" })).problem(409), "two_factor_state");
    assert_eq!(post_2fa("enrol", json!({})).problem(422), "value_invalid");
    let bad = json!({ "password": "not the password" });
    assert_eq!(post_2fa("enrol", bad).problem(401), "credentials_invalid");
    let password = json!({ "password": PASSWORD });
    assert_eq!(post_2fa("disable", password.clone()).problem(409), "two_factor_state");
    let other = with_session(user, &stage.login(PASSWORD).expect(200));
    let secret = stage.enrol();
    // Nothing is on until a code has come back.
    assert_eq!(status(user)["active"], false);
    stage.login(PASSWORD).expect(200);
    let first_wrong = json!({ "code": wrong(&stage, &secret) });
    assert_eq!(post_2fa("confirm", first_wrong).problem(401), "second_factor_invalid");
    let confirmed = post_2fa("confirm", json!({ "code": stage.code(&secret, 0) })).expect(200);
    assert_eq!(confirmed["backupCodes"].as_array().map(Vec::len), Some(10));
    let now = status(user);
    assert_eq!((&now["active"], &now["backupCodesLeft"]), (&json!(true), &json!(10)));
    assert_eq!(other.get("/api/v1/auth/me").problem(401), "unauthenticated", "it had no code");
    world.mail(&user.email, |mail| mail.subject.contains("the second factor was turned on"));
    let frozen = user.get("/api/v1/account/profile").expect(200);
    assert!(frozen["withdrawalsFrozenUntil"].is_string(), "{frozen}");
    // The code that confirmed it is used.
    let token = stage.first_step();
    let used = stage.second_step(&token, &stage.code(&secret, 0));
    assert_eq!(used.problem(401), "second_factor_invalid");
    stage.step();
    let code = stage.code(&secret, 0);
    let session = stage.second_step(&token, &code).expect(200);
    with_session(user, &session).get("/api/v1/auth/me").expect(200);
    // The same code again, and the same login again.
    assert_eq!(stage.second_step(&token, &code).problem(401), "second_step_invalid");
    let token = stage.first_step();
    assert_eq!(stage.second_step(&token, &code).problem(401), "second_factor_invalid");
    // Two steps early or late.
    for distance in [-2, 2] {
        let refused = stage.second_step(&token, &stage.code(&secret, distance));
        assert_eq!(refused.problem(401), "second_factor_invalid", "{distance}");
    }
    // Off again, with the password and a code alone.
    assert_eq!(post_2fa("disable", password.clone()).problem(401), "second_factor_required");
    stage.step();
    let both = json!({ "password": PASSWORD, "code": stage.code(&secret, 0) });
    let wrong_password = json!({ "password": "not the password", "code": stage.code(&secret, 0) });
    assert_eq!(post_2fa("disable", wrong_password).problem(401), "credentials_invalid");
    assert_eq!(post_2fa("disable", both).status, 204);
    assert_eq!(stage.second_step(&token, "123456").problem(401), "second_step_invalid");
    stage.login(PASSWORD).expect(200);
    world.mail(&user.email, |mail| mail.subject.contains("the second factor was turned off"));
}

fn a_code_works_once_even_at_once(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, _) = stage.turn_on();
    let tokens: Vec<_> = (0..4).map(|_| stage.first_step()).collect();
    let code = stage.code(&secret, 0);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let (stage, code) = (&stage, &code);
        let one = move |token: &String| stage.second_step(token, code).status;
        let all: Vec<_> = tokens.iter().map(|token| scope.spawn(move || one(token))).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 401)), "{statuses:?}");
    // A later step's code was used, so an earlier one's counts for nothing.
    stage.step();
    let token = stage.first_step();
    stage.second_step(&token, &stage.code(&secret, 1)).expect(200);
    let token = stage.first_step();
    let earlier = stage.second_step(&token, &stage.code(&secret, 0));
    assert_eq!(earlier.problem(401), "second_factor_invalid");
}

fn a_backup_code_works_once(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, codes) = stage.turn_on();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let tokens: Vec<_> = (0..4).map(|_| stage.first_step()).collect();
        let (stage, code) = (&stage, codes[0].to_uppercase());
        let one = move |token: String, code: String| stage.second_step(&token, &code).status;
        let spawn = |token| {
            let code = code.clone();
            scope.spawn(move || one(token, code))
        };
        let all: Vec<_> = tokens.into_iter().map(spawn).collect();
        all.into_iter().map(|one| one.join().expect("it is answered")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(status(&stage.user)["backupCodesLeft"], 9);
    let token = stage.first_step();
    stage.second_step(&token, &codes[1].replace('-', " ")).expect(200);
    // New ones need a code, and take the place of the old ones.
    let path = "/api/v1/auth/2fa/backup-codes";
    let without = json!({ "password": PASSWORD });
    assert_eq!(stage.user.post(path, &without).problem(401), "second_factor_required");
    let both = json!({ "password": PASSWORD, "code": stage.code(&secret, 0) });
    let renewed = stage.user.post(path, &both).expect(200);
    let new = renewed["backupCodes"][0].as_str().expect("a code").to_owned();
    assert_eq!(status(&stage.user)["backupCodesLeft"], 10);
    let token = stage.first_step();
    assert_eq!(stage.second_step(&token, &codes[2]).problem(401), "second_factor_invalid");
    stage.second_step(&token, &new).expect(200);
    // None of them is readable in the database.
    let kept: i64 = world.sql(
        "SELECT count(*) FROM backup_codes JOIN users ON users.id = user_id \
          WHERE email = $1 AND position(convert_to($2, 'UTF8') IN code_hash) > 0",
        &[&stage.user.email, &new],
    );
    assert_eq!(kept, 0);
}

fn codes_are_guessed_five_times_at_most(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, _) = stage.turn_on();
    let device = {
        let token = stage.first_step();
        let session = stage.second_step(&token, &stage.code(&secret, 0)).expect(200);
        stage.step();
        session["deviceToken"].as_str().expect("a token").to_owned()
    };
    let token = stage.first_step();
    let bad = wrong(&stage, &secret);
    for _ in 0..5 {
        assert_eq!(stage.second_step(&token, &bad).problem(401), "second_factor_invalid");
    }
    let right = stage.code(&secret, 0);
    let refused = stage.second_step(&token, &right);
    assert_eq!(refused.problem(429), "too_many_attempts");
    assert!(refused.header("retry-after").is_some());
    // Nor does a new login help, from elsewhere.
    let token = stage.first_step();
    assert_eq!(stage.second_step(&token, &right).problem(429), "too_many_attempts");
    world.mail(&stage.user.email, |mail| mail.subject.contains("somebody may know your password"));
    // The owner's device is not held up by it.
    let token = stage.first_step();
    let body = json!({ "secondStepToken": token, "code": right, "deviceToken": device });
    post(stage.address, "/api/v1/auth/login/second-step", &[], &body).expect(200);
    // Malformed codes are no tries.
    let token = stage.first_step();
    for code in ["", "12345", "1234567", "12345\u{0}", "１２３４５６", "' OR 1=1", "abcdef"] {
        assert_eq!(stage.second_step(&token, code).problem(422), "value_invalid", "{code:?}");
    }
}

fn no_step_can_be_left_out(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, _) = stage.turn_on();
    let code = stage.code(&secret, 0);
    for token in ["", "nonsense", &stage.user.token, &stage.user.refresh] {
        assert_eq!(stage.second_step(token, &code).problem(401), "second_step_invalid", "{token}");
    }
    let token = stage.first_step();
    // The second step's token opens nothing by itself.
    let thief = User { token: token.clone(), ..stage.user.clone() };
    assert_eq!(thief.get("/api/v1/auth/me").problem(401), "unauthenticated");
    let body = json!({ "refreshToken": token });
    let refreshed = post(stage.address, "/api/v1/auth/refresh", &[], &body);
    assert_eq!(refreshed.problem(401), "refresh_invalid");
    let body = json!({ "secondStepToken": token });
    let missing = post(stage.address, "/api/v1/auth/login/second-step", &[], &body);
    assert_eq!(missing.problem(422), "value_invalid");
    // Nor does a session change anything without a code.
    let new = "a new horse and battery";
    for (path, body) in [
        ("auth/2fa/disable", json!({ "password": PASSWORD })),
        ("auth/2fa/enrol", json!({ "password": PASSWORD })),
        ("auth/2fa/backup-codes", json!({ "password": PASSWORD })),
        ("auth/password/change", json!({ "password": PASSWORD, "newPassword": new })),
        ("account/email", json!({ "password": PASSWORD, "newEmail": "other@example.com" })),
        ("account/close", json!({ "password": PASSWORD })),
    ] {
        let reply = stage.user.post(&format!("/api/v1/{path}"), &body);
        assert_eq!(reply.problem(401), "second_factor_required", "{path}");
    }
    assert_eq!(status(&stage.user)["active"], true);
    // A step that has waited too long is over.
    stage.clock.0.fetch_add(306, Ordering::SeqCst);
    let late = stage.second_step(&token, &stage.code(&secret, 0));
    assert_eq!(late.problem(401), "second_step_invalid");
}

fn a_changed_password_ends_logins_that_wait(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, codes) = stage.turn_on();
    let token = stage.first_step();
    let body = json!({
        "password": PASSWORD, "newPassword": "a new horse and battery", "code": codes[0], "refreshIn": "body",
    });
    stage.user.post("/api/v1/auth/password/change", &body).expect(200);
    let refused = stage.second_step(&token, &stage.code(&secret, 0));
    assert_eq!(refused.problem(401), "second_step_invalid");
    assert_eq!(stage.login("a new horse and battery").status, 202);
}

fn secrets_are_sealed_and_follow_the_keys(world: &World) {
    let stage = Stage::new(world, config());
    let (secret, _) = stage.turn_on();
    let sealed = || -> Vec<u8> {
        world.sql(
            "SELECT secret FROM two_factor JOIN users ON users.id = user_id WHERE email = $1",
            &[&stage.user.email],
        )
    };
    let before = sealed();
    assert!(!before.windows(secret.len()).any(|part| part == secret), "it is readable");
    // A server with a key of its own for this seals it anew; codes go on to work.
    let mut keyed = config();
    keyed.data_key =
        Some(JwtSecret::new("0a1b2c3d4e5f6071-of-the-tests-data").expect("it is long"));
    let parts = Parts { clock: Arc::<Standing>::clone(&stage.clock), ..world.parts(keyed) };
    let (address, _) = world.serve_parts(parts, world.stop.clone());
    world.wait("it is sealed anew", || (sealed() != before).then_some(()));
    let token = stage.first_step();
    let body =
        json!({ "secondStepToken": token, "code": stage.code(&secret, 0), "refreshIn": "body" });
    post(address, "/api/v1/auth/login/second-step", &[], &body).expect(200);
    // A server without that key lets nobody in by it, and says so.
    stage.step();
    let token = stage.first_step();
    let refused = stage.second_step(&token, &stage.code(&secret, 0));
    assert_eq!(refused.problem(503), "unavailable");
}

/// The same algorithm as another language's library makes it, from the specification.
const PYTHON: &str = "
import base64, hashlib, hmac, struct, sys
key = base64.b32decode(sys.argv[1])
digest = hmac.new(key, struct.pack('>Q', int(sys.argv[2]) // 30), hashlib.sha1).digest()
at = digest[-1] & 15
print('%06d' % ((struct.unpack('>I', digest[at:at + 4])[0] & 0x7fffffff) % 1000000))
";

fn codes_of_another_program_are_taken(world: &World) {
    let stage = Stage::new(world, config());
    let answer =
        stage.user.post("/api/v1/auth/2fa/enrol", &json!({ "password": PASSWORD })).expect(200);
    let secret = answer["secret"].as_str().expect("a secret").to_owned();
    let code = |stage: &Stage| -> Option<String> {
        let now = stage.clock.now().as_secs().to_string();
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON, &secret, &now]).stdin(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).expect("it is text").trim().to_owned())
    };
    let Some(first) = code(&stage) else {
        println!("NOT CHECKED against Python's codes: there is no python3 here");
        return;
    };
    stage.user.post("/api/v1/auth/2fa/confirm", &json!({ "code": first })).expect(200);
    stage.step();
    let second = code(&stage).expect("it ran a moment ago");
    let token = stage.first_step();
    stage.second_step(&token, &second).expect(200);
    let token = stage.first_step();
    assert_eq!(stage.second_step(&token, &second).problem(401), "second_factor_invalid");
}
