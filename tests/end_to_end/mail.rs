//! Mail by SMTP, to MailDev; and the second factor, with the codes of an authenticator's library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Answer, Exchange, Http, MailDev, Settings, authenticator_code};
use serde_json::{Value, json};

const EMAIL: &str = "ann@example.com";
const PASSWORD: &str = "correct horse battery";
/// A machine that stands still for half a minute makes a code too old: then the next one is tried.
const TRIES: u32 = 3;

#[test]
fn maildev_brings_the_code_and_an_authenticator_logs_in_once() {
    let maildev = MailDev::start();
    let environment = vec![("SMTP_URL".to_owned(), maildev.smtp_url())];
    let arguments = vec!["--no-demo".to_owned()];
    let exchange = Exchange::with(Settings { environment, arguments, ..Settings::default() });
    let mut http = exchange.http();
    let credentials = json!({"email": EMAIL, "password": PASSWORD});
    post(&mut http, "register", &credentials).expect(201);

    let mail = maildev.mail(EMAIL, "verification code");
    let text = mail["text"].as_str().expect("it has a text part");
    let digits = |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    let code = text.split_whitespace().find(digits).expect("the text has a code");
    let html = mail["html"].as_str().expect("it has an HTML part");
    assert!(html.contains(code), "{html}");
    post(&mut http, "verify", &json!({"email": EMAIL, "code": code})).expect(200);

    let session = post(&mut http, "login", &credentials).expect(200);
    let mut user = exchange.http().with_token(&text_of(&session, "accessToken"));
    let enrolment = post(&mut user, "2fa/enrol", &json!({"password": PASSWORD})).expect(200);
    let secret = text_of(&enrolment, "secret");
    let confirmed = right(|| {
        let body = json!({"code": code_in(&secret, Duration::ZERO)});
        post(&mut user, "2fa/confirm", &body)
    });
    assert_eq!(confirmed["backupCodes"].as_array().map(Vec::len), Some(10));
    let _ = maildev.mail(EMAIL, "second factor was turned on");

    let first_step = |http: &mut Http| {
        text_of(&post(http, "login", &credentials).expect(202), "secondStepToken")
    };
    let mut used = String::new();
    let session = right(|| {
        let token = first_step(&mut http);
        // The confirmation has used the code of this step.
        used = code_in(&secret, Duration::from_secs(30));
        post(&mut http, "login/second-step", &json!({"secondStepToken": token, "code": used}))
    });
    let mut user = exchange.http().with_token(&text_of(&session, "accessToken"));
    assert_eq!(user.get("/api/v1/auth/me").expect("it answers").status, 200);

    let token = first_step(&mut http);
    let again = json!({"secondStepToken": token, "code": used});
    let refused = post(&mut http, "login/second-step", &again).expect(401);
    assert_eq!(refused["code"], "second_factor_invalid");
    assert!(!exchange.said().contains(PASSWORD) && !exchange.said().contains(&secret));
}

fn post(http: &mut Http, path: &str, body: &Value) -> Answer {
    http.post(&format!("/api/v1/auth/{path}"), body).expect("it answers")
}

fn text_of(body: &Value, key: &str) -> String {
    body[key].as_str().unwrap_or_else(|| panic!("{key}: {body}")).to_owned()
}

fn code_in(secret: &str, time: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    authenticator_code(secret, now + time)
}

/// Returns what comes of a right code.
fn right(mut attempt: impl FnMut() -> Answer) -> Value {
    for _ in 1..TRIES {
        let answer = attempt();
        if answer.status != 401 {
            return answer.expect(200);
        }
    }
    attempt().expect(200)
}
