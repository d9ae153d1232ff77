//! Anomalies, found in hours of made-up requests: a minute is a call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trace::anomaly::{
    Anomaly, Baseline, Detector, Ended, Finding, Known, News, OPERATIONS_MAX, WARM_UP, Welford,
    Window, explain, severity,
};
use trace::{BatchTiming, CommandTiming, Micros, Origin, Outcome, Request, Sent, Stage, stages};

/// How long each stage of an order takes, in microseconds, in the order of the way.
type Times = [u32; 8];
const STAGES: [Stage; 8] = [
    Stage::Authenticate,
    Stage::Validate,
    Stage::Publish,
    Stage::Queue,
    Stage::Decide,
    Stage::Append,
    Stage::Broadcast,
    Stage::Answer,
];
const USUAL: Times = [30, 60, 400, 900, 300, 2_000, 700, 50];

/// An order that took so long in each stage.
fn order(trace_id: u128, times: Times) -> Request {
    let origin = Origin { boot: 1, wall: 0 };
    let mut ends = [0; 8];
    let mut at = 0_u32;
    for (end, took) in ends.iter_mut().zip(times) {
        at += took;
        *end = at;
    }
    let [authenticated, submitted, confirmed, received, decided, committed, seen, ended] = ends;
    let command =
        CommandTiming { index: 0, received: 0, waited: 0, decided: decided - received, settled: 0 };
    Request {
        trace_id,
        span_id: 1,
        parent_id: 0,
        is_foreign: false,
        origin,
        begun: Micros(1_000),
        method: "POST".into(),
        route: "/api/v1/orders".into(),
        status: 201,
        authenticated,
        ended,
        sent: Some(Sent {
            command: trace_id,
            action: "place_order".into(),
            market: Some("BTC-USDT".to_owned()),
            submitted,
            confirmed: Some(confirmed),
            given_up: None,
            queued_by_journal_time: None,
            outcome: Some(Outcome { sequence: 1, index: 0, seen }),
        }),
        timing: Some(Arc::new(BatchTiming {
            origin,
            begun: Micros(1_000).plus(received),
            commands: vec![command],
            append_begun: decided - received,
            committed: committed - received,
        })),
    }
}

/// Draws what a real machine does: mostly near the median, a heavy tail, and minutes in which all is slower.
fn noisy(random: &mut StdRng, slow_minute: f64) -> Times {
    USUAL.map(|median| {
        // A Pareto tail with the index 1.7 has no variance; one of 50 is in it.
        let tail = if random.random_bool(0.02) {
            random.random_range(1e-4_f64..1.0).powf(-1.0 / 1.7)
        } else {
            1.0
        };
        let spread = f64::exp(0.5 * normal(random));
        (f64::from(median) * spread * tail * slow_minute).min(3e7) as u32
    })
}

