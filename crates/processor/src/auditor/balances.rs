//! The projected balances, a piece of the accounts at a time, against what the journal says at the very row at which they
//! stand.
//!
//! The followed state is at some row L when a look begins. The projections are read a moment later, at a row P that is not
//! before L, in one snapshot of the database. What each balance is at P is what the state said at L, and over it what
//! the rows from L to P changed, which the follower tells. So every balance is compared, under full load too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use follower::Live;
use journal::Applied;
use store::StoreError;
use store::auditor::{Auditor, Piece, ProjectedBalance};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use units::{AccountId, AssetId, Balance, Sequence};

use super::findings::{Findings, Place};

/// Balances that one look compares, about.
const PIECE: i64 = 20_000;
/// How long the projections are waited for.
const PROJECTED_WAIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Changes that are kept while the projections are waited for: some 60 MB.
const CHANGES_MAX: usize = 1_000_000;

type Expected = BTreeMap<(AccountId, AssetId), Balance>;

/// How far the looks at the accounts are.
#[derive(Debug, Default)]
pub(super) struct Balances {
    after: Option<AccountId>,
}

impl Balances {
    /// Compares the next piece. Returns how many balances that were; 0 where the projections are too far behind to tell.
    pub(super) async fn look(
        &mut self,
        auditor: &mut Auditor,
        live: &Arc<Live>,
        findings: &mut Findings,
    ) -> Result<u64, StoreError> {
        let after = self.after;
        let through = auditor.piece_end(after, PIECE).await?;
        let within = |account: AccountId| {
            after.is_none_or(|after| account > after)
                && through.is_none_or(|through| account <= through)
        };
        let rows = live.subscribe();
        let (begun, mut expected) = live.read(|state| {
            let accounts = state.accounts().filter(|account| within(account.id));
            let each = accounts.flat_map(|account| {
                state
                    .balances(account.id)
                    .map(move |(asset, balance)| ((account.id, asset), balance))
            });
            (state.sequence(), each.collect::<Expected>())
        });
        let mut changes = Changes { at: begun, of: Vec::new() };
        let Some(piece) = ({
            let reading = read(auditor, after, through, begun);
            changes.collect_while(reading, rows, within).await?
        }) else {
            return Ok(0);
        };
        for (_, key, balance) in changes.of.iter().filter(|(row, ..)| *row <= piece.sequence) {
            expected.insert(*key, *balance);
        }
        let count = u64::try_from(piece.balances.len()).unwrap_or(u64::MAX);
        let found = compare(expected, &piece.balances);
        findings.replace(
            |place| match place {
                Place::Negative(account, _) | Place::Difference(account, _) => within(*account),
                Place::Asset(_) | Place::Row(_) | Place::AuditLog => false,
            },
            found,
        );
        self.after = through;
        Ok(count)
    }
}

