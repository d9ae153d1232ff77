//! Who is told of alerts, in the drill: what GoAlert and ntfy take over HTTP, and what they were told and when.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The key of GoAlert's integration.
pub(crate) const KEY: &str = "8d1f2c0a-drill-key";
/// ntfy's topic.
pub(crate) const TOPIC: &str = "krystalinex-alerts-drill";
const READ_MAX: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    GoAlert,
    Ntfy,
}

/// Something that somebody was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Instant,
    /// Alertmanager's name of the alert.
    pub(crate) alert: String,
    pub(crate) resolved: bool,
    /// ntfy's priority; GoAlert has none.
    pub(crate) priority: u64,
}

#[derive(Debug, Default)]
struct Heard {
    goalert: Mutex<Vec<Told>>,
    ntfy: Mutex<Vec<Told>>,
    /// Requests that either would have refused.
    refused: Mutex<Vec<String>>,
    /// Who is out of order, and answers so: GoAlert, ntfy.
    broken: [AtomicBool; 2],
    ended: AtomicBool,
}

/// Both, each on a port of its own.
#[derive(Debug)]
pub(crate) struct Sinks {
    pub(crate) goalert_port: u16,
    pub(crate) ntfy_port: u16,
    heard: Arc<Heard>,
}

impl Sinks {
    pub(crate) fn start() -> Self {
        let heard = Arc::new(Heard::default());
        let serve = |sink: Sink, take: fn(&Heard, &Request) -> u16| {
            let port = broker::free_port().expect("there is a free port");
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
            let heard = Arc::clone(&heard);
            thread::spawn(move || accept(&listener, &heard, sink, take));
            port
        };
        Self {
            goalert_port: serve(Sink::GoAlert, goalert),
            ntfy_port: serve(Sink::Ntfy, ntfy),
            heard,
        }
    }

    /// Puts one of them out of order, or in order again.
    pub(crate) fn set_broken(&self, sink: Sink, broken: bool) {
        self.heard.broken[sink as usize].store(broken, Ordering::SeqCst);
    }

    /// Returns the first word to one of them about an alert since a moment.
    pub(crate) fn told(
        &self,
        sink: Sink,
        alert: &str,
        resolved: bool,
        since: Instant,
    ) -> Option<Told> {
        let told = match sink {
            Sink::GoAlert => &self.heard.goalert,
            Sink::Ntfy => &self.heard.ntfy,
        };
        find(told, alert, resolved, since)
    }

    /// Returns whether the last word to ntfy about an alert was that it fires.
    pub(crate) fn is_on(&self, alert: &str) -> bool {
        let told = self.heard.ntfy.lock().expect("no sink panics");
        told.iter().rev().find(|told| told.alert == alert).is_some_and(|told| !told.resolved)
    }

    /// Returns the names of the alerts that anybody was told of.
    pub(crate) fn names(&self) -> Vec<String> {
        let told = |told: &Mutex<Vec<Told>>| -> Vec<String> {
            told.lock().expect("no sink panics").iter().map(|told| told.alert.clone()).collect()
        };
        let mut names = [told(&self.heard.goalert), told(&self.heard.ntfy)].concat();
        names.sort();
        names.dedup();
        names
    }

    /// Returns how many notices came to GoAlert and to ntfy.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |told: &Mutex<Vec<Told>>| told.lock().expect("no sink panics").len();
        (count(&self.heard.goalert), count(&self.heard.ntfy))
    }

    /// Returns what either has refused.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.heard.refused.lock().expect("no sink panics").clone()
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.heard.ended.store(true, Ordering::SeqCst);
        for port in [self.goalert_port, self.ntfy_port] {
            // Wakes the one that accepts.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
    }
}

fn find(told: &Mutex<Vec<Told>>, alert: &str, resolved: bool, since: Instant) -> Option<Told> {
    let told = told.lock().expect("no sink panics");
    let fits = |one: &&Told| one.alert == alert && one.resolved == resolved && one.at >= since;
    told.iter().find(fits).cloned()
}

/// What was asked.
struct Request {
    line: String,
    authorization: String,
    body: Value,
}

fn accept(
    listener: &TcpListener,
    heard: &Arc<Heard>,
    sink: Sink,
    take: fn(&Heard, &Request) -> u16,
) {
    for stream in listener.incoming() {
        if heard.ended.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), heard) = (stream, Arc::clone(heard)) else { continue };
        thread::spawn(move || answer(stream, &heard, sink, take));
    }
}

/// Answers one request, and closes: whoever sends connects again.
fn answer(
    stream: TcpStream,
    heard: &Heard,
    sink: Sink,
    take: fn(&Heard, &Request) -> u16,
) -> Option<()> {
    stream.set_read_timeout(Some(READ_MAX)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request =
        Request { line: String::new(), authorization: String::new(), body: Value::Null };
    reader.read_line(&mut request.line).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => value.trim().clone_into(&mut request.authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    if length > BODY_BYTES_MAX || reader.read_exact(&mut body).is_err() {
        return None;
    }
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    let is_broken = heard.broken[sink as usize].load(Ordering::SeqCst);
    let status = if is_broken { 503 } else { take(heard, &request) };
    let text = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    (&stream).write_all(text.as_bytes()).ok()
}

/// GoAlert's generic endpoint for Alertmanager: the integration's key as a token, in the address or as a bearer's.
fn goalert(heard: &Heard, request: &Request) -> u16 {
    let path = "/api/v2/prometheusalertmanager/incoming";
    let bearer = request.authorization == format!("Bearer {KEY}");
    let right = request.line.starts_with(&format!("POST {path}?token={KEY} "))
        || (bearer && request.line.starts_with(&format!("POST {path} ")));
    let alert = request.body["commonLabels"]["alertname"].as_str();
    let (Some(alert), true) = (alert, right) else {
        return refuse(heard, request);
    };
    let told = Told {
        at: Instant::now(),
        alert: alert.to_owned(),
        resolved: request.body["status"] == "resolved",
        priority: 0,
    };
    heard.goalert.lock().expect("no sink panics").push(told);
    200
}

/// ntfy's publishing as JSON: topic, title, message, priority, tags.
fn ntfy(heard: &Heard, request: &Request) -> u16 {
    let body = &request.body;
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    // One is the name of the alert; no other has a capital.
    let tags = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let alert = tags
        .filter(|tag| !tag.starts_with("SEV"))
        .find(|tag| tag.starts_with(|first: char| first.is_ascii_uppercase()));
    let right = request.line.starts_with("POST / ") && text("topic") == TOPIC;
    let (Some(alert), Some(priority), true) = (alert, body["priority"].as_u64(), right) else {
        return refuse(heard, request);
    };
    let told = Told {
        at: Instant::now(),
        alert: alert.to_owned(),
        resolved: text("title").contains("Resolved"),
        priority,
    };
    heard.ntfy.lock().expect("no sink panics").push(told);
    200
}

fn refuse(heard: &Heard, request: &Request) -> u16 {
    let text = format!("{} {}", request.line.trim(), request.body);
    heard.refused.lock().expect("no sink panics").push(text);
    400
}
