//! The writers of the projections against a real PostgreSQL: in one process, in several, killed and taken over.

#[expect(dead_code, reason = "the store's tests use the rest")]
#[path = "../../../store/tests/store/common.rs"]
mod common;
#[expect(dead_code, reason = "the store's tests use the rest")]
#[path = "../../../store/tests/store/exchange.rs"]
mod exchange;
mod world;

use std::time::Duration;

use store::lookup;
use store::projections::{Part, compare, rebuild};
use tokio_util::sync::CancellationToken;
use units::Sequence;

use crate::world::{Replica, World, until};

#[tokio::test]
async fn one_process_writes_all_parts_and_ends_with_what_it_has_followed() {
    let mut world = World::new(21).await;
    let replica = Replica::alone(&world).await;
    for _ in 0..10 {
        world.trade(3).await;
        let head = world.head();
        until("the parts are written", async || replica.live.projected() == head).await;
        assert_eq!(lookup::projected(&world.db).await.expect("an answer"), head);
    }
    // What was followed is written before it ends, and nothing is waited for here.
    world.trade(20).await;
    let head = world.head();
    until("the rows are followed", async || replica.live.sequence() == head).await;
    replica.end().await;
    assert_eq!(lookup::projected(&world.db).await.expect("an answer"), head);
    world.is_clean().await;
}

#[tokio::test]
async fn snapshots_are_taken_while_the_journal_goes_on_each_from_the_one_before() {
    let mut world = World::new(28).await;
    let replica = Replica::alone(&world).await;
    let stop = CancellationToken::new();
    let db = world.db.clone();
    let taking = follower::take_snapshots(db, replica.live.clone(), 10, stop.clone());
    let taking = tokio::spawn(taking);
    for _ in 0..2 {
        world.trade(10).await;
        let head = world.head();
        until("there is a snapshot", async || {
            let newest = store::snapshots::newest_at_or_before(&world.db, head).await;
            newest.expect("an answer").is_some_and(|newest| newest.snapshot.sequence == head)
        })
        .await;
        let recovered = follower::load_snapshot(&world.db, head).await.expect("a good one");
        assert_eq!(recovered.snapshot, head, "the good one is the one that was taken");
    }
    stop.cancel();
    taking.await.expect("it ends");
    replica.end().await;
    let stored = store::snapshots::list(&world.db, None).await.expect("an answer");
    assert_eq!(stored.len(), 2, "{stored:?}");
}

#[tokio::test]
async fn a_gap_is_filled_from_the_journal() {
    let mut world = World::new(22).await;
    let replica = Replica::alone(&world).await;
    world.trade(5).await;
    let head = world.head();
    until("the parts are written", async || replica.live.projected() == head).await;
    let live = replica.live.clone();
    replica.end().await;
    // Nobody writes these; more than a feed is attached before. The snapshot is in the middle of them.
    world.tick(10).await;
    follower::final_snapshot(&world.db, live).await.expect("a snapshot");
    world.tick(300).await;
    world.trade(10).await;
    // One part is ahead of the others, which begin together with it nevertheless.
    let rows = store::journal::rows_after(&world.db, Sequence::new(0), 10_000).await.expect("rows");
    let (mut state, mut applied) = (engine::State::new(), Vec::new());
    for row in &rows[..rows.len() - 3] {
        let batch = journal::read(row).expect("a row of ours");
        let effects = journal::apply(&mut state, &batch);
        applied.push(std::sync::Arc::new(journal::Applied { batch, hash: row.hash, effects }));
    }
    let mut ahead = store::projections::Projector::new(world.db.clone(), Part::Money);
    ahead.write(&applied).await.expect("written");
    world.is_clean().await;
    let late = world.head().get();
    let replica = Replica::alone(&world).await;
    world.trade(5).await;
    let head = world.head();
    until("the parts are written", async || replica.live.projected() == head).await;
    world.is_clean().await;
    // The traces hear of rows that were read from the journal too, and of each once.
    let noted = replica.recorder.take().projections;
    for part in Part::ALL {
        let of_part = noted.iter().filter(|record| record.part == part.name());
        let with_it = of_part.filter(|record| (record.first..=record.last).contains(&late));
        assert_eq!(with_it.count(), 1, "{}: {noted:?}", part.name());
    }
    let mut money = noted.iter().filter(|record| record.part == Part::Money.name());
    assert!(money.all(|record| record.first + 3 > late), "it was written before: {noted:?}");
    replica.end().await;
}

