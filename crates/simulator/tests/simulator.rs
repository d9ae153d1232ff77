//! The simulator finds nothing in the product, finds everything in a product without one of its guards, and does both
//! again when it is asked again.

use std::collections::BTreeMap;

use simulator::{Guard, Run, run};

/// Seeds that must be clean; `./kx simulate` runs more.
const CLEAN: u64 = 400;
/// Seeds within which the absence of a guard must be found.
const FOUND_WITHIN: u64 = 1_000;

fn first_failure(removed: &[Guard]) -> Option<Run> {
    (1..=FOUND_WITHIN).map(|seed| run(seed, removed, false)).find(|run| run.failure.is_some())
}

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    for seed in 1..=CLEAN {
        let run = run(seed, &[], false);
        assert_eq!(run.failure, None, "seed {seed}: ./kx simulate --seed {seed}");
    }
}

#[test]
fn each_guard_is_missed_where_it_is_removed() {
    for guard in Guard::ALL {
        let found = first_failure(&[guard]);
        assert!(found.is_some(), "{guard} was removed, and {FOUND_WITHIN} seeds are clean");
    }
}

#[test]
fn the_four_guards_are_missed_for_what_they_are_there_for() {
    let rules = |guard: Guard| -> Vec<&'static str> {
        let failures = (1..=FOUND_WITHIN).filter_map(|seed| run(seed, &[guard], false).failure);
        failures.take(5).map(|failure| failure.rule).collect()
    };
    let found = |guard, rule: &str| {
        let rules = rules(guard);
        assert!(rules.contains(&rule), "without {guard}: {rules:?}");
    };
    found(Guard::Dedup, "no command takes effect twice");
    found(Guard::Fence, "nothing is appended in the name of an epoch that is over");
    found(Guard::LookUp, "nothing leaves before its commit");
    found(Guard::AckOrder, "what the broker has confirmed is decided");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        let (first, second) = (run(seed, &[], true), run(seed, &[], true));
        assert_eq!(first, second, "seed {seed}");
        let untraced = run(seed, &[], false);
        assert_eq!(first.digest, untraced.digest, "seed {seed}: looking on changes nothing");
        assert_ne!(first.digest, run(seed + 1, &[], false).digest, "another seed is another run");
    }
}

#[test]
fn a_failure_comes_again_with_its_seed() {
    let first = first_failure(&[Guard::AckOrder]).expect("it is found");
    let again = run(first.seed, &[Guard::AckOrder], true);
    assert_eq!((again.failure, again.digest), (first.failure, first.digest));
    assert!(again.trace.len() > 10, "its trace can be read");
}

/// A simulator in which nothing goes wrong finds nothing: everything that is to be survived must have happened.
#[test]
fn everything_that_is_to_be_survived_happens() {
    let mut happened: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 1..=CLEAN {
        for (what, times) in run(seed, &[], false).happened {
            *happened.entry(what).or_default() += times;
        }
    }
    let expected = [
        "a crash after the append:",
        "a crash before the acknowledgement:",
        "a crash before the append:",
        "a crash between two deliveries:",
        "answers 202",
        "answers 503, nothing has happened",
        "answers 503, outcome unknown",
        "answers done",
        "answers refused",
        "cannot look a command up",
        "does not know of row",
        "finds decided",
        "has a row that is too old",
        "has lost the queue",
        "is behind another",
        "is deposed",
        "is purged of",
        "knows",
        "puts aside",
        "raises the epoch to",
        "sees decided:",
        "sees expired:",
        "sees pending:",
    ];
    let missing: Vec<_> =
        expected.into_iter().filter(|what| !happened.contains_key(what)).collect();
    assert!(missing.is_empty(), "{missing:?} have not happened: {happened:?}");
}
