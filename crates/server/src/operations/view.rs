//! How the exchange is, in words: for the page and for operators' programs.

use std::time::Duration;

use serde::Serialize;
use telemetry::{Buckets, Metric};
use utoipa::ToSchema;

use super::{Sample, Seen};
use crate::app::App;
use crate::edge::BEHIND_MAX;

/// A command that waits longer is a sign that nobody decides.
const WAITING_WARN: Duration = Duration::from_secs(5);
/// The share of failed requests, in thousandths, from which on something is wrong.
const FAILED_WARN: u64 = 10;
/// An audit is late after this.
const AUDIT_WARN: Duration = Duration::from_secs(120);
/// Journal rows that the projections may be behind.
const PROJECTED_WARN: u64 = 200;
/// A look at the database that is older says nothing any more.
const OVERVIEW_MAX: Duration = Duration::from_secs(20);

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mood {
    /// As it should be, or neither good nor bad.
    Good,
    /// Somebody should look.
    Warning,
    /// Broken.
    Bad,
}

/// One thing that is known.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Fact {
    /// What.
    pub name: String,
    /// What it is now.
    pub value: String,
    /// How good that is.
    pub mood: Mood,
}

/// Facts that belong together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The facts.
    pub facts: Vec<Fact>,
}

/// A market.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarketLine {
    /// Its symbol.
    pub symbol: String,
    /// What it lets through.
    pub state: String,
    /// How good that is.
    pub mood: Mood,
    /// The last trade's price.
    pub last_price: Option<String>,
    /// The highest bid.
    pub bid: Option<String>,
    /// The lowest ask.
    pub ask: Option<String>,
    /// Open orders.
    pub orders: usize,
    /// How long ago the last trade was.
    pub last_trade: Option<String>,
}

/// How long something took in the last minutes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Timing {
    /// What.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Half took no longer.
    pub p50: String,
    /// 99 of 100 took no longer.
    pub p99: String,
}

/// How the exchange is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// `operational`, `degraded` or `not trading`.
    pub status: &'static str,
    /// What is wrong, in words; empty when nothing is.
    pub problems: Vec<String>,
    /// When this was so.
    pub time: String,
    /// Of how many seconds the timings and rates are.
    pub window_seconds: u64,
    /// The markets.
    pub markets: Vec<MarketLine>,
    /// The times that things take.
    pub timings: Vec<Timing>,
    /// Everything else.
    pub sections: Vec<Section>,
}

/// Collects facts, and of them what is wrong.
#[derive(Default)]
struct Facts {
    sections: Vec<Section>,
    problems: Vec<String>,
    trades: bool,
}

impl Facts {
    fn section(&mut self, title: &'static str) {
        self.sections.push(Section { title, facts: Vec::new() });
    }

    fn say(&mut self, name: &str, value: impl Into<String>) {
        self.judge(name, value, Mood::Good);
    }

    fn judge(&mut self, name: &str, value: impl Into<String>, mood: Mood) {
        let (name, value) = (name.to_owned(), value.into());
        if mood > Mood::Good {
            let title = self.sections.last().map_or("", |section| section.title);
            self.problems.push(format!("{title}: {}: {value}", name.to_lowercase()));
        }
        if let Some(section) = self.sections.last_mut() {
            section.facts.push(Fact { name, value, mood });
        }
    }

    fn warn_if(&mut self, wrong: bool, name: &str, value: impl Into<String>) {
        self.judge(name, value, if wrong { Mood::Warning } else { Mood::Good });
    }

    fn bad_if(&mut self, wrong: bool, name: &str, value: impl Into<String>) {
        self.judge(name, value, if wrong { Mood::Bad } else { Mood::Good });
    }
}

impl View {
    /// Looks at what is in memory.
    pub(crate) fn new(app: &App) -> Self {
        let seen = app.operations.0.lock();
        let now = Sample::take();
        let before = seen.samples.front().unwrap_or(&now);
        let mut facts = Facts { trades: true, ..Facts::default() };
        order_way(&mut facts, app, &seen);
        followers(&mut facts, app, &seen);
        money(&mut facts, &seen);
        requests(&mut facts, before, &now);
        database(&mut facts, app, &seen);
        feeds(&mut facts);
        program(&mut facts, app);
        let markets = markets(app);
        let halted = markets.iter().filter(|market| market.mood > Mood::Good);
        let halted = halted.map(|market| format!("{} is {}", market.symbol, market.state));
        facts.problems.extend(halted);
        let status = match (facts.trades, facts.problems.is_empty()) {
            (false, _) => "not trading",
            (true, false) => "degraded",
            (true, true) => "operational",
        };
        let micros = u64::try_from(app.clock.now().as_micros()).unwrap_or(u64::MAX);
        Self {
            status,
            problems: facts.problems,
            time: moment(units::Time::from_micros(micros)),
            window_seconds: now.at.duration_since(before.at).as_secs(),
            markets,
            timings: timings(before, &now),
            sections: facts.sections,
        }
    }
}

