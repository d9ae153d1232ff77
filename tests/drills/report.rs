//! The report of a run, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    /// Not run, and why.
    Skipped(String),
    /// What was found.
    Failed(String),
}

/// What one drill came to.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) ending: Ending,
    pub(crate) took: Duration,
    pub(crate) faults: u64,
    pub(crate) acknowledged: usize,
    pub(crate) pending: usize,
    pub(crate) untold: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) recoveries: Vec<Duration>,
    pub(crate) notes: Vec<String>,
}

/// Returns the least, the middle and the greatest, in seconds.
pub(crate) fn spread(times: &[Duration]) -> Option<(f64, f64, f64)> {
    let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = *seconds.get(seconds.len() / 2)?;
    Some((*seconds.first()?, middle, *seconds.last()?))
}

fn recovery(line: &Line) -> String {
    spread(&line.recoveries).map_or_else(
        || "–".to_owned(),
        |(min, median, max)| format!("{min:.1} / {median:.1} / {max:.1}"),
    )
}

fn ending(line: &Line) -> String {
    match &line.ending {
        Ending::Passed => "passed".to_owned(),
        Ending::Skipped(why) => format!("not run: {why}"),
        Ending::Failed(what) => format!("FAILED: {}", what.lines().next().unwrap_or_default()),
    }
}

/// Writes both reports.
pub(crate) fn write(lines: &[Line], long: bool) -> PathBuf {
    let directory = directory();
    fs::create_dir_all(&directory).expect("the project's directory is writable");
    let file = directory.join("report.md");
    fs::write(&file, markdown(lines, long)).expect("it is writable");
    let text = serde_json::to_string_pretty(&as_json(lines, long)).expect("it is plain data");
    fs::write(directory.join("report.json"), text).expect("it is writable");
    file
}

/// Returns where reports, and the logs of drills that failed, go.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kx/drill")
}

fn markdown(lines: &[Line], long: bool) -> String {
    let mut text = String::from("# Drills\n\n");
    let kind = if long { "long" } else { "bounded, as in CI" };
    let _ = writeln!(
        text,
        "Kind of run: {kind}. Recovery: seconds until the first order is decided that was sent after the fault.\n"
    );
    text += "| drill | seed | ended | faults | acknowledged | 202 | unanswered | lost | doubled | recovery min / median / max | took |\n";
    text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for line in lines {
        let Line { name, seed, faults, acknowledged, pending, untold, lost, doubled, .. } = line;
        let _ = writeln!(
            text,
            "| {name} | {seed} | {} | {faults} | {acknowledged} | {pending} | {untold} | {lost} | {doubled} | {} | {:.0} s |",
            ending(line),
            recovery(line),
            line.took.as_secs_f64()
        );
    }
    let sum = |of: fn(&Line) -> usize| lines.iter().map(of).sum::<usize>();
    let faults: u64 = lines.iter().map(|line| line.faults).sum();
    let _ = writeln!(
        text,
        "\n{faults} faults injected; {} orders acknowledged, {} lost, {} doubled.",
        sum(|line| line.acknowledged),
        sum(|line| line.lost),
        sum(|line| line.doubled)
    );
    for line in lines.iter().filter(|line| !line.notes.is_empty()) {
        let _ = writeln!(text, "\n## {}\n", line.name);
        line.notes.iter().for_each(|note| text += &format!("- {note}\n"));
    }
    text
}

fn as_json(lines: &[Line], long: bool) -> Value {
    let one = |line: &Line| {
        let (min, median, max) = spread(&line.recoveries).unzip3();
        json!({
            "name": line.name, "seed": line.seed, "ending": ending(line),
            "passed": line.ending == Ending::Passed, "tookSeconds": line.took.as_secs_f64(),
            "faults": line.faults, "acknowledged": line.acknowledged, "pending": line.pending,
            "unanswered": line.untold, "lost": line.lost, "doubled": line.doubled,
            "recoverySeconds": {"count": line.recoveries.len(), "min": min, "median": median, "max": max},
            "notes": line.notes,
        })
    };
    json!({"long": long, "drills": lines.iter().map(one).collect::<Vec<_>>()})
}

trait Unzip3 {
    fn unzip3(self) -> (Option<f64>, Option<f64>, Option<f64>);
}

impl Unzip3 for Option<(f64, f64, f64)> {
    fn unzip3(self) -> (Option<f64>, Option<f64>, Option<f64>) {
        self.map_or((None, None, None), |(a, b, c)| (Some(a), Some(b), Some(c)))
    }
}
