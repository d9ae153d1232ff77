//! The projections: exactly the journal, whatever stops and starts; rebuilt the same; and every lie is found.

use std::sync::Arc;

use ::journal::Applied;
use engine::Side;
use store::lookup::{Kept, PendingOrder, insert_pending, kept, sweep_pending};
use store::projections::{Compared, compare, rebuild};
use store::{Db, Numeric, StoreError};
use units::{AccountId, CommandId, Sequence, Time};

use crate::common::database;
use crate::exchange::{BTC, BTC_USD, Exchange, Random, account, limit};
use crate::writers::Writers;

pub(crate) async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(db: &Db, sql: &str) -> T {
    let client = db.get().await.expect("a connection");
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

pub(crate) async fn execute(db: &Db, sql: &str) {
    let client = db.get().await.expect("a connection");
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn refusal(db: &Db, sql: &str) -> String {
    let client = db.get().await.expect("a connection");
    let error = client.batch_execute(sql).await.expect_err("the database refuses it");
    error.as_db_error().map(|error| error.message().to_owned()).expect("PostgreSQL's own refusal")
}

pub(crate) async fn compared(db: &Db) -> Compared {
    compare(db, &mut |_| {}).await.expect("a comparison")
}

/// What stands in all tables of the generation in use, as one hash per table.
pub(crate) async fn digest(db: &Db) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for table in [
        "assets",
        "markets",
        "accounts",
        "balances",
        "orders_projected",
        "trades",
        "postings",
        "deposits",
        "transfers",
        "withdrawals",
        "market_candles",
    ] {
        let sql = format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '-') FROM {table} t"
        );
        all.push((table.to_owned(), one(db, &sql).await));
    }
    all
}

/// A journal of random trading, not projected yet.
pub(crate) async fn random_journal(
    db: &Db,
    seed: u64,
    batches: usize,
) -> (Exchange, Vec<Arc<Applied>>) {
    let mut random = Random::new(seed);
    let (mut exchange, mut made) = Exchange::open(db, 6).await;
    made.extend(exchange.trade(&mut random, batches, 6).await);
    (exchange, made)
}

#[tokio::test]
async fn the_rows_are_the_cores_state() {
    let db = database().await;
    let (exchange, batches) = random_journal(&db, 1, 120).await;
    let mut projector = Writers::new(&db);
    projector.write(&batches).await.expect("written");
    let state = exchange.state();
    let client = db.get().await.expect("a connection");
    let mut seen = 0;
    for row in client
        .query("SELECT account_id, asset_id, available, held FROM balances", &[])
        .await
        .expect("rows")
    {
        let (account, asset): (i64, i32) = (row.get(0), row.get(1));
        let account = AccountId::new(account.try_into().expect("an id"));
        let asset = units::AssetId::new(asset.try_into().expect("an id"));
        let balance = state.balance(account, asset);
        assert_eq!(row.get::<_, Numeric>(2).amount(), Some(balance.available));
        assert_eq!(row.get::<_, Numeric>(3).amount(), Some(balance.held));
        seen += 1;
    }
    let there = state.accounts().map(|account| state.balances(account.id).count()).sum::<usize>();
    assert_eq!(seen, there);
    let open: i64 =
        one(&db, "SELECT count(*) FROM orders WHERE status IN ('open', 'partially_filled')").await;
    let live: usize = state.accounts().map(|account| state.open_orders(account.id).count()).sum();
    assert_eq!(usize::try_from(open), Ok(live));
    // Every kind of row is there, so that the comparison below compares something.
    for table in
        ["orders", "trades", "postings", "deposits", "transfers", "withdrawals", "market_candles"]
    {
        assert!(one::<i64>(&db, &format!("SELECT count(*) FROM {table}")).await > 0, "{table}");
    }
    for status in ["filled", "cancelled", "expired", "rejected"] {
        let sql = format!("SELECT count(*) FROM orders WHERE status = '{status}'");
        assert!(one::<i64>(&db, &sql).await > 0, "{status}");
    }
    let unbalanced =
        "SELECT count(*) FROM (SELECT 1 FROM postings GROUP BY asset_id HAVING sum(amount) <> 0) t";
    assert_eq!(one::<i64>(&db, unbalanced).await, 0);
    let wrong = "SELECT count(*) FROM balances b WHERE available + held <> (SELECT sum(amount) FROM postings p
        WHERE p.account_id = b.account_id AND p.asset_id = b.asset_id)";
    assert_eq!(one::<i64>(&db, wrong).await, 0);
    let candles = "SELECT count(*) FROM market_candles c WHERE (volume_lots, trades, high_ticks, low_ticks) IS DISTINCT FROM
        (SELECT (sum(quantity_lots), count(*), max(price_ticks), min(price_ticks)) FROM trades t
         WHERE t.market_id = c.market_id AND t.time >= c.open_time
           AND t.time < c.open_time + make_interval(secs => c.interval_seconds))";
    assert_eq!(one::<i64>(&db, candles).await, 0, "a candle is [open, close)");
}

