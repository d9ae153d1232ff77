//! Anomalies against a real PostgreSQL: found, kept, remembered over a restart, and explained. A minute is a call.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use http::Request as HttpRequest;
use http_body_util::BodyExt as _;
use store::anomalies::{Filter, Kept};
use store::cluster::Throwaway;
use store::traces::{Batch, RequestsRow};
use store::{Db, migrate};
use telemetry::Metric;
use tower::ServiceExt as _;
use trace::{BatchTiming, CommandTiming, Micros, Origin, Outcome, Request, Sent, Stage, stages};
use tracer::{Process, Watch};

const MINUTE: u64 = 60_000_000;
const WRITE_MAX: Duration = Duration::from_secs(60);

/// An order that ended at this time, in microseconds since 1970, and took so long in the journal.
fn order(trace_id: u128, at: u64, number: u32, append: u32) -> Request {
    let origin = Origin { boot: 1, wall: i64::try_from(at).unwrap() - 1_000_000 };
    let begun = Micros(1_000_000);
    // The other stages differ a little from order to order, as they do.
    let other = 100 + number % 37;
    let [submitted, received] = [other * 2, other * 4];
    let (done, committed) = (other, other + append);
    Request {
        trace_id,
        span_id: 7,
        parent_id: 0,
        is_foreign: true,
        origin,
        begun,
        method: "POST".into(),
        route: "/api/v1/orders".into(),
        status: 201,
        authenticated: other,
        ended: received + committed + other * 2,
        sent: Some(Sent {
            command: trace_id,
            action: "place_order".into(),
            market: Some("BTC-USD".to_owned()),
            submitted,
            confirmed: Some(other * 3),
            given_up: None,
            queued_by_journal_time: None,
            outcome: Some(Outcome { sequence: 77, index: 0, seen: received + committed + other }),
        }),
        timing: Some(Arc::new(BatchTiming {
            origin,
            begun: begun.plus(received),
            commands: vec![CommandTiming {
                index: 0,
                received: 0,
                waited: 0,
                decided: done,
                settled: 0,
            }],
            append_begun: done,
            committed,
        })),
    }
}

fn process(pid: u32) -> Process {
    Process {
        source: "here:5000".to_owned(),
        instance: format!("here pid {pid}"),
        service: "kx-server".to_owned(),
        build: "0.1.0 abc".to_owned(),
        started: UNIX_EPOCH,
    }
}

fn at(minute: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(minute * MINUTE)
}

/// Lives through minutes of 60 orders each, whose rows take so long to append.
async fn live(watch: &mut Watch, db: &Db, minutes: std::ops::Range<u64>, append: u32) {
    for minute in minutes {
        watch.tick(at(minute), false);
        for number in 0..60 {
            let append = append + number * 20;
            let request =
                order(u128::from(minute << 8 | u64::from(number)), minute * MINUTE, number, append);
            watch.note(&request, &stages(&request));
        }
        watch.write(db, WRITE_MAX).await;
    }
}

async fn all(db: &Db) -> Vec<Kept> {
    store::anomalies::list(db, Filter::default(), 100).await.expect("the database answers")
}

/// Keeps the trace of an order as the writer does.
async fn keep(db: &Db, request: &Request) {
    let begun = request.origin.wall(request.begun);
    let row = RequestsRow {
        begun,
        ended: begun + u64::from(request.ended),
        instance: "here pid 1".to_owned(),
        requests: 1,
        slowest: request.ended.into(),
        payload: trace::pack_requests(std::slice::from_ref(request)),
    };
    let timing = request.timing.as_ref().expect("it has its times").encode();
    let batch = Batch {
        requests: vec![row],
        foreign: vec![(request.trace_id, begun)],
        batches: vec![(77, 1, timing)],
        projections: Vec::new(),
    };
    store::traces::write(db, &batch).await.expect("the database answers");
}

