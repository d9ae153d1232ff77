//! What an operator sees: metrics that Prometheus takes, the status page, the command line, and the auditor that finds
//! what somebody changed by hand while the exchange runs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{Exchange, Http, Trader, market, run, wait_for};
use serde_json::Value;

/// The auditor looks every ten seconds; a slow machine takes its time.
const AUDIT_MAX: Duration = Duration::from_secs(120);

fn traded() -> Exchange {
    let exchange = Exchange::demo();
    let mut alice = Trader::alice(&exchange);
    for side in ["buy", "sell"] {
        alice.place(&market("BTC/USD", side, "0.001")).expect("it answers").expect(201);
    }
    exchange
}

/// The value of one series of a `/metrics`.
fn value(http: &mut Http, series: &str) -> Option<f64> {
    let text = http.get("/metrics").expect("it answers").body;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

#[test]
fn promtool_has_nothing_to_say_about_either_port() {
    let exchange = traded();
    let mut processor = exchange.processor();
    wait_for("an audit", AUDIT_MAX, || {
        value(&mut processor, "kx_audit_last_success_timestamp_seconds")
    });
    for (name, mut http) in [("server", exchange.http()), ("processor", processor)] {
        let text = http.get("/metrics").expect("it answers").body;
        assert!(text.contains("kx_trades_total ") && text.contains("_bucket{"), "{name}: {text}");
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed: ./kx test does");
        let mut stdin = promtool.stdin.take().expect("it is piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
        drop(stdin);
        let output = promtool.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    }
}

#[test]
fn ten_thousand_paths_make_one_series() {
    let exchange = Exchange::demo();
    let mut http = exchange.http();
    let count =
        |text: &str| text.lines().filter(|line| line.starts_with("http_requests_total{")).count();
    assert_eq!(http.get("/no/such/path").expect("it answers").status, 404);
    let before = count(&http.get("/metrics").expect("it answers").body);
    for number in 0..10_000_u32 {
        let path = format!("/{:x}/{number}", number.wrapping_mul(2_654_435_761));
        let status = http.get(&path).expect("it answers").status;
        assert!(matches!(status, 404 | 429), "{path}: {status}");
    }
    let after = count(&http.get("/metrics").expect("it answers").body);
    // At most: GET of no route refused by the limit, and the metrics themselves.
    assert!(after <= before + 2, "{before} series became {after}");
}

#[test]
fn the_auditor_finds_what_was_changed_by_hand_while_the_exchange_runs() {
    let exchange = traded();
    let psql = exchange.psql();
    let mut processor = exchange.processor();
    let metrics = ["kx_negative_accounts", "kx_projection_differences", "kx_journal_breaks"];
    wait_for("an audit", AUDIT_MAX, || {
        value(&mut processor, "kx_audit_last_success_timestamp_seconds")
    });
    for metric in metrics {
        assert_eq!(value(&mut processor, metric), Some(0.0), "{metric}");
    }
    assert_eq!(value(&mut processor, "kx_ledger_imbalance{asset=\"USD\"}"), Some(0.0));

    // Nobody trades with the fee account's ETH meanwhile, nor with Bob's: what stands there stays until somebody looks.
    let row = "(account_id, asset_id) = (SELECT account_id, asset_id FROM balances \
        WHERE available > 0 AND account_id = (SELECT account_id FROM users WHERE email LIKE 'bob%') LIMIT 1)";
    let generation = psql.value("SELECT generation FROM projection_progress WHERE active");
    let tamper = |sql: &str| {
        let sql = format!(
            "SET LOCAL session_replication_role = replica; SET LOCAL search_path = {generation}, public; {sql}"
        );
        let output = psql.try_run(&sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    };
    tamper(&format!("UPDATE balances SET available = available + 1 WHERE {row}"));
    wait_for("the difference", AUDIT_MAX, || {
        (value(&mut processor, "kx_projection_differences")? >= 1.0).then_some(())
    });
    // Right again, it is forgotten.
    tamper(&format!("UPDATE balances SET available = available - 1 WHERE {row}"));
    wait_for("no difference", AUDIT_MAX, || {
        (value(&mut processor, "kx_projection_differences")? == 0.0).then_some(())
    });
    // The audit log's chain made anew, as whoever owns the tables can, and put right again.
    exchange.wait_for_audit_head();
    tamper(
        "CREATE TABLE public.chain_kept AS SELECT position, hash FROM audit_chain; \
         UPDATE audit_chain SET hash = sha256(hash)",
    );
    wait_for("the audit log", AUDIT_MAX, || {
        (value(&mut processor, "kx_journal_breaks")? == 1.0).then_some(())
    });
    let said = exchange.said();
    let finding = said.lines().find(|line| line.contains("SEV1") && line.contains("audit log"));
    assert!(finding.is_some_and(|line| line.contains("the log was written anew")), "{said}");
    tamper(
        "UPDATE audit_chain c SET hash = k.hash FROM public.chain_kept k WHERE k.position = c.position",
    );
    wait_for("the audit log as it was", AUDIT_MAX, || {
        (value(&mut processor, "kx_journal_breaks")? == 0.0).then_some(())
    });
    tamper(&format!(
        "ALTER TABLE balances DROP CONSTRAINT balances_available_check; \
         UPDATE balances SET available = -available WHERE {row}"
    ));
    tamper(
        "UPDATE journal SET payload = set_byte(payload, octet_length(payload) - 1, \
         get_byte(payload, octet_length(payload) - 1) # 1) WHERE sequence = 3",
    );
    wait_for("the negative balance and the broken row", AUDIT_MAX, || {
        let negative = value(&mut processor, "kx_negative_accounts")? == 1.0;
        let broken = value(&mut processor, "kx_journal_breaks")? == 1.0;
        (negative && broken).then_some(())
    });
    let told = || {
        let said = exchange.said();
        said.lines().filter(|line| line.contains("SEV1") && line.contains("row 3 ")).count()
    };
    wait_for("the log", AUDIT_MAX, || (told() > 0).then_some(()));

    let mut http = exchange.http();
    wait_for("the page", AUDIT_MAX, || {
        let page = http.get("/status").expect("it answers").body;
        (page.contains("Degraded") && page.contains("Money: breaks in the journal: 1"))
            .then_some(())
    });
    let status = status(&exchange);
    assert_eq!(status.0, Some(1), "{}", status.1);
    assert!(status.1.contains("BAD  breaks in the journal"), "{}", status.1);
    assert_eq!(told(), 1, "told once");
}

#[test]
fn under_load_the_auditor_compares_and_finds_nothing() {
    let exchange = traded();
    let psql = exchange.psql();
    let looked = "SELECT count(*) FROM audit_results WHERE balances > 0 AND journal_rows > 0 AND looked_at > ";
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (number, mut trader) in
            [Trader::alice(&exchange), Trader::bob(&exchange)].into_iter().enumerate()
        {
            let done = &done;
            scope.spawn(move || {
                let mut count = number;
                while !done.load(Ordering::Relaxed) {
                    let side = if count.is_multiple_of(2) { "buy" } else { "sell" };
                    let order = market("BTC/USD", side, "0.0001");
                    let status = trader.place(&order).expect("it answers").status;
                    assert!(matches!(status, 201 | 422 | 429), "{status}");
                    count += 1;
                }
            });
        }
        // Two looks that began while there was load.
        for _ in 0..2 {
            let now = psql.value("SELECT clock_timestamp() + interval '1 s'");
            wait_for("a look", AUDIT_MAX, || {
                (psql.value(&format!("{looked} '{now}'")) == "1").then_some(())
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    let found = "SELECT imbalances + negative_accounts + projection_differences + journal_breaks FROM audit_results";
    assert_eq!(psql.value(found), "0", "{}", exchange.said());
    assert!(!exchange.said().contains("SEV1"), "{}", exchange.said());
}

#[test]
fn promtool_reads_every_expression_of_the_dashboards() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/grafana/dashboards");
    let mut rules = "groups:\n- name: dashboards\n  rules:\n".to_owned();
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).expect("there are dashboards") {
        let text = std::fs::read_to_string(entry.expect("it is readable").path()).expect("text");
        let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
        let panels = dashboard["panels"].as_array().expect("it has panels");
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array()).flatten() {
            let expression = target["expr"].as_str().expect("it has an expression");
            let expression =
                expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
            rules += &format!("  - record: q{count}\n    expr: {}\n", Value::from(expression));
            count += 1;
        }
    }
    assert!(count > 50, "only {count} expressions");
    let file = std::env::temp_dir().join(format!("kx-dashboards-{}.yml", std::process::id()));
    std::fs::write(&file, rules).expect("the temporary directory is writable");
    let output = Command::new("promtool").args(["check", "rules"]).arg(&file).output();
    std::fs::remove_file(&file).expect("it is ours");
    let output = output.expect("promtool is installed: ./kx test does");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `krystalinex status` on an exchange: its exit code and what it says.
fn status(exchange: &Exchange) -> (Option<i32>, String) {
    let port = |http: Http| format!("http://{}", http.address());
    let (server, processor) = (port(exchange.http()), port(exchange.processor()));
    let output = run(&["status", "--server", &server, "--processor", &processor], &[]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_status_says_that_all_is_well_and_which_commit_runs() {
    let mut exchange = traded();
    let mut processor = exchange.processor();
    wait_for("an audit", AUDIT_MAX, || {
        value(&mut processor, "kx_audit_last_success_timestamp_seconds")
    });
    let mut http = exchange.http();
    let page = http.get("/status").expect("it answers");
    assert_eq!(page.status, 200);
    let policy = page.headers.iter().find(|(name, _)| name == "content-security-policy");
    assert!(policy.is_some_and(|(_, policy)| policy.starts_with("default-src 'none'")), "{page:?}");
    for said in ["Operational", "BTC/USD", "Orders over HTTP", "Projected money", "Letters waiting"]
    {
        assert!(page.body.contains(said), "{said}: {}", page.body);
    }
    // Nobody's, and of no machine.
    for never in ["@", "alice", "127.0.0.1", "localhost", "pid "] {
        assert!(!page.body.contains(never), "{never}: {}", page.body);
    }
    let (code, text) = status(&exchange);
    assert_eq!(code, Some(0), "{text}");
    wait_for("the volume and the age of the trades", AUDIT_MAX, || {
        let volume = value(&mut http, "kx_trade_volume_total{market=\"BTC/USD\"}")?;
        (volume > 0.0 && value(&mut http, "kx_last_trade_age_seconds").is_some()).then_some(())
    });
    // The binary may be of a commit before the one that is checked out now, and never of none.
    let metrics = http.get("/metrics").expect("it answers").body;
    let commit = metrics.split("commit=\"").nth(1).and_then(|rest| rest.split('"').next());
    let commit = commit.expect("build_info names a commit");
    let git = |arguments: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Command::new("git").current_dir(root).args(arguments).output().expect("git is there").status
    };
    if git(&["rev-parse", "HEAD"]).success() {
        let known = git(&["merge-base", "--is-ancestor", commit, "HEAD"]).success();
        assert!(known, "build_info is of {commit}, which is no commit of this tree");
    }
    exchange.kill();
    let (code, text) = status(&exchange);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("nobody answers"), "{text}");
}
