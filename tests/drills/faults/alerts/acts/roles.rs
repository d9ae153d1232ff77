//! Who is there at all.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Act, Scene, critical, lasting, warning};
use crate::management::{Management, Message, ORDERS};
use crate::process::Process;
use crate::raw::{self, Maker};

pub(super) const PROCESSOR: Act = Act {
    what: "both payment processors killed under load",
    alerts: &[critical("PaymentProcessorDown")],
    begin: |scene| scene.run.stand.processors.iter_mut().for_each(Process::kill),
    end: |scene| {
        scene.run.stand.processors.iter_mut().for_each(Process::spawn);
        scene.run.stand.wait_active();
    },
};

pub(super) const DEPOSED: Act = Act {
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

/// What stops nobody from trading; all of it at once.
pub(super) const ASIDE: Act = Act {
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

/// Changed while it runs: a process may be given fewer than it was started with.
pub(super) const DESCRIPTORS: Act = Act {
    what: "a server may open hardly more files than it has",
    alerts: &[warning("FileDescriptorsNearMax")],
    begin: |scene| {
        let open = scene.run.stand.servers[0].metric("process_open_fds", &[]);
        let open = open.expect("a server counts its files") as u64;
        scene.limit_files(open * 10 / 9);
    },
    end: |scene| scene.limit_files(u64::from(u16::MAX)),
};

pub(super) const SERVERS: Act = Act {
    what: "both servers killed",
    alerts: &[critical("ServerDown")],
    begin: |scene| scene.run.stand.servers.iter_mut().for_each(Process::kill),
    end: |scene| scene.run.stand.heal(),
};

pub(super) const RESTARTS: Act = Act {
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

impl Scene<'_, '_> {
    /// Halts a market, or opens it again: staff do it over the API, with a second factor that a drill does not have.
    fn market(&mut self, halted: bool) {
        let market = "SELECT id FROM markets WHERE symbol = 'ETH/BTC'";
        let market: u32 = self.run.stand.psql().value(market).parse().expect("a number");
        let (id, _) = raw::id(&mut self.run.random);
        let body = Maker::read(&self.run.stand.psql()).market(id, market, halted);
        Management::of(&self.run.stand.broker).publish(ORDERS, &Message::plain(body));
    }

    /// Limits the files of the first server, softly.
    fn limit_files(&self, most: u64) {
        let pid = Pid::from_raw(self.run.stand.servers[0].pid().cast_signed());
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
        let current = Some(most.min(hard.unwrap_or(u64::MAX)));
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum: hard }).expect("it is our child");
    }
}
