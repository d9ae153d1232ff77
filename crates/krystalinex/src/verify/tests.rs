//! A whole database verified: as it was written, and with one row changed by hand.

use std::sync::Arc;

use ::journal::{Applied, apply, read};
use engine::{Action, AuditHead, State};
use store::Db;
use store::cluster::Throwaway;
use store::projections::{Part, Projector};

use super::*;
use crate::bench::flow::{Flow, Ids};
use crate::bench::seed;

/// An empty database.
async fn empty(cluster: &Throwaway) -> Db {
    let config = cluster.database().await.expect("a database can be made");
    let db = Db::connect(config).await.expect("it answers");
    store::migrate::run(&db).await.expect("it is empty");
    db
}

/// A database with a journal of some hundred commands, after them the ones that note the audit log's heads, and its
/// projections.
async fn database(db: Db, heads: &[AuditHead]) -> (Db, Sequence) {
    let flow = Flow::new(500, 3, Ids::New).expect("the flow runs");
    let noting = heads.iter().map(|head| seed::command(Action::NoteAuditHead(*head)));
    let commands = flow.opening.into_iter().chain(flow.commands).chain(noting);
    let last = seed::journal(&db, 1, commands).await.expect("the journal can be written");
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
    (db, last)
}

/// Writes rows into the audit log, and their links. Returns the chain's head.
async fn audit(db: &Db, rows: usize) -> AuditHead {
    let entry = store::audit::AuditEntry {
        level: store::audit::Level::Info,
        action: "test",
        user: None,
        address: None,
        trace_id: 7,
        detail: serde_json::json!({ "a": 1 }),
    };
    store::audit::append(db, &vec![entry; rows]).await.expect("rows can be added");
    let links = store::audit::chain::extend(db).await.expect("links can be added");
    assert_eq!(links, Some(rows));
    let head = store::audit::chain::head(db).await.expect("it can be read");
    head.expect("there are links")
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
    let (db, _) = database(empty(&cluster).await, &[]).await;
    audit(&db, 3).await;
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

/// Whoever owns the tables can change the audit log and make its whole chain anew, by the very code that made it: then it
/// is right in itself, and not the one that the journal has noted.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_was_written_anew_is_named() {
    let cluster = Throwaway::start().await.expect("PostgreSQL is installed");
    for (text, named) in [
        (
            "UPDATE audit_log SET detail = '{\"forged\": true}' WHERE id = 3",
            "link 3 (row 3) is not the one that journal row {last} has noted: the log was written anew from row 3 on",
        ),
        (
            "DELETE FROM audit_log WHERE id = 5",
            "link 6 (row 7) is not the one that journal row {last} has noted: \
             the log was written anew from one of its rows 4 to 7 (links 4 to 6) on",
        ),
        (
            "INSERT INTO audit_log (id, level, action) OVERRIDING SYSTEM VALUE VALUES (-1, 'info', 'forged')",
            "link 2 (row 1) is not the one that journal row {last} has noted: \
             the log was written anew from one of its rows -1 to 1 (links 1 to 2) on",
        ),
        (
            "DELETE FROM audit_log WHERE id > 4",
            "the log was cut: links 5 to 6 are gone, which journal row {last} has noted",
        ),
        (
            "DELETE FROM audit_log",
            "the log was cut: links 1 to 2 are gone, which journal row {last} has noted",
        ),
    ] {
        let db = empty(&cluster).await;
        let heads = [audit(&db, 2).await, audit(&db, 1).await, audit(&db, 3).await];
        let (db, last) = database(db, &heads).await;
        // What was not noted yet is the chain's own business.
        audit(&db, 1).await;
        let verified = verify(&db, false).await.expect("it can be read");
        assert!(verified.is_clean(), "{verified}");
        let three = format!("{:<20} {:>12} {:>8}  ok", "audit log's heads", 3, 0);
        assert!(verified.to_string().contains(&three), "{verified}");

        let named = named.replace("{last}", &last.to_string());
        change(&db, &format!("{text}; DELETE FROM audit_chain")).await;
        store::audit::chain::extend(&db).await.expect("links can be added");
        let verified = verify(&db, false).await.expect("it can be read");
        let report = verified.to_string();
        assert!(!verified.is_clean(), "{text} is found");
        assert!(report.contains(&named), "{text} is named as {named:?}:\n{report}");
        assert!(
            report.lines().any(|line| line.starts_with("audit log ") && line.ends_with("ok")),
            "in itself the chain is right:\n{report}"
        );
    }
}