#[tokio::test]
async fn how_the_journal_is_cut_and_who_writes_makes_no_difference() {
    let (whole, cut) = (database().await, database().await);
    let (_, batches) = random_journal(&whole, 2, 80).await;
    let (_, again) = random_journal(&cut, 2, 80).await;
    Writers::new(&whole).write(&batches).await.expect("written");
    // One by one, by two projectors at once, each with everything, each again and again.
    let (mut a, mut b) = (Writers::new(&cut), Writers::new(&cut));
    for end in 1..=again.len() {
        let from = end.saturating_sub(3);
        let batches = &again[from..end];
        let (first, second) = tokio::join!(a.write(batches), b.write(batches));
        assert_eq!(first.expect("written"), second.expect("written"));
    }
    assert_eq!(digest(&whole).await, digest(&cut).await);
    // Restarted: what is projected is passed over, what is missing is asked for.
    let mut late = Writers::new(&cut);
    assert_eq!(
        late.progress().await.expect("progress"),
        again.last().expect("batches").batch.sequence
    );
    late.write(&again).await.expect("nothing to do");
    assert_eq!(digest(&whole).await, digest(&cut).await);
    let empty = database().await;
    let gap = Writers::new(&empty).write(&again[3..]).await;
    assert!(matches!(gap, Err(StoreError::Corrupt(_))), "{gap:?}");
}

#[tokio::test]
async fn a_rebuild_while_live_is_identical_and_takes_over() {
    let db = database().await;
    let (mut exchange, batches) = random_journal(&db, 3, 60).await;
    let mut live = Writers::new(&db);
    live.write(&batches).await.expect("written");
    let before = digest(&db).await;
    // Readers hold the views, and the live projector goes on, while the rebuild runs.
    let mut random = Random::new(4);
    let mut steps = 0;
    let mut on_progress = |_| steps += 1;
    let trading = async {
        for batch in exchange.trade(&mut random, 40, 6).await {
            live.write(&[batch]).await.expect("written, whatever generation is in use");
        }
    };
    let (rebuilt, ()) = tokio::join!(rebuild(&db, &mut on_progress), trading);
    let rebuilt = rebuilt.expect("rebuilt");
    assert_eq!(rebuilt.generation, "projected_2");
    assert!(steps > 0);
    assert_ne!(digest(&db).await, before, "the live projector went on in the new generation");
    let head = live.progress().await.expect("progress");
    assert_eq!(head, exchange.state().sequence());
    assert_eq!(compared(&db).await.differences, []);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'projected%'";
    assert_eq!(one::<i64>(&db, schemas).await, 1, "what is not in use is gone");
    let as_it_was = digest(&db).await;
    rebuild(&db, &mut |_| {}).await.expect("rebuilt again");
    assert_eq!(digest(&db).await, as_it_was);
    // Dropped and rebuilt.
    execute(
        &db,
        "ALTER TABLE projected_3.postings DISABLE TRIGGER USER; DELETE FROM projected_3.postings;
        DELETE FROM projected_3.orders; DELETE FROM projected_3.balances",
    )
    .await;
    rebuild(&db, &mut |_| {}).await.expect("rebuilt from the journal alone");
    assert_eq!(digest(&db).await, as_it_was);
}

