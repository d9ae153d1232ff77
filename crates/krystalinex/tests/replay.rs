//! The real recordings through the whole exchange: HTTP, queue, sequencer, PostgreSQL, projections; and the exit codes
//! that a script goes by.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn recording(number: u8) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = workspace.join(format!("../shared/data/coinbase/replay_coinbase_{number}.in"));
    assert!(
        path.is_file(),
        "the real recordings are not there: {} (see the README of ../shared/data)",
        path.display()
    );
    path
}

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_krystalinex"))
        .arg("replay")
        .args(arguments)
        .output()
        .expect("the binary can be run")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn the_real_recordings_go_through_the_whole_exchange_and_verify() {
    for number in [0, 1] {
        let path = recording(number).display().to_string();
        let output = replay(&[&path, "--through", "server"]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        for line in ["differences   0", "Everything agrees.", "published     100 levels compared"] {
            assert!(text.contains(line), "{line:?} is said:\n{text}");
        }
    }
}

#[test]
fn a_broken_file_ends_with_two_and_a_different_one_with_one() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let broken = folder.path().join("broken.csv");
    let header = "seq,command,order_id,side,price,quantity\n";
    std::fs::write(&broken, format!("{header}1,ADD,a,sell,10,1\n2,ADD,b,buy,,1\n"))
        .expect("writable");
    let broken = broken.display().to_string();
    let output = replay(&[&broken]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains(&format!("{broken}:3: the price is missing")),
        "{}",
        text(&output)
    );

    let recorded = std::fs::read_to_string(recording(1)).expect("readable");
    let changed = folder.path().join("changed.in");
    let other = recorded.replacen(
        "\"size\":\"0.11944\",\"price\":\"413.02\"",
        "\"size\":\"0.11943\",\"price\":\"413.02\"",
        1,
    );
    assert_ne!(recorded, other, "the recording has its one match");
    std::fs::write(&changed, other).expect("writable");
    let output = replay(&[&changed.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("line 7276: the core has 0.11944 at 413.02"),
        "{}",
        text(&output)
    );
}
