//! The API as it is served: a real cluster, the real sequencer, requests over TCP.
//!
//! Run one case with `cargo test -p server --test api -- NAME`; every case whose name contains NAME is run.

#![expect(unreachable_pub, reason = "nothing of a test is reached from elsewhere")]

mod accounts;
mod admin;
mod api_keys;
mod auth;
mod authorization;
mod bad_inputs;
mod convert;
mod edge;
mod flags;
mod http;
mod limits;
mod mail;
mod market_data;
mod openapi;
mod orders;
mod pending;
mod prices;
mod signing;
mod two_factor;
mod wallet;
mod withdrawals;
mod world;
mod ws;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use world::World;

/// A case: its name is the rule that it shows.
type Case = (&'static str, fn(&World));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = [
        openapi::CASES,
        auth::CASES,
        accounts::CASES,
        two_factor::CASES,
        mail::CASES,
        authorization::CASES,
        orders::CASES,
        pending::CASES,
        wallet::CASES,
        convert::CASES,
        bad_inputs::CASES,
        edge::CASES,
        market_data::CASES,
        prices::CASES,
        ws::CASES,
        api_keys::CASES,
        withdrawals::CASES,
        limits::CASES,
        admin::CASES,
        flags::CASES,
    ];
    let cases: Vec<Case> = all.into_iter().flatten().copied().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in cases {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = |case: &Case| wanted.is_none_or(|wanted| case.0.contains(wanted.as_str()));
    let chosen: Vec<Case> = cases.into_iter().filter(chosen).collect();
    println!("\nrunning {} tests", chosen.len());
    let world = World::start();
    let mut failed = Vec::new();
    for (name, case) in chosen {
        let passed = catch_unwind(AssertUnwindSafe(|| {
            case(&world);
            world.check();
        }))
        .is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    world.stop();
    println!("\ntest result: {} failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
