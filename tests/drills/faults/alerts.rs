//! Alerts, from the fault to the phone: real Prometheus and Alertmanager with the intervals that are shipped, the relay, and
//! receivers that speak GoAlert's and ntfy's HTTP.

mod acts;

use std::time::{Duration, Instant};

use e2e::wait_for;

use crate::answering::Answering;
use crate::drill::Run;
use crate::hole::Hole;
use crate::load::{Load, Plan};
use crate::sinks::Sink;
use crate::watched::Watched;

/// What is promised of the alert that matters most: both are told within this time.
const PROMISED: Duration = Duration::from_secs(90);
/// Longer than any alert takes that looks at the present.
const ALERT_MAX: Duration = Duration::from_secs(240);
/// Longer than the end of any alert takes that is waited for.
const RESOLVED_MAX: Duration = Duration::from_secs(240);
/// Longer than an alert is held back by a worse one whose windows have to pass, once all is played.
const HELD_BACK_MAX: Duration = Duration::from_secs(1_200);
/// Steps of one user in a second: enough to be load, few enough to be checked after an hour.
const STEPS_PER_SECOND: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Critical,
    Warning,
    Info,
}

impl Severity {
    /// ntfy's number for it: the runbook's map.
    fn priority(self) -> u64 {
        match self {
            Self::Critical => 5,
            Self::Warning => 4,
            Self::Info => 3,
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
    /// Who must be told.
    told: &'static [Sink],
    within: Duration,
    /// Whether its end is waited for: some look back for minutes and end as late.
    ends: bool,
    /// Whether a worse one holds it back at first: it is asked for when all is played.
    held_back: bool,
}

const fn critical(name: &'static str) -> Alert {
    Alert { severity: Severity::Critical, told: &[Sink::GoAlert, Sink::Ntfy], ..warning(name) }
}

const fn warning(name: &'static str) -> Alert {
    Alert {
        name,
        severity: Severity::Warning,
        told: &[Sink::Ntfy],
        within: ALERT_MAX,
        ends: true,
        held_back: false,
    }
}

const fn info(name: &'static str) -> Alert {
    Alert { severity: Severity::Info, ..warning(name) }
}

const fn lasting(alert: Alert) -> Alert {
    Alert { ends: false, ..alert }
}

const fn held_back(alert: Alert) -> Alert {
    Alert { ends: false, held_back: true, within: HELD_BACK_MAX, ..alert }
}

const fn within_minutes(minutes: u64, alert: Alert) -> Alert {
    Alert { within: Duration::from_secs(60 * minutes), ..alert }
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
    load: Load,
    props: Props,
}

/// What one act leaves for its repair, or for the next act; dropped, it is undone.
#[derive(Default)]
struct Props {
    /// Sessions at the database that hold something up.
    sessions: Vec<acts::Session>,
    /// Whoever goes on doing something.
    busy: Vec<acts::Busy>,
    holes: Vec<Hole>,
    kraken: Option<Answering>,
    /// What a file or a row was before.
    before: String,
}

impl Act {
    /// Tells whether it must be told of as one of these; of none, whatever it is told of as.
    fn is_wanted(&self, alerts: &[String]) -> bool {
        let is_named = |alert: &Alert| alerts.iter().any(|name| name == alert.name);
        alerts.is_empty() || self.alerts.iter().any(is_named)
    }
}

/// Tells whether an alert is provoked by any act.
pub(crate) fn is_alert(name: &str) -> bool {
    let mut all = acts::ALL.iter().chain(acts::LASTING).flat_map(|act| act.alerts);
    all.any(|alert| alert.name == name)
}

/// What can be told of within minutes.
pub(super) fn alerts(run: &mut Run<'_>) {
    let acts = if run.long { acts::ALL } else { acts::BOUNDED };
    play_all(run, acts);
}

/// What takes many minutes to be told of, or to have been learned.
pub(super) fn lasting_alerts(run: &mut Run<'_>) {
    play_all(run, acts::LASTING);
}

fn play_all(run: &mut Run<'_>, acts: &[Act]) {
    let acts: Vec<&Act> = acts.iter().filter(|act| act.is_wanted(&run.alerts)).collect();
    let mut watched = Watched::start(run.stand);
    run.stand.cancel_all();
    let plan = Plan { seed: run.random.next(), steps_per_second: STEPS_PER_SECOND, repeats: true };
    let load = run.stand.load(&plan);
    run.wait_orders(&load, 20);
    run.note("| fault | alert | GoAlert, s | ntfy, s | priority | over: GoAlert, s | ntfy, s | priority |");
    run.note("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let props = Props::default();
    let mut scene = Scene { run, watched: &mut watched, load, props };
    let mut missing = Vec::new();
    let mut later = Vec::new();
    for act in &acts {
        let since = play(&mut scene, act, &mut missing);
        let held_back = act.alerts.iter().filter(|alert| alert.held_back);
        later.extend(held_back.map(|alert| (act.what, alert, since)));
    }
    for (what, alert, since) in later {
        // Whatever was played since may have held it back until now.
        let alert = Alert { within: since.elapsed() + alert.within, ..*alert };
        match hear(&scene, &alert, false, since) {
            Ok(fired) => note(scene.run, what, &alert, &fired, None),
            Err(problem) => missing.push(problem),
        }
    }
    let Scene { run, watched, load, .. } = scene;
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

/// When those were told who must be, since a moment, in seconds, and ntfy's priority.
#[derive(Default)]
struct Heard {
    goalert: Option<f64>,
    ntfy: Option<f64>,
    priority: Option<u64>,
}

/// Plays an act, says what was promised and has not come, and returns when it began.
fn play(scene: &mut Scene<'_, '_>, act: &Act, missing: &mut Vec<String>) -> Instant {
    println!("    {}", act.what);
    let present = || act.alerts.iter().filter(|alert| !alert.held_back);
    // What still is on from an act before would not be told again.
    wait_for("alerts of acts before to be over", RESOLVED_MAX, || {
        let on = present().any(|alert| scene.watched.sinks.is_on(alert.name));
        (!on).then_some(())
    });
    let began = Instant::now();
    (act.begin)(scene);
    scene.run.faults += 1;
    let fired: Vec<_> = present().map(|alert| hear(scene, alert, false, began)).collect();
    let ended = Instant::now();
    (act.end)(scene);
    for (alert, fired) in present().zip(fired) {
        let over = match &fired {
            Ok(_) if alert.ends => hear(scene, alert, true, ended).map(Some),
            _ => Ok(None),
        };
        for problem in [fired.as_ref().err(), over.as_ref().err()].into_iter().flatten() {
            println!("    {problem}");
            missing.push(problem.clone());
        }
        let (Ok(fired), Ok(over)) = (fired, over) else { continue };
        note(scene.run, act.what, alert, &fired, over.as_ref());
        if alert.name == "PaymentProcessorDown" {
            let told = [fired.ntfy, fired.goalert];
            let slowest = told.into_iter().flatten().fold(0.0, f64::max);
            let bound = if scene.run.long { PROMISED } else { 3 * PROMISED }.as_secs_f64();
            assert!(slowest <= bound, "told after {slowest:.0} s, promised are {PROMISED:?}");
        }
    }
    scene.run.stand.wait_ready();
    began
}

/// Waits until everybody is told who must be.
fn hear(scene: &Scene<'_, '_>, alert: &Alert, over: bool, since: Instant) -> Result<Heard, String> {
    let limit = if over { RESOLVED_MAX } else { alert.within };
    let mut heard = Heard::default();
    for sink in alert.told {
        // Once at least: an act's alerts are asked for one after the other.
        let told = loop {
            if let Some(told) = scene.watched.sinks.told(*sink, alert.name, over, since) {
                break told;
            }
            if since.elapsed() >= limit {
                let what = if over { "the end" } else { "word" };
                let (name, firing) = (alert.name, scene.watched.firing());
                return Err(format!(
                    "{sink:?} has not heard {what} of {name} in {limit:?}; firing: {firing:?}"
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let after = Some(told.at.duration_since(since).as_secs_f64());
        match sink {
            Sink::GoAlert => heard.goalert = after,
            Sink::Ntfy => {
                let priority = if over { PRIORITY_RESOLVED } else { alert.severity.priority() };
                assert_eq!(told.priority, priority, "{told:?}");
                (heard.ntfy, heard.priority) = (after, Some(priority));
            }
        }
    }
    Ok(heard)
}

fn note(run: &mut Run<'_>, what: &str, alert: &Alert, fired: &Heard, over: Option<&Heard>) {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0}"));
    let whole = |value: Option<u64>| value.map_or("–".to_owned(), |value| value.to_string());
    let row = |heard: &Heard| {
        [number(heard.goalert), number(heard.ntfy), whole(heard.priority)].join(" | ")
    };
    let over = over.map_or("not waited for | not waited for | –".to_owned(), row);
    let row = format!("| {what} | {} | {} | {over} |", alert.name, row(fired));
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