fn order_way(facts: &mut Facts, app: &App, seen: &Seen) {
    facts.section("The order's way");
    let silent = app.pulse.silence(app.live.sequence());
    let decides = silent < crate::health::SILENCE_MAX;
    facts.trades &= decides && app.publisher.ready();
    let role = match telemetry::value(Metric::SequencerActive) {
        Some(active) if active > 0.0 => "active, in this process",
        Some(_) => "standing by in this process",
        None => "in another process",
    };
    facts.bad_if(
        !decides,
        "Sequencer",
        if decides { role.to_owned() } else { format!("silent for {}", span(silent)) },
    );
    facts.bad_if(
        !app.publisher.ready(),
        "Queue",
        match (app.publisher.ready(), app.publisher.depth()) {
            (false, _) => "takes no commands".to_owned(),
            (true, Some(depth)) => format!("{depth} waiting"),
            (true, None) => "takes commands".to_owned(),
        },
    );
    let oldest = app.live.longest_wait().max(seen.waiting.oldest_pending);
    facts.warn_if(oldest > WAITING_WARN, "Oldest waiting command", span(oldest));
    facts.say("Answered and undecided", seen.waiting.pending.to_string());
    if let Some((_, overview)) = &seen.overview {
        facts.say("Epoch", format!("{}, for {}", overview.epoch, span(overview.raised)));
        if overview.processors > 0 {
            facts.say("Payment processors", overview.processors.to_string());
        }
    }
    let last = super::last_trade_age(app);
    facts.say("Last trade", last.map_or("none yet".to_owned(), |age| format!("{} ago", span(age))));
}

fn followers(facts: &mut Facts, app: &App, seen: &Seen) {
    facts.section("Journal and followers");
    let ours = app.live.sequence().get();
    let head = seen.overview.as_ref().and_then(|(_, overview)| overview.head);
    // What was followed since the database was asked is newer.
    let head = head.map_or(ours, |head| head.get().max(ours));
    facts.say("Head", format!("row {head}"));
    facts.say("Journal time", moment(app.live.read(engine::State::time)));
    let behind = app.live.behind();
    facts.trades &= app.live.stopped().is_none() && behind < BEHIND_MAX;
    let followed = match app.live.stopped() {
        Some(_) => "stopped for good: see the log".to_owned(),
        None if ours == head && behind < BEHIND_MAX => format!("row {ours}, at the head"),
        None => format!("row {ours}, {} behind", span(behind)),
    };
    let bad = app.live.stopped().is_some() || behind > BEHIND_MAX;
    facts.bad_if(bad, "This server", followed);
    for part in seen.overview.iter().flat_map(|(_, overview)| &overview.parts) {
        let rows = seen.overview.as_ref().and_then(|(_, overview)| overview.head);
        let rows = rows.map_or(0, |head| head.get().saturating_sub(part.sequence.get()));
        let name = format!("Projected {}", part.part.replace('_', " "));
        let value = format!("{rows} rows behind");
        facts.warn_if(rows > PROJECTED_WARN, &name, value);
    }
}

fn money(facts: &mut Facts, seen: &Seen) {
    facts.section("Money");
    let Some((looked, overview)) = &seen.overview else {
        facts.judge("Auditor", "not known: the database does not answer", Mood::Warning);
        return;
    };
    let Some(audited) = &overview.audited else {
        facts.say("Auditor", "has not looked yet");
        return;
    };
    let age = audited.age + looked.elapsed();
    facts.warn_if(age > AUDIT_WARN, "Auditor", format!("looked {} ago", span(age)));
    let results = &audited.results;
    let found = [
        ("Assets that do not sum to zero", results.imbalances),
        ("Balances below zero", results.negative_accounts),
        ("Projected balances that differ", results.projection_differences),
        ("Breaks in the journal", results.journal_breaks),
    ];
    for (name, count) in found {
        facts.bad_if(count > 0, name, count.to_string());
    }
    facts.say("Last look", format!("{} balances, {} journal rows", results.balances, results.rows));
}

