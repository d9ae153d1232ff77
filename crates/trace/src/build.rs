//! Spans, built from stage times when somebody asks for them.
//!
//! Invariant: a span that two processes know is named alike by both ([`crate::span_id`]), so that their parts join.

use crate::id::span_id;
use crate::record::{Decided, Request};
use crate::span::{Kind, Span, Value};
use crate::timing::{BatchTiming, CommandTiming};
use crate::waterfall::{Stage, Timed, stages};
use crate::{PROCESSOR, SERVER};

/// When a row was written to a part of the projections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectionTiming {
    /// The part.
    pub part: String,
    /// When the transaction began, in microseconds since 1970.
    pub begun: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

const PUBLISH: &str = "publish";
const PROCESS: &str = "process";
const APPEND: &str = "append";

/// Builds all spans of a request, whose row was written to the projections at these times. `later` is where its command was
/// decided after it had been answered, if it was.
#[must_use]
pub fn build(
    request: &Request,
    later: Option<Decided>,
    projections: &[ProjectionTiming],
) -> Vec<Span> {
    let timing = request.timing.as_deref();
    let timed = stages(request);
    let mut spans = server_spans(request, &timed);
    let Some(sent) = &request.sent else { return spans };
    let Some(decided) = sent.outcome.map(Decided::from).or(later) else { return spans };
    let place = |stage| timed.iter().find(|each: &&Timed| each.stage == stage);
    let names = Names { trace_id: request.trace_id, command: sent.command };
    let base = request.origin.wall(request.begun);
    let at = |each: &Timed| base + u64::from(each.begun);
    let command = timing.and_then(|timing| timing.command(decided.index as usize));
    match (timing, command, place(Stage::Decide)) {
        (Some(timing), Some(command), Some(decide)) => {
            if let Some(queue) = place(Stage::Queue) {
                let span = queued(names, at(queue), queue.micros.into());
                spans.push(estimated(span, queue.estimated));
            }
            spans.extend(sequencer_spans(names, command, timing, at(decide), decided.sequence));
            if let Some(told) = place(Stage::Broadcast) {
                let micros = told.micros.into();
                let mut span = names.span("broadcast", names.id(PROCESS), at(told), micros);
                span.kind = Kind::Producer;
                let span = span.with("messaging.destination.name", "journal");
                spans.push(estimated(span, told.estimated));
            }
        }
        // Nobody waited any more: the sequencer's own clock says when it was.
        (Some(timing), Some(command), None) => {
            let received = timing.origin.wall(timing.begun.plus(command.received));
            let published = base + u64::from(sent.confirmed.unwrap_or(sent.submitted));
            let span = queued(names, published, received.saturating_sub(published));
            spans.push(estimated(span, timing.origin.boot != request.origin.boot));
            spans.extend(sequencer_spans(names, command, timing, received, decided.sequence));
        }
        _ => {}
    }
    for written in projections {
        let name = format!("project {}", written.part);
        let parent = names.id(PROCESS);
        let mut span = names.span(&name, parent, written.begun, written.micros);
        span.kind = Kind::Client;
        span.follows.push(names.id(APPEND));
        spans.push(span.with("db.system.name", "postgresql"));
    }
    spans
}

fn queued(names: Names, begun: u64, micros: u64) -> Span {
    let span = names.span("queue", names.id(PUBLISH), begun, micros);
    span.with("messaging.destination.name", "orders")
}

fn estimated(span: Span, is_estimated: bool) -> Span {
    if is_estimated { with_bool(span, "kx.estimated", true) } else { span }
}

fn with_bool(mut span: Span, name: &str, value: bool) -> Span {
    span.attributes.push((name.to_owned(), Value::Bool(value)));
    span
}

/// What names the spans of one command.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The trace.
    pub trace_id: u128,
    /// The command.
    pub command: u128,
}

impl Names {
    fn id(self, name: &str) -> u64 {
        span_id(self.trace_id, self.command, name)
    }

    fn span(self, name: &str, parent_id: u64, begun: u64, micros: u64) -> Span {
        Span {
            trace_id: self.trace_id,
            span_id: self.id(name),
            parent_id,
            service: PROCESSOR.to_owned(),
            name: name.to_owned(),
            kind: Kind::Internal,
            begun,
            micros,
            attributes: Vec::new(),
            follows: Vec::new(),
            failed: false,
        }
    }
}

/// Builds the server's spans of a request from its stages.
#[must_use]
pub fn server_spans(request: &Request, timed: &[Timed]) -> Vec<Span> {
    let base = request.origin.wall(request.begun);
    let command = request.sent.as_ref().map_or(0, |sent| sent.command);
    // Without a command, its own span's number tells two requests of one trace apart.
    let own = if command == 0 { request.span_id.into() } else { command };
    let names = Names { trace_id: request.trace_id, command: own };
    let part = |name: &str, begun: u32, micros: u32| {
        let mut span = names.span(name, request.span_id, base + u64::from(begun), micros.into());
        span.service = SERVER.to_owned();
        span
    };
    let mut root = part(&format!("{} {}", request.method, request.route), 0, request.ended)
        .with("http.request.method", &*request.method)
        .with("http.route", &*request.route)
        .with("http.response.status_code", u32::from(request.status));
    (root.span_id, root.parent_id) = (request.span_id, request.parent_id);
    (root.kind, root.failed) = (Kind::Server, request.status >= 500);
    if let Some(sent) = &request.sent {
        root = root.with("kx.action", &*sent.action);
        if let Some(market) = &sent.market {
            root = root.with("kx.market", market.as_str());
        }
        if let Some(outcome) = sent.outcome {
            root = root.with("kx.journal.sequence", outcome.sequence);
        }
    }
    let mut spans = vec![root];
    let mut wait: Option<(u32, u32, bool)> = None;
    for each in timed {
        match each.stage {
            Stage::Authenticate | Stage::Validate | Stage::Answer => {
                spans.push(part(each.stage.name(), each.begun, each.micros));
            }
            Stage::Publish => {
                let mut span = part(PUBLISH, each.begun, each.micros)
                    .with("messaging.system", "rabbitmq")
                    .with("messaging.destination.name", "orders");
                span.kind = Kind::Producer;
                spans.push(estimated(span, each.estimated));
            }
            Stage::Queue | Stage::Decide | Stage::Append | Stage::Broadcast | Stage::Journal => {
                let (begun, micros, guessed) = wait.unwrap_or((each.begun, 0, false));
                wait = Some((begun, micros + each.micros, guessed || each.estimated));
            }
        }
    }
    if let Some((begun, micros, _)) = wait {
        spans.push(part("await outcome", begun, micros));
    }
    spans
}