#[tokio::test]
async fn a_slow_journal_is_found_kept_and_explained() {
    let cluster = Throwaway::start().await.expect("a cluster");
    let db = Db::connect(cluster.database().await.expect("a database")).await.expect("it answers");
    migrate::run(&db).await.expect("the schema");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 60;
    let begin = now - 60;
    telemetry::set_labelled(Metric::QueueMessages, &["orders"], 3.0);
    let mut watch = Watch::new(process(1));
    live(&mut watch, &db, begin..begin + 30, 2_000).await;
    assert!(all(&db).await.is_empty(), "half an hour as usual");

    // The journal takes 200 ms, for four minutes; the queue is long meanwhile.
    telemetry::set_labelled(Metric::QueueMessages, &["orders"], 412.0);
    live(&mut watch, &db, begin + 30..begin + 33, 200_000).await;
    let slow = order(0xabc, (begin + 31) * MINUTE + 5_000_000, 1, 200_000);
    keep(&db, &slow).await;
    let found = all(&db).await;
    assert_eq!(found.len(), 1, "one stage of one operation: {found:?}");
    let anomaly = &found[0].anomaly;
    assert_eq!(
        (anomaly.stage, anomaly.operation.as_str(), anomaly.begun),
        (Stage::Append, "place_order", begin + 30)
    );
    assert_eq!((found[0].ended_at, anomaly.severity), (None, 3));
    assert!((2_000..3_600).contains(&anomaly.usual.p50), "{anomaly:?}");

    // The process ends and another one goes on where it was.
    watch.tick(at(begin + 33), true);
    watch.write(&db, WRITE_MAX).await;
    let mut watch = Watch::new(process(2));
    watch.write(&db, WRITE_MAX).await;
    live(&mut watch, &db, begin + 33..begin + 34, 200_000).await;
    telemetry::set_labelled(Metric::QueueMessages, &["orders"], 3.0);
    live(&mut watch, &db, begin + 34..begin + 40, 2_000).await;
    let found = all(&db).await;
    assert_eq!(found.len(), 1, "it is the same one: {found:?}");
    assert_eq!((found[0].ended_because.as_deref(), found[0].anomaly.windows), (Some("usual"), 4));
    assert_eq!(found[0].instance, "here pid 2");

    explained(&db, &slow).await;

    store::anomalies::sweep(&db, SystemTime::now()).await.expect("the database answers");
    assert!(all(&db).await.is_empty(), "what is old goes");
}

async fn explained(db: &Db, slow: &Request) {
    let explanation = tracer::explain(db, slow.trace_id).await.expect("the database answers");
    let explanation = explanation.expect("it was kept");
    assert_eq!(explanation.main, Some(Stage::Append), "{explanation:?}");
    let append = explanation.stages.iter().find(|each| each.stage == Stage::Append).unwrap();
    assert_eq!(append.observed, 200_000);
    let (usual, factor) = (append.usual.expect("it is known"), append.factor.expect("it is known"));
    assert!((2_400..2_800).contains(&usual.p50) && (70.0..85.0).contains(&factor), "{append:?}");
    assert_eq!(explanation.stages.iter().filter(|each| each.is_unusual).count(), 1);
    let words = explanation.words.join(" ");
    for part in [
        "The stage append took 200.00 ms",
        "Every other stage was as usual.",
        "the queue was long: 412 commands, usually 3 commands",
        "the stage append of place_order was far from usual at here:5000, severity 3",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words:?}");
    }
    let path = format!("/trace/{}", tracer::format_trace_id(slow.trace_id));
    let request = HttpRequest::get(path).body(Body::empty()).expect("a request");
    let answer = tracer::jaeger_router(db.clone()).oneshot(request).await.expect("it answers");
    let body = answer.into_body().collect().await.expect("a page").to_bytes();
    let page = String::from_utf8_lossy(&body).into_owned();
    assert!(page.contains("Why it took so long") && page.contains("412 commands"), "{page}");
}