fn requests(facts: &mut Facts, before: &Sample, now: &Sample) {
    facts.section("Requests");
    let micros = now.at.duration_since(before.at).as_micros().max(1);
    let rate = |count: u64| {
        let tenths = u128::from(count) * 10_000_000 / micros;
        format!("{}.{} a second", tenths / 10, tenths % 10)
    };
    let requests = now.requests.saturating_sub(before.requests);
    let failed = now.failed.saturating_sub(before.failed);
    facts.say("HTTP requests", rate(requests));
    let thousandths = (failed * 1_000).checked_div(requests).unwrap_or(0);
    let value = format!("{}.{} % ({failed} of {requests})", thousandths / 10, thousandths % 10);
    facts.warn_if(thousandths >= FAILED_WARN, "Answered with 5xx", value);
    let (commands, trades) =
        (now.commands.saturating_sub(before.commands), now.trades.saturating_sub(before.trades));
    if now.commands > 0 {
        facts.say("Commands decided here", rate(commands));
        facts.say("Trades decided here", rate(trades));
    }
    let gauge = |metric| telemetry::value(metric).map_or("0".to_owned(), whole);
    facts.say("HTTP connections", gauge(Metric::HttpConnections));
    facts.say("WebSocket connections", gauge(Metric::WebSocketConnections));
}

fn database(facts: &mut Facts, app: &App, seen: &Seen) {
    facts.section("Database");
    let fresh = seen.overview.as_ref().filter(|(looked, _)| looked.elapsed() < OVERVIEW_MAX);
    facts.trades &= fresh.is_some() || seen.samples.len() < 2;
    facts.bad_if(
        fresh.is_none(),
        "PostgreSQL",
        if fresh.is_some() { "answers" } else { "does not answer" },
    );
    let pool = app.db.pool_use();
    let value = format!("{} used, {} idle, of {}", pool.used, pool.idle, pool.max);
    facts.warn_if(
        pool.waiting > 0,
        "This server's pool",
        match pool.waiting {
            0 => value,
            waiting => format!("{value}; {waiting} wait"),
        },
    );
    if let Some((_, overview)) = fresh {
        let (all, max) = (overview.connections, overview.connections_max);
        facts.warn_if(all * 10 > max * 9, "Connections", format!("{all} of {max}"));
    }
    facts.say(
        "No connection to be had",
        format!("{} times", telemetry::count(Metric::DatabaseRefused)),
    );
    facts.say("Letters waiting", seen.waiting.mail.to_string());
}

/// Feeds are for comparison only: trading does not depend on them.
fn feeds(facts: &mut Facts) {
    let Some(up) = Metric::named("kx_price_feed_up") else { return };
    let feeds = telemetry::value_labelled(up);
    if feeds.is_empty() {
        return;
    }
    facts.section("Price feeds");
    let ages = Metric::named("kx_price_feed_age_seconds").map(telemetry::value_labelled);
    for feed in feeds {
        let age = ages.iter().flatten().find(|age| age.labels == feed.labels);
        let age = age.and_then(|age| Duration::try_from_secs_f64(age.value).ok());
        let age = age.map_or(String::new(), |age| format!(", {} old", span(age)));
        let is_up = feed.value > 0.0;
        let value = format!("{}{age}", if is_up { "up" } else { "down" });
        facts.warn_if(!is_up, &feed.labels.join(" "), value);
    }
}

fn program(facts: &mut Facts, app: &App) {
    facts.section("This program");
    let build = telemetry::value_labelled(Metric::BuildInfo);
    let build = build.first().map_or_else(
        || env!("CARGO_PKG_VERSION").to_owned(),
        |reading| {
            let commit = reading.labels.get(1).map_or("unknown", String::as_str);
            let commit = commit.get(..12).unwrap_or(commit);
            format!("{} ({commit})", reading.labels.first().map_or("", String::as_str))
        },
    );
    facts.say("Release", build);
    let roles = telemetry::value_labelled(Metric::Role);
    let roles: Vec<String> = roles.into_iter().flat_map(|reading| reading.labels).collect();
    if !roles.is_empty() {
        facts.say("Roles", roles.join(", "));
    }
    if let Some(started) = telemetry::value(Metric::StartTime) {
        let up = app
            .clock
            .now()
            .saturating_sub(Duration::try_from_secs_f64(started).unwrap_or_default());
        facts.say("Up for", span(up));
    }
    if let Some(bytes) = telemetry::value(Metric::ResidentBytes) {
        facts.say("Memory", format!("{} MB", whole(bytes / 1_000_000.0)));
    }
    if let (Some(files), Some(max)) =
        (telemetry::value(Metric::OpenFiles), telemetry::value(Metric::OpenFilesMax))
    {
        let value = format!("{} of {}", whole(files), whole(max));
        facts.warn_if(files > max * 0.9, "Open files", value);
    }
    facts.warn_if(
        app.is_draining(),
        "Shutdown",
        if app.is_draining() { "has begun" } else { "none" },
    );
}

