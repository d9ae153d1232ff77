//! The README's first trade works as it is printed.

use std::process::Command;
use std::time::Duration;

use e2e::{Exchange, Settings, wait_for};

/// The fenced block that logs in: the lines that a stranger copies.
fn first_trade() -> String {
    let readme = include_str!("../../README.md");
    let mut blocks = readme
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("split gives one piece at least"));
    blocks
        .find(|block| block.contains("auth/login"))
        .expect("the README has a first trade")
        .to_owned()
}

/// Runs lines in a shell and returns what they print.
fn run(script: &str) -> Vec<serde_json::Value> {
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c", script]).output().expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::Deserializer::from_str(&said)
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|error| panic!("{error}: {said}")))
        .collect()
}

#[test]
fn the_first_trade_of_the_readme_works_as_printed() {
    let lines = first_trade();
    assert_eq!(lines.trim().lines().count(), 5, "the README promises five lines:\n{lines}");
    assert!(lines.contains("http://localhost:5000/"), "{lines}");

    // Without a word about the demo: a first start makes it.
    let exchange = Exchange::with(Settings::default());
    let script = lines.replace("localhost:5000", &format!("localhost:{}", exchange.port()));
    let answers = run(&script);
    let [order, fills, balances] = answers.as_slice() else {
        panic!("three of the five lines print something: {answers:?}");
    };
    assert_eq!(order["status"], "filled", "{order}");
    // Fills are read from tables that are written behind the journal: a slow machine may need a moment more.
    let looking: Vec<&str> = script.lines().filter(|line| !line.contains("/orders ")).collect();
    let looking = looking.join("\n");
    let mut fills = fills.clone();
    wait_for("the fill", Duration::from_secs(30), || {
        if fills["items"][0].is_null() {
            fills = run(&looking).swap_remove(0);
        }
        (!fills["items"][0].is_null()).then_some(())
    });
    assert_eq!(fills["items"][0]["orderId"], order["id"], "{fills}");
    let btc = balances["balances"].as_array().expect("a list").iter().find(|b| b["asset"] == "BTC");
    assert!(btc.is_some(), "{balances}");
}
