//! A whole database verified: as it was written, and with one row changed by hand.

use std::sync::Arc;

use ::journal::{Applied, apply, read};
use engine::State;
use store::Db;
use store::cluster::Throwaway;
use store::projections::{Part, Projector};

use super::*;
use crate::bench::flow::Flow;
use crate::bench::seed;

/// A database with a journal of some hundred commands and its projections.
async fn database(cluster: &Throwaway) -> Db {
    let config = cluster.database().await.expect("a database can be made");
    let db = Db::connect(config).await.expect("it answers");
    store::migrate::run(&db).await.expect("it is empty");
    let flow = Flow::new(500, 3).expect("the flow runs");
    let commands = flow.opening.into_iter().chain(flow.commands);
    seed::journal(&db, 1, commands).await.expect("the journal can be written");
    let (mut state, mut applied) = (State::new(), Vec::new());
    for row in store::journal::rows_after(&db, Sequence::new(0), 10_000).await.expect("it is there")
    {
        let batch = read(&row).expect("the row is whole");
        let effects = apply(&mut state, &batch);
        applied.push(Arc::new(Applied { batch, hash: row.hash, effects }));
    }
    for part in Part::ALL {
        Projector::new(db.clone(), part).write(&applied).await.expect("the rows can be projected");
    }
    db
}

/// Writes three rows into the audit log, and their links.
async fn audit(db: &Db) {
    let entry = store::audit::AuditEntry {
        level: store::audit::Level::Info,
        action: "test",
        user: None,
        address: None,
        trace_id: 7,
        detail: serde_json::json!({ "a": 1 }),
    };
    let entries = [entry.clone(), entry.clone(), entry];
    store::audit::append(db, &entries).await.expect("rows can be added");
    let links = store::audit::chain::extend(db).await.expect("links can be added");
    assert_eq!(links, Some(3));
}

/// Changes a database by hand, as somebody with all rights to it can.
async fn change(db: &Db, text: &str) {
    let connection = db.dedicated().await.expect("it answers");
    let text = format!("SET session_replication_role = replica; {text}");
    connection.batch_execute(&text).await.expect("the change is possible");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_changed_by_hand_is_named() {
    let cluster = Throwaway::start().await.expect("PostgreSQL is installed");
    let db = database(&cluster).await;
    audit(&db).await;
    let verified = verify(&db, false).await.expect("it can be read");
    assert!(verified.is_clean(), "{verified}");
    for (text, named) in [
        (
            "UPDATE audit_log SET detail = '{\"forged\": true}' WHERE id = 2",
            "row 2 of the audit log, link 2, is not what was written",
        ),
        ("DELETE FROM audit_log WHERE id = 1", "row 1 of the audit log, link 1, is gone"),
        ("DELETE FROM audit_chain WHERE position = 1", "link 1 is missing"),
        (
            "UPDATE balances SET available = available + 1 WHERE account_id = 1003 AND asset_id = 1",
            "balances account_id = 1003, asset_id = 1: available is",
        ),
        (
            "UPDATE trades SET price_ticks = price_ticks + 1 WHERE trade_id = 2",
            "trades market_id = 0, trade_id = 2: price_ticks is",
        ),
        (
            "DELETE FROM postings WHERE sequence = 3 AND posting = 0",
            "sequence = 3, posting = 0: the row is missing",
        ),
        (
            "UPDATE journal SET payload = set_byte(payload, 9, 255 - get_byte(payload, 9)) WHERE sequence = 5",
            "journal row 5 has the hash",
        ),
        ("DELETE FROM journal WHERE sequence = 4", "journal row 4 is missing"),
    ] {
        change(&db, text).await;
        let verified = verify(&db, false).await.expect("it can be read");
        let report = verified.to_string();
        assert!(!verified.is_clean(), "{text} is found");
        assert!(report.contains(named), "{text} is named as {named:?}:\n{report}");
    }
}
