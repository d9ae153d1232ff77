//! The part with accounts and their money.

use engine::Reject;
use tokio_postgres::Statement;

use super::codes;
use super::copy::Copy;
use super::rows::{Deposit, Rare, Request, Rows, Transfer, refusal};
use super::session::Write;
use super::sql;
use super::tables::{checked, column, place, reference, uuid};
use crate::numbers::to_i64;
use crate::{Connection, Numeric, StoreError, Timestamp};

/// The statements of this part.
#[derive(Debug)]
pub(super) struct Statements {
    postings: Statement,
    balances_changed: Statement,
    balances: Statement,
    accounts: Statement,
    flags: Statement,
    deposits: Statement,
    refused_deposits: Statement,
    transfers: Statement,
    refused_transfers: Statement,
    requests: Statement,
    refused_requests: Statement,
    withdrawal: Statement,
}

impl Statements {
    pub(super) async fn prepare(on: &Connection) -> Result<Self, StoreError> {
        let with = |text: &str, ending: &str| format!("{text}{ending}");
        Ok(Self {
            postings: on.prepare(sql::POSTINGS).await?,
            balances_changed: on.prepare(sql::BALANCES_CHANGED).await?,
            balances: on.prepare(sql::BALANCES).await?,
            accounts: on.prepare(sql::ACCOUNTS).await?,
            flags: on.prepare(sql::FLAGS).await?,
            deposits: on.prepare(&with(sql::DEPOSITS, sql::DEPOSITS_LAST)).await?,
            refused_deposits: on.prepare(&with(sql::DEPOSITS, sql::FIRST)).await?,
            transfers: on.prepare(&with(sql::TRANSFERS, sql::TRANSFERS_LAST)).await?,
            refused_transfers: on.prepare(&with(sql::TRANSFERS, sql::FIRST)).await?,
            requests: on.prepare(&with(sql::REQUESTS, sql::REQUESTS_LAST)).await?,
            refused_requests: on.prepare(&with(sql::REQUESTS, sql::FIRST)).await?,
            withdrawal: on.prepare(sql::WITHDRAWAL).await?,
        })
    }
}

/// Writes what the rows change in this part.
pub(super) async fn write(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    accounts(write, statements, rows).await?;
    for rare in &rows.rare {
        self::rare(write, statements, rare).await?;
    }
    postings(write, statements, rows).await?;
    balances(write, statements, rows).await?;
    let credited: Vec<&Deposit> = rows.deposits.values().collect();
    deposits(write, &credited, &statements.deposits).await?;
    let refused: Vec<&Deposit> = rows.refused_deposits.iter().collect();
    deposits(write, &refused, &statements.refused_deposits).await?;
    let completed: Vec<&Transfer> = rows.transfers.values().collect();
    transfers(write, &completed, &statements.transfers).await?;
    let refused: Vec<&Transfer> = rows.refused_transfers.iter().collect();
    transfers(write, &refused, &statements.refused_transfers).await
}

async fn accounts(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = rows.accounts.iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ids = checked(&rows, |(id, _)| id.get())?;
    let times = column(&rows, |(_, at)| Timestamp(at.time));
    let sequences = checked(&rows, |(_, at)| at.sequence.get())?;
    write.execute(&statements.accounts, &[&ids, &times, &sequences]).await?;
    Ok(())
}

async fn rare(
    write: &Write<'_>,
    statements: &Statements,
    rare: &Rare<'_>,
) -> Result<(), StoreError> {
    match *rare {
        Rare::Flags(account, f) => {
            let id = to_i64(account.get())?;
            let all: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&id, &f.locked, &f.withdrawals_frozen, &f.market_maker, &f.closed];
            write.execute(&statements.flags, &all).await?;
        }
        Rare::Request(request) => self::request(write, statements, &request).await?,
        Rare::Withdrawal(withdrawal, at) => {
            let (id, status) = (uuid(withdrawal.id), withdrawal.state.code());
            let (sequence, time) = (to_i64(at.sequence.get())?, Timestamp(at.time));
            let account_sequence = to_i64(withdrawal.account_sequence)?;
            write
                .execute(
                    &statements.withdrawal,
                    &[&id, &status, &sequence, &time, &account_sequence],
                )
                .await?;
        }
        // Of another part.
        Rare::Asset(..) | Rare::Market(..) | Rare::MarketState(..) => {}
    }
    Ok(())
}

