//! `krystalinex status`: how a running exchange is, from a terminal.
//!
//! It asks the two ports what everybody may ask them, and nothing else: it needs no database and no password.

mod ask;
mod series;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use ask::Answer;
use series::Series;

/// A command that waits longer is a sign that nobody decides, in seconds.
const WAITING_MAX: f64 = 5.0;
/// An audit that is older is late, in seconds.
const AUDIT_MAX: f64 = 120.0;

/// Says how a running exchange is. Exit code 1 where something is wrong, 2 where nobody answers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[arg(long, value_name = "URL", default_value = "http://localhost:5000")]
    server: String,
    /// Where the payment processor's port is.
    #[arg(long, value_name = "URL", default_value = "http://localhost:3001")]
    processor: String,
}

/// Runs the command.
///
/// # Errors
///
/// An address is none.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (server, processor) = (ask::Place::of(&args.server)?, ask::Place::of(&args.processor)?);
    let (ready, trading, metrics, processor_ready, processor_metrics) = tokio::join!(
        server.get("/ready"),
        server.get("/api/health/trading"),
        server.get("/metrics"),
        processor.get("/ready"),
        processor.get("/metrics"),
    );
    let asked = Asked {
        server: ready,
        trading,
        processor: processor_ready,
        metrics: metrics.map(|answer| Series::read(&answer.body)).unwrap_or_default(),
        processor_metrics: processor_metrics
            .map(|answer| Series::read(&answer.body))
            .unwrap_or_default(),
    };
    let report = Report::of(&asked);
    print!("{report}");
    Ok(match (asked.server.is_err() && asked.processor.is_err(), report.is_good()) {
        (true, _) => ExitCode::from(2),
        (false, false) => ExitCode::from(1),
        (false, true) => ExitCode::SUCCESS,
    })
}

/// What the two have said.
struct Asked {
    server: anyhow::Result<Answer>,
    trading: anyhow::Result<Answer>,
    processor: anyhow::Result<Answer>,
    metrics: Series,
    processor_metrics: Series,
}

/// What is known, line by line.
#[derive(Default)]
struct Report {
    lines: Vec<(bool, &'static str, String)>,
}

impl Report {
    fn of(asked: &Asked) -> Self {
        let mut report = Self::default();
        report.role("server", &asked.server);
        report.role("payment processor", &asked.processor);
        report.trading(&asked.trading);
        report.numbers(&asked.metrics, &asked.processor_metrics);
        report
    }

    fn say(&mut self, name: &'static str, value: impl Into<String>) {
        self.judge(true, name, value);
    }

    fn judge(&mut self, good: bool, name: &'static str, value: impl Into<String>) {
        self.lines.push((good, name, value.into()));
    }

    fn is_good(&self) -> bool {
        self.lines.iter().all(|(good, ..)| *good)
    }

    fn role(&mut self, name: &'static str, answer: &anyhow::Result<Answer>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.judge(false, name, format!("{error:#}")),
        };
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let failing = body["failing"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let failing: Vec<&str> = failing.collect();
        let mut text =
            if answer.status == 200 { "ready".to_owned() } else { "not ready".to_owned() };
        for (key, word) in [("role", ""), ("epoch", "epoch "), ("sequence", "row ")] {
            match &body[key] {
                Value::String(value) => _ = write!(text, ", {word}{value}"),
                Value::Number(value) => _ = write!(text, ", {word}{value}"),
                _ => {}
            }
        }
        for reason in failing {
            let _ = write!(text, "; {reason}");
        }
        self.judge(answer.status == 200, name, text);
    }

    fn trading(&mut self, answer: &anyhow::Result<Answer>) {
        let Ok(answer) = answer else { return };
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let operational = body["operational"] == true;
        let text = match operational {
            true => "orders are taken and decided".to_owned(),
            false => {
                format!("orders are not decided; the journal is silent for {} ms", body["silentMs"])
            }
        };
        self.judge(operational, "trading", text);
        let markets = body["markets"].as_array().into_iter().flatten();
        let states: Vec<String> = markets
            .clone()
            .filter(|market| market["state"] != "open")
            .map(|market| format!("{} {}", text_of(&market["symbol"]), text_of(&market["state"])))
            .collect();
        let count = markets.count();
        match states.is_empty() {
            true => self.say("markets", format!("{count}, all open")),
            false => self.judge(false, "markets", format!("{count}; {}", states.join(", "))),
        }
    }

