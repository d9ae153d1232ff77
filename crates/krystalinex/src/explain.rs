//! `krystalinex explain`: why a request was slow, in words.

use std::process::ExitCode;

use anyhow::Context;
use trace::anomaly::{Explanation, took};

use crate::config::{Role, Sources};
use crate::database::Opened;

/// Says why a request was slow: which stage, how far from what is usual, and what else was unusual at that minute.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    sources: Sources,
    /// The X-Trace-Id of its answer: 32 hexadecimal digits.
    trace_id: String,
}

/// Runs the command.
///
/// # Errors
///
/// The database cannot be reached, or nothing is known of the trace.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let trace_id =
        tracer::parse_trace_id(&args.trace_id).context("a trace id has 32 hexadecimal digits")?;
    let config = args.sources.load(Role::Tool)?;
    crate::process::start_tool_log(&config);
    let opened = Opened::open(&config).await?;
    let explained = tracer::explain(&opened.db, trace_id).await;
    opened.close().await?;
    let explained = explained?.context("nothing is known of this trace (any more)")?;
    print(&explained);
    Ok(ExitCode::SUCCESS)
}

fn print(explanation: &Explanation) {
    for words in &explanation.words {
        println!("{words}");
    }
    println!();
    println!("{:<14}{:>12}{:>12}{:>12}{:>10}", "stage", "took", "usually", "p99", "times");
    for stage in &explanation.stages {
        let usual = stage.usual.map(|usual| (took(usual.p50), took(usual.p99)));
        let (p50, p99) = usual.unwrap_or_else(|| ("-".to_owned(), "-".to_owned()));
        let times = stage.factor.map_or_else(|| "-".to_owned(), |factor| format!("{factor:.1}"));
        let mark = if stage.is_unusual { "  <-" } else { "" };
        let (name, observed) = (stage.stage.name(), took(stage.observed));
        println!("{name:<14}{observed:>12}{p50:>12}{p99:>12}{times:>10}{mark}");
    }
}
