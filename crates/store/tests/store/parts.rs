//! The parts of the projections at different rows, written by different hands, and stopped in the middle.

use ::journal::Applied;
use std::sync::Arc;
use store::projections::{Part, Projector, rebuild};
use store::{Db, lookup};
use units::Sequence;

use crate::common::{database, empty_database};
use crate::exchange::Random;
use crate::projections::{compared, digest, execute, one, random_journal};
use crate::writers::Writers;

async fn write(db: &Db, part: Part, batches: &[Arc<Applied>]) -> Sequence {
    Projector::new(db.clone(), part).write(batches).await.expect("written")
}

/// Writes the first third with all parts, the second with two of them, the third with one.
async fn staggered(db: &Db, order: [Part; 3], batches: &[Arc<Applied>]) {
    for (number, part) in order.into_iter().enumerate() {
        let end = batches.len() * (number + 1) / 3;
        let last = batches[end - 1].batch.sequence;
        assert_eq!(write(db, part, &batches[..end]).await, last);
    }
}

#[tokio::test]
async fn parts_at_different_rows_are_compared_each_at_its_own() {
    for order in [
        [Part::Orders, Part::Money, Part::MarketData],
        [Part::MarketData, Part::Orders, Part::Money],
        [Part::Money, Part::MarketData, Part::Orders],
    ] {
        let db = database().await;
        let (_, batches) = random_journal(&db, 11, 36).await;
        staggered(&db, order, &batches).await;
        let slowest = batches[batches.len() / 3 - 1].batch.sequence;
        assert_eq!(lookup::projected(&db).await.expect("an answer"), slowest);
        let clean = compared(&db).await;
        assert_eq!((clean.differences, clean.sequence), (Vec::new(), slowest));
        // The furthest is not believed beyond the slowest either.
        let (lie, table) = match order[2] {
            Part::Orders => (
                "UPDATE orders_projected SET reason = 'x' WHERE id = (
                SELECT id FROM orders_projected ORDER BY updated_in DESC LIMIT 1)",
                "orders",
            ),
            Part::Money => (
                "UPDATE balances SET available = available + 1 WHERE updated_in = (
                SELECT max(updated_in) FROM balances)",
                "balances",
            ),
            Part::MarketData => (
                "UPDATE trades SET price_ticks = price_ticks + 1 WHERE sequence = (
                SELECT max(sequence) FROM trades)",
                "trades",
            ),
        };
        execute(&db, lie).await;
        let found = compared(&db).await.differences;
        assert_eq!(found.iter().map(|each| &each.table).collect::<Vec<_>>(), [table]);
        // A rebuild brings all of them to the head.
        let rebuilt = rebuild(&db, &mut |_| {}).await.expect("rebuilt");
        assert_eq!(rebuilt.sequence, batches.last().expect("batches").batch.sequence);
        assert_eq!(lookup::projected(&db).await.expect("an answer"), rebuilt.sequence);
        assert_eq!(compared(&db).await.differences, []);
    }
}

#[tokio::test]
async fn a_rebuild_while_parts_are_written_at_their_own_pace() {
    let db = database().await;
    let (mut exchange, mut batches) = random_journal(&db, 12, 30).await;
    staggered(&db, Part::ALL, &batches).await;
    let mut parts = Part::ALL.map(|part| Projector::new(db.clone(), part));
    let mut random = Random::new(13);
    let trading = async {
        for round in 0..24 {
            batches.extend(exchange.trade(&mut random, 2, 6).await);
            let part = &mut parts[round % 3];
            part.write(&batches).await.expect("written, whatever generation is in use");
        }
    };
    let mut on_progress = |_| {};
    let (rebuilt, ()) = tokio::join!(rebuild(&db, &mut on_progress), trading);
    assert_eq!(rebuilt.expect("rebuilt").generation, "projected_2");
    assert_eq!(compared(&db).await.differences, []);
    for part in &mut parts {
        part.write(&batches).await.expect("written");
    }
    assert_eq!(compared(&db).await.sequence, exchange.state().sequence());
    assert_eq!(compared(&db).await.differences, []);
}

