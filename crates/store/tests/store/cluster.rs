//! The managed cluster, as a person meets it: made, found again, taken over after a kill, stopped.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::Side;
use store::cluster::{Cluster, ClusterError, Options, make_wal_ahead};
use store::{Db, DbConfig, StoreError, migrate};
use units::Sequence;

use crate::exchange::{Exchange, limit};
use crate::writers::Writers;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("kx-cluster-{}", uuid::Uuid::new_v4().simple());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.0).is_err() {
            eprintln!("left {} behind", self.0.display());
        }
    }
}

async fn count(config: &DbConfig, sql: &str) -> i64 {
    let connection = config.connect().await.expect("the cluster takes connections");
    connection.query_one(sql, &[]).await.expect("the query runs").get(0)
}

#[tokio::test]
async fn a_cluster_is_made_and_keeps_what_was_committed() {
    let directory = Directory::new();
    let began = Instant::now();
    let cluster = Cluster::start(&directory.0, Options::default()).await.expect("a new cluster");
    eprintln!("made and ready in {:?}", began.elapsed());
    assert!(!cluster.adopted());
    let connection = cluster.config().connect().await.expect("the socket works");
    connection.batch_execute("CREATE TABLE t AS SELECT 7 AS n").await.expect("a table");
    for (setting, value) in [("fsync", "on"), ("synchronous_commit", "on"), ("TimeZone", "UTC")] {
        let row = connection.query_one(&format!("SHOW {setting}"), &[]).await.expect("a setting");
        assert_eq!(row.get::<_, String>(0), value, "{setting}");
    }
    // As `psql -h localhost -p PORT` does it, with the password of the file.
    let password = std::fs::read_to_string(cluster.password_file()).expect("the password");
    let tcp = DbConfig {
        host: "localhost".to_owned(),
        password: Some(store::Secret::new(password.trim())),
        ..cluster.config()
    };
    assert_eq!(count(&tcp, "SELECT count(*) FROM t").await, 1);
    let wrong = DbConfig { password: Some(store::Secret::new("wrong")), ..tcp };
    let refused = wrong.connect().await.expect_err("a wrong password");
    assert!(matches!(refused, StoreError::Authentication { .. }), "{refused}");
    let (pid, port) = (cluster.pid(), cluster.port());
    cluster.stop().await.expect("a clean stop");
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "the postmaster is gone");

    let began = Instant::now();
    let again = Cluster::start(&directory.0, Options::default()).await.expect("a warm start");
    eprintln!("warm start in {:?}", began.elapsed());
    assert_eq!(again.port(), port, "the port stays if it is free");
    assert_eq!(count(&again.config(), "SELECT count(*) FROM t").await, 1);
    again.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn room_for_the_log_is_made_before_it_is_needed_and_only_once() {
    const AHEAD: &str = "SELECT count(*) FROM pg_ls_waldir() \
        WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_lsn())";
    let directory = Directory::new();
    let options = Options { wal_kept_mib: 96, ..Options::default() };
    let cluster = Cluster::start(&directory.0, options).await.expect("a new cluster");
    let config = cluster.config();
    let before = count(&config, AHEAD).await;
    let made = make_wal_ahead(&config, Duration::ZERO).await.expect("there is room");
    assert!(made > 0, "a new cluster has next to nothing");
    // All but the one that is written to, and one before it that the last checkpoint needs.
    let ahead = count(&config, AHEAD).await;
    assert!(ahead >= 4 && ahead > before, "{before} files ahead before, {ahead} after");
    assert_eq!(make_wal_ahead(&config, Duration::ZERO).await.expect("there is room"), 0);
    cluster.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn a_cluster_left_by_a_killed_process_is_taken_over_and_not_doubled() {
    let directory = Directory::new();
    let first = Cluster::start(&directory.0, Options::default()).await.expect("a new cluster");
    let pid = first.pid();
    let second = Cluster::start(&directory.0, Options::default()).await;
    assert!(matches!(second, Err(ClusterError::InUse(_))), "two owners are one too many");
    // Dropping without stopping is what a killed process leaves: a postmaster, and a lock that is free.
    drop(first);
    let second = Cluster::start(&directory.0, Options::default()).await.expect("taken over");
    assert!(second.adopted());
    assert_eq!(second.pid(), pid);
    assert_eq!(count(&second.config(), "SELECT count(*) FROM pg_class WHERE false").await, 0);
    second.stop().await.expect("a clean stop of the adopted one");
}

#[tokio::test]
async fn a_data_directory_that_others_may_not_enter_is_no_obstacle() {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let closed = Directory::new();
    std::fs::DirBuilder::new().mode(0o700).create(&closed.0).expect("a closed directory");
    let inside = closed.0.join("data");
    let cluster = Cluster::start(&inside, Options::default()).await.expect("a new cluster");
    // Root has to put it where PostgreSQL's user can reach it; everybody else has it where it was asked for.
    let root = std::fs::metadata(&closed.0).expect("ours").uid() == 0;
    let data = cluster.data_directory().to_owned();
    assert_eq!(data.starts_with(&closed.0), !root, "{}", data.display());
    let connection = cluster.config().connect().await.expect("a connection");
    connection.batch_execute("CREATE TABLE t AS SELECT 7 AS n").await.expect("a table");
    cluster.stop().await.expect("a clean stop");
    let again = Cluster::start(&inside, Options::default()).await.expect("found again");
    assert_eq!(again.data_directory(), data);
    assert_eq!(count(&again.config(), "SELECT count(*) FROM t").await, 1);
    again.stop().await.expect("a clean stop");
    if root {
        let elsewhere = data.parent().expect("a directory of its own");
        std::fs::remove_dir_all(elsewhere).expect("removed");
    }
}

#[tokio::test]
async fn a_stale_postmaster_file_is_no_obstacle() {
    let directory = Directory::new();
    let cluster = Cluster::start(&directory.0, Options::default()).await.expect("a new cluster");
    let file = cluster.data_directory().join("postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("the file of the running postmaster");
    cluster.stop().await.expect("a clean stop");
    // The number now belongs to somebody else who is alive: this process.
    let lines: Vec<&str> = text.lines().collect();
    let forged = format!("{}\n{}\n", std::process::id(), lines[1..].join("\n"));
    std::fs::write(&file, forged).expect("a forged file");
    let again = Cluster::start(&directory.0, Options::default()).await.expect("a start");
    assert!(!again.adopted());
    again.stop().await.expect("a clean stop");
}

#[tokio::test]
async fn a_database_that_is_not_there_says_econnrefused() {
    let config = DbConfig { host: "127.0.0.1".to_owned(), port: 1, ..DbConfig::default() };
    let began = Instant::now();
    let refused = Db::connect(config).await.expect_err("nobody listens on port 1");
    assert!(refused.to_string().contains("ECONNREFUSED"), "{refused}");
    assert!(refused.is_transient());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn migrations_by_three_at_once_run_once() {
    let cluster = store::cluster::Throwaway::start().await.expect("a cluster");
    let config = cluster.database().await.expect("a database");
    let db = Db::connect(config).await.expect("a connection");
    let all = migrate::status(&db).await.expect("a status").missing.len();
    let (a, b, c) = tokio::join!(migrate::run(&db), migrate::run(&db), migrate::run(&db));
    let mut ran = [a, b, c].map(|ran| ran.expect("each succeeds"));
    ran.sort_unstable();
    let status = migrate::status(&db).await.expect("a status");
    assert_eq!(status.database, status.program);
    assert!(status.missing.is_empty());
    assert_eq!(ran[..2], [0, 0], "one of them did it all");
    assert!(all > 0);
    assert_eq!(ran[2], all);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let cluster = store::cluster::Throwaway::start().await.expect("a cluster");
    let config = cluster.database().await.expect("a database");
    let db = Db::connect(config).await.expect("a connection");
    migrate::run(&db).await.expect("a schema");
    let connection = db.get().await.expect("a connection");
    connection
        .batch_execute("INSERT INTO schema_migrations VALUES (9999, '9999_later', '\\x00')")
        .await
        .expect("a later release");
    for refused in [migrate::run(&db).await.err(), migrate::status(&db).await.err()] {
        let message = refused.expect("refused").to_string();
        assert!(message.contains("newer than this program"), "{message}");
    }
}

#[tokio::test]
async fn appends_and_projections_outlive_a_restart_of_the_database() {
    let directory = Directory::new();
    let first = Cluster::start(&directory.0, Options::default()).await.expect("a new cluster");
    let db = Db::connect(first.config()).await.expect("a connection");
    migrate::run(&db).await.expect("a schema");
    let (mut exchange, batches) = Exchange::open(&db, 2).await;
    let mut projector = Writers::new(&db);
    projector.write(&batches).await.expect("written");
    // Dropped at once, without a goodbye to anybody, and started anew.
    let restart = async {
        let quit = ["-QUIT", &first.pid().to_string()].map(str::to_owned);
        let sent = std::process::Command::new("kill").args(quit).status().expect("kill runs");
        assert!(sent.success());
        let pid = PathBuf::from(format!("/proc/{}/cwd", first.pid()));
        while std::fs::read_link(&pid).is_ok() {
            tokio::task::yield_now().await;
        }
        drop(first);
        Cluster::start(&directory.0, Options::default()).await.expect("a start after a crash")
    };
    let trading = async {
        let mut made = Vec::new();
        for _ in 0..200 {
            made.push(exchange.commit(vec![limit(0, Side::Sell, 5_000, 1)]).await);
            tokio::task::yield_now().await;
        }
        made
    };
    let (second, made) = tokio::join!(restart, trading);
    // A write may meet the dead connection first; after that error the same batches go in.
    let written = loop {
        match projector.write(&made).await {
            Ok(written) => break written,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!(written, exchange.state().sequence());
    let rows = store::journal::rows_after(&db, Sequence::new(0), 1_000).await.expect("rows");
    assert_eq!(rows.last().map(|row| row.sequence), Some(written));
    let compared = store::projections::compare(&db, &mut |_| {}).await.expect("a comparison");
    assert_eq!(compared.differences, []);
    second.stop().await.expect("a clean stop");
}