/// Builds the sequencer's spans of a command that was received at this time, in microseconds since 1970.
#[must_use]
pub fn sequencer_spans(
    names: Names,
    command: &CommandTiming,
    timing: &BatchTiming,
    received: u64,
    sequence: u64,
) -> Vec<Span> {
    let done = command.done();
    let after = |offset: u32| received + u64::from(offset.saturating_sub(command.received));
    let span = |name: &str, from: u32, until: u32| {
        names.span(name, names.id(PROCESS), after(from), until.saturating_sub(from).into())
    };
    let settling = done.saturating_sub(command.settled);
    let mut process = span(PROCESS, command.received, timing.committed)
        .with("messaging.operation.type", "process")
        .with("messaging.destination.name", "orders")
        .with("kx.journal.sequence", sequence);
    (process.parent_id, process.kind) = (names.id(PUBLISH), Kind::Consumer);
    let decide = span("decide", command.received, settling).with("kx.waited_us", command.waited);
    let settle = span("settle", settling, done);
    let batch = span("batch", done, timing.append_begun.max(done));
    let mut append = span(APPEND, timing.append_begun.max(done), timing.committed)
        .with("db.system.name", "postgresql")
        .with("db.operation.name", "INSERT")
        .with("db.collection.name", "journal");
    append.kind = Kind::Client;
    vec![process, decide, settle, batch, append]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::record::tests::request;
    use crate::timing::tests::timing;

    #[test]
    fn a_trace_is_one_tree_whose_parts_lie_within_their_parents() {
        let request = Request { timing: Some(timing().into()), ..request() };
        let written =
            ProjectionTiming { part: "orders".into(), begun: 1_700_000_000_010_000, micros: 300 };
        let spans = build(&request, None, &[written]);
        let by_id: HashMap<u64, &Span> = spans.iter().map(|span| (span.span_id, span)).collect();
        assert_eq!(by_id.len(), spans.len(), "every span has an id of its own");
        assert!(spans.len() >= 13, "{} spans", spans.len());
        let mut roots = 0;
        for span in &spans {
            let Some(parent) = by_id.get(&span.parent_id) else {
                assert_eq!(span.span_id, request.span_id, "{} has no parent", span.name);
                roots += 1;
                continue;
            };
            assert!(span.begun >= parent.begun, "{} begins before {}", span.name, parent.name);
            // What follows, and what is handed on, ends later than what it came from.
            let goes_on = matches!(parent.kind, Kind::Producer | Kind::Consumer);
            let within = span.begun + span.micros <= parent.begun + parent.micros;
            assert!(goes_on || within, "{} ends after {}", span.name, parent.name);
        }
        assert_eq!(roots, 1);
        let named = |name: &str| spans.iter().find(|span| span.name == name).expect(name);
        assert_eq!(named("append").micros, 800);
        assert_eq!(named("await outcome").micros, 1_910);
        assert_eq!(named("project orders").follows, [named("append").span_id]);
        assert_eq!(named("process").parent_id, named("publish").span_id);
    }

    #[test]
    fn what_is_decided_after_its_answer_has_the_sequencers_part_at_its_own_time() {
        let mut timing = timing();
        timing.begun = timing.begun.plus(60_000_000);
        let mut request = Request { timing: Some(timing.clone().into()), ..request() };
        let sent = request.sent.as_mut().expect("it has sent one");
        (sent.outcome, sent.given_up) = (None, Some(1_900));
        assert!(build(&request, None, &[]).iter().all(|span| span.name != "append"));
        let later = Decided { sequence: 12, index: timing.commands[0].index };
        let spans = build(&request, Some(later), &[]);
        let named = |name: &str| spans.iter().find(|span| span.name == name).expect(name);
        let (publish, queue, process) = (named("publish"), named("queue"), named("process"));
        assert_eq!(queue.begun, publish.begun + publish.micros, "nothing lies between");
        assert_eq!(queue.begun + queue.micros, process.begun);
        assert!(process.begun > named("answer").begun + 50_000_000);
        assert_eq!(named("append").micros, 800);
    }

    #[test]
    fn what_the_processor_exports_has_the_names_that_a_reader_gives() {
        let timing = timing();
        let request = Request { timing: Some(timing.clone().into()), ..request() };
        let read = build(&request, None, &[]);
        let names = Names { trace_id: request.trace_id, command: 99 };
        let received = timing.origin.wall(timing.begun);
        for span in sequencer_spans(names, &timing.commands[0], &timing, received, 12) {
            assert!(read.contains(&span), "{span:?}");
        }
    }

    #[test]
    fn a_request_without_a_command_has_its_own_spans_only() {
        let mut request = request();
        request.sent = None;
        let spans = build(&request, None, &[]);
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["POST /api/v1/orders", "authenticate", "answer"]);
    }
}
