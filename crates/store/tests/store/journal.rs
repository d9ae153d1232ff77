//! Append, fence and unknown outcomes, against a real PostgreSQL and through a proxy that cuts connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::common::{database, tick, tick_at};
use ::journal::Row;
use store::journal::{AppendError, Appender, head, row, rows_after};
use store::{Db, DbConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use units::{Hash32, Sequence, Time};

async fn refused(db: &Db, sql: &str) -> String {
    let client = db.get().await.expect("a connection");
    let error = client.batch_execute(sql).await.expect_err("the database refuses it");
    error.as_db_error().map(|error| error.message().to_owned()).expect("PostgreSQL's own refusal")
}

#[tokio::test]
async fn rows_come_back_as_they_were_appended() {
    let db = database().await;
    assert_eq!(head(&db).await.expect("an answer"), None);
    let mut appender = Appender::claim(&db, "test").await.expect("the epoch");
    let mut previous = Hash32::default();
    let mut rows = Vec::new();
    for sequence in 1..=5 {
        let row = tick(sequence, appender.epoch(), previous);
        appender.append(&row).await.expect("appended");
        previous = row.hash;
        rows.push(row);
    }
    let last = rows.last().expect("five rows");
    let at_head = head(&db).await.expect("an answer");
    assert_eq!(at_head, Some((last.sequence, last.hash, last.time)));
    assert_eq!(rows_after(&db, Sequence::new(0), 100).await.expect("rows"), rows);
    assert_eq!(rows_after(&db, Sequence::new(2), 2).await.expect("rows"), rows[2..4]);
    assert_eq!(row(&db, Sequence::new(3)).await.expect("an answer").as_ref(), Some(&rows[2]));
    assert_eq!(row(&db, Sequence::new(6)).await.expect("an answer"), None);
    // PostgreSQL computes the chain by itself.
    let client = db.get().await.expect("a connection");
    let wrong = "SELECT count(*) FROM journal WHERE hash <> sha256(previous_hash || int8send(sequence) ||
        int8send(time) || int8send(incarnation) || int8send(epoch) || int2send(format) || int2send(rules) ||
        int4send(commands) || payload)";
    assert_eq!(client.query_one(wrong, &[]).await.expect("a count").get::<_, i64>(0), 0);
}

#[tokio::test]
async fn the_older_of_two_appenders_is_deposed() {
    let db = database().await;
    let mut older = Appender::claim(&db, "older").await.expect("an epoch");
    let first = tick(1, older.epoch(), Hash32::default());
    older.append(&first).await.expect("appended");
    let mut newer = Appender::claim(&db, "newer").await.expect("an epoch");
    assert_eq!(newer.epoch(), older.epoch() + 1);
    let late = older.append(&tick(2, older.epoch(), first.hash)).await;
    assert!(matches!(late, Err(AppendError::Deposed { .. })), "{late:?}");
    newer.append(&tick(2, newer.epoch(), first.hash)).await.expect("the newer one appends");
    // Nor with a row in its place.
    let late = older.append(&tick_at(2, older.epoch(), first.hash, 5 + crate::common::BEGIN)).await;
    assert!(matches!(late, Err(AppendError::Deposed { .. })), "{late:?}");
    // A row that was committed before the deposition is still a success for whoever asks again.
    older.append(&first).await.expect("the same bytes are there");
}

