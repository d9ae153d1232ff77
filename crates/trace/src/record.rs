//! What a server notes of one request, and how many of them are packed into one row.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Micros, Origin};
use crate::timing::BatchTiming;

/// The version of the bytes.
const VERSION: u8 = 1;

/// One answered request. Times are in microseconds after `begun`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The trace that it belongs to.
    pub trace_id: u128,
    /// Its own span.
    pub span_id: u64,
    /// The caller's span; 0: it has named none.
    pub parent_id: u64,
    /// Whether the trace's id came from outside, so that it does not begin with the time.
    pub is_foreign: bool,
    /// Whose clock `begun` is of.
    pub origin: Origin,
    /// When its head had been read.
    pub begun: Micros,
    /// Its method.
    pub method: Cow<'static, str>,
    /// The route's pattern; never the path, which may name somebody.
    pub route: Arc<str>,
    /// What it was answered with.
    pub status: u16,
    /// When it was known who asks, and that they may.
    pub authenticated: u32,
    /// When its answer was ready.
    pub ended: u32,
    /// The command that it has sent, if it has.
    pub sent: Option<Sent>,
    /// The times of the row that its command is in, where they are known; packed elsewhere, once for the whole row.
    pub timing: Option<Arc<BatchTiming>>,
}

/// A command on its way, as its server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub command: u128,
    /// What it asks for.
    pub action: Cow<'static, str>,
    /// The market that it is about.
    pub market: Option<String>,
    /// When it was ready to be published.
    pub submitted: u32,
    /// When the queue had said what became of it.
    pub confirmed: Option<u32>,
    /// When nobody waited for it any more, where its outcome had not come.
    pub given_up: Option<u32>,
    /// How long it waited in the queue by journal time: where another machine decides, nothing better is known.
    pub queued_by_journal_time: Option<u32>,
    /// What became of it.
    pub outcome: Option<Outcome>,
}

/// Where a command's outcome stands, and when its server saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The journal row.
    pub sequence: u64,
    /// The command's place in it.
    pub index: u32,
    /// When the row had been followed.
    pub seen: u32,
}

/// Where a command stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The journal row.
    pub sequence: u64,
    /// The command's place in it.
    pub index: u32,
}

impl From<Outcome> for Decided {
    fn from(outcome: Outcome) -> Self {
        Self { sequence: outcome.sequence, index: outcome.index }
    }
}

impl Sent {
    /// Tells whether its request was answered before its outcome was known.
    #[must_use]
    pub fn was_given_up(&self) -> bool {
        self.outcome.is_none() && self.given_up.is_some()
    }
}

/// Requests as they are packed: what they share once, times relative to the earliest.
#[derive(Serialize, Deserialize)]
struct Packed {
    origin: Origin,
    begun: u64,
    names: Vec<String>,
    requests: Vec<PackedRequest>,
}

#[derive(Serialize, Deserialize)]
struct PackedRequest {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_id: Option<[u8; 8]>,
    is_foreign: bool,
    begun: u64,
    method: u32,
    route: u32,
    status: u16,
    authenticated: u32,
    ended: u32,
    sent: Option<PackedSent>,
}

#[derive(Serialize, Deserialize)]
struct PackedSent {
    command: [u8; 16],
    action: u32,
    market: Option<u32>,
    submitted: u32,
    confirmed: Option<u32>,
    given_up: Option<u32>,
    queued_by_journal_time: Option<u32>,
    outcome: Option<Outcome>,
}

/// The names that a row has, each once.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn place(&mut self, name: &str) -> u32 {
        let place = self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

