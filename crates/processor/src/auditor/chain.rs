//! The journal's rows: each is what its hash says, and follows the one before.

use store::StoreError;
use store::auditor::Auditor;
use units::{Hash32, Sequence};

use super::findings::{Findings, Place};

/// Newest rows that one look reads again at most.
const NEWEST_MAX: u64 = 300;
/// Rows of the walk through the whole journal that one look reads.
const WALK_MAX: u64 = 300;

/// Rows in which something was found that one look reads again: a row that is right again, as out of a backup, shall not be
/// called broken until the walk comes round.
const AGAIN_MAX: usize = 64;

/// How far the walk is.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The row that the walk goes on behind, and its hash; `None`: from the beginning.
    walked: Option<(Sequence, Hash32)>,
    /// The newest row that was looked at.
    newest: Option<(Sequence, Hash32)>,
}

impl Chain {
    /// Looks at the newest rows, at those in which something was found, and at the next ones of the walk. Returns how many rows
    /// that were.
    pub(super) async fn look(
        &mut self,
        auditor: &Auditor,
        findings: &mut Findings,
    ) -> Result<u64, StoreError> {
        let Some((first, last)) = auditor.journal_ends().await? else { return Ok(0) };
        let found: Vec<Sequence> = findings.rows().take(AGAIN_MAX).collect();
        for row in &found {
            let before = Sequence::new(row.get().saturating_sub(1));
            let before = auditor.rows(before, before).await?.pop().map(|row| row.hash);
            check(auditor, *row, *row, before, findings).await?;
        }
        let found = u64::try_from(found.len()).unwrap_or(u64::MAX);

        // Behind the newest one that was seen the chain is known to go on from there, unless too many have come.
        let known = self.newest.filter(|(sequence, _)| {
            *sequence < last && last.get().saturating_sub(sequence.get()) <= NEWEST_MAX
        });
        let from = match known {
            Some((sequence, _)) => sequence.next(),
            None => Sequence::new(last.get().saturating_sub(NEWEST_MAX - 1)).max(first),
        };
        let (rows, end) = check(auditor, from, last, known.map(|(_, hash)| hash), findings).await?;
        self.newest = end.or(self.newest);

        let walked = self.walked;
        let from = walked.map_or(first, |(sequence, _)| sequence.next()).max(first);
        let through = Sequence::new(from.get().saturating_add(WALK_MAX - 1)).min(last);
        let before = walked.filter(|(sequence, _)| sequence.next() == from).map(|(_, hash)| hash);
        let (again, end) = check(auditor, from, through, before, findings).await?;
        // At the end it begins anew: the journal grows all the time, and what is old must come round again.
        self.walked = end.filter(|_| through < last);
        Ok(rows + again + found)
    }
}

/// Checks the rows from one to another; the first of them must follow `before`, if that is known. Returns how many there
/// are, and the last one's hash.
async fn check(
    auditor: &Auditor,
    from: Sequence,
    through: Sequence,
    before: Option<Hash32>,
    findings: &mut Findings,
) -> Result<(u64, Option<(Sequence, Hash32)>), StoreError> {
    let rows = auditor.rows(from, through).await?;
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    // To read a row is to decompress and hash it.
    let checked = tokio::task::spawn_blocking(move || breaks(&rows, from, through, before)).await;
    let (found, end) =
        checked.map_err(|_| StoreError::Corrupt("a row cannot be read".to_owned()))?;
    findings
        .replace(|place| matches!(place, Place::Row(row) if (from..=through).contains(row)), found);
    Ok((count, end))
}

type Broken = Vec<(Place, String)>;

fn breaks(
    rows: &[journal::Row],
    from: Sequence,
    through: Sequence,
    before: Option<Hash32>,
) -> (Broken, Option<(Sequence, Hash32)>) {
    let mut found: Broken = Vec::new();
    let first = before.or((from == Sequence::new(1)).then(Hash32::default));
    let (mut expected, mut previous) = (from, first);
    for row in rows {
        if row.sequence != expected {
            let text =
                format!("journal row {expected} is missing: row {} comes next", row.sequence);
            found.push((Place::Row(expected), text));
            previous = None;
        }
        if let Err(error) = journal::read(row) {
            found.push((Place::Row(row.sequence), error.to_string()));
        } else if previous.is_some_and(|hash| hash != row.previous_hash) {
            let text = format!(
                "journal row {} names {} as the hash before it, which is another",
                row.sequence, row.previous_hash
            );
            found.push((Place::Row(row.sequence), text));
        }
        (expected, previous) = (row.sequence.next(), Some(row.hash));
    }
    if expected <= through {
        found.push((Place::Row(expected), format!("journal row {expected} is missing")));
    }
    (found, rows.last().map(|row| (row.sequence, row.hash)))
}

#[cfg(test)]
mod tests {
    use engine::Action;
    use journal::{Batch, Entry, RULES, seal};
    use units::Time;

    use super::*;

    fn rows(count: u64) -> Vec<journal::Row> {
        let mut previous = Hash32::default();
        let row = |number: u64| {
            let command = engine::internal_command(Action::Tick);
            let batch = Batch {
                sequence: Sequence::new(number),
                time: Time::from_micros(number),
                incarnation: 1,
                epoch: 1,
                rules: RULES,
                entries: vec![Entry { command, event: engine::Event::Done }],
            };
            let row = seal(&batch, previous);
            previous = row.hash;
            row
        };
        (1..=count).map(row).collect()
    }

    fn broken(rows: &[journal::Row]) -> Vec<u64> {
        let (found, _) = breaks(rows, Sequence::new(1), Sequence::new(6), None);
        let row = |(place, _): &(Place, String)| match place {
            Place::Row(row) => row.get(),
            other => panic!("{other:?}"),
        };
        found.iter().map(row).collect()
    }

    #[test]
    fn a_whole_chain_has_no_breaks_and_each_tampering_has_its_row() {
        let whole = rows(6);
        assert_eq!(broken(&whole), [0; 0]);

        let mut changed = whole.clone();
        changed[2].payload[5] ^= 1;
        assert_eq!(broken(&changed), [3]);

        let mut missing = whole.clone();
        missing.remove(3);
        assert_eq!(broken(&missing), [4]);
        assert_eq!(broken(&whole[..5]), [6], "the end is missing");

        let mut sealed = whole.clone();
        let batch = journal::read(&whole[3]).expect("it is whole");
        sealed[3] = seal(&Batch { epoch: 2, ..batch }, whole[3].previous_hash);
        assert_eq!(broken(&sealed), [5], "the one behind it names another hash");

        let other = seal(&journal::read(&whole[0]).expect("it is whole"), Hash32([7; 32]));
        assert_eq!(broken(&[&[other][..], &whole[1..]].concat()), [1, 2]);
    }
}
