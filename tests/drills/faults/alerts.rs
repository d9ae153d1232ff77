//! Alerts, from the fault to the phone: real Prometheus and Alertmanager with the intervals that are shipped, the relay, and
//! receivers that speak GoAlert's and ntfy's HTTP.

mod acts;

use std::time::{Duration, Instant};

use e2e::wait_for;

use crate::drill::Run;
use crate::load::Plan;
use crate::sinks::Told;
use crate::watched::Watched;

/// What is promised of the alert that matters most: both are told within this time.
const PROMISED: Duration = Duration::from_secs(90);
/// Longer than any alert takes.
const ALERT_MAX: Duration = Duration::from_secs(240);
/// Longer than the end of any alert takes that is waited for.
const RESOLVED_MAX: Duration = Duration::from_secs(240);
/// Steps of one user in a second: enough to be load, few enough to be checked after half an hour.
const STEPS_PER_SECOND: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Critical,
    Warning,
}

impl Severity {
    /// ntfy's number for it: the runbook's map.
    fn priority(self) -> u64 {
        match self {
            Self::Critical => 5,
            Self::Warning => 4,
        }
    }
}

/// ntfy's number for what is over.
const PRIORITY_RESOLVED: u64 = 2;

/// What comes of an act.
#[derive(Clone, Copy)]
struct Alert {
    name: &'static str,
    severity: Severity,
    /// Whether its end is waited for: some look back for minutes and end as late.
    ends: bool,
}

const fn critical(name: &'static str) -> Alert {
    Alert { name, severity: Severity::Critical, ends: true }
}

const fn warning(name: &'static str) -> Alert {
    Alert { name, severity: Severity::Warning, ends: true }
}

const fn lasting(alert: Alert) -> Alert {
    Alert { ends: false, ..alert }
}

/// A fault, its repair, and what must be told of it.
struct Act {
    what: &'static str,
    alerts: &'static [Alert],
    begin: fn(&mut Scene<'_, '_>),
    end: fn(&mut Scene<'_, '_>),
}

/// Where acts happen.
struct Scene<'run, 'stand> {
    run: &'run mut Run<'stand>,
    watched: &'run mut Watched,
    /// Sessions at the database that hold something up until they are dropped.
    sessions: Vec<acts::Session>,
    /// Whoever goes on doing something until it is dropped.
    busy: Vec<acts::Busy>,
}

