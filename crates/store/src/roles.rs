//! Roles of the exchange's own people, and locking users out.
//!
//! Invariant: every change here is written together with its row in the audit log, in one transaction.

use std::str::FromStr;

use tokio_postgres::Transaction;
use units::AccountId;
use uuid::Uuid;

use crate::audit::{self, AuditEntry};
use crate::credentials::end_ways_in;
use crate::{Db, StoreError};

/// What a user may do beyond trading. Each may do what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    #[default]
    User,
    /// Sees users, withdrawals and the audit log.
    Support,
    /// Halts and resumes markets, decides withdrawals, locks users out.
    Operator,
    /// Gives roles.
    Admin,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: [Self; 4] = [Self::User, Self::Support, Self::Operator, Self::Admin];

    /// Returns the name in the database and the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of user, support, operator, admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

fn role(text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("there is no role {text}")))
}

/// Returns a user's role; that of a user who is locked out or not there is [`Role::User`].
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn role_of(db: &Db, user: Uuid) -> Result<Role, StoreError> {
    let client = db.get().await?;
    let text =
        client.prepare_cached("SELECT role FROM users WHERE id = $1 AND locked_at IS NULL").await?;
    let row = client.query_opt(&text, &[&user]).await?;
    row.map_or(Ok(Role::User), |row| role(row.get(0)))
}

/// Tells whether a user has two-factor authentication on.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn has_two_factor(db: &Db, user: Uuid) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached("SELECT confirmed_at IS NOT NULL FROM two_factor WHERE user_id = $1")
        .await?;
    Ok(client.query_opt(&text, &[&user]).await?.is_some_and(|row| row.get(0)))
}

/// A user with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staff {
    /// The user.
    pub user: Uuid,
    /// The e-mail address.
    pub email: String,
    /// The role.
    pub role: Role,
    /// Whether the user is locked out.
    pub locked: bool,
}

/// Returns everybody with a role above [`Role::User`].
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn staff(db: &Db) -> Result<Vec<Staff>, StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT id, email, role, locked_at IS NOT NULL FROM users WHERE role <> 'user' ORDER BY email LIMIT 1000",
            &[],
        )
        .await?;
    let staff = rows.iter().map(|row| {
        let role = role(row.get(2))?;
        Ok(Staff { user: row.get(0), email: row.get(1), role, locked: row.get(3) })
    });
    staff.collect()
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is done.
    Done,
    /// It was so before.
    Already,
    /// There is no such user.
    NoSuchUser,
    /// Nobody would be left to give roles.
    LastAdmin,
    /// Who asks may not do this to a user of that role.
    Above,
}

/// Gives a user a role. `entry` is completed with what was before and after.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn grant(
    db: &Db,
    user: Uuid,
    to: Role,
    mut entry: AuditEntry,
) -> Result<Change, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // All admins are locked, in one order: two of them who demote each other at once leave one.
    let admins = transaction
        .query("SELECT id FROM users WHERE role = 'admin' AND locked_at IS NULL ORDER BY id FOR NO KEY UPDATE", &[])
        .await?;
    let row = transaction
        .query_opt("SELECT role FROM users WHERE id = $1 FOR NO KEY UPDATE", &[&user])
        .await?;
    let Some(row) = row else { return Ok(Change::NoSuchUser) };
    let before = role(row.get(0))?;
    if before == to {
        return Ok(Change::Already);
    }
    let is_last = admins.len() == 1 && admins[0].get::<_, Uuid>(0) == user;
    if before == Role::Admin && is_last {
        return Ok(Change::LastAdmin);
    }
    transaction.execute("UPDATE users SET role = $2 WHERE id = $1", &[&user, &to.name()]).await?;
    describe(&mut entry, user, before.name(), to.name());
    audit::append_in(&*transaction, &[entry]).await?;
    transaction.commit().await?;
    Ok(Change::Done)
}

/// Locks a user out: all sessions and keys end, on every server, and nobody can log in. Only who stands above the user
/// may: `by` is the role of who asks. The core is to be told: see [`crate::flags`].
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn lock(
    db: &Db,
    user: Uuid,
    by: Role,
    mut entry: AuditEntry,
) -> Result<Change, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let row = match find(&transaction, user, by).await? {
        Ok(locked) => locked,
        Err(change) => return Ok(change),
    };
    if row {
        return Ok(Change::Already);
    }
    transaction
        .execute(
            // What is due later already must be looked at later, too.
            "UPDATE users SET locked_at = clock_timestamp(), \
                    flags_due_at = greatest(flags_due_at, clock_timestamp()) WHERE id = $1",
            &[&user],
        )
        .await?;
    end_ways_in(&transaction, user, None, "locked").await?;
    describe(&mut entry, user, "unlocked", "locked");
    audit::append_in(&*transaction, &[entry]).await?;
    transaction.commit().await?;
    Ok(Change::Done)
}

/// Lets a user in again. Sessions and keys that have ended stay so.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn unlock(
    db: &Db,
    user: Uuid,
    by: Role,
    mut entry: AuditEntry,
) -> Result<Change, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    match find(&transaction, user, by).await? {
        Err(change) => return Ok(change),
        Ok(false) => return Ok(Change::Already),
        Ok(true) => {}
    }
    transaction
        .execute(
            "UPDATE users SET locked_at = NULL, flags_due_at = greatest(flags_due_at, clock_timestamp()) \
              WHERE id = $1",
            &[&user],
        )
        .await?;
    describe(&mut entry, user, "locked", "unlocked");
    audit::append_in(&*transaction, &[entry]).await?;
    transaction.commit().await?;
    Ok(Change::Done)
}

/// Finds a user to lock or unlock, and locks the row; returns whether the user is locked out.
async fn find(
    transaction: &Transaction<'_>,
    user: Uuid,
    by: Role,
) -> Result<Result<bool, Change>, StoreError> {
    let row = transaction
        .query_opt(
            "SELECT role, locked_at IS NOT NULL FROM users \
              WHERE id = $1 AND closed_at IS NULL FOR NO KEY UPDATE",
            &[&user],
        )
        .await?;
    let Some(row) = row else { return Ok(Err(Change::NoSuchUser)) };
    // Admins are above each other: else a stolen one could not be locked out.
    let above = by > role(row.get(0))? || by == Role::Admin;
    Ok(if above { Ok(row.get(1)) } else { Err(Change::Above) })
}

fn describe(entry: &mut AuditEntry, user: Uuid, before: &str, after: &str) {
    if let Some(detail) = entry.detail.as_object_mut() {
        detail.insert("target".to_owned(), user.to_string().into());
        detail.insert("before".to_owned(), before.into());
        detail.insert("after".to_owned(), after.into());
    }
}

/// Returns the account of a user.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn account_of(db: &Db, user: Uuid) -> Result<Option<AccountId>, StoreError> {
    let client = db.get().await?;
    let row = client.query_opt("SELECT account_id FROM users WHERE id = $1", &[&user]).await?;
    row.map(|row| crate::numbers::to_u64(row.get(0)).map(AccountId::new)).transpose()
}
