//! How severe an anomaly is, by how far and how long.

/// One severity: what a window must have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// 1 is the worst.
    pub severity: u8,
    /// How many times the baseline's p99.
    pub factor_min: u64,
    /// How much longer than the baseline's p50, in microseconds.
    pub excess_min: u64,
}

const fn row(severity: u8, factor_min: u64, excess_min: u64) -> Row {
    Row { severity, factor_min, excess_min }
}

/// Every severity, the worst first. The last row is what makes an anomaly at all.
pub const SEVERITIES: [Row; 5] = [
    row(1, 20, 2_000_000),
    row(2, 10, 500_000),
    row(3, 5, 100_000),
    row(4, 3, 20_000),
    row(5, 2, 5_000),
];

/// What lasts so many minutes is one more severe, and again at twice as many, up to [`LASTING_WORST`].
pub(crate) const LASTING: u32 = 15;
/// Lasting alone makes nothing worse than this: a harmless thing stays one.
const LASTING_WORST: u8 = 3;

/// Returns the severity of what took `observed` where `p50` and `p99` are usual, in microseconds, for `windows` minutes;
/// `None`: it is nothing.
#[must_use]
pub fn severity(observed: u64, p50: u64, p99: u64, windows: u32) -> Option<u8> {
    let fits = |row: &&Row| {
        observed >= p99.max(1).saturating_mul(row.factor_min)
            && observed.saturating_sub(p50) >= row.excess_min
    };
    let row = SEVERITIES.iter().find(fits)?;
    let raised = u8::try_from(windows / LASTING).unwrap_or(u8::MAX);
    Some(row.severity.min(row.severity.saturating_sub(raised).max(LASTING_WORST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_severe() {
        assert_eq!(severity(80, 20, 30, 1), None, "four times nearly nothing is nothing");
        assert_eq!(severity(9_000, 1_000, 5_000, 1), None, "less than twice the p99");
        assert_eq!(severity(10_000, 1_000, 5_000, 1), Some(5));
        assert_eq!(severity(30_000, 1_000, 5_000, 1), Some(4));
        assert_eq!(severity(110_000, 1_000, 5_000, 1), Some(3));
        assert_eq!(severity(600_000, 1_000, 5_000, 1), Some(2));
        assert_eq!(severity(3_000_000, 1_000, 5_000, 1), Some(1));
    }

    #[test]
    fn what_lasts_is_more_severe_up_to_three() {
        let lasting = |windows| severity(10_000, 1_000, 5_000, windows);
        assert_eq!(
            [lasting(14), lasting(15), lasting(30), lasting(900)].map(Option::unwrap),
            [5, 4, 3, 3]
        );
        assert_eq!(severity(3_000_000, 1_000, 5_000, 900), Some(1), "and none less");
    }
}
