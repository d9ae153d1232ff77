//! Leases: every part has one holder of those that live, and living ones share.

use store::Db;
use store::leases::{release, renew};
use store::projections::Part;

use crate::common::database;
use crate::projections::{execute, one};

async fn held(db: &Db, holder: &str) -> Vec<Part> {
    renew(db, holder, "payment-processor").await.expect("renewed")
}

/// Makes a process one that has not been seen for long.
async fn forget(db: &Db, holder: &str) {
    execute(
        db,
        &format!(
            "UPDATE processes SET seen_at = '2026-01-01' WHERE id = '{holder}';
             UPDATE projection_leases SET until = '2026-01-01' WHERE holder = '{holder}'"
        ),
    )
    .await;
}

/// Renews for all until as many parts are held by each as expected, the most first, and all together have every part once.
async fn shared(db: &Db, holders: &[&str], expected: &[usize]) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let (mut all, mut counts) = (Vec::new(), Vec::new());
        for holder in holders {
            let held = held(db, holder).await;
            counts.push(held.len());
            all.extend(held);
        }
        counts.sort_by(|a, b| b.cmp(a));
        all.sort();
        // A machine that stands still for seconds ends leases, which is not what is asked here.
        if counts == expected && all == Part::ALL {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{holders:?}: {counts:?}");
    }
}

#[tokio::test]
async fn living_processes_share_the_parts() {
    let db = database().await;
    assert_eq!(held(&db, "a").await, Part::ALL, "who is alone has all");
    // The newcomer gets what the first gives up.
    shared(&db, &["a", "b"], &[2, 1]).await;
    shared(&db, &["a", "b", "c"], &[1, 1, 1]).await;
    shared(&db, &["a", "b", "c", "d"], &[1, 1, 1, 0]).await;
    // Another role does not count.
    renew(&db, "other", "order-server").await.expect("renewed");
    release(&db, "other").await.expect("released");
    shared(&db, &["a", "b", "c", "d"], &[1, 1, 1, 0]).await;
    release(&db, "a").await.expect("released");
    shared(&db, &["b", "c", "d"], &[1, 1, 1]).await;
    forget(&db, "c").await;
    forget(&db, "d").await;
    shared(&db, &["b"], &[3]).await;
    release(&db, "b").await.expect("released");
    let free = "SELECT count(*) FROM projection_leases WHERE holder IS NULL";
    assert_eq!(one::<i64>(&db, free).await, 3);
}

#[tokio::test]
async fn many_renew_at_once() {
    let db = database().await;
    let names = ["a", "b", "c", "d"];
    for _ in 0..20 {
        futures::future::join_all(names.map(|name| held(&db, name))).await;
    }
    shared(&db, &names, &[1, 1, 1, 0]).await;
}
