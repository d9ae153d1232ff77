//! An account's flags in the core. Whether its owner is locked out, or gone, is said by the user's row; the core has to be
//! told, so that commands on their way are refused, too.
//!
//! Invariant: a command sets all flags at once, so each change is made under a lock in the database that all servers share,
//! of flags that were read at the journal's head: nobody takes back what somebody else has just set. What was not told (the
//! process died, the outcome stayed unknown, the lock came from the command line) stays due and is told from here.

use std::time::Duration;

use engine::{AccountFlags, Action, Event, Reject};
use store::flags::{self, FlagsLock, Wanted};
use store::{StoreError, journal};
use units::AccountId;
use uuid::Uuid;

use crate::app::App;
use crate::command::{Answer, Ask, command_id, submit};
use crate::problem::{Code, Problem, chain};

/// How often is looked whether something is due.
const EVERY: Duration = Duration::from_secs(2);
/// How long the journal's head is waited for.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// After this, a command whose outcome was not known has been decided or has expired.
const UNKNOWN_MAX: Duration = Duration::from_secs(20);

/// The right to change an account's flags, and what they are.
struct Held {
    lock: FlagsLock,
    account: AccountId,
    /// `None` where the core knows no such account.
    flags: Option<AccountFlags>,
}

fn unavailable(error: &StoreError) -> Problem {
    Problem::unavailable("cannot change an account's flags", error)
}

impl Held {
    async fn take(app: &App, account: AccountId) -> Result<Self, Problem> {
        let lock = flags::lock(&app.db, account).await.map_err(|error| unavailable(&error))?;
        // Whoever had the lock before has seen its row in the journal; this server may not have followed that far.
        let head = journal::head(&app.db).await.map_err(|error| unavailable(&error))?;
        if let Some((head, _, _)) = head
            && !app.live.wait_for(head, HEAD_WAIT).await
        {
            return Err(Problem::new(Code::Behind));
        }
        let flags = app.live.read(|state| state.account(account).map(|account| account.flags));
        Ok(Self { lock, account, flags })
    }

    /// Sets the flags, if they are others.
    async fn set(&self, app: &App, wanted: AccountFlags, trace_id: u128) -> Result<(), Problem> {
        if self.flags.is_none_or(|flags| flags == wanted) {
            return Ok(());
        }
        let ask = Ask {
            id: command_id(Uuid::nil(), "account flags", None),
            keyed: false,
            body_hash: self.account.get(),
            trace_id,
            expires_at: None,
            action: Action::SetAccountFlags { account: self.account, flags: wanted },
        };
        let decided = match submit(app, ask).await? {
            Answer::Decided(decided) => decided,
            Answer::Pending(_) => {
                // It would undo what the next one sets, if it came after that: so that is looked at once more.
                let again = self.lock.look_again(self.account, UNKNOWN_MAX).await;
                again.map_err(|error| unavailable(&error))?;
                return Err(Problem::new(Code::OutcomeUnknown));
            }
        };
        match decided.event() {
            Event::Done => Ok(()),
            Event::Rejected(reject) => Err(Problem::refused(*reject)),
            _ => Err(Problem::new(Code::Defect)),
        }
    }
}

/// Closes an account in the core, where it was ever opened.
///
/// # Errors
///
/// `account_not_empty` where there is something in it; others where it is not known what became of it.
pub(crate) async fn close(app: &App, account: AccountId, trace_id: u128) -> Result<(), Problem> {
    let _place = place(app).await?;
    let held = Held::take(app, account).await?;
    let Some(flags) = held.flags.filter(|flags| !flags.closed) else { return Ok(()) };
    // Amounts of withdrawals are held, so the core would refuse too; this says it at once.
    let withdraws =
        |state: &engine::State| state.withdrawals().any(|withdrawal| withdrawal.account == account);
    if app.live.read(withdraws) {
        return Err(Problem::refused(Reject::AccountNotEmpty));
    }
    held.set(app, AccountFlags { closed: true, ..flags }, trace_id).await
}

/// Tells the core whether a user is locked out or gone, as the user's row says by now.
///
/// # Errors
///
/// A problem where that cannot be done now; it stays due.
pub(crate) async fn tell(
    app: &App,
    user: Uuid,
    account: AccountId,
    trace_id: u128,
) -> Result<(), Problem> {
    let _place = place(app).await?;
    let held = Held::take(app, account).await?;
    let wanted = held.lock.wanted(user).await.map_err(|error| unavailable(&error))?;
    let Some(wanted) = wanted else { return Ok(()) };
    if let Some(flags) = held.flags {
        held.set(app, fit(flags, &wanted), trace_id).await?;
    }
    held.lock.told(&wanted).await.map_err(|error| unavailable(&error))
}

/// Returns the flags as they should be. One who is gone counts as locked out in the row, and needs no lock in the core.
fn fit(flags: AccountFlags, wanted: &Wanted) -> AccountFlags {
    if wanted.closed {
        AccountFlags { closed: true, ..flags }
    } else {
        AccountFlags { locked: wanted.locked, ..flags }
    }
}

/// Nobody's request is behind it.
fn trace() -> u128 {
    rand::random::<u128>().max(1)
}

/// Each change has a connection of its own: few at once.
async fn place(app: &App) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
    match tokio::time::timeout(HEAD_WAIT, app.gates.flags.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Problem::new(Code::Unavailable)),
    }
}

/// Tells the core what is due, for as long as the application lives. Several servers may: telling twice is telling once.
pub(crate) fn start(app: &App) {
    let inner = app.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(app) = App::upgrade(&inner) else { break };
            // A server that does not know the journal leaves it to others, or to later.
            if !app.live.has_caught_up() || app.live.stopped().is_some() {
                continue;
            }
            let due = match flags::due(&app.db).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot look for flags that are due now");
                    continue;
                }
            };
            for each in due {
                if let Err(problem) = tell(&app, each.user, each.account, trace()).await {
                    let (user, code) = (each.user, problem.code().name());
                    tracing::warn!(%user, code, "the core cannot be told of a lock now");
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_leaves_the_other_flags_as_they_are() {
        let other = AccountFlags { withdrawals_frozen: true, ..AccountFlags::default() };
        let wanted = |locked, closed| Wanted {
            user: Uuid::nil(),
            account: AccountId::new(1),
            locked,
            closed,
            due: None,
        };
        let locked = AccountFlags { locked: true, ..other };
        assert_eq!(fit(other, &wanted(true, false)), locked);
        assert_eq!(fit(locked, &wanted(false, false)), other);
        let closed = AccountFlags { closed: true, ..other };
        assert_eq!(fit(other, &wanted(true, true)), closed);
        assert_eq!(fit(closed, &wanted(true, false)), AccountFlags { locked: true, ..closed });
    }
}