#[tokio::test]
async fn a_writer_that_is_stopped_in_the_middle_leaves_a_whole() {
    let (whole, stopped) = (database().await, database().await);
    let (_, batches) = random_journal(&whole, 14, 80).await;
    let (_, again) = random_journal(&stopped, 14, 80).await;
    Writers::new(&whole).write(&batches).await.expect("written");
    let mut random = Random::new(15);
    for part in Part::ALL {
        let mut projector = Projector::new(stopped.clone(), part);
        let mut end = 0;
        while end < again.len() {
            end = (end + 1 + random.below(6) as usize).min(again.len());
            let patience = random.below(12);
            let stop = async {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            };
            // What was dropped may be done or undone; the next write goes on from what it is, with the same hands or others.
            tokio::select! {
                biased;
                written = projector.write(&again[..end]) => drop(written.expect("written")),
                () = stop => if random.below(2) == 0 {
                    projector = Projector::new(stopped.clone(), part);
                },
            }
        }
        assert_eq!(
            projector.write(&again).await.expect("written"),
            again.last().expect("batches").batch.sequence
        );
    }
    assert_eq!(digest(&whole).await, digest(&stopped).await);
    assert_eq!(compared(&stopped).await.differences, []);
}

#[tokio::test]
async fn batches_with_a_gap_or_of_another_journal_are_refused() {
    let (db, other) = (database().await, database().await);
    let (_, batches) = random_journal(&db, 16, 12).await;
    let (_, others) = random_journal(&other, 17, 12).await;
    let mut projector = Projector::new(db.clone(), Part::Money);
    let mut gap = batches[..8].to_vec();
    gap.remove(5);
    let refused = projector.write(&gap).await.expect_err("refused").to_string();
    assert!(refused.contains("row 5, and row 7 was given next"), "{refused}");
    let at = projector.write(&batches[..8]).await.expect("what is there follows");
    assert_eq!(at, Sequence::new(8));
    let refused = projector.write(&others).await.expect_err("refused").to_string();
    assert!(refused.contains("another journal"), "{refused}");
    assert_eq!(projector.progress().await.expect("progress"), at);
}

#[tokio::test]
async fn one_progress_becomes_three() {
    let db = empty_database().await;
    for migration in [
        include_str!("../../../../migrations/0001_journal.sql"),
        include_str!("../../../../migrations/0002_projections.sql"),
        include_str!("../../../../migrations/0003_users.sql"),
        include_str!("../../../../migrations/0004_suspects.sql"),
        "UPDATE projection_progress SET sequence = 7, time = '2026-03-01 00:00:07Z'",
        include_str!("../../../../migrations/0005_projection_parts.sql"),
    ] {
        execute(&db, migration).await;
    }
    let three = "SELECT string_agg(part || ' ' || sequence || ' ' || active, ', ' ORDER BY part) FROM projection_parts";
    assert_eq!(one::<String>(&db, three).await, "market_data 7 true, money 7 true, orders 7 true");
    // The view of orders goes by the slowest part.
    execute(
        &db,
        "INSERT INTO pending_commands (id, kind, account_id, market_id, side, order_type, time_in_force, post_only,
             quantity_lots, self_trade_prevention, expires_at, created_at)
         VALUES (md5('x')::uuid, 'place_order', 1000, 0, 'buy', 'limit', 'gtc', false, 1, 'allow',
             '2026-03-01 00:00:10Z', '2026-03-01 00:00:01Z');
         UPDATE projection_parts SET sequence = 9, time = '2026-03-01 00:00:11Z' WHERE part <> 'money'",
    )
    .await;
    assert_eq!(one::<String>(&db, "SELECT status FROM orders").await, "pending");
    execute(&db, "UPDATE projection_parts SET sequence = 9, time = '2026-03-01 00:00:11Z'").await;
    assert_eq!(one::<String>(&db, "SELECT status FROM orders").await, "expired");
    assert_eq!(one::<i64>(&db, "SELECT sequence FROM projection_progress WHERE active").await, 9);
}
