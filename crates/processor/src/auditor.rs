//! The online auditor: looks again and again whether what must hold holds, in the followed state and in PostgreSQL.
//!
//! Invariant: it compares what belongs to the same journal row, so that what is only on its way is never called a
//! difference; and it never costs more than a small share of the time, off the order's way.
//!
//! What it looks at:
//! - the sum over all accounts of each asset, the outside world included, in the followed state: zero;
//! - the projected balances, a piece of the accounts each time: not below zero, and what the state says at their row;
//! - the journal's newest rows, and a walk through all of it from its beginning: each is what its hash says, and follows
//!   the one before;
//! - the audit log's chain: it has the head that the journal noted last.

mod balances;
mod chain;
mod findings;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use follower::Live;
use store::auditor::{Auditor, Results};
use store::{Db, StoreError};
use telemetry::Metric;
use tokio_util::sync::CancellationToken;
use units::SignedAmount;

use balances::Balances;
use chain::Chain;
use findings::{Findings, Place};

/// The shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// A pause is this many times what the look before it took,
const PAUSE_TIMES: u32 = 50;
/// and not so long that looks could be missed: who waits for the database takes none of its time.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Audits until `stop`. Of several processes that do so one looks, and the others wait until it is gone.
pub async fn audit(db: Db, live: Arc<Live>, stop: CancellationToken) {
    let mut audit = Audit {
        db,
        live,
        holder: None,
        balances: Balances::default(),
        chain: Chain::default(),
        findings: Findings::default(),
    };
    let mut pause = Duration::from_secs(1);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let begun = Instant::now();
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = audit.look() => looked,
        };
        pause = (begun.elapsed() * PAUSE_TIMES).clamp(PAUSE_MIN, PAUSE_MAX);
        match looked {
            Ok(Some(results)) => {
                telemetry::observe(Metric::AuditDuration, begun.elapsed());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                telemetry::set(Metric::AuditSucceeded, now.as_secs_f64());
                tracing::debug!(?results, "audited");
            }
            Ok(None) => {}
            Err(error) => {
                // What was found stays found; another connection, perhaps another process, looks next.
                audit.holder = None;
                // The database may be another one by then.
                audit.chain = Chain::default();
                pause = PAUSE_MIN;
                tracing::warn!(reason = %error, "the auditor cannot look now; trying again");
            }
        }
    }
}

/// The auditor, and how far it is.
struct Audit {
    db: Db,
    live: Arc<Live>,
    holder: Option<Auditor>,
    balances: Balances,
    chain: Chain,
    findings: Findings,
}

impl Audit {
    /// Looks once; `None` where there is nothing to look at yet, or somebody else looks.
    async fn look(&mut self) -> Result<Option<Results>, StoreError> {
        if self.live.incarnation() == 0 || !self.live.has_caught_up() {
            return Ok(None);
        }
        if self.holder.is_none() {
            self.holder = Auditor::hold(&self.db).await?;
        }
        let Some(auditor) = &mut self.holder else {
            // Whoever looks now says what it finds; what this process found is its past.
            self.findings = Findings::default();
            self.findings.show();
            return Ok(None);
        };
        self.findings.replace(Place::is_asset, sums(&self.live));
        let balances = self.balances.look(auditor, &self.live, &mut self.findings).await?;
        let rows = self.chain.look(auditor, &mut self.findings).await?;
        let log = audit_log(auditor, &self.live).await?;
        self.findings.replace(|place| *place == Place::AuditLog, log);
        let results = Results { balances, rows, ..self.findings.show() };
        auditor.tell(&results).await?;
        Ok(Some(results))
    }
}

/// Looks whether the audit log's chain has the head that the journal noted last: it was committed before that was noted.
async fn audit_log(auditor: &Auditor, live: &Live) -> Result<Vec<(Place, String)>, StoreError> {
    let Some(noted) = live.read(engine::State::audit_head) else { return Ok(Vec::new()) };
    let found = auditor.audit_link(noted.rows).await?;
    let text = match found {
        Some(hash) if hash == noted.head => return Ok(Vec::new()),
        Some(_) => "is another than the journal has noted: the log was written anew",
        None => "is gone, which the journal has noted: the log was cut",
    };
    Ok(vec![(Place::AuditLog, format!("link {} of the audit log {text}", noted.rows))])
}

/// Sums every asset over all accounts, and says which are not zero.
fn sums(live: &Live) -> Vec<(Place, String)> {
    let (sums, symbols) = live.read(|state| {
        let symbols: Vec<String> =
            state.assets().iter().map(|asset| asset.symbol.to_string()).collect();
        (state.sums(), symbols)
    });
    for (symbol, sum) in symbols.iter().zip(&sums) {
        telemetry::set_labelled(Metric::LedgerImbalance, &[symbol], gauge(*sum));
    }
    let off = symbols.into_iter().zip(sums).filter(|(_, sum)| *sum != 0);
    off.map(|(symbol, sum)| {
        let text = format!("asset {symbol}: all accounts sum to {sum}, not to zero");
        (Place::Asset(symbol), text)
    })
    .collect()
}

/// An amount as a gauge has it: that it is not zero is never lost.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; what counts is that it is not 0"
)]
fn gauge(amount: SignedAmount) -> f64 {
    amount as f64
}
