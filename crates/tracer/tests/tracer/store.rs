//! Written, found, searched, swept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trace::{PROCESSOR, Recorder, Request, SERVER, Span};
use tracer::{Query, find, search};

use crate::world::{World, counter, id, note, request, wait};

const MINUTE: u64 = 60_000_000;

fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_is_found_again_by_an_id_of_ours_and_by_another() {
    let world = World::start().await;
    let recorder = Arc::new(Recorder::default());
    let (ours, other) = (id(3_000), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    note(&recorder, request(ours, 3_000, 7));
    let foreign = |ago, sequence| Request {
        is_foreign: true,
        parent_id: 0xb7ad,
        ..request(other, ago, sequence)
    };
    note(&recorder, foreign(20 * MINUTE, 8));
    note(&recorder, foreign(5_000, 9));
    world.write(&recorder).await;
    let expected = [
        "POST /api/v1/orders",
        "answer",
        "append",
        "authenticate",
        "await outcome",
        "batch",
        "broadcast",
        "decide",
        "process",
        "project market_data",
        "project money",
        "project orders",
        "publish",
        "queue",
        "settle",
        "validate",
    ];
    let spans = find(&world.db, ours).await.expect("the store answers");
    assert_eq!(names(&spans), BTreeSet::from(expected));
    assert_eq!(spans.len(), expected.len());
    let spans = find(&world.db, other).await.expect("the store answers");
    assert_eq!(spans.len(), 2 * expected.len(), "both requests of the one trace");
    let roots = spans.iter().filter(|span| span.parent_id == 0xb7ad);
    assert_eq!(roots.count(), 2, "the caller's span is the parent of each");
    assert!(find(&world.db, id(3_000)).await.expect("the store answers").is_empty());
}

/// A query that everything fits.
fn all(service: &str) -> Query {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).expect("it is not that late");
    Query {
        service: service.to_owned(),
        operation: None,
        from: now - 60 * MINUTE,
        until: now,
        micros_min: 0,
        micros_max: u64::MAX,
        tags: BTreeMap::new(),
        limit: 100,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_what_fits_newest_first_and_no_more_than_asked() {
    let world = World::start().await;
    let recorder = Arc::new(Recorder::default());
    let ids: Vec<u128> = (0..4_u64).map(|minutes| id(minutes * MINUTE + 9_000)).collect();
    let at = |place: u64| {
        request(ids[usize::try_from(place).unwrap_or(0)], place * MINUTE + 9_000, place + 1)
    };
    note(&recorder, at(0));
    note(&recorder, Request { ended: 900_000, status: 503, ..at(1) });
    let mut cancelled = Request { method: "DELETE".into(), ..at(2) };
    if let Some(sent) = &mut cancelled.sent {
        (sent.action, sent.market) = ("cancel_order".into(), None);
    }
    note(&recorder, cancelled);
    note(&recorder, Request { sent: None, route: "/api/v1/auth/login".into(), ..at(3) });
    world.write(&recorder).await;
    let places = async |query: Query| -> Vec<usize> {
        let found = search(&world.db, &query).await.expect("the store answers");
        let place = |spans: &Vec<Span>| ids.iter().position(|id| *id == spans[0].trace_id);
        found.iter().filter_map(place).collect()
    };
    let server = || all(SERVER);
    assert_eq!(places(server()).await, [0, 1, 2, 3]);
    assert_eq!(places(all(PROCESSOR)).await, [0, 1, 2], "a login is nothing to the processor");
    assert_eq!(places(Query { limit: 2, ..server() }).await, [0, 1]);
    assert_eq!(places(Query { micros_min: 500_000, ..server() }).await, [1]);
    assert_eq!(places(Query { micros_max: 500_000, ..server() }).await, [0, 2, 3]);
    let named = |name: &str| Query { operation: Some(name.to_owned()), ..server() };
    assert_eq!(places(named("DELETE /api/v1/orders")).await, [2]);
    assert_eq!(places(named("publish")).await, [0, 1, 2]);
    assert_eq!(places(named("nonsense")).await, [0_usize; 0]);
    let append = Query { operation: Some("append".to_owned()), ..all(PROCESSOR) };
    assert_eq!(places(append).await, [0, 1, 2]);
    let tagged = |name: &str, value: &str| Query {
        tags: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..server()
    };
    assert_eq!(places(tagged("error", "true")).await, [1]);
    assert_eq!(places(tagged("http.response.status_code", "201")).await, [0, 2, 3]);
    assert_eq!(places(tagged("kx.market", "BTC/USD")).await, [0, 1]);
    assert_eq!(places(tagged("kx.action", "cancel_order")).await, [2]);
    assert_eq!(places(tagged("nonsense", "1")).await, [0_usize; 0]);
    let (from, until) = (server().until - 90_000_000, server().until - 30_000_000);
    assert_eq!(places(Query { from, until, ..server() }).await, [1]);
    assert_eq!(places(all("kx-web")).await, [0_usize; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_swept_and_what_is_young_stays() {
    let world = World::start().await;
    let recorder = Arc::new(Recorder::default());
    let (old, young) = (id(50 * MINUTE), id(2_000));
    note(&recorder, request(old, 50 * MINUTE, 1));
    note(&recorder, Request { is_foreign: true, ..request(77, 50 * MINUTE, 2) });
    note(&recorder, request(young, 2_000, 3));
    world.write(&recorder).await;
    // When a row of times was noted is the database's own time.
    world
        .execute(
            "UPDATE trace_batches SET noted_at = now() - interval '50 minutes' WHERE sequence < 3",
        )
        .await;
    let older_than = SystemTime::now() - Duration::from_secs(40 * 60);
    let gone = store::traces::sweep(&world.db, older_than, 1 << 30).await.expect("it sweeps");
    // Two requests in one row, one use of another's id, two journal rows, each in three parts of the projections.
    assert_eq!(gone, 1 + 1 + 2 + 6);
    assert!(find(&world.db, old).await.expect("it answers").is_empty());
    assert!(find(&world.db, 77).await.expect("it answers").is_empty());
    assert_eq!(find(&world.db, young).await.expect("it answers").len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_swept_oldest_first_down_to_the_bound_and_no_further() {
    let world = World::start().await;
    let at = "now() - (n || ' seconds')::interval";
    world
        .execute(&format!(
            "INSERT INTO trace_requests (begun_at, ended_at, instance, requests, slowest_micros, payload)
             SELECT {at}, {at}, 'test', 1, 1, convert_to(repeat(md5(n::text), 30), 'UTF8') FROM generate_series(1, 2000) AS n"
        ))
        .await;
    world
        .execute(&format!(
            "INSERT INTO trace_spans SELECT gen_random_uuid(), n, 0, 'kx-web', 'x', 1, {at}, 1, false, '{{}}', {at}
             FROM generate_series(1, 2000) AS n"
        ))
        .await;
    let long_ago = SystemTime::UNIX_EPOCH;
    let sweep = async |bytes: u64| {
        store::traces::sweep(&world.db, long_ago, bytes).await.expect("it sweeps")
    };
    assert_eq!(sweep(1 << 30).await, 0, "there is room for all");
    // PostgreSQL's own count of rows comes a moment later.
    wait("the oldest to go", async || (sweep(1 << 20).await > 0).then_some(())).await;
    wait("both to fit", async || {
        sweep(1 << 20).await;
        let few = async |table: &str| world.count(table).await < 2_000;
        (few("trace_requests").await && few("trace_spans").await).then_some(())
    })
    .await;
    // A table's file does not get smaller: what is there is what counts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    sweep(1 << 20).await;
    let (requests, spans) = (world.count("trace_requests").await, world.count("trace_spans").await);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sweep(1 << 20).await;
    }
    assert_eq!(world.count("trace_requests").await, requests, "what fits stays");
    assert_eq!(world.count("trace_spans").await, spans, "what fits stays");
    assert!(requests > 300 && spans > 100, "{requests} requests and {spans} spans are left");
    let client = world.db.get().await.expect("it answers");
    let text = "SELECT max(begun_at) > now() - interval '5 minutes' FROM trace_requests";
    let newest: bool = client.query_one(text, &[]).await.expect("a row").get(0);
    assert!(newest, "the newest stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_loses_nothing_that_has_room_and_what_has_none_is_counted() {
    const MANY: u64 = 150_000;
    let world = World::start().await;
    let recorder = Arc::new(Recorder::default());
    let dropped = || counter("kx_traces_dropped_total{reason=\"no_room\"}");
    let kept = async || -> u64 {
        let client = world.db.get().await.expect("it answers");
        let text = "SELECT coalesce(sum(requests), 0)::bigint FROM trace_requests";
        let kept: i64 = client.query_one(text, &[]).await.expect("it counts").get(0);
        kept.unsigned_abs()
    };
    world.execute("ALTER TABLE trace_requests RENAME TO away").await;
    let before = dropped();
    let writing = world.writing(&recorder, None);
    // One that began long before the store came back, and many.
    let early = id(15 * MINUTE);
    note(&recorder, request(early, 15 * MINUTE, 1));
    let last = id(3_000);
    for number in 1..MANY {
        let is_first = number == 1;
        let request = Request { sent: None, ..request(if is_first { last } else { 5 }, 3_000, 2) };
        recorder.request(Request { is_foreign: false, ..request });
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.count("away").await, 0);
    world.execute("ALTER TABLE away RENAME TO trace_requests").await;
    wait("everything to be written or counted", async || {
        (kept().await + dropped() - before >= MANY).then_some(())
    })
    .await;
    writing.stop().await;
    let (kept, dropped) = (kept().await, dropped() - before);
    assert_eq!(kept + dropped, MANY);
    assert!(dropped > 0, "what waits is bounded");
    assert!(kept >= 65_536, "what has room is kept");
    assert_eq!(
        find(&world.db, early).await.expect("it answers").len(),
        16,
        "found, however long it has waited"
    );
    assert_eq!(find(&world.db, last).await.expect("it answers").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_skipped() {
    let world = World::start().await;
    let recorder = Arc::new(Recorder::default());
    let ours = id(3_000);
    note(&recorder, request(ours, 3_000, 7));
    world.write(&recorder).await;
    let rows = world
        .execute(
            "INSERT INTO trace_requests (begun_at, ended_at, instance, requests, slowest_micros, payload)
             SELECT begun_at - interval '1 microsecond', ended_at, 'other', 1, 9000, payload FROM
                (VALUES ('\\x'::bytea), ('\\x01'), ('\\xff00'), (decode(repeat('01ff', 99), 'hex'))) AS bad (payload),
                (SELECT begun_at, ended_at FROM trace_requests) AS good",
        )
        .await;
    assert_eq!(rows, 4);
    assert_eq!(find(&world.db, ours).await.expect("it answers").len(), 16);
    assert_eq!(search(&world.db, &all(SERVER)).await.expect("it answers").len(), 1);
    // A journal row without readable times: the request is shown, and not split.
    world.execute("UPDATE trace_batches SET payload = '\\x01ffff'").await;
    let spans = find(&world.db, ours).await.expect("it answers");
    assert!(!names(&spans).contains("append"), "{:?}", names(&spans));
    assert!(names(&spans).contains("await outcome"), "{:?}", names(&spans));
}