    fn numbers(&mut self, server: &Series, processor: &Series) {
        let one = |series: &Series, name: &str| series.sum(name);
        if let Some(depth) = processor.sum("kx_queue_messages") {
            self.say("queue", format!("{depth} waiting"));
        }
        if let Some(oldest) = one(server, "kx_command_oldest_waiting_seconds") {
            self.judge(oldest <= WAITING_MAX, "oldest waiting command", format!("{oldest:.1} s"));
        }
        if let Some(pending) = one(server, "kx_pending_commands") {
            self.say("answered and undecided", pending.to_string());
        }
        if let Some(age) = one(server, "kx_last_trade_age_seconds") {
            self.say("last trade", format!("{age:.0} s ago"));
        }
        if let Some(behind) = one(server, "kx_follower_behind_seconds") {
            self.say("server behind", format!("{behind:.3} s"));
        }
        for (labels, lag) in processor.all("kx_projection_lag_seconds") {
            self.say("projection behind", format!("{lag:.3} s ({labels})"));
        }
        for (name, series) in [("database, server", server), ("database, processor", processor)] {
            if let Some(up) = one(series, "kx_database_up") {
                self.judge(up > 0.0, name, if up > 0.0 { "answers" } else { "does not answer" });
            }
        }
        self.audit(processor);
        if let Some(all) = server.sum("http_requests_total") {
            let failed =
                server.sum_where("http_requests_total", |labels| labels.contains("status=\"5"));
            let text = format!("{all:.0}, of them {failed:.0} answered with 5xx");
            self.say("requests since the start", text);
        }
        for (name, series) in [("build, server", server), ("build, processor", processor)] {
            for (labels, _) in series.all("build_info") {
                self.say(name, labels.to_owned());
            }
        }
    }

    /// What the auditor has found. A processor that stands by does not audit.
    fn audit(&mut self, processor: &Series) {
        let found = [
            ("assets that do not sum to zero", "kx_ledger_imbalance"),
            ("balances below zero", "kx_negative_accounts"),
            ("projected balances that differ", "kx_projection_differences"),
            ("breaks in the journal", "kx_journal_breaks"),
        ];
        for (name, metric) in found {
            let count = processor.all(metric).map(|(_, value)| value).filter(|value| *value != 0.0);
            let values: Vec<String> = count.map(|value| value.to_string()).collect();
            if !values.is_empty() {
                self.judge(false, name, values.join(", "));
            }
        }
        if let Some(looked) = processor.sum("kx_audit_last_success_timestamp_seconds") {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let age = now.unwrap_or_default().as_secs_f64() - looked;
            let text = format!("looked {age:.0} s ago");
            self.judge(age < AUDIT_MAX, "auditor", text);
        }
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.lines.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0);
        for (good, name, value) in &self.lines {
            let sign = if *good { "ok " } else { "BAD" };
            writeln!(f, "{sign}  {name:width$}  {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> anyhow::Result<Answer> {
        Ok(Answer { status, body: body.to_owned() })
    }

    fn asked(metrics: &str) -> Asked {
        Asked {
            server: answer(200, r#"{"ready":true,"sequence":7,"failing":[]}"#),
            trading: answer(
                200,
                r#"{"operational":true,"markets":[{"symbol":"BTC/USD","state":"open"}]}"#,
            ),
            processor: answer(200, r#"{"ready":true,"role":"active","epoch":3}"#),
            metrics: Series::read(metrics),
            processor_metrics: Series::read(metrics),
        }
    }

    #[test]
    fn all_is_well_where_nothing_is_wrong() {
        let report = Report::of(&asked("kx_database_up 1\nkx_journal_breaks 0\n"));
        assert!(report.is_good(), "{report}");
        assert!(report.to_string().contains("ready, active, epoch 3"), "{report}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        for (metrics, told) in [
            ("kx_journal_breaks 1\n", "breaks in the journal"),
            ("kx_ledger_imbalance{asset=\"USD\"} -5\n", "do not sum to zero"),
            ("kx_database_up 0\n", "does not answer"),
            ("kx_command_oldest_waiting_seconds 9\n", "oldest waiting command"),
            ("kx_audit_last_success_timestamp_seconds 5\n", "auditor"),
        ] {
            let report = Report::of(&asked(metrics));
            assert!(!report.is_good() && report.to_string().contains(told), "{told}: {report}");
        }
        let mut halted = asked("");
        halted.trading = answer(
            200,
            r#"{"operational":true,"markets":[{"symbol":"BTC/USD","state":"halted"}]}"#,
        );
        assert!(Report::of(&halted).to_string().contains("BAD  markets"), "halted");
        let mut gone = asked("");
        gone.processor = Err(anyhow::anyhow!("nobody answers"));
        assert!(Report::of(&gone).to_string().contains("nobody answers"), "gone");
    }
}
