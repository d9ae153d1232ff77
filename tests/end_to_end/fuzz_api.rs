//! An off-the-shelf fuzzer reads the served OpenAPI document and finds no answer that is not in it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Exchange, Fuzz, Http, Settings, Trader, authenticator_code};
use serde_json::json;

const PASSWORD: &str = "bob-demo-password";
/// A machine that stands still for half a minute makes a code too old: then the next one is tried.
const TRIES: u32 = 3;
/// What ends the session that the requests are sent with.
const ENDS_SESSIONS: &str = "^/api/v1/auth/(sessions|logout)";

#[test]
fn schemathesis_finds_no_answer_that_is_not_in_the_description() {
    // The limits of requests are tried elsewhere; here they would only hide what lies behind them.
    let limits = "anonymous=0,user=0,orders=0,attempts=0,money=0".to_owned();
    let environment = vec![("KX_RATE_LIMITS".to_owned(), limits)];
    let arguments = vec!["--demo".to_owned()];
    let exchange = Exchange::with(Settings { environment, arguments, ..Settings::default() });

    let nobody = Fuzz { name: "nobody", token: None, paths: "^/", except: None, cases_max: 3 };
    run(&exchange, nobody);
    let alice = token(Trader::alice(&exchange).http);
    let user = Fuzz { name: "a user", token: Some(&alice), except: Some(ENDS_SESSIONS), ..nobody };
    run(&exchange, Fuzz { cases_max: 10, ..user });
    run(&exchange, Fuzz { name: "sessions", paths: ENDS_SESSIONS, except: None, ..user });
    let admin = administrator(&exchange);
    let admin = Fuzz { name: "an administrator", token: Some(&admin), paths: "/admin/", ..nobody };
    run(&exchange, Fuzz { cases_max: 15, ..admin });

    // A failure behind the edge, such as a text that the database does not take, is told as a 503 and logged as an error.
    let errors: Vec<_> =
        exchange.said().lines().filter(|line| is_error(line)).map(String::from).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(exchange.http().get("/ready").expect("it answers").status, 200);
}

fn is_error(line: &str) -> bool {
    line.contains("\"level\":\"error\"")
}

fn run(exchange: &Exchange, fuzz: Fuzz<'_>) {
    let began = Instant::now();
    let said = fuzz.run(exchange);
    let said = said.unwrap_or_else(|said| panic!("as {}:\n{said}", fuzz.name));
    let summary = said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
    println!("schemathesis as {}: {} in {:?}", fuzz.name, summary.trim(), began.elapsed());
    assert!(summary.contains("passed"), "it tries something:\n{said}");
}

fn token(http: Http) -> String {
    http.token().expect("it is logged in").to_owned()
}

/// Makes the demo's second user an administrator, with the second factor that the role needs, and returns a token.
fn administrator(exchange: &Exchange) -> String {
    let granted = exchange.tool(&["admin", "grant", "bob@demo.example", "admin"], &exchange.psql());
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
    let mut http = Trader::bob(exchange).http;
    let enrol = http.post("/api/v1/auth/2fa/enrol", &json!({"password": PASSWORD}));
    let enrolment = enrol.expect("it answers").expect(200);
    let secret = enrolment["secret"].as_str().expect("it has a secret");
    let confirmed = (0..TRIES).any(|_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let body = json!({"code": authenticator_code(secret, now)});
        http.post("/api/v1/auth/2fa/confirm", &body).expect("it answers").status == 200
    });
    assert!(confirmed, "a code confirms the second factor");
    http.get("/api/v1/admin/roles").expect("it answers").expect(200);
    token(http)
}
