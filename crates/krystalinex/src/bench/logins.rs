//! Section `logins`: a storm of logins, and what the orders of others notice of it.
//!
//! Orders are offered at a fixed rate, half of what the exchange took just before, in turns with and without logins. The
//! logins come from more addresses and for more accounts than the limits of either hold up, with the right password: so
//! every one of them would be let in, and nothing but the bound on hashing protects the orders.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use server::PasswordCost;
use server::auth::password::Passwords;

use super::http;
use super::load::{self, Outcome, Script};
use super::machine;
use super::orders::{self, Pairing};
use super::seed;
use super::stand::{self, Ground, Loaded, Stand};
use super::table::{Row, Table, Target};
use super::whole::{self, Effort};
use crate::verify;

const SECTION: &str = "logins";
/// Connections of the orders.
const CONNECTIONS: usize = 64;
/// Logins a second that are offered.
const LOGINS_PER_SECOND: f64 = 200.0;
/// Accounts that are logged in to, each over a connection and from an address of its own: more than can wait for a hash at
/// once, so that hardly any login waits for its connection.
const ACCOUNTS: usize = 250;
const PASSWORD: &str = "correct horse battery";

/// One pair of runs.
struct Pair {
    without: Outcome,
    with: Outcome,
    logins: Outcome,
}

/// Measures the section.
///
/// # Errors
///
/// The exchange fails, or its journal does not verify afterwards.
pub(crate) async fn run(table: &mut Table, stand: &Stand, quick: bool) -> anyhow::Result<()> {
    let effort = Effort::new(quick);
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let hash = Passwords::new(PasswordCost::default()).hash(PASSWORD.to_owned()).await;
    let hash = hash.map_err(|problem| anyhow::anyhow!("no hash: {}", problem.code().name()))?;
    let ground = Ground::lay_for(stand, &hash).await?;
    // The load comes from this machine and says which address it stands for, as a proxy does.
    let settings = [("KX_TRUSTED_PROXIES", "127.0.0.1")];
    let loaded = Loaded::on(ground, data.path(), &settings).await?;
    let peak =
        whole::loaded_run(stand, &loaded, effort.time, CONNECTIONS, Pairing::Any).await?.outcome;
    whole::settled(&loaded.db).await?;
    let rate = peak.rate() / 2.0;
    let mut pairs = Vec::new();
    for number in 0..effort.pairs {
        // Whichever comes first may find the machine in another mood.
        let storm_first = number % 2 == 1;
        let (mut without, mut storm) = (None, None);
        for is_storm in [storm_first, !storm_first] {
            if is_storm {
                let (orders, logins) = tokio::join!(
                    orders_at(&loaded, rate, effort.time),
                    logins_at(&loaded, effort.time)
                );
                storm = Some((orders?, logins?));
            } else {
                without = Some(orders_at(&loaded, rate, effort.time).await?);
            }
            whole::settled(&loaded.db).await?;
        }
        if let (Some(without), Some((with, logins))) = (without, storm) {
            pairs.push(Pair { without, with, logins });
        }
    }
    report(table, peak.rate(), rate, &pairs);
    loaded.exchange.stop().await?;
    let verified = verify::verify(&loaded.db, true).await?;
    ensure!(verified.is_clean(), "the loaded exchange's journal does not verify:\n{verified}");
    Ok(())
}

async fn orders_at(loaded: &Loaded, rate: f64, time: Duration) -> anyhow::Result<Outcome> {
    let (address, tokens) = (loaded.exchange.address(), stand::tokens()?);
    let scripts = orders::scripts(address, &loaded.users, &tokens, CONNECTIONS, Pairing::Any);
    load::run_at(address, scripts, rate, time).await
}

async fn logins_at(loaded: &Loaded, time: Duration) -> anyhow::Result<Outcome> {
    let address = loaded.exchange.address();
    let login = |number: usize| {
        let body = json!({ "email": seed::email(number), "password": PASSWORD });
        // One of the addresses that are for documentation.
        let from = [("x-forwarded-for", format!("198.51.100.{}", number + 1))];
        http::request_with("POST", "/api/v1/auth/login", address, &from, Some(&body.to_string()))
    };
    let scripts = (0..ACCOUNTS).map(|number| -> Script { vec![login(number)] }).collect();
    load::run_at(address, scripts, LOGINS_PER_SECOND, time).await
}

fn report(table: &mut Table, peak: f64, rate: f64, pairs: &[Pair]) {
    let median =
        |of: &dyn Fn(&Pair) -> f64| machine::median(&pairs.iter().map(of).collect::<Vec<_>>());
    let p99 = |outcome: &Outcome| outcome.latency_ms(0.99);
    let p50 = |outcome: &Outcome| outcome.latency_ms(0.5);
    let told = format!(
        "{rate:.0} orders/s offered, half of {peak:.0}; {:.0} answered; p50 {:.1} ms; medians of {} pairs",
        median(&|pair| pair.without.rate()),
        median(&|pair| p50(&pair.without)),
        pairs.len()
    );
    let row =
        Row::new(SECTION, "orders at half the peak: p99", median(&|pair| p99(&pair.without)), "ms");
    table.push(row.note(told));
    let told = format!(
        "{:.0} orders/s answered; p50 {:.1} ms",
        median(&|pair| pair.with.rate()),
        median(&|pair| p50(&pair.with))
    );
    let what = "the same with 200 logins/s offered: p99";
    table.push(Row::new(SECTION, what, median(&|pair| p99(&pair.with)), "ms").note(told));
    let row = Row::new(
        SECTION,
        "p99 with logins, over without",
        median(&|pair| p99(&pair.with) / p99(&pair.without)),
        "×",
    );
    table.push(row.reach(Target::AtMost(1.5)));
    let errors = pairs.iter().map(|pair| pair.without.errors() + pair.with.errors()).sum();
    let row = Row::new(SECTION, "errors of orders", machine::ratio(errors, 1), "");
    table.push(row.reach(Target::AtMost(0.0)));
    let of = |status: u16| {
        median(&|pair: &Pair| {
            let count = pair.logins.statuses.get(&status).copied().unwrap_or(0);
            machine::ratio(count, 1) / pair.logins.elapsed.as_secs_f64()
        })
    };
    let waited = median(&|pair| p50(&pair.logins));
    let row = Row::new(SECTION, "logins let in (200)", of(200), "logins/s");
    table.push(row.reach(Target::AtLeast(1.0)).note(format!("p50 of all answers {waited:.0} ms")));
    table.push(Row::new(SECTION, "logins sent away (429)", of(429), "logins/s"));
    let others = pairs.iter().flat_map(|pair| &pair.logins.statuses);
    let others = others.filter(|(status, _)| ![200, 429].contains(*status));
    let text: Vec<_> =
        others.clone().map(|(status, count)| format!("{count} × {status}")).collect();
    let count = others.map(|(_, count)| count).sum();
    let row = Row::new(SECTION, "logins answered otherwise", machine::ratio(count, 1), "");
    table.push(row.reach(Target::AtMost(0.0)).note(text.join(", ")));
}