fn markets(app: &App) -> Vec<MarketLine> {
    let mut lines: Vec<MarketLine> = app.live.read(|state| {
        let line = |market: engine::MarketView<'_>| {
            let words = wire::render::MarketWords::new(market.config, state.assets());
            let price = |price: Option<units::PriceTicks>| {
                words.as_ref().and_then(|words| price.map(|price| words.price(price)))
            };
            let is_open = market.state == engine::MarketState::Open;
            MarketLine {
                symbol: market.config.symbol.to_string(),
                state: wire::enums::MarketState::from(market.state).to_string().replace('_', " "),
                mood: if is_open { Mood::Good } else { Mood::Warning },
                last_price: price(market.last_price),
                bid: price(market.best_bid),
                ask: price(market.best_ask),
                orders: market.orders,
                last_trade: None,
            }
        };
        state.markets().map(line).collect()
    });
    let now = app.live.journal_now();
    for (line, market) in lines.iter_mut().zip(app.market_data.all()) {
        let last = market.lock().recent().next_back().map(|trade| trade.time);
        line.last_trade = last.map(|time| span(Duration::from_micros(now.micros_since(time))));
    }
    lines
}

fn timings(before: &Sample, now: &Sample) -> Vec<Timing> {
    let line = |name: &str, now: &Buckets, before: &Buckets| {
        let since = now.since(before);
        let word = |thousandths| since.quantile(thousandths).map_or("–".to_owned(), span);
        Timing { name: name.to_owned(), count: since.count(), p50: word(500), p99: word(990) }
    };
    let none = Buckets::default();
    let mut lines = vec![
        line("HTTP requests", &now.http, &before.http),
        line("Orders over HTTP", &now.orders, &before.orders),
    ];
    for (name, buckets) in &now.stages {
        let earlier = before.stages.iter().find(|(earlier, _)| earlier == name);
        let earlier = earlier.map_or(&none, |(_, buckets)| buckets);
        lines.push(line(&format!("Stage: {name}"), buckets, earlier));
    }
    lines
}

/// Writes a moment as people read it, to the second.
fn moment(time: units::Time) -> String {
    let text = wire::time::format(time);
    text.get(..19).map_or(text.clone(), |text| format!("{} UTC", text.replace('T', " ")))
}

/// Writes a span of time as people say it: two digits are enough.
pub(super) fn span(span: Duration) -> String {
    let (seconds, micros) = (span.as_secs(), span.subsec_micros());
    match seconds {
        0 if micros < 1_000 => format!("{micros} µs"),
        0 if micros < 10_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        0 => format!("{} ms", micros / 1_000),
        1..10 => format!("{seconds}.{} s", micros / 100_000),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_with_the_unit_that_fits() {
        let said = [
            (Duration::from_micros(830), "830 µs"),
            (Duration::from_micros(1_290), "1.2 ms"),
            (Duration::from_millis(47), "47 ms"),
            (Duration::from_millis(1_950), "1.9 s"),
            (Duration::from_secs(119), "119 s"),
            (Duration::from_secs(121), "2 min"),
            (Duration::from_secs(7_300), "2 h"),
            (Duration::from_secs(86_400 * 3), "3 days"),
        ];
        for (duration, words) in said {
            assert_eq!(span(duration), words);
        }
    }

    #[test]
    fn what_is_wrong_is_a_problem_and_names_its_section() {
        let mut facts = Facts::default();
        facts.section("Money");
        facts.say("Auditor", "looked 3 s ago");
        facts.bad_if(true, "Breaks in the journal", "1");
        assert_eq!(facts.problems, ["Money: breaks in the journal: 1"]);
        assert_eq!(facts.sections[0].facts[1].mood, Mood::Bad);
    }
}
