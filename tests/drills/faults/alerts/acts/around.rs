//! What trading does not stand on, and what shows only after a while.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use e2e::binary;
use serde_json::{Value, json};

use super::{Act, Scene, critical, held_back, info, lasting, warning, within_minutes};
use crate::answering::Answering;
use crate::faults::blackhole::register;
use crate::hole::{Hole, Outside};

/// Kraken's names of our markets.
const KRAKEN: [(&str, &str); 3] =
    [("BTC/USD", "XBTUSD"), ("ETH/USD", "ETHUSD"), ("ETH/BTC", "ETHXBT")];

pub(super) const STALE_FEED: Act = Act {
    what: "Binance takes connections and says nothing, Kraken answers",
    // Their end is held back by what comes next.
    alerts: &[lasting(info("PriceFeedStale")), lasting(warning("CircuitBreakerOpen"))],
    begin: |scene| {
        let hole = Hole::start();
        let kraken = Answering::start(scene.ticker().to_string());
        let feeds =
            format!("binance=ws://127.0.0.1:{},kraken=http://127.0.0.1:{}", hole.port, kraken.port);
        scene.props.holes.push(hole);
        scene.props.kraken = Some(kraken);
        scene.restart_servers(|server| server.set(Outside::PriceFeeds.setting(), &feeds));
    },
    end: |_| {},
};

pub(super) const NO_FEED: Act = Act {
    what: "Kraken refuses connections, too",
    alerts: &[warning("PriceFeedsDown")],
    begin: |scene| scene.props.kraken = None,
    end: |scene| {
        scene.restart_servers(|server| server.unset(Outside::PriceFeeds.setting()));
        scene.props.holes.clear();
    },
};

/// All at once, for each takes its minutes: a quarter of an hour at the most.
pub(super) const UNHEARD: Act = Act {
    what: "the mail server and the trace collector take connections and say nothing, somebody is idle in a transaction, \
           the auditor's table is locked, one server is of another build",
    alerts: &[
        within_minutes(12, lasting(info("TraceExportFailing"))),
        within_minutes(12, lasting(info("TracesDropped"))),
        within_minutes(15, warning("IdleInTransaction")),
        within_minutes(15, warning("MailStuck")),
        within_minutes(20, critical("AuditStale")),
        held_back(info("MixedBuilds")),
    ],
    begin: |scene| {
        let holes = [Outside::Collector, Outside::MailServer].map(|it| (it, Hole::start()));
        let other = scene.other_build();
        scene.run.stand.servers[1].set_program(other);
        scene.restart_servers(|server| {
            holes.iter().for_each(|(outside, hole)| outside.lead(server, hole.port));
        });
        scene.props.holes.extend(holes.map(|(_, hole)| hole));
        scene.hold("LOCK TABLE audit_results IN EXCLUSIVE MODE");
        register(scene.run);
    },
    end: |scene| {
        scene.release();
        // The other build stays a while.
        scene.restart_servers(|server| {
            Outside::ALL.iter().for_each(|outside| server.unset(outside.setting()));
        });
        scene.props.holes.clear();
    },
};

pub(super) const A_LITTLE_SLOW: Act = Act {
    what: "150 ms more on the servers' way to RabbitMQ; no payment processor has audited since its start",
    alerts: &[
        // What is no more than told once in ten minutes is over as late.
        within_minutes(15, lasting(info("AnomalyMinor"))),
        within_minutes(20, critical("AuditMissing")),
    ],
    begin: |scene| {
        scene.hold("LOCK TABLE audit_results IN EXCLUSIVE MODE");
        for processor in &mut scene.run.stand.processors {
            processor.restart();
        }
        scene.run.stand.wait_active();
        scene.slow_servers(Duration::from_millis(150));
    },
    end: |scene| {
        scene.slow_servers(Duration::ZERO);
        scene.release();
        scene.run.stand.servers[1].set_program(binary());
        scene.restart_servers(|_| {});
    },
};

pub(super) const FAR_TOO_SLOW: Act = Act {
    what: "two and a half seconds more on the servers' way to RabbitMQ, after half an hour of what is usual",
    alerts: &[warning("AnomalySevere")],
    begin: |scene| scene.slow_servers(Duration::from_millis(2_500)),
    end: |scene| scene.slow_servers(Duration::ZERO),
};

pub(super) const NOBODY_COMES: Act = Act {
    what: "no user sends anything any more",
    alerts: &[within_minutes(10, critical("TrafficStopped"))],
    begin: |scene| scene.load.pause(true),
    end: |scene| scene.load.pause(false),
};

impl Scene<'_, '_> {
    /// What Kraken would say of our markets: what they traded at last, for another price would not be believed.
    fn ticker(&self) -> Value {
        let server = &self.run.stand.servers[0];
        let prices = server.http().get("/api/v1/public/prices").expect("it answers").expect(200);
        let last = |market: &str| {
            let all = prices["prices"].as_array().expect("a list").iter();
            let price = all.clone().find(|price| price["market"] == market)?["lastPrice"].clone();
            price.as_str().map(str::to_owned)
        };
        let pairs = KRAKEN.iter().filter_map(|(market, pair)| {
            Some(((*pair).to_owned(), json!({"c": [last(market)?, "1"]})))
        });
        json!({"error": [], "result": pairs.collect::<serde_json::Map<_, _>>()})
    }

    /// Makes a program that differs from ours in nothing but the commit that it says it is of.
    fn other_build(&self) -> PathBuf {
        let metrics = self.run.stand.servers[0].http().get("/metrics").expect("it answers").body;
        let commit = metrics.split("commit=\"").nth(1).and_then(|rest| rest.split('"').next());
        let commit = commit.expect("a server says its commit");
        let other: String = commit.chars().rev().collect();
        let mut program = fs::read(binary()).expect("we run it");
        let places: Vec<usize> = program
            .windows(commit.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == commit.as_bytes())
            .map(|(place, _)| place)
            .collect();
        assert!(!places.is_empty() && commit != other, "{commit} is in the program");
        for place in places {
            program[place..place + other.len()].copy_from_slice(other.as_bytes());
        }
        let path = self.run.stand.directory.join("another-build");
        fs::write(&path, program).expect("the stand's directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }
}
