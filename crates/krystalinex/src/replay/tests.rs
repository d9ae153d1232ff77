//! Whole replays: hand-made order flow, and the real recordings.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Runs a replay as the command line would.
fn run_with(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let arguments = ["replay"].iter().chain(arguments);
    replay(&Args::try_parse_from(arguments).expect("the test's arguments are well formed"))
}

fn code(result: anyhow::Result<ExitCode>) -> String {
    format!("{:?}", result.expect("the replay runs"))
}

fn success() -> String {
    format!("{:?}", ExitCode::SUCCESS)
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a temporary file can be written");
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the replay has written the file")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is there");
        let name =
            |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        entries.filter_map(name).collect()
    }
}

const FLOW: &str = "seq,command,order_id,side,price,quantity
1,ADD,a,sell,1000000000,1
2,ADD,b,sell,100.02,2.5
3,ADD,c,sell,100.02,1
4,ADD,d,buy,100,3
5,REDUCE,b,,,0.5
6,TAKE,t1,buy,100.05,2.25
7,CANCEL,nobody,,,
8,ADD,e,buy,100.02,1.000000000001
9,CANCEL,d,,,
10,REDUCE,e,,,9
11,ADD,f,sell,99.9,1
12,TAKE,t2,buy,0.01,5
";

#[test]
fn an_order_flow_fills_by_price_and_time_and_keeps_priority_on_reduce() {
    let files = Files::new();
    let flow = files.write("flow.csv", FLOW);
    let (fills, book) = (files.path("fills.csv"), files.path("book.json"));
    let ran = run_with(&[&flow, "--fills", &fills, "--book", &book]);
    assert_eq!(code(ran), success());
    // b was made smaller, not younger: it goes first, with 2. t1 takes its 2 and 0.25 of c; e takes c's rest and
    // rests with the remaining 0.25…, which a greater reduce cancels; f finds no bid.
    let expected =
        "seq,maker_order_id,price,quantity\n6,b,100.02,2\n6,c,100.02,0.25\n8,c,100.02,0.75\n";
    assert_eq!(files.read("fills.csv"), expected);
    let expected = "{\"bids\":[],\"asks\":[[\"99.9\",\"1\"],[\"1000000000\",\"1\"]]}\n";
    assert_eq!(files.read("book.json"), expected);
}

#[test]
fn the_book_is_cut_at_the_depth_asked_for() {
    let files = Files::new();
    let flow = files.write("flow.csv", FLOW);
    let book = files.path("book.json");
    assert_eq!(code(run_with(&[&flow, "--book", &book, "--depth", "1"])), success());
    assert_eq!(files.read("book.json"), "{\"bids\":[],\"asks\":[[\"99.9\",\"1\"]]}\n");
}

#[test]
fn numbers_with_fixed_decimals_are_written_with_them() {
    let files = Files::new();
    let text = "seq,command,order_id,side,price,quantity\n\
                1,ADD,1,sell,10.50,1.000\n2,TAKE,2,buy,10.50,0.250\n";
    let flow = files.write("flow.csv", text);
    let fills = files.path("fills.csv");
    assert_eq!(code(run_with(&[&flow, "--fills", &fills])), success());
    assert_eq!(files.read("fills.csv"), "seq,maker_order_id,price,quantity\n2,1,10.50,0.250\n");
}

#[test]
fn a_broken_line_is_named_and_leaves_no_file() {
    for (line, reason) in [
        ("13,ADD,g,buy,abc,1", "the price is not a decimal number: \"abc\""),
        ("13,ADD,a,sell,100,1", "order \"a\" is open already"),
        ("13,ADD,g,buy,100", "5 fields instead of 6"),
        ("2,ADD,g,buy,100,1", "seq 2 comes after 12"),
    ] {
        let files = Files::new();
        let flow = files.write("flow.csv", &format!("{FLOW}{line}\n14,CANCEL,a,,,\n"));
        let (fills, book) = (files.path("fills.csv"), files.path("book.json"));
        let error = run_with(&[&flow, "--fills", &fills, "--book", &book]);
        let error = error.expect_err("a broken line is refused");
        assert_eq!(error.to_string(), format!("{flow}:14: {reason}"));
        assert_eq!(files.names(), ["flow.csv"], "a refused file leaves nothing behind");
    }
}

