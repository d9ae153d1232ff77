//! `./kx drill`: injects faults into the whole exchange, as processes over RabbitMQ and PostgreSQL, and checks what its users
//! were promised.
//!
//! Invariant: whatever becomes of a drill, nothing that it started is left behind. A drill waits for states; no slow machine
//! makes it fail, and a broken promise does.

mod answering;
mod checker;
mod drill;
mod faults;
mod flow;
mod gather;
mod guard;
mod hole;
mod journal;
mod load;
mod management;
mod process;
mod proxy;
mod raw;
mod report;
mod sinks;
mod stand;
mod stream;
mod traces;
mod user;
mod watched;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use drill::{Drill, Run};
use report::{Ending, Line};
use stand::Stand;

const USAGE: &str =
    "Usage: ./kx drill [--list] [--long | --quick] [--keep] [--seed N] [--alert A]… [NAME…]

  NAME…     these drills; none: every drill once, bounded
  --long    as long as the promises say, which are then held to the second
  --alert A of the drills of alerts, only the faults that must be told of as A; may be given again
  --quick   without those that mostly wait: what `./kx test` runs
  --seed N  repeat a run's random moments
  --keep    keep the logs and answers of drills that pass, too
  --list    what there is";

struct Arguments {
    list: bool,
    long: bool,
    quick: bool,
    keep: bool,
    seed: u64,
    names: Vec<String>,
    alerts: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = now.as_secs() % 1_000_000;
    let (list, long, quick, keep) = (false, false, false, false);
    let (names, alerts) = (Vec::new(), Vec::new());
    let mut read = Arguments { list, long, quick, keep, seed, names, alerts };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--list" => read.list = true,
            "--long" => read.long = true,
            "--quick" => read.quick = true,
            "--keep" => read.keep = true,
            "--seed" => {
                let seed = given.next().and_then(|text| text.parse().ok());
                read.seed = seed.ok_or("--seed wants a whole number")?;
            }
            "--alert" => {
                let name = given.next().filter(|name| faults::is_alert(name));
                read.alerts
                    .push(name.ok_or("--alert wants the name of an alert that is provoked")?);
            }
            "--help" | "-h" => return Err(String::new()),
            flag if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
            name if faults::ALL.iter().any(|drill| drill.name == name) => {
                read.names.push(name.to_owned());
            }
            name => return Err(format!("there is no drill {name}; `./kx drill --list`")),
        }
    }
    Ok(read)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            if !problem.is_empty() {
                eprintln!("drill: {problem}\n");
            }
            eprintln!("{USAGE}");
            return ExitCode::from(if problem.is_empty() { 0 } else { 2 });
        }
    };
    if arguments.list {
        for Drill { name, what, long_only, .. } in faults::ALL {
            println!("{name:<28}{what}{}", if *long_only { " (only with --long)" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    let named = |drill: &&Drill| match arguments.names.is_empty() {
        true if arguments.quick => !drill.long_only && !faults::SLOW.contains(&drill.name),
        true => !drill.long_only || arguments.long,
        false => arguments.names.iter().any(|name| name == drill.name),
    };
    let chosen: Vec<&Drill> = faults::ALL.iter().filter(named).collect();
    let lines = run_all(&chosen, &arguments);
    let file = report::write(&lines, arguments.long);
    println!("\nthe report: {}", file.canonicalize().unwrap_or(file).display());
    let failed = |line: &&Line| matches!(line.ending, Ending::Failed(_));
    let failures: Vec<&Line> = lines.iter().filter(failed).collect();
    for line in &failures {
        let Ending::Failed(what) = &line.ending else { continue };
        println!("FAILED {} (--seed {}): {what}", line.name, line.seed);
    }
    // In the form of a test program's last line, which `./kx test` counts.
    println!(
        "test result: {}. {} passed; {} failed; {} ignored",
        if failures.is_empty() { "ok" } else { "FAILED" },
        lines.iter().filter(|line| line.ending == Ending::Passed).count(),
        failures.len(),
        lines.iter().filter(|line| matches!(line.ending, Ending::Skipped(_))).count()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what a failure is in one line; the summary repeats it where it ends a drill.
fn speak_plainly() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        println!("    {place}: {}", words(panic.payload()));
    }));
}

fn run_all(chosen: &[&Drill], arguments: &Arguments) -> Vec<Line> {
    speak_plainly();
    let began = Instant::now();
    let mut stand: Option<Stand> = None;
    let mut lines = Vec::new();
    println!("running {} drills, seed {}", chosen.len(), arguments.seed);
    for (place, drill) in chosen.iter().enumerate() {
        println!(
            "[{}/{}, {:.0} s] {}: {}",
            place + 1,
            chosen.len(),
            began.elapsed().as_secs_f64(),
            drill.name,
            drill.what
        );
        let line = run_one(drill, &mut stand, arguments);
        let recovery = report::spread(&line.recoveries);
        let recovery = recovery.map_or_else(String::new, |(min, median, max)| {
            format!("; orders flow again after {min:.1} / {median:.1} / {max:.1} s")
        });
        let ending = match &line.ending {
            Ending::Passed => "ok".to_owned(),
            Ending::Skipped(why) => format!("not run: {why}"),
            Ending::Failed(what) => format!("FAILED: {what}"),
        };
        println!(
            "    {ending} ({:.0} s): {} faults; {} orders acknowledged, {} pending, {} unanswered; {} lost, {} doubled{recovery}",
            line.took.as_secs_f64(),
            line.faults,
            line.acknowledged,
            line.pending,
            line.untold,
            line.lost,
            line.doubled
        );
        line.notes.iter().for_each(|note| println!("    {note}"));
        lines.push(line);
    }
    lines
}

fn run_one(drill: &Drill, stand: &mut Option<Stand>, arguments: &Arguments) -> Line {
    let began = Instant::now();
    let seed = arguments.seed;
    let mut line = Line {
        name: drill.name.to_owned(),
        seed,
        ending: Ending::Passed,
        took: began.elapsed(),
        faults: 0,
        acknowledged: 0,
        pending: 0,
        untold: 0,
        lost: 0,
        doubled: 0,
        recoveries: Vec::new(),
        notes: Vec::new(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let stand = stand.get_or_insert_with(Stand::start);
        stand.heal();
        let before = (stand.known.acknowledged(), stand.known.pending(), stand.known.untold());
        let mut run = Run::new(stand, seed, arguments.long);
        run.alerts = arguments.alerts.clone();
        // Caught apart, so that what is known of a drill that fails is reported too.
        let outcome = catch_unwind(AssertUnwindSafe(|| (drill.run)(&mut run)));
        let Run { faults, recoveries, notes, verdict, skipped, stand, .. } = run;
        line.acknowledged = stand.known.acknowledged() - before.0;
        line.pending = stand.known.pending() - before.1;
        line.untold = stand.known.untold() - before.2;
        (line.faults, line.recoveries, line.notes) = (faults, recoveries, notes);
        (line.lost, line.doubled) = (verdict.lost, verdict.doubled);
        if let Some(why) = skipped {
            line.ending = Ending::Skipped(why);
        }
        outcome
    }));
    if let Ok(Err(panic)) | Err(panic) = outcome {
        line.ending = Ending::Failed(words(panic.as_ref()));
        if let Some(stand) = stand.take() {
            keep_logs(drill, &stand);
        }
    }
    if let Some(stand) = stand.as_ref().filter(|_| arguments.keep) {
        keep_logs(drill, stand);
    }
    line.took = began.elapsed();
    line
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// Keeps what the processes of a drill have said, and what their users were answered.
fn keep_logs(drill: &Drill, stand: &Stand) {
    let directory = report::directory().join(drill.name);
    let _ = fs::remove_dir_all(&directory);
    if fs::create_dir_all(&directory).is_err() {
        return;
    }
    for entry in fs::read_dir(&stand.directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::copy(entry.path(), directory.join(entry.file_name()));
        }
    }
    println!("    its logs: {}", directory.canonicalize().unwrap_or(directory).display());
}
