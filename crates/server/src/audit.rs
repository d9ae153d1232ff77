//! The audit log's writer: requests leave their entries here and never wait for the database. Behind it the log's hash
//! chain is carried on, and the journal told how far it reaches.
//!
//! Invariant: memory is bounded. Entries beyond the channel are dropped, counted and logged; a series of refusals from
//! one address leaves one entry a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use engine::{Action, Event};
use parking_lot::Mutex;
use store::Db;
use store::audit::{AuditEntry, Level, append, chain};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::app::App;
use crate::body;
use crate::command::{Answer, Ask, command_id, submit};
use crate::edge::Context;
use crate::problem::chain as causes;
use crate::token::Principal;

const ENTRIES_MAX: usize = 4_096;
const BATCH_MAX: usize = 256;
/// Refusals from one address within [`SERIES`] that make a series.
const SERIES_MIN: u32 = 5;
const SERIES: Duration = Duration::from_secs(60);
/// Addresses that are watched for series.
const WATCHED_MAX: usize = 8_192;

/// Takes entries for the audit log.
pub(crate) struct Audit {
    sender: mpsc::Sender<AuditEntry>,
    refusals: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Audit {
    /// Starts the writer, which ends when the last sender is gone.
    #[must_use]
    pub(crate) fn start(db: Db) -> Self {
        let (sender, receiver) = mpsc::channel(ENTRIES_MAX);
        tokio::spawn(write(db, receiver));
        Self { sender, refusals: Mutex::default() }
    }

    /// Adds an entry.
    pub(crate) fn add(&self, entry: AuditEntry) {
        let action = entry.action;
        if self.sender.try_send(entry).is_err() {
            tracing::warn!(action, "an audit entry was dropped: the database does not keep up");
        }
    }

    /// Adds what a user has done.
    pub(crate) fn done(
        &self,
        context: &Context,
        principal: &Principal,
        action: &'static str,
        detail: serde_json::Value,
    ) {
        self.add(AuditEntry {
            level: Level::Info,
            action,
            user: Some(principal.user),
            address: Some(context.address),
            trace_id: context.trace_id,
            detail,
        });
    }

    /// Counts a 401 or 403; the fifth within a minute from one address leaves an entry.
    pub(crate) fn refused(&self, address: IpAddr, route: &str, status: u16, trace_id: u128) {
        let now = Instant::now();
        let mut refusals = self.refusals.lock();
        if refusals.len() >= WATCHED_MAX {
            refusals.retain(|_, (begun, _)| now.duration_since(*begun) < SERIES);
            if refusals.len() >= WATCHED_MAX {
                refusals.clear();
            }
        }
        let (begun, count) = refusals.entry(address).or_insert((now, 0));
        if now.duration_since(*begun) >= SERIES {
            (*begun, *count) = (now, 0);
        }
        *count += 1;
        let series = *count == SERIES_MIN;
        drop(refusals);
        if series {
            self.add(AuditEntry {
                level: Level::Warn,
                action: "edge.refused_series",
                user: None,
                address: Some(address),
                trace_id,
                detail: serde_json::json!({ "route": route, "status": status, "count": SERIES_MIN }),
            });
        }
    }
}

/// How often the log's hash chain is carried on. Several servers may try: one does.
const CHAIN_EVERY: Duration = Duration::from_secs(2);
/// The chain's head is noted in the journal at most once in so many microseconds of journal time, whichever server does it.
const NOTED_EVERY_MICROS: u64 = 60_000_000;

/// Carries the log's hash chain on, and has its head noted in the journal, for as long as the application lives.
pub(crate) fn chain(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(CHAIN_EVERY).await;
            let Some(app) = App::upgrade(&inner) else { break };
            if let Err(error) = chain::extend(&app.db).await {
                tracing::warn!(error = %causes(&error), "cannot carry the audit log's chain on now");
            }
            note_head(&app).await;
        }
    });
}

/// Has the chain's head noted, where it has grown and this minute's has not been noted yet.
///
/// The command is the minute's, by its id and its body hash. So the sequencer takes one a minute: a retry is a repeat, and
/// so is what another server sends at the same moment, though the log may have grown between the two.
async fn note_head(app: &App) {
    if !app.live.has_caught_up() || app.live.stopped().is_some() {
        return;
    }
    let minute = app.live.journal_now().micros() / NOTED_EVERY_MICROS;
    let name = format!("{:x} {minute}", app.live.incarnation());
    let id = command_id(Uuid::nil(), "audit head", Some(&name));
    let (noted, known) = app.live.read(|state| (state.audit_head(), state.known(id)));
    if known.is_some() {
        return;
    }
    let head = match chain::head(&app.db).await {
        Ok(Some(head)) if noted.is_none_or(|noted| head.rows > noted.rows) => head,
        Ok(_) => return,
        Err(error) => {
            tracing::warn!(error = %causes(&error), "cannot read the head of the audit log's chain now");
            return;
        }
    };
    let ask = Ask {
        id,
        keyed: false,
        body_hash: body::hash(name.as_bytes()),
        trace_id: rand::random::<u128>().max(1),
        expires_at: None,
        action: Action::NoteAuditHead(head),
    };
    match submit(app, ask).await {
        Ok(Answer::Decided(decided)) => {
            if let Event::Rejected(reject) = decided.event() {
                tracing::warn!(reason = reject.code(), "the audit log's head was not noted");
            }
        }
        // It is asked for again, under the same id within this minute.
        Ok(Answer::Pending(_)) => {}
        Err(problem) => {
            let code = problem.code().name();
            tracing::warn!(code, "the audit log's head cannot be noted now");
        }
    }
}

async fn write(db: Db, mut receiver: mpsc::Receiver<AuditEntry>) {
    let mut entries = Vec::with_capacity(BATCH_MAX);
    while receiver.recv_many(&mut entries, BATCH_MAX).await > 0 {
        // What the database refuses for good (it cannot, but for a defect) must not stop what follows.
        for wait in [100, 1_000, 5_000, 0] {
            match append(&db, &entries).await {
                Ok(()) => break,
                Err(error) if error.is_transient() && wait > 0 => {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                Err(error) => {
                    let lost = entries.len();
                    tracing::error!(error = %causes(&error), lost, "audit entries were lost");
                    break;
                }
            }
        }
        entries.clear();
    }
}
