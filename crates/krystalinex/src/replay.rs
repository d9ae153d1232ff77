//! `krystalinex replay`: feeds recorded orders to the exchange and reports what they come to.
//!
//! Invariant: a file with a broken line leaves nothing behind: no output file appears, and the exit code is 2. A
//! recording that the exchange does not agree with ends with exit code 1.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};

mod coinbase;
mod decimal;
mod grid;
mod input;
mod order_flow;
mod output;
mod published;
mod run_coinbase;
mod run_flow;
mod server;
#[cfg(test)]
mod tests;
mod through_server;
mod venue;

use decimal::Decimal;
use grid::{Grid, Survey};
use input::{Format, Input};
use output::{BookText, FillsFile};
use venue::Venue;

/// Differences that are printed one by one; the rest is counted.
const DIFFERENCES_SHOWN_MAX: usize = 20;

/// Replays a file of recorded orders in a market of its own and reports fills, book and speed.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The file; `-` for standard input.
    file: PathBuf,
    /// The file's format; guessed from its first line where it is not given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Writes the fills as CSV: seq,maker_order_id,price,quantity.
    #[arg(long, value_name = "OUT.csv")]
    fills: Option<PathBuf>,
    /// Writes the book at the end as JSON: `bids` and `asks`, best first, each level a pair of price and quantity.
    #[arg(long, value_name = "OUT.json")]
    book: Option<PathBuf>,
    /// Levels of each side in the book file; all where it is not given.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// The market's tick; derived from the file's prices where it is not given.
    #[arg(long, value_parser = step)]
    tick: Option<Decimal>,
    /// The market's lot; derived from the file's quantities where it is not given.
    #[arg(long, value_parser = step)]
    lot: Option<Decimal>,
    /// The published book to compare with; NAME.out beside NAME.in where it is not given.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// What the orders go through.
    #[arg(long, value_enum, default_value = "engine")]
    through: Through,
    /// A running exchange for `--through server`; a throwaway one where it is not given.
    #[arg(long)]
    url: Option<String>,
    /// With --url: the market; its book must be empty.
    #[arg(long, value_name = "SYMBOL", requires = "url")]
    market: Option<String>,
    /// With --url: the user that buys.
    #[arg(long, value_name = "EMAIL:PASSWORD", requires = "url")]
    buyer: Option<String>,
    /// With --url: the user that sells.
    #[arg(long, value_name = "EMAIL:PASSWORD", requires = "url")]
    seller: Option<String>,
}

/// What the orders go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The core alone, in memory.
    Engine,
    /// The whole exchange: HTTP, queue, sequencer, PostgreSQL.
    Server,
}

fn step(text: &str) -> Result<Decimal, String> {
    let written =
        Decimal::parse(text.as_bytes()).map_err(|reason| format!("the number {reason}"))?;
    if written.value.is_zero() { Err("the number is zero".to_owned()) } else { Ok(written.value) }
}

/// Repeats elsewhere what the core was asked.
trait Mirror {
    /// Sends what `venue` was asked last; `order_id` is the file's id of the order that it is about.
    fn send(&mut self, venue: &Venue, order_id: &str) -> anyhow::Result<()>;
}

/// Repeats nothing.
struct NoMirror;

