//! JSON log lines: one line an event, with `level` in words and the `trace_id` of the request it belongs to.

use std::fmt;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line: for machines, and the default.
    #[default]
    Json,
    /// Plain words: for a person in front of a terminal.
    Text,
}

/// Starts logging to standard output. `filter` is a list such as `info,store=debug`; one that cannot be read counts as
/// `info`. A second call changes nothing.
pub fn init(format: LogFormat, service: &'static str, filter: &str) {
    // The driver repeats PostgreSQL's notices, and the pool complains of connections that a restart has cut.
    let quiet = "tokio_postgres=warn,deadpool=off";
    let filter =
        EnvFilter::try_new(format!("{quiet},{filter}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = Lines { format, service };
    // Fails only where a subscriber is installed already, as tests may have done.
    let _ = Registry::default().with(filter).with(lines).try_init();
}

/// Returns the wall clock's time as log lines have it: RFC 3339, UTC, microseconds.
#[must_use]
pub fn json_time() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{micros:06}Z", second % 60)
}

/// Turns days since 1970-01-01 into year, month and day of the Gregorian calendar, counting in eras of 400 years
/// (146,097 days) that begin on the first of March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The layer that writes the lines.
struct Lines {
    format: LogFormat,
    service: &'static str,
}

/// The trace id that a span was opened with.
struct TraceId(String);

/// Collects an event's or a span's fields.
#[derive(Default)]
struct Fields {
    message: String,
    trace_id: Option<String>,
    rest: Map<String, Value>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("trace_id", Value::String(text)) => self.trace_id = Some(text),
            (name, value) => {
                self.rest.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The whole chain in one line: each cause once.
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        self.take(field, Value::from(text));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::from(format!("{value:?}")));
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(trace_id), Some(span)) = (fields.trace_id, context.span(id)) {
            span.extensions_mut().insert(TraceId(trace_id));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let (Some(trace_id), Some(span)) = (fields.trace_id, context.span(id)) {
            span.extensions_mut().replace(TraceId(trace_id));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.trace_id.is_none() {
            let mut scope = context.event_scope(event).into_iter().flatten();
            fields.trace_id =
                scope.find_map(|span| span.extensions().get().map(|TraceId(text)| text.clone()));
        }
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let line = match self.format {
            LogFormat::Json => json_line(self.service, &level, metadata.target(), fields),
            LogFormat::Text => text_line(&level, fields),
        };
        // An output that is gone must not stop the exchange.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
    }
}

fn json_line(service: &str, level: &str, target: &str, fields: Fields) -> String {
    let mut line = Map::new();
    line.insert("timestamp".into(), Value::from(json_time()));
    line.insert("level".into(), Value::from(level));
    line.insert("service".into(), Value::from(service));
    line.insert("target".into(), Value::from(target));
    line.insert("message".into(), Value::from(fields.message));
    line.insert("trace_id".into(), fields.trace_id.map_or(Value::Null, Value::from));
    for (name, value) in fields.rest {
        line.entry(name).or_insert(value);
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

fn text_line(level: &str, fields: Fields) -> String {
    use fmt::Write as _;
    let mut text = format!("{:<5} {}", level, fields.message);
    for (name, value) in &fields.rest {
        match value {
            Value::String(words) => {
                let _ = write!(text, " {name}={words}");
            }
            value => {
                let _ = write!(text, " {name}={value}");
            }
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_484), (2026, 1, 31));
        assert_eq!(civil(24_837), (2038, 1, 1));
    }

    #[test]
    fn a_line_has_its_level_in_words_and_a_trace_id() {
        let fields = Fields {
            message: "it \"failed\"".into(),
            trace_id: Some("abc".into()),
            rest: Map::new(),
        };
        let line = json_line("kx-server", "error", "here", fields);
        let value: Value = serde_json::from_str(&line).expect("a line is JSON");
        assert_eq!(value["level"], "error");
        assert_eq!(value["trace_id"], "abc");
        assert_eq!(value["message"], "it \"failed\"");
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
    }
}
