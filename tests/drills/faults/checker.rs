//! The checker, tested: what keeps every promise passes, and each broken promise is found.

use crate::checker::{Facts, Row, Seen, judge};
use crate::drill::Run;
use crate::journal::{Cancel, Known, Order, Told};

const ACCOUNT: u64 = 1_001;

fn order(number: u64, told: Told) -> Order {
    Order {
        user: 0,
        account: ACCOUNT,
        key: format!("key-{number}"),
        market: "BTC/USD",
        side: "buy",
        quantity_lots: 1_000_000 + number,
        told,
    }
}

fn row(number: u64, filled_lots: u64, status: &str) -> Row {
    Row {
        id: format!("id-{number}"),
        account: ACCOUNT,
        market: "BTC/USD".to_owned(),
        side: "buy".to_owned(),
        quantity_lots: 1_000_000 + number,
        filled_lots,
        status: status.to_owned(),
    }
}

fn seen(number: u64, status: &str) -> Seen {
    Seen { id: format!("id-{number}"), status: Some(status.to_owned()) }
}

/// What was told, and facts that keep every promise.
fn kept() -> (Known, Facts) {
    let id = |number: u64| format!("id-{number}");
    let orders = vec![
        order(0, Told::Accepted { id: id(0), filled_lots: 0 }),
        order(1, Told::Accepted { id: id(1), filled_lots: 500 }),
        order(2, Told::Pending { id: id(2) }),
        order(3, Told::Refused { status: 422, code: "insufficient_funds".to_owned() }),
        order(4, Told::Nothing),
        order(5, Told::Nothing),
        order(6, Told::Accepted { id: id(6), filled_lots: 0 }),
    ];
    let rows = vec![
        row(0, 0, "open"),
        row(1, 700, "partially_filled"),
        row(2, 0, "expired"),
        row(3, 0, "rejected"),
        row(4, 0, "open"),
        row(6, 0, "cancelled"),
        // Somebody who is none of the load's users.
        Row { account: 5_000, id: "other".to_owned(), ..row(0, 0, "open") },
    ];
    let seen = vec![seen(0, "open"), seen(2, "expired"), seen(4, "open")];
    let cancels = vec![Cancel { id: id(6), status: 200 }];
    let known = Known { orders, cancels, ..Known::default() };
    (known, Facts { accounts: vec![ACCOUNT], rows, seen, ..Facts::default() })
}

type Break = fn(&mut Known, &mut Facts);

/// Each breaks one promise.
const BROKEN: &[(&str, Break)] = &[
    ("acknowledged and gone", |_, facts| {
        facts.rows.remove(0);
    }),
    ("acknowledged and gone", |_, facts| facts.rows[1].status = "rejected".to_owned()),
    ("there more than once", |_, facts| {
        facts.rows.push(Row { id: "twin".to_owned(), ..row(0, 0, "open") })
    }),
    ("under another id than was told", |_, facts| facts.rows[0].id = "id-x".to_owned()),
    ("with fewer fills than were told", |_, facts| facts.rows[1].filled_lots = 499),
    ("another order than was sent", |_, facts| facts.rows[0].side = "sell".to_owned()),
    ("another order than was sent", |_, facts| facts.rows[4].market = "ETH/USD".to_owned()),
    ("without a final state", |_, facts| facts.rows[2].status = "pending".to_owned()),
    ("told to be pending, and never seen again", |_, facts| {
        facts.rows.remove(2);
    }),
    ("refused, and there all the same", |_, facts| facts.rows[3].status = "open".to_owned()),
    ("an order that nobody sent", |_, facts| facts.rows.push(row(99, 0, "open"))),
    ("cancelled, and not closed", |_, facts| facts.rows[5].status = "open".to_owned()),
    ("cancelled, and not closed", |known, _| {
        known.cancels.push(Cancel { id: "id-0".to_owned(), status: 200 })
    }),
    ("not visible to its user", |_, facts| facts.seen[1].status = None),
    ("still pending to its user", |_, facts| facts.seen[2].status = Some("pending".to_owned())),
    ("another status to its user", |_, facts| facts.seen[0].status = Some("filled".to_owned())),
    ("answered with a defect", |known, _| known.defects.push("500".to_owned())),
    ("fills that do not sum up", |_, facts| facts.fills.push("id-1".to_owned())),
    ("an asset that does not sum to zero", |_, facts| facts.sums.push("1|5".to_owned())),
    ("a wallet that is not the sum of its postings", |_, facts| {
        facts.wallets.push("1001|1".to_owned())
    }),
    ("holds that are not the open orders", |_, facts| facts.holds.push("1001|1".to_owned())),
    ("verify", |_, facts| facts.verify = Some("exit status: 1".to_owned())),
];

pub(super) fn checker(run: &mut Run<'_>) {
    let (known, facts) = kept();
    let verdict = judge(&known, &facts);
    assert!(verdict.findings.is_empty(), "kept promises are found broken: {:?}", verdict.findings);
    assert_eq!((verdict.acknowledged, verdict.lost, verdict.doubled), (3, 0, 0));
    for (kind, harm) in BROKEN {
        let (mut known, mut facts) = kept();
        harm(&mut known, &mut facts);
        let verdict = judge(&known, &facts);
        let found = verdict.findings.iter().any(|finding| finding.starts_with(kind));
        assert!(found, "a broken promise is not found: {kind}; found: {:?}", verdict.findings);
        run.faults += 1;
    }
    let found = BROKEN.len();
    run.note(format!("{found} broken promises were fed to the checker, and each was found"));
    tables(run);
}

/// The statements that gather facts find what is wrong in real tables, too.
fn tables(run: &mut Run<'_>) {
    let load = run.load();
    run.wait_orders(&load, 100);
    run.end_and_check(load);
    let psql = run.stand.psql();
    crate::gather::settle(&psql);
    // Each is tried in a transaction that is rolled back, so that nothing stays.
    for (what, harm, question) in [
        (
            "fills",
            "UPDATE orders_projected SET filled_lots = filled_lots - 1 WHERE filled_lots > 0",
            crate::gather::FILLS,
        ),
        (
            "holds",
            "UPDATE balances SET held = held + 1, available = available - 1 WHERE available > 0",
            crate::gather::HOLDS,
        ),
        (
            "wallets",
            "UPDATE balances SET available = available + 1 WHERE account_id > 0",
            crate::gather::WALLETS,
        ),
        (
            "sums",
            "INSERT INTO postings SELECT sequence, posting + 1000, command_index, kind, reference, market_id, trade_id, \
             time, account_id, asset_id, amount FROM postings LIMIT 1",
            crate::gather::SUMS,
        ),
    ] {
        let rows = psql.rows(&format!(
            "{harm}; CREATE TEMP TABLE found ON COMMIT DROP AS {question}; \
            SELECT count(*) FROM found; ROLLBACK"
        ));
        let count = rows.first().map_or("none", String::as_str);
        assert!(count.parse::<u64>().is_ok_and(|count| count > 0), "{what}: {rows:?}");
        run.faults += 1;
    }
}
