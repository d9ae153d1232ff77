//! What a verification has found: for each area what was checked, and its first fault.

use std::collections::BTreeMap;
use std::fmt;

use journal::BadRow;

/// What is verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    /// The rows: gapless, each with the hash of the one before, of one incarnation, in time.
    Chain,
    /// The rows' bytes.
    Formats,
    /// Commands decided again.
    Decisions,
    /// Events applied.
    Events,
    /// The state's invariants.
    State,
    /// Snapshots, against the state that the journal gives.
    Snapshots,
    /// The bytes of snapshots, against their own hash.
    SnapshotBytes,
    /// The audit log's rows, against their hash chain.
    AuditLog,
    /// The audit log's hash chain, against the heads that the journal has noted.
    AuditHeads,
    /// The rows of all projections.
    Projections,
    /// One projection, by its table.
    Projection(String),
}

impl Area {
    /// Returns the area of a bad row.
    pub(crate) fn of(error: &BadRow) -> Self {
        match error {
            BadRow::Hash { .. } => Self::Chain,
            BadRow::UnknownFormat { .. } | BadRow::UnknownRules { .. } | BadRow::Payload { .. } => {
                Self::Formats
            }
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Chain => "hash chain",
            Self::Formats => "row formats",
            Self::Decisions => "decisions",
            Self::Events => "events",
            Self::State => "state invariants",
            Self::Snapshots => "snapshots",
            Self::SnapshotBytes => "snapshot bytes",
            Self::AuditLog => "audit log",
            Self::AuditHeads => "audit log's heads",
            Self::Projections => "projections",
            Self::Projection(table) => table,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Finding {
    counted: u64,
    skipped: u64,
    faults: u64,
    first: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    findings: BTreeMap<Area, Finding>,
}

impl Report {
    /// Counts things that are right.
    pub(crate) fn counted(&mut self, area: Area, count: u64) {
        self.findings.entry(area).or_default().counted += count;
    }

    /// Counts things that this release cannot check.
    pub(crate) fn skipped(&mut self, area: Area, count: u64) {
        self.findings.entry(area).or_default().skipped += count;
    }

    /// Notes a fault; the first of each area is kept.
    pub(crate) fn fault(&mut self, area: Area, text: String) {
        let finding = self.findings.entry(area).or_default();
        finding.faults += 1;
        finding.first.get_or_insert(text);
    }

    /// Returns whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.values().all(|finding| finding.faults == 0)
    }

    /// Returns the first fault of an area.
    #[cfg(test)]
    pub(crate) fn first(&self, area: &Area) -> Option<&str> {
        self.findings.get(area)?.first.as_deref()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>12} {:>8}  result", "what", "checked", "wrong")?;
        for (area, finding) in &self.findings {
            let Finding { counted, skipped, faults, first } = finding;
            write!(f, "{area:<20} {counted:>12} {faults:>8}  ")?;
            match first {
                None => f.write_str("ok")?,
                Some(text) => f.write_str(text)?,
            }
            if *skipped > 0 {
                write!(f, " ({skipped} of other rules: not decided again)")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
