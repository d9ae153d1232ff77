use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    calls_max: 4,
    bad_max: 2,
    slow: Duration::from_secs(1),
    probes: 2,
    open: Duration::from_secs(10),
    open_max: Duration::from_secs(35),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn call(core: &mut Core, now: u64, good: bool) {
    let ticket = core.ask(at(now)).expect("it is let through");
    core.record(at(now), ticket, good);
}

#[test]
fn it_opens_tries_and_closes() {
    let mut core = Core::new(RULES);
    call(&mut core, 0, false);
    call(&mut core, 0, true);
    assert_eq!(core.state(), State::Closed);
    call(&mut core, 0, false);
    assert_eq!((core.state(), core.room(at(9), 8)), (State::Open, 0));
    assert_eq!(core.ask(at(4)).expect_err("it is open"), at(6));
    assert_eq!(core.room(at(10), 8), 1);
    let probe = core.ask(at(10)).expect("its time is over");
    assert_eq!((core.state(), core.room(at(10), 8)), (State::HalfOpen, 0));
    core.ask(at(10)).expect_err("one probe at a time");
    core.record(at(10), probe, true);
    assert_eq!((core.state(), core.room(at(10), 8)), (State::HalfOpen, 1));
    call(&mut core, 10, true);
    assert_eq!((core.state(), core.room(at(10), 8)), (State::Closed, 8));
    // What was before it opened is forgotten.
    call(&mut core, 11, false);
    assert_eq!(core.state(), State::Closed);
}

#[test]
fn each_bad_probe_doubles_the_wait_up_to_its_limit() {
    let mut core = Core::new(RULES);
    call(&mut core, 0, false);
    call(&mut core, 0, false);
    let mut now = 0;
    for wait in [10, 20, 35, 35] {
        assert_eq!(core.ask(at(now)).expect_err("it is open"), at(wait));
        now += wait;
        call(&mut core, now, false);
    }
    now += 35;
    call(&mut core, now, true);
    call(&mut core, now, true);
    call(&mut core, now, false);
    call(&mut core, now, false);
    assert_eq!(core.ask(at(now)).expect_err("it is open"), at(10), "a closed one begins anew");
}

#[test]
fn bad_calls_that_are_long_ago_do_not_count() {
    let mut core = Core::new(RULES);
    for good in [false, true, true, true, false, true, true, true, false] {
        call(&mut core, 0, good);
        assert_eq!(core.state(), State::Closed);
    }
    call(&mut core, 0, false);
    assert_eq!(core.state(), State::Open);
}

#[test]
fn what_was_let_through_before_it_opened_neither_opens_nor_closes_it() {
    let mut core = Core::new(RULES);
    let tickets: Vec<_> = (0..6).map(|_| core.ask(at(0)).expect("closed")).collect();
    let mut tickets = tickets.into_iter();
    for _ in 0..2 {
        core.record(at(0), tickets.next().expect("there are six"), false);
    }
    assert_eq!(core.state(), State::Open);
    assert!(!core.record(at(1), tickets.next().expect("there are six"), true));
    let probe = core.ask(at(10)).expect("its time is over");
    assert!(!core.record(at(10), tickets.next().expect("there are six"), false));
    assert_eq!(core.state(), State::HalfOpen);
    core.record(at(10), probe, true);
    call(&mut core, 10, true);
    assert!(!core.record(at(10), tickets.next().expect("there are six"), false));
    assert!(!core.record(at(10), tickets.next().expect("there are six"), false));
    assert_eq!(core.state(), State::Closed);
}

#[test]
fn a_slow_call_and_a_dropped_one_are_bad() {
    let rules = Rules { calls_max: 2, bad_max: 2, slow: Duration::ZERO, ..RULES };
    let breaker = Breaker::new("test-slow", rules);
    let permit = breaker.permit().expect("closed");
    std::thread::sleep(Duration::from_millis(2));
    permit.succeeded();
    drop(breaker.permit().expect("one is not enough"));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.room(3), 0);
    assert!(breaker.permit().is_err_and(|refused| refused.retry_in <= rules.open));
    let text = telemetry::render();
    assert!(text.contains("kx_circuit_breaker_state{breaker=\"test-slow\"} 2\n"), "{text}");
    assert!(text.contains("kx_circuit_breaker_opened_total{breaker=\"test-slow\"} 1\n"), "{text}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    End { which: usize, good: bool },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ask),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Step::End { which, good }),
        1 => (0..40_u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

proptest! {
    /// Closed, it does as a plain list of the last calls says; open, it lets nothing through before its time; half open, one
    /// call at a time; and it is never stuck.
    #[test]
    fn prop_it_keeps_its_rules(
        calls_max in 1..10_u32,
        bad_max in 1..10_u32,
        probes in 1..4_u32,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let rules = Rules { calls_max, bad_max, probes, ..RULES };
        let bad_max = bad_max.min(calls_max);
        let mut core = Core::new(rules);
        let mut now = Duration::ZERO;
        let mut out: Vec<(Ticket, u32)> = Vec::new();
        let (mut list, mut opened, mut epoch, mut good_probes) = (VecDeque::new(), now, 0_u32, 0);
        for step in steps {
            let before = core.state();
            match step {
                Step::Pass { seconds } => now += at(seconds),
                Step::Ask => {
                    let room = core.room(now, 5);
                    let asked = core.ask(now);
                    prop_assert_eq!(asked.is_ok(), room > 0);
                    if before == State::Open && asked.is_ok() {
                        prop_assert!(now >= opened + rules.open, "open for its time at least");
                        (epoch, good_probes) = (epoch + 1, 0);
                    }
                    if let Ok(ticket) = asked {
                        out.push((ticket, epoch));
                    }
                }
                Step::End { .. } if out.is_empty() => {}
                Step::End { which, good } => {
                    let (ticket, of) = out.swap_remove(which % out.len());
                    let tripped = core.record(now, ticket, good);
                    let counts = of == epoch && before != State::Open;
                    prop_assert!(counts || (!tripped && core.state() == before), "too late to count");
                    if counts && before == State::Closed {
                        list.push_back(good);
                        if list.len() > usize::try_from(calls_max).expect("it is small") {
                            list.pop_front();
                        }
                        let bad = list.iter().filter(|good| !**good).count();
                        prop_assert_eq!(tripped, bad >= usize::try_from(bad_max).expect("small"));
                    } else if counts {
                        good_probes = if good { good_probes + 1 } else { 0 };
                        prop_assert_eq!(tripped, !good);
                        prop_assert_eq!(core.state() == State::Closed, good_probes == probes);
                    }
                    if core.state() != before {
                        (epoch, opened) = (epoch + 1, now);
                        list.clear();
                    }
                }
            }
            let probing = out.iter().filter(|(_, of)| *of == epoch).count();
            prop_assert!(core.state() != State::HalfOpen || probing <= 1, "one probe at a time");
        }
        out.into_iter().for_each(|(ticket, _)| { core.record(now, ticket, true); });
        prop_assert!(core.ask(now + rules.open_max).is_ok(), "it is never stuck");
    }
}
