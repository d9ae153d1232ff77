//! Writes what a run of batches changes in one part, table by table.

use units::{CommandId, ReferenceHash};
use uuid::Uuid;

use super::rows::Rows;
use super::session::Write;
use super::{Part, market_data, money, orders};
use crate::numbers::to_i64;
use crate::{Connection, StoreError};

/// The statements that write one part, prepared.
#[derive(Debug)]
pub(super) enum Statements {
    Orders(orders::Statements),
    Money(Box<money::Statements>),
    MarketData(market_data::Statements),
}

impl Statements {
    pub(super) async fn prepare(on: &Connection, part: Part) -> Result<Self, StoreError> {
        Ok(match part {
            Part::Orders => Self::Orders(orders::Statements::prepare(on).await?),
            Part::Money => Self::Money(Box::new(money::Statements::prepare(on).await?)),
            Part::MarketData => Self::MarketData(market_data::Statements::prepare(on).await?),
        })
    }
}

/// Writes everything.
pub(super) async fn write(
    write: &Write<'_>,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<(), StoreError> {
    match statements {
        Statements::Orders(statements) => orders::write(write, statements, rows).await,
        Statements::Money(statements) => money::write(write, statements, rows).await,
        Statements::MarketData(statements) => market_data::write(write, statements, rows).await,
    }
}

/// Makes one column of the rows.
pub(super) fn column<R, T>(rows: &[R], value: impl FnMut(&R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The same, where a value may be beyond what the column holds.
pub(super) fn checked<R>(
    rows: &[R],
    mut value: impl FnMut(&R) -> u64,
) -> Result<Vec<i64>, StoreError> {
    rows.iter().map(|row| to_i64(value(row))).collect()
}

pub(super) fn uuid(id: CommandId) -> Uuid {
    Uuid::from_u128(id.get())
}

pub(super) fn reference(hash: ReferenceHash) -> Uuid {
    Uuid::from_u128(hash.get())
}

/// A place within one journal row.
pub(super) fn place<N>(number: N) -> Result<i32, StoreError>
where
    i32: TryFrom<N>,
{
    i32::try_from(number).map_err(|_| StoreError::Corrupt("a row of too many effects".to_owned()))
}