/// Packs requests of one process into a row: about 60 bytes each.
#[must_use]
pub fn pack(requests: &[Request]) -> Vec<u8> {
    let origin = requests.last().map_or_else(Origin::now, |last| last.origin);
    let begun = requests.iter().map(|request| request.begun.0).min().unwrap_or(0);
    let mut names = Names::default();
    let requests = requests.iter().map(|request| {
        let sent = request.sent.as_ref().map(|sent| PackedSent {
            command: sent.command.to_be_bytes(),
            action: names.place(&sent.action),
            market: sent.market.as_deref().map(|market| names.place(market)),
            submitted: sent.submitted,
            confirmed: sent.confirmed,
            given_up: sent.given_up,
            queued_by_journal_time: sent.queued_by_journal_time,
            outcome: sent.outcome,
        });
        PackedRequest {
            trace_id: request.trace_id.to_be_bytes(),
            span_id: request.span_id.to_be_bytes(),
            parent_id: (request.parent_id != 0).then(|| request.parent_id.to_be_bytes()),
            is_foreign: request.is_foreign,
            begun: request.begun.0 - begun,
            method: names.place(&request.method),
            route: names.place(&request.route),
            status: request.status,
            authenticated: request.authenticated,
            ended: request.ended,
            sent,
        }
    });
    let requests = requests.collect();
    crate::pack(VERSION, &Packed { origin, begun, names: names.0, requests })
}

/// Reads a row's requests that `wanted` takes by their trace; `None` where it is no row of ours.
#[must_use]
pub fn unpack(bytes: &[u8], wanted: impl Fn(u128) -> bool) -> Option<Vec<Request>> {
    let packed: Packed = crate::unpack(VERSION, bytes)?;
    let name = |place: u32| packed.names.get(place as usize).cloned();
    let request = |each: &PackedRequest| {
        let sent = match &each.sent {
            None => None,
            Some(sent) => Some(Sent {
                command: u128::from_be_bytes(sent.command),
                action: name(sent.action)?.into(),
                market: sent.market.and_then(name),
                submitted: sent.submitted,
                confirmed: sent.confirmed,
                given_up: sent.given_up,
                queued_by_journal_time: sent.queued_by_journal_time,
                outcome: sent.outcome,
            }),
        };
        Some(Request {
            trace_id: u128::from_be_bytes(each.trace_id),
            span_id: u64::from_be_bytes(each.span_id),
            parent_id: each.parent_id.map_or(0, u64::from_be_bytes),
            is_foreign: each.is_foreign,
            origin: packed.origin,
            begun: Micros(packed.begun.saturating_add(each.begun)),
            method: name(each.method)?.into(),
            route: name(each.route)?.into(),
            status: each.status,
            authenticated: each.authenticated,
            ended: each.ended,
            sent,
            timing: None,
        })
    };
    let wanted = |each: &&PackedRequest| wanted(u128::from_be_bytes(each.trace_id));
    packed.requests.iter().filter(wanted).map(request).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn request() -> Request {
        Request {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 3,
            parent_id: 0,
            is_foreign: false,
            origin: Origin { boot: 7, wall: 1_700_000_000_000_000 },
            begun: Micros(3_980),
            method: "POST".into(),
            route: "/api/v1/orders".into(),
            status: 201,
            authenticated: 40,
            ended: 2_050,
            sent: Some(Sent {
                command: 99,
                action: "place_order".into(),
                market: Some("BTC-USD".to_owned()),
                submitted: 60,
                confirmed: Some(90),
                given_up: None,
                queued_by_journal_time: Some(500),
                outcome: Some(Outcome { sequence: 12, index: 0, seen: 2_000 }),
            }),
            timing: None,
        }
    }

    #[test]
    fn requests_come_out_as_they_went_in() {
        let first = request();
        let mut second = request();
        (second.trace_id, second.parent_id, second.sent) = (5, 77, None);
        second.is_foreign = true;
        let bytes = pack(&[first.clone(), second.clone()]);
        let all = unpack(&bytes, |_| true).expect("it is a row");
        assert_eq!(all, [first, second.clone()]);
        assert_eq!(unpack(&bytes, |trace_id| trace_id == 5), Some(vec![second]));
        assert_eq!(unpack(&bytes[1..], |_| true), None);
        assert_eq!(unpack(&pack(&[]), |_| true), Some(Vec::new()));
    }

    #[test]
    fn a_request_takes_few_bytes() {
        let many = vec![request(); 1_000];
        let bytes = pack(&many).len() / 1_000;
        assert!(bytes <= 80, "{bytes} bytes a request");
    }
}
