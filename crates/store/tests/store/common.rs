//! One cluster for the tests of one program, and a database for each test.

use std::sync::OnceLock;

use ::journal::{Batch, Entry, Row};
use engine::{Action, Command, Event, Origin, Settings};
use store::cluster::Throwaway;
use store::{Db, DbConfig, migrate};
use units::{CommandId, Hash32, Sequence, Time};

static CLUSTER: OnceLock<Throwaway> = OnceLock::new();

/// Starts the cluster in a runtime of its own: each test has another runtime, which ends with the test.
fn cluster() -> &'static Throwaway {
    CLUSTER.get_or_init(|| {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(Throwaway::start()).expect("a cluster")
        };
        std::thread::scope(|scope| scope.spawn(start).join().expect("the cluster starts"))
    })
}

/// Returns a database with nothing in it.
pub(crate) async fn empty_database() -> Db {
    let config: DbConfig = cluster().database().await.expect("a database");
    Db::connect(config).await.expect("a connection")
}

/// Returns a database with the schema in it.
pub(crate) async fn database() -> Db {
    let db = empty_database().await;
    migrate::run(&db).await.expect("the schema");
    db
}

/// When the journals of the tests begin: 2026-03-01 00:00:00 UTC.
pub(crate) const BEGIN: u64 = 1_772_323_200_000_000;

/// Makes a journal's row of one command that does nothing.
pub(crate) fn tick(sequence: u64, epoch: u64, previous: Hash32) -> Row {
    tick_at(sequence, epoch, previous, BEGIN + sequence)
}

/// The same, at another time.
pub(crate) fn tick_at(sequence: u64, epoch: u64, previous: Hash32, micros: u64) -> Row {
    let action = match sequence {
        1 => Action::Genesis(Settings { incarnation: u64::MAX - 7, salt: 1, sandbox: true }),
        _ => Action::Tick,
    };
    let command = Command {
        id: CommandId::new(u128::from(sequence)),
        body_hash: 1,
        expires_at: Time::MAX,
        trace_id: 0,
        origin: Origin::Client,
        action,
    };
    let batch = Batch {
        sequence: Sequence::new(sequence),
        time: Time::from_micros(micros),
        incarnation: u64::MAX - 7,
        epoch,
        rules: ::journal::RULES,
        entries: vec![Entry { command, event: Event::Done }],
    };
    ::journal::seal(&batch, previous)
}
