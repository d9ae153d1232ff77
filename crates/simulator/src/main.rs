//! `simulator`: runs seeds, says which fail, and replays one with its trace.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::{Guard, Run};

/// Failures that are shown before it ends.
const FAILURES_MAX: usize = 5;

/// Runs the whole order's way in one thread, with faults that are drawn from a seed.
#[derive(Debug, Parser)]
#[command(name = "simulator", version)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_name = "S")]
    from: u64,
    /// Replays one seed and prints its trace.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Takes a guard away, to see that it is missed; may be given more than once.
    #[arg(long, value_name = "GUARD", value_parser = guard)]
    remove: Vec<Guard>,
}

fn guard(name: &str) -> Result<Guard, String> {
    let names = Guard::ALL.map(Guard::name).join(", ");
    Guard::parse(name).ok_or_else(|| format!("the guards are {names}"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let failed = match args.seed {
        Some(seed) => replay(seed, &args.remove),
        None => search(&args),
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Replays one seed; tells whether it fails.
fn replay(seed: u64, removed: &[Guard]) -> bool {
    let run = simulator::run(seed, removed, true);
    for line in &run.trace {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} commands, {} rows, epoch {}, digest {:016x}",
        run.commands, run.rows, run.epochs, run.digest
    );
    report(&run)
}

/// Prints what a run has found; tells whether it fails.
fn report(run: &Run) -> bool {
    if let Some(failure) = &run.failure {
        println!("seed {} FAILS\n  rule:  {}\n  found: {}", run.seed, failure.rule, failure.found);
    }
    run.failure.is_some()
}

/// Runs many seeds; tells whether one fails.
fn search(args: &Args) -> bool {
    let began = Instant::now();
    let bar = if std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left {msg}");
        ProgressBar::new(args.seeds).with_style(style.expect("the template is fixed"))
    } else {
        ProgressBar::hidden()
    };
    let (mut runs, mut commands, mut rows, mut epochs) = (0_u64, 0, 0, 0);
    let mut failures = Vec::new();
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let run = simulator::run(seed, &args.remove, false);
        runs += 1;
        commands += run.commands;
        rows += run.rows;
        epochs += run.epochs;
        bar.inc(1);
        if run.failure.is_some() {
            failures.push(run);
            bar.set_message(format!("({} failed)", failures.len()));
        }
        if failures.len() >= FAILURES_MAX {
            break;
        }
    }
    bar.finish_and_clear();
    for run in &failures {
        report(run);
        let removed: String =
            args.remove.iter().map(|guard| format!(" --remove {guard}")).collect();
        println!("  again: ./kx simulate --seed {}{removed}", run.seed);
    }
    let took = began.elapsed();
    let per_minute = u128::from(runs) * 60_000 / took.as_millis().max(1);
    println!(
        "{runs} seeds, {} failed; {commands} commands, {rows} rows, {epochs} epochs; {:.1} s, {per_minute} seeds a minute",
        failures.len(),
        took.as_secs_f64()
    );
    !failures.is_empty()
}
