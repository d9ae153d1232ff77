//! The runbook's queries run as they are printed, and its health endpoints answer.

use std::path::Path;
use std::process::Command;

use e2e::{Exchange, Trader, market};

const RUNBOOK: &str = include_str!("../../docs/RUNBOOK.md");

/// The statements of every SQL block, comments included.
fn statements() -> Vec<&'static str> {
    let blocks = RUNBOOK.split("```sql\n").skip(1);
    let blocks =
        blocks.map(|rest| rest.split("```").next().expect("split gives one piece at least"));
    blocks.flat_map(|block| block.split_inclusive(';')).filter(|s| s.contains(';')).collect()
}

#[test]
fn the_queries_of_the_runbook_run_as_printed() {
    let exchange = Exchange::demo();
    let order = market("BTC/USD", "buy", "0.001");
    Trader::alice(&exchange).place(&order).expect("it answers").expect(201);
    let psql = exchange.psql();
    let statements = statements();
    assert!(statements.len() >= 10, "the runbook has more queries than {statements:?}");
    for statement in statements {
        let output = psql.try_run(statement);
        assert!(
            output.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(psql.rows("SELECT * FROM wallets WHERE balance_usd < 0"), Vec::<String>::new());
    let users: u32 = psql.value("SELECT COUNT(*) FROM users").parse().expect("a number");
    assert!(users >= 2, "the demo has two users, not {users}");
    assert_eq!(
        psql.value("SELECT COUNT(*) FROM wallets WHERE balance_usd IS NULL AND asset = 'USD'"),
        "0"
    );
}

#[test]
fn postgresql_itself_finds_the_chain_of_hashes_intact_and_a_changed_byte() {
    let exchange = Exchange::demo();
    let psql = exchange.psql();
    let checks: Vec<&str> =
        statements().into_iter().filter(|sql| sql.contains("FROM journal")).collect();
    assert_eq!(checks.len(), 2, "the runbook checks the hashes and the links");
    assert!(psql.value("SELECT count(*) FROM journal").parse::<u32>().expect("a number") > 1);
    for check in &checks {
        assert_eq!(psql.value(check), "0", "{check}");
    }
    // In the same transaction, and never committed: the exchange goes on.
    let changed = format!(
        "SET LOCAL session_replication_role = replica; \
         UPDATE journal SET payload = set_byte(payload, octet_length(payload) - 1, \
             get_byte(payload, octet_length(payload) - 1) # 1) WHERE sequence = 2; {} ROLLBACK",
        checks[0]
    );
    let output = psql.try_run(&changed);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{output:?}");
}

#[test]
fn the_health_endpoints_answer_and_the_script_says_so() {
    let mut exchange = Exchange::demo();
    for path in ["/health", "/ready", "/metrics", "/api/health/trading"] {
        assert_eq!(exchange.http().get(path).expect("it answers").status, 200, "{path}");
    }
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(exchange.processor().get(path).expect("it answers").status, 200, "{path}");
    }
    let metrics = exchange.http().get("/metrics").expect("it answers").body;
    for name in ["http_requests_total", "http_request_duration_seconds_bucket"] {
        assert!(metrics.contains(name), "{name} is not among the metrics");
    }

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/health-check.sh");
    let url = format!("http://localhost:{}/health", exchange.port());
    let check = || Command::new(&script).arg(&url).output().expect("the script runs");
    let healthy = check();
    assert!(healthy.status.success(), "{healthy:?}");
    exchange.kill();
    let dead = check();
    assert_eq!(dead.status.code(), Some(1), "{dead:?}");
    assert!(String::from_utf8_lossy(&dead.stdout).contains("FAILED (000)"), "{dead:?}");
}