#[tokio::test]
async fn claims_and_appends_at_once_leave_one_chain() {
    let db = database().await;
    let mut tasks = Vec::new();
    for owner in 0..4_u64 {
        let db = db.clone();
        tasks.push(tokio::spawn(async move {
            let mut appended = Vec::new();
            for _ in 0..10 {
                let mut appender = Appender::claim(&db, "one of four").await.expect("an epoch");
                let found = head(&db).await.expect("an answer");
                let (mut at, mut hash) =
                    found.map_or((0, Hash32::default()), |(at, hash, _)| (at.get(), hash));
                loop {
                    let time = crate::common::BEGIN + at * 10 + owner;
                    let row = tick_at(at + 1, appender.epoch(), hash, time);
                    match appender.append(&row).await {
                        Ok(()) => (at, hash) = (at + 1, row.hash),
                        Err(AppendError::Deposed { .. }) => break,
                        // The head was read before another's last append.
                        Err(AppendError::DoesNotFollow(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                    appended.push(row);
                    if appended.len() % 7 == 0 {
                        break;
                    }
                }
            }
            appended
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("no panic"));
    }
    acknowledged.sort_by_key(|row| row.sequence);
    let stored = rows_after(&db, Sequence::new(0), 10_000).await.expect("rows without a gap");
    assert_eq!(stored, acknowledged, "what was acknowledged is the journal, and nothing else");
    let mut previous = Hash32::default();
    for row in stored {
        assert_eq!(row.previous_hash, previous);
        previous = row.hash;
    }
}

#[tokio::test]
async fn an_append_is_idempotent_and_cannot_leave_a_gap_or_change_a_row() {
    let db = database().await;
    let mut appender = Appender::claim(&db, "test").await.expect("an epoch");
    let first = tick(1, appender.epoch(), Hash32::default());
    appender.append(&first).await.expect("appended");
    appender.append(&first).await.expect("the same bytes again are the same success");
    let other = tick_at(1, appender.epoch(), Hash32::default(), crate::common::BEGIN + 500);
    let conflict = appender.append(&other).await;
    assert!(matches!(conflict, Err(AppendError::Deposed { .. })), "{conflict:?}");
    let gap = appender.append(&tick(3, appender.epoch(), first.hash)).await;
    assert!(matches!(gap, Err(AppendError::DoesNotFollow(_))), "{gap:?}");
    let stranger = appender.append(&tick(2, appender.epoch(), Hash32([7; 32]))).await;
    assert!(matches!(stranger, Err(AppendError::DoesNotFollow(_))), "{stranger:?}");
    assert_eq!(rows_after(&db, Sequence::new(0), 10).await.expect("rows"), [first]);
}

#[tokio::test]
async fn the_database_refuses_to_change_the_journal() {
    let db = database().await;
    let mut appender = Appender::claim(&db, "test").await.expect("an epoch");
    appender.append(&tick(1, appender.epoch(), Hash32::default())).await.expect("appended");
    for change in ["UPDATE journal SET epoch = 9", "DELETE FROM journal", "TRUNCATE journal"] {
        let message = refused(&db, change).await;
        assert!(message.contains("append-only"), "{change}: {message}");
    }
    assert!(row(&db, Sequence::new(1)).await.expect("an answer").is_some());
}

#[tokio::test]
async fn the_databases_clock_is_told() {
    let db = database().await;
    let told = store::journal::database_time(&db).await.expect("a time");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let now = Time::from_micros(u64::try_from(now.as_micros()).expect("a time"));
    assert!(now.micros_since(told) < 5_000_000 && told.micros_since(now) < 5_000_000);
}

/// A proxy in front of the database's socket that can swallow an answer and cut the connection.
struct Proxy {
    port: u16,
    /// Armed: the next answer to a statement is swallowed, and the connection is cut.
    cut_next: Arc<AtomicBool>,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    async fn start(config: &DbConfig) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (cut_next, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let socket = format!("{}/.s.PGSQL.{}", config.host, config.port);
        let (armed, count) = (Arc::clone(&cut_next), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.expect("the database's socket");
                tokio::spawn(Self::carry(client, server, Arc::clone(&armed), Arc::clone(&count)));
            }
        });
        Self { port, cut_next, cuts }
    }

    async fn carry(
        client: TcpStream,
        server: UnixStream,
        armed: Arc<AtomicBool>,
        count: Arc<AtomicU32>,
    ) {
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        tokio::spawn(Self::forward(from_client, to_server));
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            let answer = &buffer[..length];
            // "INSERT 0 1" is the tag with which PostgreSQL says that the row is committed.
            let committed = answer.windows(10).any(|bytes| bytes == b"INSERT 0 1");
            if committed && armed.swap(false, Ordering::SeqCst) {
                count.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(answer).await.is_err() {
                return;
            }
        }
    }

    async fn forward(mut from: OwnedReadHalf, mut to: tokio::net::unix::OwnedWriteHalf) {
        // Either end may go at any time; that is what the proxy is for.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_made_definite() {
    let db = database().await;
    let proxy = Proxy::start(db.config()).await;
    let through =
        DbConfig { host: "127.0.0.1".to_owned(), port: proxy.port, ..db.config().clone() };
    let through = Db::connect(through).await.expect("a connection through the proxy");
    let mut appender = Appender::claim(&through, "test").await.expect("an epoch");
    let mut previous = Hash32::default();
    let mut rows: Vec<Row> = Vec::new();
    for sequence in 1..=20 {
        if sequence % 4 == 0 {
            proxy.cut_next.store(true, Ordering::SeqCst);
        }
        let row = tick(sequence, appender.epoch(), previous);
        appender.append(&row).await.expect("definite at last");
        previous = row.hash;
        rows.push(row);
    }
    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 5, "every cut came after a commit");
    assert!(appender.retries() >= 5);
    assert_eq!(rows_after(&db, Sequence::new(0), 100).await.expect("rows"), rows);

    // The answer is lost, and before the same bytes come again the epoch is raised: the row is in, the epoch is not ours.
    proxy.cut_next.store(true, Ordering::SeqCst);
    let row = tick(21, appender.epoch(), previous);
    let successor = async {
        while head(&db).await.expect("an answer").is_none_or(|(at, ..)| at.get() < 21) {
            tokio::task::yield_now().await;
        }
        Appender::claim(&db, "successor").await.expect("an epoch")
    };
    let (appended, _successor) = tokio::join!(appender.append(&row), successor);
    appended.expect("a committed row is a success, deposed or not");
    let next = appender.append(&tick(22, appender.epoch(), row.hash)).await;
    assert!(matches!(next, Err(AppendError::Deposed { .. })), "{next:?}");
}

#[tokio::test]
async fn an_append_given_up_halfway_lets_no_other_row_in_before_it() {
    let db = database().await;
    let mut appender = Appender::claim(&db, "test").await.expect("an epoch");
    let first = tick(1, appender.epoch(), Hash32::default());
    {
        let mut append = Box::pin(appender.append(&first));
        // One poll sends the bytes; dropping it then loses the answer.
        assert!(futures::poll!(&mut append).is_pending());
    }
    let other = tick_at(1, appender.epoch(), Hash32::default(), crate::common::BEGIN + 9);
    let refused = appender.append(&other).await;
    assert!(matches!(refused, Err(AppendError::InDoubt(_))), "{refused:?}");
    appender.append(&first).await.expect("the same row settles it");
    assert_eq!(rows_after(&db, Sequence::new(0), 10).await.expect("rows"), [first]);
}
