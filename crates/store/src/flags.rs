//! What the core has to be told of users: who is locked out, who is gone. A row is due from the commit that changes it until
//! the account's flags say the same.
//!
//! Invariant: a command sets all flags of an account at once, so nobody sends one but under [`FlagsLock`], with the state
//! read at the journal's head.

use std::time::Duration;

use units::AccountId;
use uuid::Uuid;

use crate::numbers::{to_i64, to_u64};
use crate::{Connection, Db, StoreError, Timestamp};

/// The advisory locks of flags: "kxflags" in ASCII, above the account's number.
const LOCKS: i64 = 0x6b78_666c_6167_7300;
/// How long a lock is waited for.
const WAIT_MAX: &str = "SET lock_timeout = '5s'";
/// Rows of one look.
const ROWS_MAX: i64 = 100;

/// The right to change an account's flags. Dropped, it is free for others: it belongs to a connection of its own.
#[derive(Debug)]
pub struct FlagsLock {
    connection: Connection,
}

/// What an account's flags should say.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The user.
    pub user: Uuid,
    /// The account.
    pub account: AccountId,
    /// Whether the user is locked out.
    pub locked: bool,
    /// Whether the user is gone for ever.
    pub closed: bool,
    /// Since when it is due; `None` where it is not.
    pub due: Option<Timestamp>,
}

/// Waits for the right to change an account's flags.
///
/// # Errors
///
/// [`StoreError`] when the database does, or somebody has it for too long.
pub async fn lock(db: &Db, account: AccountId) -> Result<FlagsLock, StoreError> {
    let connection = db.dedicated().await?;
    connection.batch_execute(WAIT_MAX).await?;
    // Two accounts that share a lock wait for each other and harm nobody.
    let key = LOCKS ^ to_i64(account.get() % (1 << 62))?;
    connection.execute("SELECT pg_advisory_lock($1)", &[&key]).await?;
    Ok(FlagsLock { connection })
}

macro_rules! of_user {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, locked_at IS NOT NULL, closed_at IS NOT NULL, flags_due_at FROM users ",
            $rest
        )
    };
}

fn wanted(row: &tokio_postgres::Row) -> Result<Wanted, StoreError> {
    Ok(Wanted {
        user: row.get(0),
        account: AccountId::new(to_u64(row.get(1))?),
        locked: row.get(2),
        closed: row.get(3),
        due: row.get(4),
    })
}

impl FlagsLock {
    /// Returns what the flags should say by now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does.
    pub async fn wanted(&self, user: Uuid) -> Result<Option<Wanted>, StoreError> {
        let row = self.connection.query_opt(of_user!("WHERE id = $1"), &[&user]).await?;
        row.as_ref().map(wanted).transpose()
    }

    /// Writes down that the core knows it. What has become due since, or is due only later, stays so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does.
    pub async fn told(&self, wanted: &Wanted) -> Result<(), StoreError> {
        let text = "UPDATE users SET flags_due_at = NULL \
                     WHERE id = $1 AND flags_due_at = $2 AND flags_due_at <= clock_timestamp()";
        self.connection.execute(text, &[&wanted.user, &wanted.due]).await?;
        Ok(())
    }

    /// Has the flags looked at after a while: a command that has not been decided yet may still be.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does.
    pub async fn look_again(&self, account: AccountId, after: Duration) -> Result<(), StoreError> {
        let text = "UPDATE users SET flags_due_at = clock_timestamp() + make_interval(secs => $2) \
                     WHERE account_id = $1";
        self.connection.execute(text, &[&to_i64(account.get())?, &after.as_secs_f64()]).await?;
        Ok(())
    }
}

/// Returns users whose account's flags are due, those that have waited longest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn due(db: &Db) -> Result<Vec<Wanted>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(of_user!(
            "WHERE flags_due_at <= clock_timestamp() ORDER BY flags_due_at, id LIMIT $1"
        ))
        .await?;
    client.query(&text, &[&ROWS_MAX]).await?.iter().map(wanted).collect()
}
