//! Whoever changes a row by hand is found out, and what is dropped can be made again.

use std::time::Duration;

use e2e::{Exchange, Psql, Trader, limit, market, run, wait_for};

/// What is done to a copy of the database as its superuser, with every trigger off, and what `verify` must say.
const TAMPERINGS: &[(&str, &str, &[&str])] = &[
    (
        "balance",
        "UPDATE balances SET available = available + 1 \
         WHERE (account_id, asset_id) = (SELECT min(account_id), min(asset_id) FROM balances WHERE account_id >= 1000)",
        &["balances"],
    ),
    (
        "price",
        "UPDATE trades SET price_ticks = price_ticks + 1 WHERE (market_id, trade_id) = \
         (SELECT market_id, trade_id FROM trades ORDER BY time DESC LIMIT 1)",
        &["trades"],
    ),
    (
        "posting",
        "DELETE FROM postings WHERE (sequence, posting) = (SELECT sequence, posting FROM postings ORDER BY 1 DESC, 2 LIMIT 1)",
        &["postings"],
    ),
    (
        "payload",
        "UPDATE journal SET payload = set_byte(payload, octet_length(payload) - 1, \
         get_byte(payload, octet_length(payload) - 1) # 1) WHERE sequence = 3",
        &["hash chain", "3"],
    ),
    ("missing", "DELETE FROM journal WHERE sequence = 3", &["hash chain", "3"]),
    (
        "log",
        "UPDATE audit_log SET address = '192.0.2.1' WHERE id = (SELECT min(id) FROM audit_log)",
        &["audit log", "link 1", "is not what was written"],
    ),
    // Nothing is wrong with a log that is empty, chain and all, but that the journal has noted more.
    (
        "cut",
        "DELETE FROM audit_chain; DELETE FROM audit_log",
        &["audit log's heads", "the log was cut: links 1 to"],
    ),
];

/// Waits until the tables say what the journal says.
fn wait_for_projection(psql: &Psql) {
    wait_for("the projection", Duration::from_secs(30), || {
        let behind = "SELECT (SELECT max(sequence) FROM journal WHERE commands > 0) \
            > (SELECT sequence FROM projection_progress WHERE active)";
        (psql.value(behind) == "f").then_some(())
    });
}

fn traded() -> Exchange {
    let exchange = Exchange::demo();
    let mut alice = Trader::alice(&exchange);
    let mut bob = Trader::bob(&exchange);
    for number in 0..20 {
        let side = if number % 2 == 0 { "buy" } else { "sell" };
        for trader in [&mut alice, &mut bob] {
            let placed = trader.place(&market("BTC/USD", side, "0.001")).expect("it answers");
            assert_eq!(placed.status, 201, "{placed:?}");
            let placed =
                trader.place(&limit("ETH/USD", side, "0.01", "3000.00")).expect("it answers");
            assert!(matches!(placed.status, 201 | 422), "{placed:?}");
        }
    }
    exchange
}

#[test]
fn verify_names_every_row_that_was_changed_by_hand() {
    let mut exchange = traded();
    let psql = exchange.psql();
    wait_for_projection(&psql);
    exchange.wait_for_audit_head();
    // Killed, so that nobody uses the database that is copied.
    exchange.kill();

    let clean = exchange.verify(&psql.copy("untouched"));
    assert!(clean.status.success(), "an untouched copy is right: {clean:?}");
    for (name, sql, named) in TAMPERINGS {
        let copy = psql.copy(name);
        let tampered =
            copy.try_run(&format!("SET LOCAL session_replication_role = replica; {sql}"));
        assert!(tampered.status.success(), "{name}: {tampered:?}");
        let verified = exchange.verify(&copy);
        let said =
            String::from_utf8_lossy(&verified.stdout) + String::from_utf8_lossy(&verified.stderr);
        assert_eq!(verified.status.code(), Some(1), "{name}: {said}");
        let faults: Vec<&str> =
            said.lines().filter(|line| !line.trim_end().ends_with("ok")).collect();
        for word in *named {
            let found = faults.iter().any(|line| line.contains(word));
            assert!(found, "{name}: verify does not name {word}:\n{said}");
        }
        println!("{name}: found");
    }
}

#[test]
fn the_database_itself_refuses_a_changed_journal_and_a_negative_balance() {
    let exchange = Exchange::demo();
    let psql = exchange.psql();
    for sql in [
        "UPDATE journal SET epoch = epoch + 1 WHERE sequence = 1",
        "DELETE FROM journal WHERE sequence = 1",
        "TRUNCATE journal",
        "DELETE FROM postings",
        "DELETE FROM audit_log",
        "UPDATE balances SET available = -1",
    ] {
        let output = psql.try_run(sql);
        // Of the audit log nothing may be there to delete yet; everything else has rows.
        let empty =
            sql.contains("audit_log") && psql.value("SELECT count(*) FROM audit_log") == "0";
        assert!(empty || !output.status.success(), "{sql} was let through");
    }
}

#[test]
fn projections_dropped_and_rebuilt_are_identical() {
    let mut exchange = traded();
    let psql = exchange.psql();
    wait_for_projection(&psql);
    exchange.kill();
    let copy = psql.copy("rebuilt");
    let before = digests(&copy);
    let rebuilt = exchange.tool(&["projections", "rebuild"], &copy);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    let after = digests(&copy);
    assert_eq!(after, before);
    assert!(before.iter().any(|digest| digest.starts_with("trades|") && !digest.ends_with("|0")));
    let verified = exchange.verify(&copy);
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn a_backup_made_under_way_restores_to_what_verify_finds_right() {
    let exchange = traded();
    let running = run(&["verify", "--data-dir", &exchange.data().to_string_lossy()], &[]);
    assert!(running.status.success(), "verify works while the exchange runs: {running:?}");

    let psql = exchange.psql();
    let file = exchange.data().join("backup.sql");
    std::fs::write(&file, psql.dump()).expect("the directory is ours");
    let restored = psql.restore("crypto_exchange_restored", &file);
    let verified = exchange.verify(&restored);
    assert!(verified.status.success(), "{verified:?}");
    assert_ne!(restored.value("SELECT count(*) FROM trades"), "0");
}

/// For each projection its name, the hash of all its rows, and their number.
fn digests(psql: &Psql) -> Vec<String> {
    let tables = [
        "accounts",
        "assets",
        "balances",
        "deposits",
        "market_candles",
        "markets",
        "orders",
        "postings",
        "trades",
        "transfers",
        "wallets",
        "withdrawals",
    ];
    let digest = |table: &&str| {
        let sql = format!(
            "SELECT '{table}', sha256(coalesce(string_agg(t::text, ' ' ORDER BY t::text), '')::bytea), count(*) \
             FROM {table} AS t"
        );
        psql.value(&sql)
    };
    tables.iter().map(digest).collect()
}
