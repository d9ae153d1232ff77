//! The order's way: servers, RabbitMQ, the sequencer.

use std::time::Duration;

use e2e::{Http, wait_for};
use serde_json::json;

use super::{Act, Busy, critical, held_back, lasting, warning, within_minutes};
use crate::management::{DEAD_LETTERS, Management, Message, ORDERS};
use crate::process::PATIENCE;
use crate::proxy::Mode;
use crate::raw::{self, Maker};
use crate::user::Client;

/// Who fills the queue at once.
const PUBLISHERS: usize = 4;
/// Of so many requests one fails, beside those of the load.
const REQUESTS_PER_FAILURE: u32 = 30;

pub(super) const LETTERS: Act = Act {
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

pub(super) const SLOW: Act = Act {
    what: "a second and a half more on the servers' way to RabbitMQ, and as much on the sequencer's to PostgreSQL",
    alerts: &[
        lasting(warning("OrderLatencyHigh")),
        lasting(warning("LatencyHigh")),
        lasting(warning("JournalAppendSlow")),
        lasting(critical("OrderLatencyBudgetBurnFast")),
    ],
    begin: |scene| {
        let by = Duration::from_millis(1_500);
        scene.slow_servers(by);
        scene.run.stand.processors.iter().for_each(|processor| processor.database.delay(by));
    },
    end: |scene| {
        scene.slow_servers(Duration::ZERO);
        let processors = &scene.run.stand.processors;
        processors.iter().for_each(|processor| processor.database.delay(Duration::ZERO));
    },
};

/// What burns fast holds back what burns slowly, for as long as there are orders in its five minutes.
pub(super) const NO_ORDERS: Act = Act {
    what: "a sixth of half an hour's orders were slow, and now there are none",
    alerts: &[within_minutes(10, lasting(warning("OrderLatencyBudgetBurnSlow")))],
    begin: |scene| scene.load.pause(true),
    end: |scene| scene.load.pause(false),
};

pub(super) const CUT_OFF: Act = Act {
    what: "the servers cut off from RabbitMQ",
    alerts: &[
        lasting(critical("ErrorRateCritical")),
        lasting(critical("ApiErrorBudgetBurnFast")),
        held_back(warning("ApiErrorBudgetBurnSlow")),
    ],
    begin: |scene| scene.servers_way(Mode::Cut),
    end: |scene| scene.servers_way(Mode::Open),
};

/// One server refuses orders. The load's users go to the other one then; somebody stays, and reads far more than that.
pub(super) const SOME_FAIL: Act = Act {
    what: "one server of two cut off from RabbitMQ, and one request of thirty an order to it",
    alerts: &[lasting(warning("ErrorRateHigh"))],
    begin: |scene| {
        let servers = &scene.run.stand.servers;
        servers[1].broker.set(Mode::Cut);
        let mut reads = Http::new(servers[0].address());
        let stays = std::sync::Arc::new(vec![servers[1].address()]);
        let mut client = Client::new(&scene.run.stand.own_users[1], &stays);
        scene.props.busy.push(Busy::start(move || {
            for _ in 1..REQUESTS_PER_FAILURE {
                // Whatever it answers: too many requests are no failure of ours.
                let _ = reads.get("/api/v1/markets");
                std::thread::sleep(Duration::from_millis(2));
            }
            let order = json!({"market": "BTC/USD", "side": "buy", "orderType": "limit", "price": "64000.00", "quantity": "0.01"});
            let _ = client.send("POST", "/api/v1/orders", &[], Some(&order));
        }));
    },
    end: |scene| {
        scene.props.busy.clear();
        scene.run.stand.servers[1].broker.set(Mode::Open);
    },
};

pub(super) const NOBODY_DECIDES: Act = Act {
    what: "the payment processors cut off from RabbitMQ",
    alerts: &[critical("OrdersQueueWithoutConsumer"), critical("NoActiveSequencer")],
    begin: |scene| scene.processors_way(Mode::Cut),
    end: |scene| {
        scene.processors_way(Mode::Open);
        scene.run.stand.wait_active();
    },
};

/// Appends wait for whoever holds the row of the epoch, as they would behind a takeover that hangs.
pub(super) const STUCK: Act = Act {
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
            scene.props.busy.push(Busy::start(move || {
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

pub(super) const ALARMS: Act = Act {
    what: "RabbitMQ's memory and disk alarms",
    alerts: &[critical("RabbitmqMemoryAlarm"), critical("RabbitmqDiskAlarm")],
    begin: |scene| {
        scene.memory_alarm(true);
        scene.disk_alarm(true);
    },
    end: |scene| {
        scene.memory_alarm(false);
        scene.disk_alarm(false);
    },
};

pub(super) const BROKER: Act = Act {
    what: "RabbitMQ killed",
    alerts: &[critical("RabbitmqDown")],
    begin: |scene| scene.run.stand.broker.kill(),
    end: |scene| scene.run.stand.heal(),
};