pub(super) fn alerts(run: &mut Run<'_>) {
    let mut watched = Watched::start(run.stand);
    run.stand.cancel_all();
    let plan = Plan { seed: run.random.next(), steps_per_second: STEPS_PER_SECOND, repeats: true };
    let load = run.stand.load(&plan);
    run.wait_orders(&load, 20);
    let acts = if run.long { acts::ALL } else { acts::BOUNDED };
    run.note("| fault | alert | GoAlert, s | ntfy, s | priority | over: GoAlert, s | ntfy, s | priority |");
    run.note("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut scene = Scene { run, watched: &mut watched, sessions: Vec::new(), busy: Vec::new() };
    let missing: Vec<String> = acts.iter().flat_map(|act| play(&mut scene, act)).collect();
    let Scene { run, watched, .. } = scene;
    let refused = watched.sinks.refused();
    assert!(refused.is_empty(), "what GoAlert and ntfy would not have taken: {refused:?}");
    let (goalert, ntfy) = watched.sinks.counts();
    run.note(format!("{goalert} notices to GoAlert and {ntfy} to ntfy in all"));
    let acted =
        |name: &String| acts.iter().any(|act| act.alerts.iter().any(|alert| alert.name == name));
    let others: Vec<String> =
        watched.sinks.names().into_iter().filter(|name| !acted(name)).collect();
    if !others.is_empty() {
        run.note(format!("told of besides: {}", others.join(", ")));
    }
    run.end_and_check(load);
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// When both were told, since a moment, in seconds: of an alert that is not critical ntfy alone.
struct Heard {
    goalert: Option<f64>,
    ntfy: f64,
    priority: u64,
}

/// Plays an act; returns what was promised and has not come.
fn play(scene: &mut Scene<'_, '_>, act: &Act) -> Vec<String> {
    println!("    {}", act.what);
    // What still is on from an act before would not be told again.
    wait_for("alerts of acts before to be over", RESOLVED_MAX, || {
        let on = act.alerts.iter().any(|alert| scene.watched.sinks.is_on(alert.name));
        (!on).then_some(())
    });
    let mut missing = Vec::new();
    let began = Instant::now();
    (act.begin)(scene);
    scene.run.faults += 1;
    let fired: Vec<_> = act.alerts.iter().map(|alert| hear(scene, *alert, false, began)).collect();
    let ended = Instant::now();
    (act.end)(scene);
    for (alert, fired) in act.alerts.iter().zip(fired) {
        let over = match &fired {
            Ok(_) if alert.ends => hear(scene, *alert, true, ended).map(Some),
            _ => Ok(None),
        };
        for problem in [fired.as_ref().err(), over.as_ref().err()].into_iter().flatten() {
            println!("    {problem}");
            missing.push(problem.clone());
        }
        let (Ok(fired), Ok(over)) = (fired, over) else { continue };
        note(scene.run, act.what, alert, &fired, over.as_ref());
        if alert.name == "PaymentProcessorDown" {
            let slowest = fired.ntfy.max(fired.goalert.unwrap_or_default());
            let bound = if scene.run.long { PROMISED } else { 3 * PROMISED }.as_secs_f64();
            assert!(slowest <= bound, "told after {slowest:.0} s, promised are {PROMISED:?}");
        }
    }
    scene.run.stand.wait_ready();
    missing
}

/// Waits until everybody is told who must be.
fn hear(scene: &Scene<'_, '_>, alert: Alert, over: bool, since: Instant) -> Result<Heard, String> {
    let sinks = &scene.watched.sinks;
    let limit = if over { RESOLVED_MAX } else { ALERT_MAX };
    let seconds = |at: Instant| at.duration_since(since).as_secs_f64();
    let what = if over { "the end" } else { "word" };
    let wait = |who: &str, find: &dyn Fn() -> Option<Told>| {
        // Once at least: an act's alerts are asked for one after the other.
        loop {
            if let Some(told) = find() {
                return Ok(told);
            }
            if since.elapsed() >= limit {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let firing = scene.watched.firing();
        Err(format!(
            "{who} has not heard {what} of {} in {limit:?}; firing: {firing:?}",
            alert.name
        ))
    };
    let goalert = match alert.severity {
        Severity::Critical => Some(wait("GoAlert", &|| sinks.goalert(alert.name, over, since))?),
        Severity::Warning => None,
    };
    let ntfy = wait("ntfy", &|| sinks.ntfy(alert.name, over, since))?;
    let priority = if over { PRIORITY_RESOLVED } else { alert.severity.priority() };
    assert_eq!(ntfy.priority, priority, "{ntfy:?}");
    Ok(Heard { goalert: goalert.map(|told| seconds(told.at)), ntfy: seconds(ntfy.at), priority })
}

fn note(run: &mut Run<'_>, what: &str, alert: &Alert, fired: &Heard, over: Option<&Heard>) {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
    let (over_goalert, over_ntfy, over_priority) = match over {
        Some(over) => (number(over.goalert), number(Some(over.ntfy)), over.priority.to_string()),
        None => ("later".to_owned(), "later".to_owned(), "–".to_owned()),
    };
    let row = format!(
        "| {what} | {} | {} | {} | {} | {over_goalert} | {over_ntfy} | {over_priority} |",
        alert.name,
        number(fired.goalert),
        number(Some(fired.ntfy)),
        fired.priority
    );
    println!("    {row}");
    run.note(row);
}

/// The upper bounds of the buckets that durations are counted in, in seconds.
fn bucket(seconds: f64, bounds: &[f64]) -> usize {
    bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len())
}

/// The runbook's p99, by PromQL, is what the users' own clocks say, within one bucket.
pub(super) fn promql(run: &mut Run<'_>) {
    const WINDOW: Duration = Duration::from_secs(40);
    const DELAY: Duration = Duration::from_millis(120);
    let watched = Watched::start(run.stand);
    // A delay that is larger than whatever a busy machine adds on the way between two processes.
    let servers = &run.stand.servers;
    servers.iter().for_each(|server| server.broker.delay(DELAY));
    let load = run.load();
    let began = Instant::now();
    std::thread::sleep(WINDOW);
    let latencies = load.journal.latencies_since(began);
    let labels = "method=\"POST\",route=\"/api/v1/orders\"";
    let query = format!(
        "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{{{labels}}}[30s])))"
    );
    let found = watched.query(&query);
    let [p99] = found[..] else { panic!("one figure for the service: {found:?}") };
    let place = (latencies.len() * 99 / 100).min(latencies.len().saturating_sub(1));
    let own = latencies.get(place).expect("orders were placed") / 1_000.0;
    let mut bounds: Vec<f64> = bounds(run);
    bounds.sort_by(f64::total_cmp);
    let (theirs, ours) = (bucket(p99, &bounds), bucket(own, &bounds));
    run.note(format!(
        "{} orders; p99 by PromQL {p99:.3} s, by the users' clocks {own:.3} s",
        latencies.len()
    ));
    assert!(theirs.abs_diff(ours) <= 1, "{p99} s and {own} s are more than a bucket apart");
    run.stand.servers.iter().for_each(|server| server.broker.delay(Duration::ZERO));
    run.end_and_check(load);
}

/// The bounds as a server shows them.
fn bounds(run: &Run<'_>) -> Vec<f64> {
    let server = run.stand.servers.first().expect("there is one");
    let text = server.http().get("/metrics").expect("it answers").body;
    let lines =
        text.lines().filter(|line| line.starts_with("http_request_duration_seconds_bucket"));
    let bound = |line: &str| line.split("le=\"").nth(1)?.split('"').next()?.parse::<f64>().ok();
    let mut bounds: Vec<f64> = lines.filter_map(bound).filter(|bound| bound.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}
