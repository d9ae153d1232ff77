//! PostgreSQL, and what follows the journal in it.

use std::time::Duration;

use super::{Act, Busy, Scene, critical, lasting, warning};
use crate::proxy::Mode;

/// Connections that a stand's PostgreSQL keeps for its superuser.
const RESERVED: i64 = 3;
/// Clients that each wait for the database at once: more than a server has connections.
const READERS: usize = 32;

pub(super) const SESSIONS: Act = Act {
    what: "others hold most of PostgreSQL's connections, and one of them locks a projected table",
    alerts: &[warning("DatabaseConnectionsNearMax"), warning("ProjectionLagging")],
    begin: |scene| {
        scene.hold("LOCK TABLE market_candles IN EXCLUSIVE MODE");
        scene.hold_connections(88);
    },
    end: |scene| scene.release(),
};

pub(super) const NO_CONNECTION_LEFT: Act = Act {
    what: "others hold all of PostgreSQL's connections, and a server loses its own",
    alerts: &[lasting(critical("DatabaseConnectionsRefused"))],
    begin: |scene| {
        scene.hold_connections(100 - RESERVED);
        scene.run.stand.servers[1].database.close_all();
        // Those that it has given up.
        scene.hold_connections(100 - RESERVED);
    },
    end: |scene| {
        scene.props.sessions.clear();
        scene.run.stand.wait_ready();
    },
};

pub(super) const POOL: Act = Act {
    what: "a server's PostgreSQL answers after two seconds, and more requests ask than it has connections",
    alerts: &[warning("DatabasePoolExhausted")],
    begin: |scene| {
        scene.run.stand.servers[0].database.delay(Duration::from_secs(2));
        let address = vec![scene.run.stand.servers[0].address()];
        let address = std::sync::Arc::new(address);
        for place in 0..READERS {
            let users = &scene.run.stand.own_users;
            let mut client = crate::user::Client::new(&users[place % users.len()], &address);
            scene.props.busy.push(Busy::start(move || {
                // Whatever comes: it asks again.
                let _ = client.send("GET", "/api/v1/orders?status=closed", &[], None);
            }));
        }
    },
    end: |scene| {
        scene.run.stand.servers[0].database.delay(Duration::ZERO);
        scene.props.busy.clear();
    },
};

/// It hears of no row, and what it reads itself comes late.
pub(super) const BEHIND: Act = Act {
    what: "a server cut off from RabbitMQ, whose PostgreSQL answers after seven seconds",
    alerts: &[warning("FollowerBehind")],
    begin: |scene| {
        let server = &scene.run.stand.servers[1];
        server.database.delay(Duration::from_secs(7));
        server.broker.set(Mode::Cut);
    },
    end: |scene| {
        let server = &scene.run.stand.servers[1];
        server.database.delay(Duration::ZERO);
        server.broker.set(Mode::Open);
    },
};

pub(super) const DATABASE: Act = Act {
    what: "PostgreSQL stopped",
    alerts: &[critical("DatabaseDown")],
    begin: |scene| scene.run.stand.stop_database(false),
    end: |scene| {
        scene.run.stand.start_database(100);
        scene.watched.database.lead_to(scene.run.stand.database_port());
        scene.watched.database.close_all();
    },
};

impl Scene<'_, '_> {
    /// Opens connections until so many are in use.
    fn hold_connections(&mut self, most: i64) {
        let used = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let used: i64 = self.run.stand.psql().value(used).parse().expect("a count");
        for _ in used..most {
            self.hold("SELECT 1");
        }
    }
}