/// Reads the projected balances as soon as they are not before `begun`; `None` where that takes too long.
async fn read(
    auditor: &mut Auditor,
    after: Option<AccountId>,
    through: Option<AccountId>,
    begun: Sequence,
) -> Result<Option<Piece>, StoreError> {
    let end = Instant::now() + PROJECTED_WAIT;
    loop {
        let piece = auditor.piece(after, through).await?;
        if piece.sequence >= begun {
            return Ok(Some(piece));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What balances became in the rows that were followed meanwhile.
struct Changes {
    /// The last row that is in it.
    at: Sequence,
    of: Vec<(Sequence, (AccountId, AssetId), Balance)>,
}

impl Changes {
    /// Collects changes while the projections are read, and up to the row at which they stand. `None` where the projections
    /// or the rows are not to be had, or there are too many.
    async fn collect_while(
        &mut self,
        reading: impl Future<Output = Result<Option<Piece>, StoreError>>,
        mut rows: Receiver<Arc<Applied>>,
        within: impl Fn(AccountId) -> bool,
    ) -> Result<Option<Piece>, StoreError> {
        tokio::pin!(reading);
        let piece = loop {
            tokio::select! {
                piece = &mut reading => match piece? {
                    Some(piece) => break piece,
                    None => return Ok(None),
                },
                row = rows.recv() => if !self.take(row, &within) {
                    return Ok(None);
                },
            }
        };
        let end = Instant::now() + PROJECTED_WAIT;
        while self.at < piece.sequence {
            let row = tokio::time::timeout_at(end, rows.recv()).await;
            if !row.is_ok_and(|row| self.take(row, &within)) {
                return Ok(None);
            }
        }
        Ok(Some(piece))
    }

    /// Takes the next row. False where it is not to be had: too late, or of a state that was loaded anew.
    fn take(
        &mut self,
        row: Result<Arc<Applied>, RecvError>,
        within: impl Fn(AccountId) -> bool,
    ) -> bool {
        let Ok(applied) = row else { return false };
        let row = applied.batch.sequence;
        if row <= self.at {
            return true;
        }
        if row != self.at.next() || self.of.len() > CHANGES_MAX {
            return false;
        }
        self.at = row;
        let changed = applied.effects.balances.iter().filter(|effect| within(effect.account));
        self.of.extend(changed.map(|effect| (row, (effect.account, effect.asset), effect.balance)));
        true
    }
}

/// Compares what stands there with what should. No balance and one of nothing are the same.
fn compare(mut expected: Expected, found: &[ProjectedBalance]) -> Vec<(Place, String)> {
    let mut findings = Vec::new();
    for row in found {
        let (account, asset) = (row.account, row.asset);
        let negative = |number: store::Numeric| number.negative && number.magnitude > 0;
        if negative(row.available) || negative(row.held) {
            let text = format!("account {account}, asset {asset}: a balance below zero");
            findings.push((Place::Negative(account, asset), text));
        }
        let wanted = expected.remove(&(account, asset)).unwrap_or_default();
        let same = row.available.amount() == Some(wanted.available)
            && row.held.amount() == Some(wanted.held);
        if !same {
            // Amounts stand in the database for whoever may look there; the log goes further.
            let text = format!(
                "account {account}, asset {asset}: the projected balance is not what the journal says"
            );
            findings.push((Place::Difference(account, asset), text));
        }
    }
    for ((account, asset), balance) in expected {
        if balance != Balance::default() {
            let text =
                format!("account {account}, asset {asset}: the projected balance is missing");
            findings.push((Place::Difference(account, asset), text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use store::Numeric;
    use units::Amount;

    use super::*;

    fn row(account: u64, available: i128, held: i128) -> ProjectedBalance {
        ProjectedBalance {
            account: AccountId::new(account),
            asset: AssetId::new(0),
            available: Numeric::from(available),
            held: Numeric::from(held),
        }
    }

    fn expected(balances: &[(u64, u128, u128)]) -> Expected {
        let each = balances.iter().map(|(account, available, held)| {
            let balance = Balance { available: Amount::new(*available), held: Amount::new(*held) };
            ((AccountId::new(*account), AssetId::new(0)), balance)
        });
        each.collect()
    }

    #[test]
    fn a_balance_is_compared_to_the_unit_and_nothing_equals_none() {
        let right = compare(expected(&[(1, 5, 2), (2, 0, 0)]), &[row(1, 5, 2), row(3, 0, 0)]);
        assert_eq!(right, []);
        let places = |findings: Vec<(Place, String)>| -> Vec<Place> {
            findings.into_iter().map(|(place, _)| place).collect()
        };
        let difference = |account| Place::Difference(AccountId::new(account), AssetId::new(0));
        assert_eq!(places(compare(expected(&[(1, 5, 2)]), &[row(1, 6, 2)])), [difference(1)]);
        assert_eq!(places(compare(expected(&[(1, 5, 2)]), &[row(1, 2, 5)])), [difference(1)]);
        assert_eq!(places(compare(expected(&[(1, 5, 2)]), &[])), [difference(1)]);
        assert_eq!(places(compare(expected(&[]), &[row(4, 0, 1)])), [difference(4)]);
        let negative = Place::Negative(AccountId::new(1), AssetId::new(0));
        assert_eq!(
            places(compare(expected(&[(1, 5, 2)]), &[row(1, -1, 2)])),
            [negative, difference(1)]
        );
    }
}