async fn request(
    write: &Write<'_>,
    statements: &Statements,
    request: &Request,
) -> Result<(), StoreError> {
    let (statement, status, reason) = match request.rejected {
        None => (&statements.requests, "requested", None),
        Some(reject) => {
            let (status, reason) = refusal(reject);
            (&statements.refused_requests, status, Some(reason))
        }
    };
    write
        .execute(
            statement,
            &[
                &uuid(request.id),
                &to_i64(request.account.get())?,
                &i32::from(request.asset.get()),
                &Numeric::from(request.amount),
                &reference(request.destination),
                &status,
                &reason,
                &to_i64(request.at.sequence.get())?,
                &Timestamp(request.at.time),
            ],
        )
        .await?;
    Ok(())
}

async fn postings(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let mut copy = Copy::new();
    for (sequence, at, posting) in &rows.postings {
        copy.row(11);
        copy.bigint(to_i64(sequence.get())?);
        copy.int(place(*at)?);
        copy.int(place(posting.at)?);
        copy.text(codes::transfer_kind(posting.kind));
        copy.uuid(posting.reference);
        match posting.trade {
            Some((market, trade)) => {
                copy.int(i32::from(market.get()));
                copy.bigint(to_i64(trade.get())?);
            }
            None => {
                copy.null();
                copy.null();
            }
        }
        copy.time(posting.time);
        copy.bigint(to_i64(posting.account.get())?);
        copy.int(i32::from(posting.asset.get()));
        copy.numeric(posting.amount);
    }
    copy.send(&write.transaction, &statements.postings).await
}

async fn balances(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = rows.balances.values().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let accounts = checked(&rows, |(balance, _)| balance.account.get())?;
    let assets = column(&rows, |(balance, _)| i32::from(balance.asset.get()));
    let available = column(&rows, |(row, _)| Numeric::from(row.balance.available));
    let held = column(&rows, |(row, _)| Numeric::from(row.balance.held));
    let account_sequences = checked(&rows, |(balance, _)| balance.account_sequence)?;
    let sequences = checked(&rows, |(_, at)| at.sequence.get())?;
    let times = column(&rows, |(_, at)| Timestamp(at.time));
    let all: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&accounts, &assets, &available, &held, &account_sequences, &sequences, &times];
    let changed = write.execute(&statements.balances_changed, &all).await?;
    if usize::try_from(changed).unwrap_or(usize::MAX) < rows.len() {
        write.execute(&statements.balances, &all).await?;
    }
    Ok(())
}

/// The status of what is done at once or refused, and why it was refused.
fn outcome(done: &'static str, rejected: Option<Reject>) -> (&'static str, Option<&'static str>) {
    rejected.map_or((done, None), |reject| {
        let (status, reason) = refusal(reject);
        (status, Some(reason))
    })
}

async fn deposits(
    write: &Write<'_>,
    rows: &[&Deposit],
    statement: &tokio_postgres::Statement,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let outcome = |row: &&Deposit| outcome("credited", row.rejected);
    write
        .execute(
            statement,
            &[
                &column(rows, |row| uuid(row.id)),
                &checked(rows, |row| row.account.get())?,
                &column(rows, |row| i32::from(row.asset.get())),
                &column(rows, |row| Numeric::from(row.amount)),
                &column(rows, |row| reference(row.reference)),
                &column(rows, |row| row.sandbox),
                &column(rows, |row| outcome(row).0),
                &column(rows, |row| outcome(row).1),
                &checked(rows, |row| row.at.sequence.get())?,
                &column(rows, |row| Timestamp(row.at.time)),
            ],
        )
        .await?;
    Ok(())
}

async fn transfers(
    write: &Write<'_>,
    rows: &[&Transfer],
    statement: &tokio_postgres::Statement,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let outcome = |row: &&Transfer| outcome("completed", row.rejected);
    write
        .execute(
            statement,
            &[
                &column(rows, |row| uuid(row.id)),
                &checked(rows, |row| row.from.get())?,
                &checked(rows, |row| row.to.get())?,
                &column(rows, |row| i32::from(row.asset.get())),
                &column(rows, |row| Numeric::from(row.amount)),
                &column(rows, |row| outcome(row).0),
                &column(rows, |row| outcome(row).1),
                &checked(rows, |row| row.at.sequence.get())?,
                &column(rows, |row| Timestamp(row.at.time)),
            ],
        )
        .await?;
    Ok(())
}
