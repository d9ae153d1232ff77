//! The schema's migrations: forward only, each in its own transaction, one process at a time.
//!
//! Invariant: a migration that has run is never changed; what it said is remembered by its hash. A database that
//! is newer than the program is refused, never guessed at.

use sha2::{Digest, Sha256};

use crate::{Connection, Db, StoreError};

/// One step of the schema.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../migrations/", $name, ".sql")),
        }
    };
}

/// Every migration, by version.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_journal"),
    migration!(2, "0002_projections"),
    migration!(3, "0003_users"),
    migration!(4, "0004_suspects"),
    migration!(5, "0005_projection_parts"),
    migration!(6, "0006_accounts"),
    migration!(7, "0007_keys_roles"),
    migration!(8, "0008_traces"),
    migration!(9, "0009_account_flags"),
    migration!(10, "0010_audit_results"),
    migration!(11, "0011_anomalies"),
    migration!(12, "0012_statistics"),
    migration!(13, "0013_postings_by_account"),
    migration!(14, "0014_postings_by_row"),
];

/// The key of the advisory lock under which migrations run: "kxmigrat" in ASCII.
const LOCK_KEY: i64 = 0x6b78_6d69_6772_6174;

/// Where the schema stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version of the database; 0: empty.
    pub database: i32,
    /// The version that this program brings.
    pub program: i32,
    /// The names of the migrations that have not run yet.
    pub missing: Vec<&'static str>,
}

/// Brings the schema to this program's version. Safe with others doing the same at the same time, and with the
/// previous release running.
///
/// Returns how many migrations ran.
///
/// # Errors
///
/// [`StoreError::Schema`] when the database is newer than this program, or a migration that has run is not the one
/// that this program carries; [`StoreError::Query`] when one fails, which undoes that one wholly.
pub async fn run(db: &Db) -> Result<usize, StoreError> {
    // On a connection of its own: the lock belongs to the session and ends with it, come what may.
    let mut connection = db.dedicated().await?;
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await?;
    connection
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
                version int PRIMARY KEY,
                name text NOT NULL,
                sha256 bytea NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
            )",
        )
        .await?;
    let done = done(&connection).await?;
    check(&done)?;
    let mut ran = 0;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > last(&done)) {
        apply(&mut connection, migration).await?;
        tracing::info!(name = migration.name, "migrated the schema");
        ran += 1;
    }
    connection.execute("SELECT pg_advisory_unlock($1)", &[&LOCK_KEY]).await?;
    Ok(ran)
}

/// Tells where the schema stands; changes nothing.
///
/// # Errors
///
/// Those of [`run`].
pub async fn status(db: &Db) -> Result<Status, StoreError> {
    let connection = db.dedicated().await?;
    let exists: bool = connection
        .query_one("SELECT to_regclass('schema_migrations') IS NOT NULL", &[])
        .await?
        .get(0);
    let done = if exists { done(&connection).await? } else { Vec::new() };
    check(&done)?;
    let database = last(&done);
    let waiting = MIGRATIONS.iter().filter(|migration| migration.version > database);
    Ok(Status { database, program: newest(), missing: waiting.map(|each| each.name).collect() })
}

fn newest() -> i32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

fn last(done: &[(i32, Vec<u8>)]) -> i32 {
    done.last().map_or(0, |(version, _)| *version)
}

async fn done(connection: &Connection) -> Result<Vec<(i32, Vec<u8>)>, StoreError> {
    let rows = connection
        .query("SELECT version, sha256 FROM schema_migrations ORDER BY version", &[])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Refuses a history that is not a beginning of ours.
fn check(done: &[(i32, Vec<u8>)]) -> Result<(), StoreError> {
    let (database, program) = (last(done), newest());
    if database > program {
        return Err(StoreError::Schema(format!(
            "the database's schema is at version {database}, newer than this program, which knows {program}: \
             start the newer release"
        )));
    }
    for (at, (version, sha256)) in done.iter().enumerate() {
        let known = MIGRATIONS.get(at).filter(|migration| migration.version == *version);
        if known.is_none_or(|migration| digest(migration) != *sha256) {
            return Err(StoreError::Schema(format!(
                "migration {version} of the database is not the one that this program carries"
            )));
        }
    }
    Ok(())
}

fn digest(migration: &Migration) -> Vec<u8> {
    Sha256::digest(migration.sql.as_bytes()).to_vec()
}

async fn apply(connection: &mut Connection, migration: &Migration) -> Result<(), StoreError> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(migration.sql).await?;
    transaction
        .execute(
            "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
            &[&migration.version, &migration.name, &digest(migration)],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_gapless_and_stand_in_the_names() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version, "{}", migration.name);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
        }
    }

    #[test]
    fn a_newer_database_is_refused() {
        let mut history: Vec<_> =
            MIGRATIONS.iter().map(|migration| (migration.version, digest(migration))).collect();
        assert!(check(&history).is_ok());
        history.push((newest() + 1, vec![0; 32]));
        let refusal = check(&history).expect_err("a newer schema is refused").to_string();
        assert!(refusal.contains("newer than this program"), "{refusal}");
    }

    #[test]
    fn a_changed_migration_is_refused() {
        let history = vec![(1, vec![0; 32])];
        let refusal = check(&history).expect_err("a changed migration is refused").to_string();
        assert!(refusal.contains("migration 1"), "{refusal}");
    }
}
