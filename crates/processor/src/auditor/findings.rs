//! What the auditor has found and not yet found right again.

use std::collections::BTreeMap;

use store::auditor::Results;
use telemetry::Metric;
use units::{AccountId, AssetId, Sequence};

/// Findings that are remembered; further ones are counted as long as they fit.
const FINDINGS_MAX: usize = 10_000;
/// Findings of one look that are told one by one.
const TOLD_MAX: usize = 20;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// An asset's sum.
    Asset(String),
    /// A balance below zero.
    Negative(AccountId, AssetId),
    /// A projected balance that is not the journal's.
    Difference(AccountId, AssetId),
    /// A row of the journal.
    Row(Sequence),
    /// The audit log, which the journal vouches for.
    AuditLog,
}

impl Place {
    pub(super) fn is_asset(&self) -> bool {
        matches!(self, Self::Asset(_))
    }
}

/// All findings, by place.
#[derive(Debug, Default)]
pub(super) struct Findings {
    all: BTreeMap<Place, String>,
}

impl Findings {
    /// Takes what a look at some places has found in the place of what was found there before, and tells what is new.
    pub(super) fn replace(
        &mut self,
        looked_at: impl Fn(&Place) -> bool,
        found: Vec<(Place, String)>,
    ) {
        let before: BTreeMap<_, _> = self.all.extract_if(.., |place, _| looked_at(place)).collect();
        let mut told = 0_usize;
        for (place, text) in found {
            if !before.contains_key(&place) {
                told += 1;
                if told <= TOLD_MAX {
                    tracing::error!(severity = "SEV1", finding = %text, "the auditor has found a defect");
                }
            }
            if self.all.len() < FINDINGS_MAX {
                self.all.insert(place, text);
            }
        }
        if told > TOLD_MAX {
            let more = told - TOLD_MAX;
            tracing::error!(
                severity = "SEV1",
                more,
                "the auditor has found more defects than it tells"
            );
        }
        for (place, text) in before {
            if !self.all.contains_key(&place) {
                tracing::warn!(finding = %text, "what the auditor had found is right now");
            }
        }
    }

    /// Returns the journal's rows in which something was found.
    pub(super) fn rows(&self) -> impl Iterator<Item = Sequence> + '_ {
        self.all.keys().filter_map(|place| match place {
            Place::Row(row) => Some(*row),
            _ => None,
        })
    }

    /// Shows how many there are of each kind, and returns it.
    pub(super) fn show(&self) -> Results {
        let mut results = Results::default();
        for place in self.all.keys() {
            match place {
                Place::Asset(_) => results.imbalances += 1,
                Place::Negative(..) => results.negative_accounts += 1,
                Place::Difference(..) => results.projection_differences += 1,
                Place::Row(_) | Place::AuditLog => results.journal_breaks += 1,
            }
        }
        telemetry::set_count(Metric::NegativeAccounts, results.negative_accounts);
        telemetry::set_count(Metric::ProjectionDifferences, results.projection_differences);
        telemetry::set_count(Metric::JournalBreaks, results.journal_breaks);
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at_again_and_right_is_forgotten_and_the_rest_stays() {
        let mut findings = Findings::default();
        let row = |number: u64| Place::Row(Sequence::new(number));
        let found = |numbers: &[u64]| -> Vec<_> {
            numbers.iter().map(|number| (row(*number), format!("row {number}"))).collect()
        };
        findings.replace(|_| true, found(&[3, 9]));
        findings.replace(|place| *place < row(5), found(&[4]));
        let left: Vec<_> = findings.all.keys().cloned().collect();
        assert_eq!(left, [row(4), row(9)]);
        assert_eq!(findings.show().journal_breaks, 2);
        assert!(!findings.show().are_clean());
        findings.replace(|_| true, Vec::new());
        assert!(findings.show().are_clean());
    }
}
