//! `cargo run -p xtask -- tidy`: checks of the tree itself. The same checks run as a test. `-- metrics` and `-- dashboards`
//! write what is made from the registry of metrics.

mod dashboards;
mod metrics_page;
mod queries;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let written = match std::env::args().nth(1).as_deref() {
        Some("tidy") => return check(),
        Some("metrics") => vec![(metrics_page::PATH.to_owned(), metrics_page::text())],
        Some("dashboards") => dashboards::files(),
        _ => {
            eprintln!("usage: cargo run -p xtask -- tidy | metrics | dashboards");
            return ExitCode::from(2);
        }
    };
    for (path, text) in written {
        let file = tidy::root().join(&path);
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::fs::write(&file, text)) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
        eprintln!("wrote {path}");
    }
    ExitCode::SUCCESS
}

fn check() -> ExitCode {
    let findings = tidy::check();
    for finding in &findings {
        eprintln!("{finding}");
    }
    eprintln!("tidy: {} findings", findings.len());
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