#[tokio::test]
async fn every_lie_is_found_and_named() {
    let db = database().await;
    let (_, batches) = random_journal(&db, 5, 60).await;
    Writers::new(&db).write(&batches).await.expect("written");
    let clean = compared(&db).await;
    assert_eq!(clean.differences, []);
    assert_eq!(clean.sequence, batches.last().expect("batches").batch.sequence);
    assert!(clean.rows > 500);
    let lies = [
        (
            "UPDATE balances SET available = available + 1 WHERE account_id = 1002 AND asset_id = 1",
            "UPDATE balances SET available = available - 1 WHERE account_id = 1002 AND asset_id = 1",
            "balances account_id = 1002, asset_id = 1: available is",
        ),
        (
            "UPDATE trades SET price_ticks = price_ticks + 1 WHERE market_id = 0 AND trade_id = 2",
            "UPDATE trades SET price_ticks = price_ticks - 1 WHERE market_id = 0 AND trade_id = 2",
            "trades market_id = 0, trade_id = 2: price_ticks is",
        ),
        (
            "ALTER TABLE projected_1.postings DISABLE TRIGGER USER;
          CREATE TABLE kept AS SELECT * FROM postings WHERE sequence = 2 AND posting = 3;
          DELETE FROM postings WHERE sequence = 2 AND posting = 3",
            "INSERT INTO postings SELECT * FROM kept; DROP TABLE kept;
          ALTER TABLE projected_1.postings ENABLE TRIGGER USER",
            "postings sequence = 2, posting = 3: the row is missing",
        ),
        (
            "INSERT INTO accounts VALUES (1999, false, false, false, false, now(), 2)",
            "DELETE FROM accounts WHERE id = 1999",
            "accounts id = 1999: the journal knows no such row",
        ),
        (
            "UPDATE orders_projected SET reason = 'sold' WHERE id = (SELECT min(id::text)::uuid FROM orders)",
            "",
            "orders id = ",
        ),
    ];
    for (lie, truth, expected) in lies {
        execute(&db, lie).await;
        let found = compared(&db).await.differences;
        assert_eq!(found.len(), 1, "{found:?}");
        let text = found[0].to_string();
        assert!(text.starts_with(expected), "{text}");
        execute(&db, truth).await;
    }
    let sold = compared(&db).await.differences;
    assert_eq!(sold[0].column.as_deref(), Some("reason"));
    assert_eq!(sold[0].found.as_deref(), Some("sold"));
    // A journal row that was changed is found before any projection is looked at.
    execute(&db, "ALTER TABLE journal DISABLE TRIGGER USER;
        UPDATE journal SET payload = set_byte(payload, 9, get_byte(payload, 9) # 1) WHERE sequence = 5").await;
    let refused = compare(&db, &mut |_| {}).await.expect_err("refused").to_string();
    assert!(refused.contains("journal row 5"), "{refused}");
    execute(&db, "DELETE FROM journal WHERE sequence = 5").await;
    let refused = compare(&db, &mut |_| {}).await.expect_err("refused").to_string();
    assert!(refused.contains("journal row 5 is missing"), "{refused}");
}

#[tokio::test]
async fn the_database_itself_refuses_the_impossible() {
    let db = database().await;
    let (_, batches) = Exchange::open(&db, 2).await;
    Writers::new(&db).write(&batches).await.expect("written");
    for (lie, named) in [
        ("UPDATE balances SET available = -1", "balances_available_check"),
        ("UPDATE balances SET held = -1", "balances_held_check"),
        ("UPDATE postings SET amount = 0", "append-only"),
        ("DELETE FROM postings", "append-only"),
        ("TRUNCATE projected_1.postings", "append-only"),
        ("UPDATE markets SET last_price_ticks = 0", "markets"),
    ] {
        let message = refusal(&db, lie).await;
        assert!(message.contains(named), "{lie}: {message}");
    }
}

#[tokio::test]
async fn the_runbooks_queries_run_as_printed() {
    let db = database().await;
    let (mut exchange, mut batches) = Exchange::open(&db, 2).await;
    let mut projector = Writers::new(&db);
    projector.write(&batches).await.expect("written");
    let wallet = "SELECT balance_usd::text FROM wallets WHERE account_id = 1000 AND asset = 'BTC'";
    assert_eq!(one::<Option<String>>(&db, wallet).await, None, "no price, no value");
    // 100 lots of 0.00001 BTC at 5,000 ticks of 0.01 USD.
    batches = vec![
        exchange
            .commit(vec![limit(0, Side::Sell, 5_000, 100), limit(1, Side::Buy, 5_100, 60)])
            .await,
    ];
    projector.write(&batches).await.expect("written");
    assert_eq!(one::<i64>(&db, "SELECT COUNT(*) FROM orders WHERE status = 'pending'").await, 0);
    execute(&db, "SELECT * FROM wallets WHERE balance_usd < 0; SELECT COUNT(*), status FROM orders GROUP BY status").await;
    assert_eq!(one::<i64>(&db, "SELECT count(*) FROM wallets WHERE balance_usd < 0").await, 0);
    assert_eq!(
        one::<i64>(&db, "SELECT count(*) FROM wallets WHERE account_id = 0").await,
        0,
        "the outside world"
    );
    assert_eq!(
        exchange.state().market(BTC_USD).expect("a market").last_price.map(units::PriceTicks::get),
        Some(5_000)
    );
    let balance = exchange.state().balance(account(0), BTC);
    // A BTC is 10^8 units and 10^5 lots, each worth 5,000 × 10^-7 USD.
    let value = balance.total().get() * 5_000 / 1_000;
    let told: String = one(&db, wallet).await;
    let told: String = told.split('.').collect();
    assert!(told.starts_with(&value.to_string()), "{told} {value}");
    let usd: bool = one(
        &db,
        "SELECT bool_and(balance_usd = balance_decimal AND balance = balance_decimal * 1e7)
        FROM wallets WHERE asset = 'USD'",
    )
    .await;
    assert!(usd, "USD is exact");
    let order: String = one(
        &db,
        "SELECT market || ' ' || price || ' ' || quantity || ' ' || filled || ' ' || status
        FROM orders WHERE side = 'sell'",
    )
    .await;
    assert_eq!(order, "BTC/USD 50.0000000 0.00100000 0.00060000 partially_filled");
}

#[tokio::test]
async fn a_pending_command_is_seen_until_it_is_projected_or_past_its_expiry() {
    let db = database().await;
    let (mut exchange, batches) = Exchange::open(&db, 2).await;
    let mut projector = Writers::new(&db);
    projector.write(&batches).await.expect("written");
    let mut commands = Vec::new();
    for seconds in [5, 3_600] {
        let mut command = exchange.command(limit(0, Side::Sell, 5_000, 100));
        let now = exchange.state().time();
        command.expires_at = now.plus_micros(seconds * 1_000_000);
        let engine::Action::PlaceOrder(order) = &command.action else {
            unreachable!("it places an order")
        };
        let pending = PendingOrder {
            id: uuid::Uuid::from_u128(command.id.get()),
            order,
            words: ["sell", "limit", "gtc", "cancel_newest"],
            expires_at: command.expires_at,
            now,
        };
        insert_pending(&db, &pending).await.expect("inserted");
        insert_pending(&db, &pending).await.expect("and again, which changes nothing");
        commands.push(command);
    }
    let pending = "SELECT COUNT(*) FROM orders WHERE status = 'pending'";
    assert_eq!(one::<i64>(&db, pending).await, 2);
    // Ten seconds of journal time later the first can only be refused.
    exchange.advance(10);
    let tick = exchange.commit(vec![engine::Action::Tick]).await;
    projector.write(&[tick]).await.expect("written");
    assert_eq!(one::<i64>(&db, pending).await, 1);
    assert_eq!(one::<i64>(&db, "SELECT count(*) FROM orders WHERE status = 'expired'").await, 1);
    assert_eq!(sweep_pending(&db).await.expect("swept"), 0, "none is answered yet");
    let both = exchange.commit_commands(commands).await;
    projector.write(&[both]).await.expect("written");
    let statuses = "SELECT string_agg(status, ' ' ORDER BY id) FROM orders";
    assert_eq!(one::<String>(&db, statuses).await, "expired open");
    assert_eq!(sweep_pending(&db).await.expect("swept"), 2);
    assert_eq!(one::<String>(&db, statuses).await, "expired open");
}

#[tokio::test]
async fn a_command_is_kept_in_the_journal_before_the_projections_have_it() {
    let db = database().await;
    let (mut exchange, batches) = Exchange::open(&db, 2).await;
    let mut projector = Writers::new(&db);
    projector.write(&batches).await.expect("written");
    let command = exchange.command(limit(0, Side::Sell, 5_000, 100));
    let id = command.id;
    let decided = exchange.commit_commands(vec![command]).await;
    let (row, time) = (decided.batch.sequence, decided.batch.time);
    let ask = async |since| kept(&db, id, since).await.expect("an answer").decided_in;
    assert_eq!(ask(time.plus_micros(1)).await, Some(row), "a state that has forgotten the row");
    assert_eq!(ask(time).await, None, "a state that remembers it needs no look");
    projector.write(&[decided]).await.expect("written");
    assert_eq!((ask(time.plus_micros(1)).await, ask(Time::ZERO).await), (Some(row), Some(row)));
    let other = kept(&db, CommandId::new(7), Time::MAX).await.expect("an answer");
    assert_eq!(other, Kept::default());
}

#[tokio::test]
async fn a_pending_order_lives_as_long_as_the_last_that_was_sent_of_it() {
    let db = database().await;
    let (mut exchange, _) = Exchange::open(&db, 2).await;
    let command = exchange.command(limit(0, Side::Sell, 5_000, 100));
    let engine::Action::PlaceOrder(order) = &command.action else {
        unreachable!("it places an order")
    };
    let now = exchange.state().time();
    for (seconds, expected) in [(5, 5), (9, 9), (7, 9)] {
        let pending = PendingOrder {
            id: uuid::Uuid::from_u128(command.id.get()),
            order,
            words: ["sell", "limit", "gtc", "cancel_newest"],
            expires_at: now.plus_micros(seconds * 1_000_000),
            now,
        };
        insert_pending(&db, &pending).await.expect("inserted");
        let kept = kept(&db, command.id, now).await.expect("an answer");
        assert_eq!(kept.pending_until, Some(now.plus_micros(expected * 1_000_000)));
    }
}

#[tokio::test]
async fn what_waits_is_counted_until_nothing_can_come_of_it_any_more() {
    let db = database().await;
    let (mut exchange, _) = Exchange::open(&db, 2).await;
    let command = exchange.command(limit(0, Side::Sell, 5_000, 100));
    let engine::Action::PlaceOrder(order) = &command.action else {
        unreachable!("it places an order")
    };
    let waiting = async || store::operations::waiting(&db).await.expect("an answer");
    assert_eq!(waiting().await, store::operations::Waiting::default());
    let now = exchange.state().time();
    let pending = PendingOrder {
        id: uuid::Uuid::from_u128(command.id.get()),
        order,
        words: ["sell", "limit", "gtc", "cancel_newest"],
        expires_at: now.plus_micros(9_000_000),
        now,
    };
    insert_pending(&db, &pending).await.expect("inserted");
    assert_eq!(waiting().await.pending, 1);
    // The projections have passed its expiry: it will be refused, if it comes at all.
    let client = db.get().await.expect("a connection");
    let late = "UPDATE projection_parts SET time = 'infinity'";
    client.execute(late, &[]).await.expect("updated");
    let passed = waiting().await;
    assert_eq!((passed.pending, passed.oldest_pending), (0, std::time::Duration::ZERO));
    let overview = store::operations::overview(&db).await.expect("an answer");
    assert_eq!((overview.parts.len(), overview.audited), (3, None));
    assert_eq!(overview.head, Some(exchange.state().sequence()));
}

#[tokio::test]
async fn progress_is_what_the_database_says() {
    let db = database().await;
    let mut projector = Writers::new(&db);
    assert_eq!(projector.progress().await.expect("progress"), Sequence::new(0));
    let (_, batches) = Exchange::open(&db, 1).await;
    let written = projector.write(&batches).await.expect("written");
    assert_eq!(written, batches.last().expect("batches").batch.sequence);
    assert_eq!(projector.progress().await.expect("progress"), written);
}

#[tokio::test]
async fn the_planner_looks_into_the_view_of_orders() {
    let db = database().await;
    let (_, batches) = random_journal(&db, 6, 30).await;
    Writers::new(&db).write(&batches).await.expect("written");
    let client = db.get().await.expect("a connection");
    for (query, expected) in [
        // The projected part cannot have a pending order, and the planner knows.
        ("SELECT count(*) FROM orders WHERE status = 'pending'", "pending_commands"),
        (
            "SELECT * FROM orders WHERE account_id = 1003 ORDER BY created_at DESC, id DESC LIMIT 9",
            "Index Scan Backward using orders_account",
        ),
        ("SELECT * FROM orders WHERE id = md5('x')::uuid", "Index Scan using orders_pkey"),
    ] {
        client
            .batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
            .await
            .expect("set");
        let plan = client.query(&format!("EXPLAIN {query}"), &[]).await.expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(expected), "{query}:\n{plan}");
        assert!(!plan.contains("Seq Scan on orders"), "{query}:\n{plan}");
    }
}

#[tokio::test]
async fn numbers_and_times_mean_the_same_to_postgresql() {
    let db = database().await;
    let client = db.get().await.expect("a connection");
    let mut random = Random::new(7);
    let mut numbers =
        vec![Numeric::from(u128::MAX), Numeric::from(i128::MIN), Numeric::from(0_u64)];
    for _ in 0..500 {
        let bits = u128::from(random.below(u64::MAX)) << 64 | u128::from(random.below(u64::MAX));
        let magnitude = bits >> random.below(128);
        let negative = magnitude != 0 && random.below(2) == 0;
        numbers.push(Numeric { negative, magnitude });
    }
    for number in numbers {
        let sign = if number.negative { "-" } else { "" };
        let text = format!("{sign}{}", number.magnitude);
        let row = client
            .query_one(
                "SELECT ($1::numeric)::text, $1::numeric, ($2::text)::numeric",
                &[&number, &text],
            )
            .await
            .expect("a row");
        assert_eq!(row.get::<_, String>(0), text);
        assert_eq!((row.get::<_, Numeric>(1), row.get::<_, Numeric>(2)), (number, number));
    }
    for (micros, expected) in [
        (0, "1970-01-01 00:00:00+00"),
        (1_772_323_200_000_001, "2026-03-01 00:00:00.000001+00"),
        (i64::MAX.unsigned_abs(), "294247-01-10 04:00:54.775807+00"),
        (u64::MAX, "infinity"),
    ] {
        let time = store::Timestamp(units::Time::from_micros(micros));
        let row = client.query_one("SELECT ($1::timestamptz)::text", &[&time]).await;
        assert_eq!(row.expect("a row").get::<_, String>(0), expected);
    }
}
