//! Section `append`: the journal's append against a plain INSERT of the same bytes per transaction, in turns.

use std::time::{Duration, Instant};

use engine::Command;
use store::journal::Appender;
use store::{Db, DbConfig};

use super::flow::{Flow, Ids};
use super::machine;
use super::seed::{self, Scribe};
use super::sql::Plain;
use super::table::{Row, Table, Target};

const SECTION: &str = "append";
/// Rows between two changes of turn.
const TURN_ROWS: usize = 10;

/// Measures batches of `commands` commands in an empty database.
///
/// # Errors
///
/// The database fails.
pub(crate) async fn run(
    table: &mut Table,
    config: DbConfig,
    commands: usize,
    quick: bool,
) -> anyhow::Result<()> {
    let rows = if quick { 200 } else { 2_000 };
    let db = Db::connect(config).await?;
    store::migrate::run(&db).await?;
    let mut appender = Appender::claim(&db, "bench").await?;
    let mut plain = Plain::new(&db).await?;
    let flow = Flow::new(commands * rows, 64, Ids::New)?;
    let mut scribe = Scribe::new(1, appender.epoch());
    for batch in flow.opening.chunks(seed::ROW_COMMANDS) {
        appender.append(&scribe.row(seed::now(), batch.to_vec())?).await?;
    }
    let mut measured = flow.commands.chunks(commands).map(<[Command]>::to_vec);
    let (mut ours, mut theirs, mut ratios, mut bytes) =
        (Duration::ZERO, Duration::ZERO, Vec::new(), 0);
    loop {
        let turn = measured.by_ref().take(TURN_ROWS);
        let turn = turn.map(|batch| scribe.row(seed::now(), batch));
        let turn = turn.collect::<anyhow::Result<Vec<_>>>()?;
        if turn.is_empty() {
            break;
        }
        let started = Instant::now();
        for row in &turn {
            appender.append(row).await?;
        }
        let our = started.elapsed();
        let started = Instant::now();
        for row in &turn {
            plain.insert(&row.payload).await?;
        }
        let their = started.elapsed();
        bytes += turn.iter().map(|row| row.payload.len()).sum::<usize>();
        ratios.push(our.as_secs_f64() / their.as_secs_f64());
        (ours, theirs) = (ours + our, theirs + their);
    }
    let each = |time: Duration| {
        time.as_secs_f64() * 1e6 / machine::ratio(u64::try_from(rows).unwrap_or(1), 1)
    };
    let what = format!("row of {commands} commands, against a plain INSERT");
    let note = format!(
        "{} bytes; {:.0} µs against {:.0} µs; median of {} turns of {TURN_ROWS}",
        bytes / rows,
        each(ours),
        each(theirs),
        ratios.len()
    );
    let row = Row::new(SECTION, what, machine::median(&ratios), "×");
    table.push(row.reach(Target::AtMost(1.3)).note(note));
    Ok(())
}
