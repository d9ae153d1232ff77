//! Gathers the facts for the checker: from the tables, over HTTP as users do, and from `krystalinex verify`.

use std::sync::Arc;
use std::time::Duration;

use e2e::{Psql, Random, wait_for};

use crate::checker::{Facts, Row, Seen};
use crate::journal::{Known, Told};
use crate::process::PATIENCE;
use crate::stand::Stand;
use crate::user::Client;

/// Acknowledged orders that are asked for over HTTP, one by one; all are looked for in the tables.
const ASKED_MAX: usize = 48;
/// Orders without a clear answer that are asked for over HTTP.
const UNCLEAR_MAX: usize = 200;

const ORDERS: &str = "SELECT o.id, o.account_id, o.market, o.side, o.quantity_lots, o.filled_lots, o.status FROM orders o";

pub(crate) const FILLS: &str = "SELECT o.id, o.filled_lots, f.lots FROM orders o LEFT JOIN (
    SELECT id, sum(lots) AS lots FROM (
        SELECT taker_order AS id, quantity_lots AS lots FROM trades
        UNION ALL SELECT maker_order, quantity_lots FROM trades) AS both_sides GROUP BY id) AS f USING (id)
    WHERE o.filled_lots <> coalesce(f.lots, 0) LIMIT 20";

pub(crate) const SUMS: &str =
    "SELECT asset_id, sum(amount) FROM postings GROUP BY asset_id HAVING sum(amount) <> 0";

pub(crate) const WALLETS: &str = "SELECT * FROM (SELECT account_id, asset_id, sum(amount) AS posted FROM postings
    WHERE account_id <> 0 GROUP BY account_id, asset_id) AS sums FULL JOIN wallets USING (account_id, asset_id)
    WHERE coalesce(posted, 0) <> coalesce(balance, 0) LIMIT 20";

pub(crate) const HOLDS: &str = "WITH placed AS (
        SELECT o.account_id, CASE o.side WHEN 'buy' THEN m.quote_asset_id ELSE m.base_asset_id END AS asset_id,
            (o.quantity_lots - o.filled_lots) * CASE o.side
                WHEN 'buy' THEN o.price_ticks * m.quote_units_per_tick_lot ELSE m.base_units_per_lot END AS amount
        FROM orders o JOIN markets m ON m.id = o.market_id WHERE o.status IN ('open', 'partially_filled')
        UNION ALL SELECT account_id, asset_id, amount FROM withdrawals
            WHERE status IN ('requested', 'approved', 'sending')),
    sums AS (SELECT account_id, asset_id, sum(amount) AS placed FROM placed GROUP BY account_id, asset_id)
    SELECT account_id, asset_id, placed, held FROM sums FULL JOIN balances USING (account_id, asset_id)
    WHERE coalesce(placed, 0) <> coalesce(held, 0) LIMIT 20";

/// Waits until everything that was decided is projected and nothing is pending.
pub(crate) fn settle(psql: &Psql) {
    wait_for("a head of the journal", PATIENCE, || {
        psql.try_value("SELECT max(sequence) FROM journal")
    });
    let head = psql.value("SELECT max(sequence) FROM journal");
    let projected =
        format!("SELECT count(*) FROM projection_progress WHERE active AND sequence < {head}");
    wait_for("the projections to come up with the journal", PATIENCE, || {
        (psql.try_value(&projected)? == "0").then_some(())
    });
    wait_for("every order to have a final state", PATIENCE, || {
        let pending = psql.try_value("SELECT count(*) FROM orders WHERE status = 'pending'")?;
        (pending == "0").then_some(())
    });
}

/// Gathers the facts once everything has settled.
pub(crate) fn facts(stand: &Stand, known: &Known, random: &mut Random) -> Facts {
    let psql = stand.psql();
    settle(&psql);
    let number = |text: &str| text.parse::<u64>().unwrap_or_default();
    let rows = psql.rows(ORDERS);
    let rows = rows.iter().map(|line| {
        let columns: Vec<&str> = line.split('|').collect();
        Row {
            id: columns[0].to_owned(),
            account: number(columns[1]),
            market: columns[2].to_owned(),
            side: columns[3].to_owned(),
            quantity_lots: number(columns[4]),
            filled_lots: number(columns[5]),
            status: columns[6].to_owned(),
        }
    });
    let mut facts = Facts {
        accounts: stand.users.iter().map(|user| user.account).collect(),
        rows: rows.collect(),
        fills: psql.rows(FILLS),
        sums: psql.rows(SUMS),
        wallets: psql.rows(WALLETS),
        holds: psql.rows(HOLDS),
        verify: verify(stand),
        seen: Vec::new(),
    };
    facts.seen = see(stand, known, &facts, random);
    facts
}

fn verify(stand: &Stand) -> Option<String> {
    let output = stand.tool(&["verify"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (!output.status.success())
        .then(|| format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// Asks for orders as their users do: some of those that were acknowledged, and those without a clear answer.
fn see(stand: &Stand, known: &Known, facts: &Facts, random: &mut Random) -> Vec<Seen> {
    let mut asked: Vec<(usize, String)> = Vec::new();
    let accepted: Vec<_> = known
        .orders
        .iter()
        .filter_map(|order| match &order.told {
            Told::Accepted { id, .. } => Some((order.user, id.clone())),
            Told::Pending { .. } | Told::Refused { .. } | Told::Nothing => None,
        })
        .collect();
    let count = u64::try_from(accepted.len()).unwrap_or(0);
    for _ in 0..ASKED_MAX.min(accepted.len()) {
        asked.push(accepted[usize::try_from(random.below(count)).unwrap_or(0)].clone());
    }
    for order in known
        .orders
        .iter()
        .filter(|order| matches!(order.told, Told::Pending { .. } | Told::Nothing))
    {
        let row = facts
            .rows
            .iter()
            .find(|row| row.account == order.account && row.quantity_lots == order.quantity_lots);
        let id = match &order.told {
            Told::Pending { id } => Some(id.clone()),
            _ => row.map(|row| row.id.clone()),
        };
        asked.extend(id.map(|id| (order.user, id)).filter(|_| asked.len() < UNCLEAR_MAX));
    }
    let servers = Arc::new(stand.server_addresses());
    let mut clients: Vec<Client> =
        stand.users.iter().map(|user| Client::new(user, &servers)).collect();
    asked.into_iter().map(|(user, id)| see_one(&mut clients[user], id)).collect()
}

fn see_one(client: &mut Client, id: String) -> Seen {
    let path = format!("/api/v1/orders/{id}");
    let status = wait_for("an order's page", PATIENCE, || {
        // Any server must know: the next one is asked each time.
        client.move_on();
        match client.send("GET", &path, &[], None) {
            Ok(answer) if answer.status == 200 => {
                Some(answer.json()["status"].as_str().map(str::to_owned))
            }
            Ok(answer) if answer.status == 404 => Some(None),
            _ => {
                std::thread::sleep(Duration::from_millis(50));
                None
            }
        }
    });
    Seen { id, status }
}
