//! Why one request was slow: puts together what the store has of it, of what is usual, and of its minute.

use store::anomalies::Kept;
use store::{Db, StoreError};
use trace::anomaly::{self, Explanation, Finding, Known, findings, operation, took};

use crate::find::slowest;

/// Minutes before the request's that say what its minute is compared with.
const PAST: u64 = 240;

/// Explains the slowest request of a trace; `None` where nothing is known of it.
///
/// # Errors
///
/// [`StoreError`].
pub async fn explain(db: &Db, trace_id: u128) -> Result<Option<Explanation>, StoreError> {
    let Some((instance, request)) = slowest(db, trace_id).await? else { return Ok(None) };
    let operation = operation(&request);
    let usual = store::anomalies::usual(db, &instance, &operation).await?;
    // It counts in the minute in which it ends.
    let ended = request.origin.wall(request.begun.plus(request.ended));
    let minute = ended / 60_000_000;
    let rows = store::anomalies::context(db, minute.saturating_sub(PAST), minute).await?;
    let (at, before): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.minute == minute);
    let mut found = findings(&at, &before);
    let open = store::anomalies::open_at(db, minute).await?;
    found.extend(open.iter().map(finding));
    let known = Known {
        usual: usual.into_values().collect(),
        findings: (!at.is_empty() || !found.is_empty()).then_some(found),
    };
    Ok(Some(anomaly::explain(&request, &known)))
}

fn finding(open: &Kept) -> Finding {
    let anomaly = &open.anomaly;
    let usual = anomaly.usual;
    let micros = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX));
    let words = format!(
        "the stage {} of {} was far from usual at {}, severity {}: up to {}, usually {}, 99 of 100 at most {}",
        anomaly.stage.name(),
        anomaly.operation,
        open.source,
        anomaly.severity,
        took(anomaly.worst),
        took(usual.p50),
        took(usual.p99),
    );
    Finding {
        name: "anomaly".to_owned(),
        words,
        value: micros(anomaly.worst),
        usual: Some(micros(usual.p50)),
    }
}