#[tokio::test]
async fn replicas_share_the_parts_and_take_over_from_a_dead_one() {
    let mut world = World::new(23).await;
    let [a, b, c] = ["a", "b", "c"].map(|name| Replica::sharing(&world, name));
    let (a, b, c) = (a.await, b.await, c.await);
    let holders = "SELECT count(DISTINCT holder) FROM projection_leases";
    until("each has one", async || world.count(holders).await == 3).await;
    world.trade(10).await;
    until("all parts are written", async || world.is_projected().await).await;
    world.is_clean().await;
    // Without a goodbye.
    c.kill();
    let dead = "SELECT count(*) FROM projection_leases WHERE holder IS NULL OR holder = 'c'";
    until("its part is taken over", async || world.count(dead).await == 0).await;
    world.trade(10).await;
    until("all parts are written", async || world.is_projected().await).await;
    world.is_clean().await;
    b.end().await;
    let others = "SELECT count(*) FROM projection_leases WHERE holder IS DISTINCT FROM 'a'";
    until("the last one has all", async || world.count(others).await == 0).await;
    world.trade(10).await;
    let head = world.head();
    until("it knows that it writes all", async || a.live.projected() == head).await;
    world.is_clean().await;
    a.end().await;
    assert_eq!(world.count("SELECT count(holder) FROM projection_leases").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM processes WHERE id <> 'c'").await, 0);
}

#[tokio::test]
async fn two_that_write_the_same_parts_write_them_once() {
    let mut world = World::new(24).await;
    let (first, second) = (Replica::alone(&world).await, Replica::alone(&world).await);
    for _ in 0..10 {
        world.trade(6).await;
    }
    let head = world.head();
    for replica in [&first, &second] {
        until("both are at the head", async || replica.live.projected() == head).await;
    }
    world.is_clean().await;
    first.kill();
    world.trade(6).await;
    until("the other goes on", async || world.is_projected().await).await;
    world.is_clean().await;
    second.end().await;
}

#[tokio::test]
async fn killed_in_the_middle_again_and_again() {
    let mut world = World::new(25).await;
    for round in 0..8 {
        let replica = Replica::alone(&world).await;
        // Killed anywhere: while it opens, fills the gap, is attached.
        for _ in 0..round {
            world.trade(2).await;
        }
        replica.kill();
        world.is_clean().await;
    }
    let replica = Replica::alone(&world).await;
    until("all parts are written", async || world.is_projected().await).await;
    world.is_clean().await;
    replica.end().await;
}

#[tokio::test]
async fn a_rebuild_while_replicas_write() {
    let mut world = World::new(26).await;
    let [a, b] = ["a", "b"].map(|name| Replica::sharing(&world, name));
    let (a, b) = (a.await, b.await);
    let holders = "SELECT count(DISTINCT holder) FROM projection_leases";
    until("each has some", async || world.count(holders).await == 2).await;
    world.trade(30).await;
    let db = world.db.clone();
    let mut on_progress = |_| {};
    let trading = async {
        for _ in 0..20 {
            world.trade(2).await;
        }
    };
    let (rebuilt, ()) = tokio::join!(rebuild(&db, &mut on_progress), trading);
    assert_eq!(rebuilt.expect("rebuilt").generation, "projected_2");
    // Compared while they write, each part at the row where it happens to stand.
    let compared = compare(&db, &mut |_| {}).await.expect("compared");
    assert_eq!(compared.differences, []);
    until("all parts are written", async || world.is_projected().await).await;
    world.is_clean().await;
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn a_row_that_another_process_waits_for_is_hurried() {
    let mut world = World::new(27).await;
    let replica = Replica::sharing(&world, "a").await;
    let before = world.head();
    world.trade(1).await;
    let head = world.head();
    until("the row is followed", async || replica.live.sequence() == head).await;
    let hurried = async |last| {
        let wanted = replica.live.wanted_beyond(last);
        tokio::time::timeout(Duration::from_millis(50), wanted).await.is_ok()
    };
    assert!(!hurried(before).await, "nobody has asked for anything");
    // It may not listen yet: asked again until it has heard.
    let ask = async || lookup::want_projected(&world.db, head).await.expect("told");
    until("the writers hear of it", async || {
        ask().await;
        hurried(before).await
    })
    .await;
    // A row that is not there yet is nothing to hurry for.
    lookup::want_projected(&world.db, Sequence::new(head.get() + 1)).await.expect("told");
    assert!(!hurried(head).await);
    until("all parts are written", async || world.is_projected().await).await;
    replica.end().await;
}