impl Mirror for NoMirror {
    fn send(&mut self, _venue: &Venue, _order_id: &str) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What a replay has counted.
#[derive(Debug, Default)]
struct Tally {
    /// Commands that were fed.
    commands: u64,
    /// Commands that found their order closed or unknown.
    no_ops: u64,
    /// Messages that were not for the book.
    skipped: u64,
    /// Messages of the recording that the core agrees with.
    compared: u64,
    /// Orders that rest at the end in both.
    resting: u64,
    /// Fills, orders and levels that the whole exchange has as the core does.
    exchange: u64,
    /// Differences, those shown first.
    differences: Vec<(u64, String)>,
    /// How many differences there are.
    differences_all: u64,
}

impl Tally {
    fn differs(&mut self, line: u64, text: String) {
        self.differences_all += 1;
        if self.differences.len() < DIFFERENCES_SHOWN_MAX {
            self.differences.push((line, text));
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// None: what goes wrong is printed, and the exit code is 2.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let replayed = tokio::task::spawn_blocking(move || replay(&args)).await?;
    Ok(match replayed {
        Ok(code) => code,
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::from(2)
        }
    })
}

fn replay(args: &Args) -> anyhow::Result<ExitCode> {
    let input = Input::open(&args.file)?;
    let format = match args.format {
        Some(format) => format,
        None => input.guess()?,
    };
    let started = Instant::now();
    let survey = match format {
        Format::CoinbaseFull => run_coinbase::survey(&input)?,
        Format::OrderFlow => run_flow::survey(&input)?,
    };
    let grid = Grid::new(&survey, args.tick, args.lot)?;
    let checked = started.elapsed();
    let mut venue = Venue::new(&grid)?;
    let mut fills = FillsFile::new(args.fills.as_deref())?;
    let mut server = match args.through {
        Through::Engine => None,
        Through::Server => Some(through_server::connect(args, &grid)?),
    };
    let mirror: &mut dyn Mirror = match &mut server {
        Some((_, server)) => server,
        None => &mut NoMirror,
    };
    let fed = Instant::now();
    let mut tally = match format {
        Format::CoinbaseFull => run_coinbase::feed(&input, &grid, &mut venue, &mut fills, mirror)?,
        Format::OrderFlow => run_flow::feed(&input, &grid, &mut venue, &mut fills, mirror)?,
    };
    let fed = fed.elapsed();
    if let Some((place, server)) = server {
        through_server::finish(place, server, &venue, &mut tally)?;
    }
    venue.check().map_err(anyhow::Error::msg).context("an invariant of the core is broken")?;
    let compared = compare_published(args, &venue, &grid, &mut tally)?;
    if let Some(path) = &args.book {
        BookText::of(&venue, &grid, args.depth).write(path)?;
    }
    let written = fills.written();
    fills.publish()?;
    report(&Report {
        grid: &grid,
        survey: &survey,
        venue: &venue,
        tally: &tally,
        written,
        checked,
        fed,
        compared,
    });
    Ok(if tally.differences_all == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Compares the book with the published one, if there is one: the levels compared.
fn compare_published(
    args: &Args,
    venue: &Venue,
    grid: &Grid,
    tally: &mut Tally,
) -> anyhow::Result<Option<usize>> {
    let Some(path) = args.expect.clone().or_else(|| published::beside(&args.file)) else {
        return Ok(None);
    };
    let (differences, compared) = published::compare(&path, &BookText::of(venue, grid, None))?;
    for difference in differences {
        tally.differs(0, format!("{}: {difference}", path.display()));
    }
    Ok(Some(compared))
}

struct Report<'a> {
    grid: &'a Grid,
    survey: &'a Survey,
    venue: &'a Venue,
    tally: &'a Tally,
    written: u64,
    checked: Duration,
    fed: Duration,
    compared: Option<usize>,
}

fn report(report: &Report<'_>) {
    let Report { grid, survey, venue, tally, written, .. } = report;
    let (checked, fed) = (report.checked.as_secs_f64(), report.fed.as_secs_f64());
    println!("market        tick {}, lot {}", grid.tick.size(), grid.lot.size());
    println!("lines         {} checked in {checked:.3} s", survey.commands);
    println!(
        "commands      {} in {fed:.3} s: {:.0} commands/s, reading and writing included",
        tally.commands,
        per_second(tally.commands, report.fed)
    );
    println!("no-ops        {} (their order was closed or not known)", tally.no_ops);
    println!("fills         {written}");
    let (bids, asks) = (venue.depth(engine::Side::Buy), venue.depth(engine::Side::Sell));
    println!(
        "book          {} orders at {} bids and {} asks",
        venue.orders().count(),
        bids.count(),
        asks.count()
    );
    if tally.compared > 0 {
        println!(
            "compared      {} messages and {} resting orders agree",
            tally.compared, tally.resting
        );
    }
    if tally.exchange > 0 {
        println!("exchange      {} fills, open orders and sides of the book agree", tally.exchange);
    }
    if let Some(levels) = report.compared {
        println!("published     {levels} levels compared");
    }
    println!("differences   {}", tally.differences_all);
    for (line, text) in &tally.differences {
        match line {
            0 => println!("  {text}"),
            line => println!("  line {line}: {text}"),
        }
    }
    let shown = u64::try_from(tally.differences.len()).unwrap_or(u64::MAX);
    if tally.differences_all > shown {
        println!("  and {} more", tally.differences_all - shown);
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds } else { 0.0 }
}