#[test]
fn a_price_off_the_given_tick_is_refused() {
    let files = Files::new();
    let flow = files.write("flow.csv", FLOW);
    let error = run_with(&[&flow, "--tick", "0.05"]).expect_err("100.02 is off a tick of 0.05");
    assert_eq!(error.to_string(), format!("{flow}:3: the price 100.02 is off the tick of 0.05"));
}

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

#[test]
fn the_real_recordings_come_to_the_same_fills_orders_and_book() {
    for number in [0, 1] {
        let path = recording(number).display().to_string();
        let files = Files::new();
        let fills = files.path("fills.csv");
        assert_eq!(code(run_with(&[&path, "--fills", &fills])), success());
        let expected = "seq,maker_order_id,price,quantity\n\
                        760637129,a8871e64-8824-4234-9ec2-567dd84d3af9,413.02,0.11944\n";
        assert_eq!(files.read("fills.csv"), expected);
    }
}

/// Runs the first recording with `line` changed; the published book is beside it.
fn changed(line: usize, from: &str, to: &str) -> (Files, anyhow::Result<ExitCode>) {
    let path = recording(0);
    let text = fs::read_to_string(&path).expect("the recording can be read");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = lines.get_mut(line - 1).expect("the recording has the line");
    assert!(place.contains(from), "line {line} is not the one that the test means");
    *place = place.replace(from, to);
    let files = Files::new();
    let published = fs::read_to_string(path.with_extension("out"));
    files.write("changed.out", &published.expect("the published book is beside the recording"));
    let input = files.write("changed.in", &(lines.join("\n") + "\n"));
    let ran = run_with(&[&input]);
    (files, ran)
}

#[test]
fn a_single_changed_size_is_reported() {
    let one = format!("{:?}", ExitCode::from(1));
    for (line, from, to) in [
        (7110, "\"size\":\"2.25\"", "\"size\":\"2.26\""),
        (7111, "\"remaining_size\":\"2.25\"", "\"remaining_size\":\"2.24\""),
        (7276, "\"size\":\"0.11944\"", "\"size\":\"0.11943\""),
        (7275, "\"size\":\"0.11944\"", "\"size\":\"0.11943\""),
        (7114, "\"remaining_size\":\"0.2\"", "\"remaining_size\":\"0.1\""),
    ] {
        let (_files, ran) = changed(line, from, to);
        assert_eq!(code(ran), one, "line {line}");
    }
}

/// Whatever stands in a line is read or refused with a reason, never a panic.
#[test]
fn fuzz_lines() {
    const COINBASE: &str = "{\"type\":\"received\",\"sequence\":1,\"order_id\":\"a\",\"size\":\"1\",\"price\":\"2\",\
        \"side\":\"buy\",\"order_type\":\"limit\"}";
    const FLOW: &str = "1,add,7,buy,100.25,0.5";
    let time = std::time::Duration::from_secs(2);
    type Damage = (Vec<(u8, u8)>, Vec<u8>);
    bolero::check!().with_test_time(time).with_type::<Damage>().for_each(|(changes, any)| {
        for whole in [COINBASE, FLOW] {
            let mut line = whole.as_bytes().to_vec();
            for (at, byte) in changes {
                let length = line.len();
                line[usize::from(*at) % length] = *byte;
            }
            for line in [&line, any] {
                let _ = super::coinbase::parse(line);
                let _ = super::order_flow::parse(line);
                let _ = super::order_flow::check_header(line);
                let _ = super::decimal::Decimal::parse(line);
            }
        }
    });
}
