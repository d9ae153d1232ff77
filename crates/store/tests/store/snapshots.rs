//! Snapshots: whole or not there, and one that was changed is refused for an older one.

use crate::common::{database, tick};
use ::journal::{Snapshot, apply, read, write_snapshot};
use engine::State;
use store::journal::Appender;
use store::{Db, StoreError, snapshots};
use units::{Hash32, Sequence};

/// Appends some rows and takes a snapshot after each.
async fn journal_with_snapshots(db: &Db, rows: u64) -> Vec<Snapshot> {
    let mut appender = Appender::claim(db, "test").await.expect("an epoch");
    let (mut state, mut previous, mut taken) = (State::new(), Hash32::default(), Vec::new());
    for sequence in 1..=rows {
        let row = tick(sequence, appender.epoch(), previous);
        appender.append(&row).await.expect("appended");
        previous = row.hash;
        apply(&mut state, &read(&row).expect("a row of ours"));
        let mut chunks = Vec::new();
        let state_hash = write_snapshot(&state, &mut |chunk| chunks.push(chunk));
        let snapshot = Snapshot {
            sequence: row.sequence,
            time: row.time,
            incarnation: row.incarnation,
            journal_hash: row.hash,
            state_hash,
            format: ::journal::FORMAT,
        };
        snapshots::save(db, &snapshot, &chunks).await.expect("saved");
        taken.push(snapshot);
    }
    taken
}

#[tokio::test]
async fn the_newest_at_or_before_a_row_is_found_and_read() {
    let db = database().await;
    assert!(snapshots::load_newest(&db, None).await.expect("an answer").is_none());
    let taken = journal_with_snapshots(&db, 4).await;
    let found = snapshots::newest_at_or_before(&db, Sequence::new(3)).await.expect("an answer");
    assert_eq!(found.expect("there is one").snapshot, taken[2]);
    let (snapshot, state) =
        snapshots::load_newest(&db, None).await.expect("an answer").expect("there is one");
    assert_eq!(snapshot, taken[3]);
    assert_eq!(::journal::state_hash(&state), snapshot.state_hash);
    assert_eq!(state.sequence(), snapshot.sequence);
}

#[tokio::test]
async fn a_changed_snapshot_is_refused_and_the_older_one_is_used() {
    let db = database().await;
    let taken = journal_with_snapshots(&db, 4).await;
    let client = db.get().await.expect("a connection");
    let stored = snapshots::list(&db, None).await.expect("a list");
    // The newest: another hash. The second: a byte of its chunk. The third is whole.
    client
        .execute("UPDATE snapshots SET state_hash = sha256('x') WHERE id = $1", &[&stored[0].id])
        .await
        .expect("changed");
    client
        .execute(
            "UPDATE snapshot_chunks SET data = set_byte(data, 9, get_byte(data, 9) # 1) WHERE snapshot = $1",
            &[&stored[1].id],
        )
        .await
        .expect("changed");
    let stored = snapshots::list(&db, None).await.expect("a list");
    for changed in &stored[..2] {
        let refused = snapshots::load(&db, changed).await.expect_err("refused");
        assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    }
    let (used, _) = snapshots::load_newest(&db, None).await.expect("an answer").expect("the third");
    assert_eq!(used, taken[1]);
}

#[tokio::test]
async fn an_unfinished_snapshot_is_not_seen_and_old_ones_are_pruned() {
    let db = database().await;
    journal_with_snapshots(&db, 4).await;
    let mut unfinished = snapshots::Writer::begin(&db).await.expect("begun");
    unfinished.push(&[1, 2, 3]).await.expect("pushed");
    assert_eq!(snapshots::list(&db, None).await.expect("a list").len(), 4);
    assert_eq!(snapshots::prune(&db, 2).await.expect("pruned"), 2);
    let left = snapshots::list(&db, None).await.expect("a list");
    let sequences: Vec<u64> = left.iter().map(|stored| stored.snapshot.sequence.get()).collect();
    assert_eq!(sequences, [4, 3]);
    for stored in &left {
        snapshots::load(&db, stored).await.expect("still whole");
    }
    let client = db.get().await.expect("a connection");
    let chunks = client.query_one("SELECT count(*) FROM snapshot_chunks", &[]).await;
    assert_eq!(chunks.expect("a count").get::<_, i64>(0), 3, "two of two, and one being written");
}

#[tokio::test]
async fn one_at_a_time_takes_a_snapshot_when_there_is_enough_behind_the_newest() {
    let db = database().await;
    assert_eq!(snapshots::journal_since(&db).await.expect("an answer"), (0, 0));
    let mut appender = Appender::claim(&db, "test").await.expect("an epoch");
    let row = tick(1, appender.epoch(), Hash32::default());
    appender.append(&row).await.expect("appended");
    assert_eq!(snapshots::journal_since(&db).await.expect("an answer"), (1, 1));
    drop(appender);
    let db = database().await;
    journal_with_snapshots(&db, 3).await;
    assert_eq!(snapshots::journal_since(&db).await.expect("an answer"), (0, 0));
    let turn = snapshots::try_turn(&db).await.expect("an answer").expect("nobody else has it");
    assert!(snapshots::try_turn(&db).await.expect("an answer").is_none());
    drop(turn);
    // The server notices a connection that is gone, soon.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while snapshots::try_turn(&db).await.expect("an answer").is_none() {
        assert!(tokio::time::Instant::now() < end, "the turn is not given up");
    }
}
