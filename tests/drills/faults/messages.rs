//! Messages that come twice, in another order, or that are none.

use std::time::{Duration, Instant};

use e2e::wait_for;

use crate::drill::Run;
use crate::management::{DEAD_LETTERS, Management, Message, ORDERS};
use crate::process::PATIENCE;
use crate::raw::{self, Maker};

/// How soon a message that cannot be decided must lie among the dead letters.
const PUT_ASIDE: Duration = Duration::from_secs(5);
/// BTC/USD at 64,000.00: far from where the load trades.
const FAR_TICKS: u64 = 6_400_000;

/// The number of a market by its symbol.
fn market(run: &Run<'_>, symbol: &str) -> u32 {
    let sql = format!("SELECT id FROM markets WHERE symbol = '{symbol}'");
    run.stand.psql().value(&sql).parse().expect("a market has a number")
}

pub(super) fn duplicate_delivery(run: &mut Run<'_>) {
    const TAP: &str = "drill.copies";
    let mut management = Management::of(&run.stand.broker);
    management.tap(&run.stand.broker, TAP);
    let load = run.load();
    let (mut copied, mut sent) = (0_u64, 0_u64);
    let wanted = run.or_long(40, 2_000);
    let began = Instant::now();
    while sent < wanted {
        assert!(began.elapsed() < 5 * PATIENCE, "only {sent} of {copied} messages were sent again");
        for message in management.take_copies(TAP, 200) {
            copied += 1;
            // A nudge has no command in it.
            if !message.body.is_empty() && run.random.below(10) == 0 {
                management.publish(ORDERS, &message);
                sent += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    run.faults += sent;
    run.note(format!("{sent} of {copied} messages sent again"));
    run.wait_orders(&load, 20);
    management.untap(&run.stand.broker, TAP);
    run.end_and_check(load);
}

pub(super) fn reorder(run: &mut Run<'_>) {
    const WINDOW: usize = 20;
    let load = run.load();
    let user = run.stand.own_users[0].clone();
    let btc = market(run, "BTC/USD");
    let mut management = Management::of(&run.stand.broker);
    for _ in 0..run.or_long(2, 20) {
        let maker = Maker::read(&run.stand.psql());
        let mut ids = Vec::new();
        let mut messages = Vec::new();
        for number in 0..WINDOW {
            let (order, text) = raw::id(&mut run.random);
            let (cancel, _) = raw::id(&mut run.random);
            let lots = 1_000_000 + u64::try_from(number).unwrap_or(0);
            messages.push(maker.place(order, user.account, btc, FAR_TICKS, lots));
            messages.push(maker.cancel(cancel, user.account, order));
            ids.push(text);
        }
        for place in (1..messages.len()).rev() {
            let bound = u64::try_from(place + 1).unwrap_or(1);
            messages.swap(place, usize::try_from(run.random.below(bound)).unwrap_or(0));
        }
        messages.into_iter().for_each(|body| management.publish(ORDERS, &Message::plain(body)));
        run.faults += u64::try_from(WINDOW).unwrap_or(0);
        let mut client = run.stand.client(&user);
        for id in ids {
            let path = format!("/api/v1/orders/{id}");
            let order = wait_for("a cancelled order", PATIENCE, || {
                let answer = client.send("GET", &path, &[], None).ok()?;
                let order = (answer.status == 200).then(|| answer.json())?;
                (order["status"] != "open").then_some(order)
            });
            assert_eq!(order["status"], "cancelled", "{order}");
        }
    }
    run.end_and_check(load);
}

pub(super) fn poison(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 100);
    let btc = market(run, "BTC/USD");
    let maker = Maker::read(&run.stand.psql());
    let account = run.stand.own_users[0].account;
    let mut make = |maker: &Maker, market: u32| {
        let (id, _) = raw::id(&mut run.random);
        maker.place(id, account, market, FAR_TICKS, 1_000_000)
    };
    let good = make(&maker, btc);
    let mut newer = good.clone();
    newer[0] = 250;
    let kinds: Vec<(&str, Message)> = vec![
        ("bad JSON", Message::plain(b"{\"side\": \"buy\", ".to_vec())),
        ("garbage", Message::plain(vec![0xff; 64])),
        ("nothing at all", Message::plain(vec![0; 1])),
        ("cut off", Message::plain(good[..good.len() / 2].to_vec())),
        ("an unknown version", Message::plain(newer)),
        (
            "an unknown type",
            Message { kind: Some("kx.bundle.99".to_owned()), ..Message::plain(good) },
        ),
        ("a body of 1 MB", Message::plain(vec![b'x'; 1024 * 1024])),
        (
            "another incarnation",
            Message::plain(make(
                &Maker { incarnation: maker.incarnation ^ 1, ..maker.clone() },
                btc,
            )),
        ),
    ];
    // Decidable, and refused: a market that is not there. It has an outcome, and is no dead letter.
    let mut management = Management::of(&run.stand.broker);
    management.take(DEAD_LETTERS, 1_000);
    management.publish(ORDERS, &Message::plain(make(&maker, 60_000)));
    let began = Instant::now();
    for (what, message) in &kinds {
        let at = Instant::now();
        management.publish(ORDERS, message);
        run.faults += 1;
        let letter = wait_for(&format!("{what} among the dead letters"), PATIENCE, || {
            management.take(DEAD_LETTERS, 10).into_iter().next()
        });
        let took = at.elapsed();
        let reason = letter.properties["headers"]["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "{what} lies there without a reason: {:?}", letter.properties);
        run.note(format!("{what}: `{reason}` after {:.2} s", took.as_secs_f64()));
        let bound = if run.long { PUT_ASIDE } else { PATIENCE };
        assert!(took <= bound, "{what} took {took:?} to be put aside");
    }
    // Its neighbours go on.
    run.wait_orders(&load, 50);
    let latencies = load.journal.latencies_since(began);
    if let Some(p99) = latencies.get(latencies.len() * 99 / 100) {
        run.note(format!("p99 of the orders meanwhile: {p99:.0} ms"));
    }
    run.end_and_check(load);
}
