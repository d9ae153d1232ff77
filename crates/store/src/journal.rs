//! Step 4 of the order's way: append; and reading the journal back.
//!
//! Invariant: a row is appended by the holder of the epoch alone, right behind the row whose hash it covers, in one
//! statement. Whoever has been told `Ok` has a committed row; whoever has been told [`AppendError::Deposed`] has
//! nothing to hope for. There is no third answer.

mod settle;

use std::time::Duration;

use tokio_postgres::{Row as SqlRow, Statement};
use units::{Hash32, Sequence, Time};

use crate::error::is_transient;
use crate::numbers::{bits_to_i64, hash, i64_to_bits, to_i64, to_u64};
use crate::{Connection, Db, StoreError};

pub use settle::{Attempt, Found, Next, Settling};

/// How long one attempt may take before the connection counts as lost and the same bytes are sent again.
const ATTEMPT_MAX: Duration = Duration::from_secs(15);
/// The first pause between attempts; each further one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The append, in one statement: the epoch's row is shared until the commit, so that raising the epoch waits for an
/// append in flight and none can follow; and the row before must be the one whose hash is covered.
const APPEND: &str = "
    INSERT INTO journal
        (sequence, time, incarnation, epoch, format, rules, commands, payload, previous_hash, hash)
    SELECT $1::bigint, $2, $3, epoch, $5, $6, $7, $8, $9, $10
    FROM (SELECT epoch FROM epoch WHERE epoch = $4 FOR SHARE) mine
    WHERE $1 = 1 OR EXISTS (SELECT FROM journal WHERE sequence = $1 - 1 AND hash = $9)";

/// Both answers come from one snapshot: if the epoch is another one there, no append of ours can follow.
const SETTLE: &str = "
    SELECT epoch, (SELECT hash FROM journal WHERE sequence = $1) FROM epoch";

pub(crate) const COLUMNS: &str = "
    SELECT sequence, time, incarnation, epoch, format, rules, commands, payload, previous_hash, hash
    FROM journal";

/// Why a row was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Somebody else holds the epoch now: drop the state and stand by.
    #[error("epoch {ours} was deposed; the journal belongs to epoch {current} now")]
    Deposed {
        /// Ours.
        ours: u64,
        /// The one in force.
        current: u64,
    },
    /// The epoch is ours, and the row does not follow the journal's last one: somebody restored the database by hand,
    /// or the caller's state is not the journal's. Reload.
    #[error("row {0} does not follow the journal's last row")]
    DoesNotFollow(Sequence),
    /// The append before this one was given up while its outcome was unknown, and this is another row.
    #[error(
        "row {0} was given up with its outcome unknown; nothing else can be appended before it"
    )]
    InDoubt(Sequence),
    /// The database refuses the row itself; the row is not in the journal.
    #[error(transparent)]
    Refused(#[from] StoreError),
}

/// The one who may append: the holder of an epoch.
#[derive(Debug)]
pub struct Appender {
    db: Db,
    epoch: u64,
    session: Option<Session>,
    in_doubt: Option<(Sequence, Hash32)>,
    retries: u64,
}

/// A connection with its statement.
#[derive(Debug)]
struct Session {
    connection: Connection,
    append: Statement,
}

