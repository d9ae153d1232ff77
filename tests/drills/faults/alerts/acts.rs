//! The acts: what is done to the exchange so that an alert must fire, and how it is undone.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::{Psql, wait_for};

use super::{Act, Scene, critical, lasting, warning};
use crate::management::{DEAD_LETTERS, Management, Message, ORDERS};
use crate::process::{PATIENCE, Process};
use crate::proxy::Mode;
use crate::raw::{self, Maker};

/// Who fills the queue at once.
const PUBLISHERS: usize = 4;

/// The acts of a bounded run.
pub(super) const BOUNDED: &[Act] = &[LETTERS, PROCESSOR];

/// All, in an order in which none makes an alert of a later one fire before its time: what looks back for minutes comes first.
pub(super) const ALL: &[Act] = &[
    SLOW,
    CUT_OFF,
    PROCESSOR,
    LETTERS,
    DEPOSED,
    ASIDE,
    TAMPERED,
    SESSIONS,
    NOBODY_DECIDES,
    STUCK,
    MEMORY,
    SERVERS,
    BROKER,
    DATABASE,
    RESTARTS,
];

/// A session at the database that somebody else holds.
pub(super) struct Session(Child);

impl Session {
    fn start(psql: &Psql, sql: &str) -> Self {
        let mut command = Command::new("sh");
        let child = command
            .args(["-c", "exec psql -X -q -1 -h 127.0.0.1 -U exchange -d crypto_exchange -c \"$0\" -c 'SELECT pg_sleep(600)'", sql])
            .env("PGPORT", psql.port.to_string())
            .env("PGPASSWORD", &psql.password)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("psql is installed with PostgreSQL"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something that is done again and again, beside everything else.
pub(super) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                work();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Scene<'_, '_> {
    fn ctl(&self, arguments: &[&str]) {
        self.run.stand.broker.ctl(arguments).unwrap_or_else(|error| panic!("{error}"));
    }

    fn change(&self, sql: &str) {
        let done = self.run.stand.psql().try_run(sql);
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Changes what only the journal may change, as its superuser could.
    fn tamper(&self, sql: &str) {
        self.change(&format!("SET LOCAL session_replication_role = replica; {sql}"));
    }

    fn hold(&mut self, sql: &str) {
        let session = Session::start(&self.run.stand.psql(), sql);
        self.sessions.push(session);
    }

    fn release(&mut self) {
        self.busy.clear();
        self.sessions.clear();
        // The servers of killed clients go on until they write: they are ended.
        self.change(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql' \
             AND pid <> pg_backend_pid()",
        );
    }

    fn servers_way(&self, mode: Mode) {
        self.run.stand.servers.iter().for_each(|server| server.broker.set(mode));
    }

    fn processors_way(&self, mode: Mode) {
        self.run.stand.processors.iter().for_each(|processor| processor.broker.set(mode));
    }

    /// Halts a market, or opens it again: staff do it over the API, with a second factor that a drill does not have.
    fn market(&mut self, halted: bool) {
        let market = "SELECT id FROM markets WHERE symbol = 'ETH/BTC'";
        let market: u32 = self.run.stand.psql().value(market).parse().expect("a number");
        let (id, _) = raw::id(&mut self.run.random);
        let body = Maker::read(&self.run.stand.psql()).market(id, market, halted);
        Management::of(&self.run.stand.broker).publish(ORDERS, &Message::plain(body));
    }
}

const PROCESSOR: Act = Act {
    what: "both payment processors killed under load",
    alerts: &[critical("PaymentProcessorDown")],
    begin: |scene| scene.run.stand.processors.iter_mut().for_each(Process::kill),
    end: |scene| {
        scene.run.stand.processors.iter_mut().for_each(Process::spawn);
        scene.run.stand.wait_active();
    },
};

const LETTERS: Act = Act {
    what: "a message that is no command",
    alerts: &[lasting(warning("DeadLetters"))],
    begin: |scene| {
        let mut management = Management::of(&scene.run.stand.broker);
        management.publish(ORDERS, &Message::plain(b"{\"side\": \"buy\", ".to_vec()));
    },
    // The counter is looked at for ten minutes.
    end: |scene| {
        let mut management = Management::of(&scene.run.stand.broker);
        wait_for("the dead letter", PATIENCE, || {
            management.take(DEAD_LETTERS, 10).into_iter().next()
        });
    },
};

/// What stops nobody from trading; all of it at once.
const ASIDE: Act = Act {
    what: "the standby and one server killed, the exporter killed, a market halted",
    alerts: &[
        warning("ServerInstanceDown"),
        warning("StandbyMissing"),
        warning("MonitoringTargetDown"),
        warning("MarketHalted"),
    ],
    begin: |scene| {
        scene.market(true);
        let active = scene.run.stand.wait_active();
        let standby = scene.run.stand.processors.iter_mut().enumerate();
        standby.filter(|(place, _)| *place != active).for_each(|(_, process)| process.kill());
        scene.run.stand.servers[1].kill();
        scene.watched.monitoring.postgres_exporter.kill();
    },
    end: |scene| {
        scene.run.stand.heal();
        let exporter = &mut scene.watched.monitoring.postgres_exporter;
        exporter.start_again().unwrap_or_else(|error| panic!("{error}"));
        scene.market(false);
    },
};

/// The balance of a user who does nothing: nobody writes it meanwhile.
const TAMPERED: Act = Act {
    what: "a projected balance changed by hand, and changed back",
    alerts: &[critical("ProjectionDiffers")],
    begin: |scene| {
        let account = scene.run.stand.own_users[2].account;
        scene.tamper(&format!(
            "UPDATE balances SET available = available + 1 WHERE account_id = {account} AND asset_id = \
             (SELECT min(asset_id) FROM balances WHERE account_id = {account})"
        ));
    },
    end: |scene| {
        let account = scene.run.stand.own_users[2].account;
        scene.tamper(&format!(
            "UPDATE balances SET available = available - 1 WHERE account_id = {account} AND asset_id = \
             (SELECT min(asset_id) FROM balances WHERE account_id = {account})"
        ));
    },
};

const SESSIONS: Act = Act {
    what: "others hold most of PostgreSQL's connections, and one of them locks a projected table",
    alerts: &[warning("DatabaseConnectionsNearMax"), warning("ProjectionLagging")],
    begin: |scene| {
        scene.hold("LOCK TABLE market_candles IN EXCLUSIVE MODE");
        let used = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let used: i64 = scene.run.stand.psql().value(used).parse().expect("a count");
        for _ in used..88 {
            scene.hold("SELECT 1");
        }
    },
    end: |scene| scene.release(),
};

const NOBODY_DECIDES: Act = Act {
    what: "the payment processors cut off from RabbitMQ",
    alerts: &[critical("OrdersQueueWithoutConsumer")],
    begin: |scene| scene.processors_way(Mode::Cut),
    end: |scene| {
        scene.processors_way(Mode::Open);
        scene.run.stand.wait_active();
    },
};

const MEMORY: Act = Act {
    what: "RabbitMQ's memory alarm",
    alerts: &[critical("RabbitmqMemoryAlarm")],
    begin: |scene| scene.ctl(&["set_vm_memory_high_watermark", "0"]),
    end: |scene| scene.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]),
};

const DEPOSED: Act = Act {
    what: "somebody else claims the journal",
    alerts: &[lasting(warning("SequencerDeposed"))],
    begin: |scene| {
        scene.run.stand.wait_active();
        scene.change(
            "UPDATE epoch SET epoch = epoch + 1, owner = 'a drill', raised_at = clock_timestamp()",
        );
    },
    end: |_| {},
};

const SLOW: Act = Act {
    what: "a second and a half more on the servers' way to RabbitMQ, and as much on the sequencer's to PostgreSQL",
    alerts: &[
        lasting(warning("OrderLatencyHigh")),
        lasting(warning("LatencyHigh")),
        lasting(warning("JournalAppendSlow")),
    ],
    begin: |scene| {
        let by = Duration::from_millis(1_500);
        scene.run.stand.servers.iter().for_each(|server| server.broker.delay(by));
        scene.run.stand.processors.iter().for_each(|processor| processor.database.delay(by));
    },
    end: |scene| {
        scene.run.stand.servers.iter().for_each(|server| server.broker.delay(Duration::ZERO));
        let processors = &scene.run.stand.processors;
        processors.iter().for_each(|processor| processor.database.delay(Duration::ZERO));
    },
};

/// Appends wait for whoever holds the row of the epoch, as they would behind a takeover that hangs.
const STUCK: Act = Act {
    what: "appends held up by a lock, while commands come",
    alerts: &[
        // Held back by the next from then on, its end included.
        lasting(warning("CommandWaitingLong")),
        critical("CommandWaitingTooLong"),
        critical("CommandsNotDecided"),
        warning("OrdersQueueGrowing"),
    ],
    begin: |scene| {
        scene.hold("SELECT * FROM epoch FOR UPDATE");
        let maker = Maker::read(&scene.run.stand.psql());
        let account = scene.run.stand.own_users[0].account;
        let market = "SELECT id FROM markets WHERE symbol = 'BTC/USD'";
        let market: u32 = scene.run.stand.psql().value(market).parse().expect("a number");
        for _ in 0..PUBLISHERS {
            let (maker, mut random) = (maker.clone(), e2e::Random::new(scene.run.random.next()));
            let mut management = Management::of(&scene.run.stand.broker);
            scene.busy.push(Busy::start(move || {
                // Far from the market, and refused once too many are open: commands all the same.
                let (id, _) = raw::id(&mut random);
                let body = maker.place(id, account, market, 6_400_000, 1_000_000);
                management.publish(ORDERS, &Message::plain(body));
                std::thread::sleep(Duration::from_millis(10));
            }));
        }
    },
    end: |scene| scene.release(),
};

const CUT_OFF: Act = Act {
    what: "the servers cut off from RabbitMQ",
    alerts: &[lasting(critical("ErrorRateCritical"))],
    begin: |scene| scene.servers_way(Mode::Cut),
    end: |scene| scene.servers_way(Mode::Open),
};

const SERVERS: Act = Act {
    what: "both servers killed",
    alerts: &[critical("ServerDown")],
    begin: |scene| scene.run.stand.servers.iter_mut().for_each(Process::kill),
    end: |scene| scene.run.stand.heal(),
};

const BROKER: Act = Act {
    what: "RabbitMQ killed",
    alerts: &[critical("RabbitmqDown")],
    begin: |scene| scene.run.stand.broker.kill(),
    end: |scene| scene.run.stand.heal(),
};

const DATABASE: Act = Act {
    what: "PostgreSQL stopped",
    alerts: &[critical("DatabaseDown")],
    begin: |scene| scene.run.stand.stop_database(false),
    end: |scene| {
        scene.run.stand.start_database(100);
        scene.watched.database.lead_to(scene.run.stand.database_port());
        scene.watched.database.close_all();
    },
};

const RESTARTS: Act = Act {
    what: "a server killed and started, three times in a minute",
    alerts: &[lasting(critical("ProcessRestarting"))],
    begin: |scene| {
        for _ in 0..3 {
            scene.run.stand.servers[0].restart();
            scene.run.stand.wait_ready();
            // It must be seen between two of its starts.
            std::thread::sleep(Duration::from_secs(8));
        }
    },
    end: |_| {},
};