/// Box and Muller's.
fn normal(random: &mut StdRng) -> f64 {
    let (one, other): (f64, f64) = (random.random_range(1e-9..1.0), random.random());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

/// Lives through minutes; `shape` changes what an order would have taken.
fn live(
    detector: &mut Detector,
    random: &mut StdRng,
    minutes: std::ops::Range<u64>,
    orders: u32,
    shape: impl Fn(u64, Times) -> Times,
) -> Vec<(u64, News, Anomaly)> {
    let mut news = Vec::new();
    for minute in minutes {
        let slow_minute = f64::exp(0.25 * normal(random));
        for number in 0..orders {
            let request = order(
                u128::from(minute) << 32 | u128::from(number),
                shape(minute, noisy(random, slow_minute)),
            );
            detector.note(&request, &stages(&request));
        }
        news.extend(
            detector.turn(minute).into_iter().map(|(news, anomaly)| (minute, news, anomaly)),
        );
    }
    news
}

fn slow_append(times: Times, by: u32) -> Times {
    let mut times = times;
    times[5] += by;
    times
}

#[test]
fn the_stages_of_the_made_up_order_are_as_given() {
    let timed = stages(&order(1, USUAL));
    let found: Vec<_> = timed.iter().map(|each| (each.stage, each.micros)).collect();
    assert_eq!(found, STAGES.into_iter().zip(USUAL).collect::<Vec<_>>());
}

#[test]
fn a_delay_opens_an_anomaly_of_its_stage_and_no_other_and_closes_after_it() {
    let mut random = StdRng::seed_from_u64(11);
    let mut detector = Detector::default();
    let quiet = live(&mut detector, &mut random, 0..40, 100, |_, times| times);
    assert!(quiet.is_empty(), "{quiet:?}");
    let news = live(&mut detector, &mut random, 40..60, 100, |minute, times| {
        if (45..50).contains(&minute) { slow_append(times, 200_000) } else { times }
    });
    assert!(news.iter().all(|(.., anomaly)| anomaly.stage == Stage::Append), "{news:?}");
    let told: Vec<_> = news.iter().map(|(minute, news, _)| (*minute, *news)).collect();
    let lasting = [47, 48, 49].map(|minute| (minute, News::Lasting));
    assert_eq!(told.first(), Some(&(46, News::Opened)), "the second unusual minute");
    assert_eq!(told.get(1..4), Some(lasting.as_slice()));
    assert_eq!(told.get(4..), Some([(52, News::Closed(Ended::Usual))].as_slice()));
    let (.., last) = news.last().unwrap();
    assert_eq!((last.begun, last.windows, last.operation.as_str()), (45, 5, "place_order"));
    assert!((200_000..260_000).contains(&last.worst), "{last:?}");
    assert!(u64::try_from(last.trace_id >> 32).is_ok_and(|minute| (45..50).contains(&minute)));
    assert_eq!(detector.open().count(), 0);
}

#[test]
fn an_anomaly_does_not_become_usual_while_it_lasts() {
    let mut random = StdRng::seed_from_u64(12);
    let mut detector = Detector::default();
    live(&mut detector, &mut random, 0..60, 100, |_, times| times);
    let usual = |detector: &mut Detector| {
        let saved = detector.changed();
        let append = saved.iter().find(|each| each.part == Some(Stage::Append));
        append.map(|each| each.baseline.figures())
    };
    let before = usual(&mut detector).unwrap();
    live(&mut detector, &mut random, 60..180, 100, |_, times| slow_append(times, 500_000));
    let saved = detector.changed();
    let learned: Vec<_> = saved.iter().map(|each| each.part).collect();
    assert!(!learned.contains(&Some(Stage::Append)), "two hours have taught it nothing");
    assert!(!learned.contains(&None) && learned.contains(&Some(Stage::Queue)), "{learned:?}");
    let open: Vec<_> = detector.open().cloned().collect();
    assert_eq!(open.len(), 1);
    assert!(open[0].severity <= 2 && open[0].usual == before, "{open:?}");
}

#[test]
fn what_lasts_for_hours_is_usual_in_the_end() {
    let mut random = StdRng::seed_from_u64(13);
    let mut detector = Detector::default();
    live(&mut detector, &mut random, 0..30, 40, |_, times| times);
    let news =
        live(&mut detector, &mut random, 30..450, 40, |_, times| slow_append(times, 100_000));
    assert_eq!(news.last().map(|(_, news, _)| *news), Some(News::Closed(Ended::Adopted)));
    assert_eq!(detector.open().count(), 0);
}

#[test]
fn without_requests_an_anomaly_ends_as_untold() {
    let mut random = StdRng::seed_from_u64(14);
    let mut detector = Detector::default();
    live(&mut detector, &mut random, 0..30, 40, |_, times| times);
    live(&mut detector, &mut random, 30..33, 40, |_, times| slow_append(times, 100_000));
    assert_eq!(detector.open().count(), 1);
    let news = live(&mut detector, &mut random, 33..50, 3, |_, times| times);
    assert_eq!(
        news.iter().map(|(_, news, _)| *news).collect::<Vec<_>>(),
        [News::Closed(Ended::Idle)]
    );
}

#[test]
fn one_minute_suffices_where_it_is_bad_and_not_where_it_is_not() {
    for (by, opened) in [(60_000, 0), (700_000, 1)] {
        let mut random = StdRng::seed_from_u64(15);
        let mut detector = Detector::default();
        live(&mut detector, &mut random, 0..40, 100, |_, times| times);
        let news = live(&mut detector, &mut random, 40..60, 100, |minute, times| {
            if minute == 40 { slow_append(times, by) } else { times }
        });
        let count = news.iter().filter(|(_, news, _)| *news == News::Opened).count();
        assert_eq!(count, opened, "{by} µs: {news:?}");
    }
}

#[test]
fn nothing_is_said_before_the_baseline_is_known() {
    let mut random = StdRng::seed_from_u64(16);
    let mut detector = Detector::default();
    let until = u64::from(WARM_UP);
    let news = live(&mut detector, &mut random, 0..until, 100, |minute, times| {
        if minute > 5 { slow_append(times, 300_000) } else { times }
    });
    assert!(news.is_empty(), "{news:?}");
}

/// Five servers' days, each with another load and machine, of noise with a heavy tail, with slow minutes and with a
/// database that writes a checkpoint every half hour: not one alarm.
#[test]
fn days_of_noise_open_nothing() {
    for (seed, orders, slower) in [(1, 35, 1), (2, 60, 20), (3, 150, 1), (4, 250, 10), (5, 45, 20)]
    {
        let mut random = StdRng::seed_from_u64(seed);
        let mut detector = Detector::default();
        let news = live(&mut detector, &mut random, 0..24 * 60, orders, |minute, times| {
            let mut times = times.map(|each| each.saturating_mul(slower).min(30_000_000));
            if minute % 30 == 17 {
                times[5] = times[5].saturating_mul(2);
            }
            times
        });
        assert!(news.is_empty(), "seed {seed}, {orders} orders a minute: {news:?}");
    }
}

#[test]
fn what_was_saved_goes_on_in_another_process() {
    let mut random = StdRng::seed_from_u64(17);
    let mut first = Detector::default();
    live(&mut first, &mut random, 0..40, 100, |_, times| times);
    live(&mut first, &mut random, 40..43, 100, |_, times| slow_append(times, 100_000));
    let (mut saved, open) = (first.changed(), first.open().cloned().collect::<Vec<_>>());
    for each in &mut saved {
        let bytes = each.baseline.encode();
        let read = Baseline::decode(&bytes).unwrap();
        assert_eq!(read, each.baseline);
        each.baseline = read;
    }
    let mut second = Detector::default();
    second.restore(saved, open);
    let news = live(&mut second, &mut random, 43..50, 100, |minute, times| {
        if minute < 45 { slow_append(times, 100_000) } else { times }
    });
    let told: Vec<_> = news.iter().map(|(minute, news, _)| (*minute, *news)).collect();
    assert_eq!(told, [(43, News::Lasting), (44, News::Lasting), (47, News::Closed(Ended::Usual))]);
    assert_eq!(news[2].2.begun, 40, "it is the same anomaly");
}

#[test]
fn operations_are_bounded_whatever_routes_are_called() {
    let mut detector = Detector::default();
    for number in 0..2 * OPERATIONS_MAX {
        let mut request = order(1, USUAL);
        (request.sent, request.method) = (None, format!("M{number}").into());
        request.route = format!("/{number}").into();
        let timed = stages(&request);
        (0..30).for_each(|_| detector.note(&request, &timed));
    }
    detector.turn(1);
    let names: HashSet<String> =
        detector.changed().into_iter().map(|each| each.operation).collect();
    assert_eq!(names.len(), OPERATIONS_MAX + 1, "the rest is one");
    assert!(names.contains("other") && names.contains("other /1"), "{names:?}");
    assert_eq!(detector.requests(), 0, "a new minute");
    let mut again = order(1, USUAL);
    again.sent = None;
    detector.note(&again, &stages(&again));
    assert_eq!(detector.requests(), 1);
}

fn usual_of(random: &mut StdRng) -> HashMap<trace::anomaly::Part, trace::anomaly::Figures> {
    let mut detector = Detector::default();
    live(&mut detector, random, 0..60, 100, |_, times| times);
    detector.changed().into_iter().map(|each| (each.part, each.baseline.figures())).collect()
}

#[test]
fn an_explanation_names_the_stage_and_how_far_it_is_off() {
    let usual = usual_of(&mut StdRng::seed_from_u64(18));
    let append = usual[&Some(Stage::Append)];
    assert!((1_800..2_300).contains(&append.p50), "{append:?}");
    let finding = Finding {
        name: "kx_queue_messages".to_owned(),
        words: "the queue was long: 412 commands, usually 3 commands".to_owned(),
        value: 412.0,
        usual: Some(3.0),
    };
    let known = Known { usual, findings: Some(vec![finding]) };
    let explanation = explain(&order(1, slow_append(USUAL, 98_000)), &known);
    assert_eq!(explanation.main, Some(Stage::Append));
    let stage = explanation.stages.iter().find(|each| each.stage == Stage::Append).unwrap();
    let factor = stage.factor.unwrap();
    assert!((43.0..56.0).contains(&factor), "100 ms against 2 ms: {factor}");
    let unusual: Vec<_> = explanation.stages.iter().filter(|each| each.is_unusual).collect();
    assert_eq!(unusual.len(), 1, "{unusual:?}");
    let words = explanation.words.join(" ");
    assert!(words.contains("The stage append took 100.00 ms"), "{words}");
    assert!(words.contains("Every other stage was as usual."), "{words}");
    assert!(words.contains("the queue was long: 412 commands, usually 3 commands"), "{words}");
}

#[test]
fn an_explanation_says_when_there_is_nothing_to_say() {
    let usual = usual_of(&mut StdRng::seed_from_u64(19));
    let explanation = explain(&order(1, USUAL), &Known { usual, findings: Some(Vec::new()) });
    let words = explanation.words.join(" ");
    assert!(
        words.contains("which is as usual") && words.contains("Nothing else was unusual"),
        "{words}"
    );
    assert_eq!(explanation.main, None);
    let unknown = explain(&order(1, USUAL), &Known::default()).words.join(" ");
    assert!(unknown.contains("is not known, or not yet"), "{unknown}");
    assert!(unknown.contains("not known yet") && !unknown.contains("usually"), "{unknown}");
}

proptest! {
    /// Against the two-pass formula, whatever the order and however they are put together.
    #[test]
    fn prop_welford_is_the_two_pass_formula(
        all in prop::collection::vec((0.0_f64..1e7, 0.1_f64..10.0), 2..100),
        cut in 0_usize..100,
    ) {
        let weight: f64 = all.iter().map(|(_, weight)| weight).sum();
        let mean = all.iter().map(|(value, weight)| value * weight).sum::<f64>() / weight;
        let squares: f64 = all.iter().map(|(value, weight)| weight * (value - mean).powi(2)).sum();
        let (one, other) = all.split_at(cut.min(all.len()));
        let of = |part: &[(f64, f64)]| {
            let mut sum = Welford::default();
            part.iter().for_each(|(value, weight)| sum.add(*value, *weight));
            sum
        };
        let mut together = of(one);
        together.merge(&of(other), 1.0);
        for found in [of(&all), together] {
            prop_assert!((found.mean() - mean).abs() <= 1e-6 * mean.max(1.0));
            let sigma = (squares / weight).sqrt();
            prop_assert!((found.sigma() - sigma).abs() <= 1e-5 * sigma.max(1.0), "{} {sigma}", found.sigma());
        }
    }

    /// One minute, whatever is in it, moves what is usual by a bounded step: the limit at most doubles.
    #[test]
    fn prop_one_minute_has_a_bounded_influence(
        times in prop::collection::vec(1_000_u64..20_000, 30..60),
        hostile in prop::collection::vec(0_u64..60_000_000, 30..3_000),
    ) {
        let mut baseline = Baseline::default();
        for _ in 0..60 {
            let mut window = Window::new(baseline.bound());
            times.iter().for_each(|micros| window.add(*micros, 1));
            baseline.learn(&window);
        }
        let (before, limit) = (baseline.figures(), baseline.limit());
        let mut window = Window::new(baseline.bound());
        hostile.iter().for_each(|micros| window.add(*micros, 1));
        baseline.learn(&window);
        let after = baseline.figures();
        prop_assert!(after.p99 <= limit + limit / 8, "p99 {} beyond the limit {limit}", after.p99);
        prop_assert!(after.mean <= before.mean + limit, "mean {} after {}", after.mean, before.mean);
    }

    /// Longer is never less severe.
    #[test]
    fn prop_severity_rises_with_time(p50 in 1_u64..1_000_000, above in 0_u64..1_000_000, one in 0_u64..60_000_000,
        more in 0_u64..60_000_000, windows in 1_u32..100) {
        let of = |observed, windows| severity(observed, p50, p50 + above, windows).unwrap_or(9);
        prop_assert!(of(one + more, windows) <= of(one, windows));
        prop_assert!(of(one, windows + 1) <= of(one, windows));
    }

    /// A row may be anything.
    #[test]
    fn prop_any_bytes_are_a_baseline_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(read) = Baseline::decode(&bytes) {
            let _ = (read.figures(), read.limit());
        }
    }
}