impl Appender {
    /// Raises the epoch, which deposes whoever held it: an append in flight is waited for, and none can follow.
    ///
    /// Read the journal again after this, before the first append.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim(db: &Db, owner: &str) -> Result<Self, StoreError> {
        let session = Session::open(db).await?;
        let raise = "
            UPDATE epoch SET epoch = epoch + 1, owner = $1, raised_at = clock_timestamp()
            RETURNING epoch";
        let epoch = session.connection.query_one(raise, &[&owner]).await?.get::<_, i64>(0);
        let epoch = to_u64(epoch)?;
        Ok(Self { db: db.clone(), epoch, session: Some(session), in_doubt: None, retries: 0 })
    }

    /// Returns the epoch, which every row appended must carry.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns how many attempts had to be repeated so far.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Appends a row; returns when that is definite, however long it takes. An attempt whose outcome is unknown is
    /// repeated with the same bytes: a conflict with an equal hash is then success.
    ///
    /// A caller that drops this future halfway may only append the same row again.
    ///
    /// # Errors
    ///
    /// [`AppendError`]. The row is not in the journal then, except after [`AppendError::InDoubt`], which says so.
    pub async fn append(&mut self, row: &::journal::Row) -> Result<(), AppendError> {
        let this = (row.sequence, row.hash);
        match self.in_doubt {
            Some(other) if other != this => return Err(AppendError::InDoubt(other.0)),
            _ => self.in_doubt = Some(this),
        }
        let outcome = self.settle(row).await;
        self.in_doubt = None;
        outcome
    }

    async fn settle(&mut self, row: &::journal::Row) -> Result<(), AppendError> {
        let mut settling = Settling::default();
        let mut pause = PAUSE_MIN;
        loop {
            let mut next = settling.attempted(self.attempt(row).await);
            if matches!(next, Next::LookUp) {
                next = settling.found(row, self.look_up(row).await);
            }
            let error = match next {
                Next::Done(definite) => return definite,
                Next::Again(error) => error,
                Next::LookUp => unreachable!("a look-up is followed by something else"),
            };
            self.retries += 1;
            tracing::warn!(sequence = row.sequence.get(), %error, "an append is repeated");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&mut self, row: &::journal::Row) -> Attempt {
        let parameters = match Parameters::of(row) {
            Ok(parameters) => parameters,
            Err(refusal) => return Attempt::Refused(refusal),
        };
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) if error.is_transient() => return Attempt::Unknown(error),
            // A password that was changed or a database that is being restored says nothing about the row.
            Err(error @ StoreError::Authentication { .. }) => return Attempt::Unknown(error),
            Err(error) => return Attempt::Refused(error),
        };
        let attempt = session.append(&parameters, row);
        let answer = tokio::time::timeout(ATTEMPT_MAX, attempt).await;
        match answer {
            Ok(Ok(1)) => Attempt::Appended,
            Ok(Ok(_)) => Attempt::NotInserted,
            Ok(Err(error)) if is_transient(&error) => {
                self.session = None;
                Attempt::Unknown(error.into())
            }
            Ok(Err(error)) => match StoreError::from(error) {
                StoreError::Unique { .. } => Attempt::NotInserted,
                refusal => Attempt::Refused(refusal),
            },
            Err(_) => {
                self.session = None;
                let address = self.db.config().address();
                Attempt::Unknown(StoreError::Unreachable { address, source: None })
            }
        }
    }

    /// Asks what stands at the place of a row that the guard did not let in, or whose sequence is taken.
    async fn look_up(&mut self, row: &::journal::Row) -> Result<Found, StoreError> {
        let sequence = to_i64(row.sequence.get())?;
        let session = self.session().await?;
        let asked = async { session.connection.query_one(SETTLE, &[&sequence]).await };
        let found = match tokio::time::timeout(ATTEMPT_MAX, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.session = None;
                return Err(error.into());
            }
            Err(_) => {
                self.session = None;
                let address = self.db.config().address();
                return Err(StoreError::Unreachable { address, source: None });
            }
        };
        let there: Option<&[u8]> = found.get(1);
        Ok(Found { epoch: to_u64(found.get(0))?, hash: there.map(hash).transpose()? })
    }

    async fn session(&mut self) -> Result<&Session, StoreError> {
        let lost = self.session.as_ref().is_none_or(|session| session.connection.is_closed());
        if lost {
            self.session = Some(Session::open(&self.db).await?);
        }
        Ok(self.session.as_ref().expect("the session was opened above"))
    }
}

impl Session {
    async fn open(db: &Db) -> Result<Self, StoreError> {
        let connection = db.dedicated().await?;
        let append = connection.prepare(APPEND).await?;
        Ok(Self { connection, append })
    }

    async fn append(
        &self,
        parameters: &Parameters,
        row: &::journal::Row,
    ) -> Result<u64, tokio_postgres::Error> {
        let p = parameters;
        self.connection
            .execute(
                &self.append,
                &[
                    &p.sequence,
                    &p.time,
                    &p.incarnation,
                    &p.epoch,
                    &p.format,
                    &p.rules,
                    &p.commands,
                    &row.payload,
                    &row.previous_hash.0.as_slice(),
                    &row.hash.0.as_slice(),
                ],
            )
            .await
    }
}

/// A row's header in PostgreSQL's signed integers.
struct Parameters {
    sequence: i64,
    time: i64,
    incarnation: i64,
    epoch: i64,
    format: i16,
    rules: i16,
    commands: i32,
}

impl Parameters {
    fn of(row: &::journal::Row) -> Result<Self, StoreError> {
        let small = |number: u16| {
            i16::try_from(number).map_err(|_| StoreError::Corrupt(format!("no version {number}")))
        };
        Ok(Self {
            sequence: to_i64(row.sequence.get())?,
            time: to_i64(row.time.micros())?,
            incarnation: bits_to_i64(row.incarnation),
            epoch: to_i64(row.epoch)?,
            format: small(row.format)?,
            rules: small(row.rules)?,
            commands: i32::try_from(row.commands)
                .map_err(|_| StoreError::Corrupt("too many commands in one row".to_owned()))?,
        })
    }
}

/// Returns the journal's last row: its sequence, its hash and its time; `None` for an empty journal.
///
/// # Errors
///
/// [`StoreError`].
pub async fn head(db: &Db) -> Result<Option<(Sequence, Hash32, Time)>, StoreError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached("SELECT sequence, hash, time FROM journal ORDER BY sequence DESC LIMIT 1")
        .await?;
    let found = client.query_opt(&statement, &[]).await?;
    let head = |row: SqlRow| {
        let sequence = Sequence::new(to_u64(row.get(0))?);
        Ok((sequence, hash(row.get(1))?, Time::from_micros(to_u64(row.get(2))?)))
    };
    found.map(head).transpose()
}

/// Returns the epoch in force: 0 before anybody has claimed the journal.
///
/// # Errors
///
/// [`StoreError`].
pub async fn epoch(db: &Db) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let statement = client.prepare_cached("SELECT epoch FROM epoch").await?;
    to_u64(client.query_one(&statement, &[]).await?.get(0))
}

/// Returns the rows that follow `sequence`, oldest first, at most `rows_max` of them.
///
/// # Errors
///
/// [`StoreError`]; [`StoreError::Corrupt`] where a row is missing.
pub async fn rows_after(
    db: &Db,
    sequence: Sequence,
    rows_max: usize,
) -> Result<Vec<::journal::Row>, StoreError> {
    let client = db.get().await?;
    let text = format!("{COLUMNS} WHERE sequence > $1 ORDER BY sequence LIMIT $2");
    let statement = client.prepare_cached(&text).await?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let found = client.query(&statement, &[&to_i64(sequence.get())?, &limit]).await?;
    let mut rows = Vec::with_capacity(found.len());
    let mut expected = sequence.next();
    for row in &found {
        let row = decode(row)?;
        if row.sequence != expected {
            return Err(StoreError::Corrupt(format!("journal row {expected} is missing")));
        }
        expected = expected.next();
        rows.push(row);
    }
    Ok(rows)
}

/// Returns one row.
///
/// # Errors
///
/// [`StoreError`].
pub async fn row(db: &Db, sequence: Sequence) -> Result<Option<::journal::Row>, StoreError> {
    let client = db.get().await?;
    let statement = client.prepare_cached(&format!("{COLUMNS} WHERE sequence = $1")).await?;
    let found = client.query_opt(&statement, &[&to_i64(sequence.get())?]).await?;
    found.as_ref().map(decode).transpose()
}

/// Returns the database's wall clock, which a sequencer compares with its own when it takes over.
///
/// # Errors
///
/// [`StoreError`].
pub async fn database_time(db: &Db) -> Result<Time, StoreError> {
    let client = db.get().await?;
    let micros = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let statement = client.prepare_cached(micros).await?;
    let micros: i64 = client.query_one(&statement, &[]).await?.get(0);
    Ok(Time::from_micros(to_u64(micros)?))
}

pub(crate) fn decode(row: &SqlRow) -> Result<::journal::Row, StoreError> {
    let version = |number: i16| {
        u16::try_from(number).map_err(|_| StoreError::Corrupt(format!("no version {number}")))
    };
    let commands: i32 = row.get(6);
    Ok(::journal::Row {
        sequence: Sequence::new(to_u64(row.get(0))?),
        time: Time::from_micros(to_u64(row.get(1))?),
        incarnation: i64_to_bits(row.get(2)),
        epoch: to_u64(row.get(3))?,
        format: version(row.get(4))?,
        rules: version(row.get(5))?,
        commands: u32::try_from(commands)
            .map_err(|_| StoreError::Corrupt(format!("a row with {commands} commands")))?,
        payload: row.get(7),
        previous_hash: hash(row.get(8))?,
        hash: hash(row.get(9))?,
    })
}
