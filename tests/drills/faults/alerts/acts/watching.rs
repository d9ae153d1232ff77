//! Who watches, and who hands notices on.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::super::Alert;
use super::{Act, Scene, lasting, warning};
use crate::sinks::Sink;

/// A rule that no evaluation can carry out: several series on either side.
const RULE: &str = "
  - name: a-drill
    rules:
      - record: drill:many_to_many
        expr: up * on() up
";

/// The other one is told: ntfy cannot be.
pub(super) const NTFY_BROKEN: Act = Act {
    what: "ntfy answers 503 while there is something to be told",
    alerts: &[Alert { told: &[Sink::GoAlert], ..lasting(warning("NotificationsFailing")) }],
    begin: |scene| {
        scene.watched.sinks.set_broken(Sink::Ntfy, true);
        scene.memory_alarm(true);
    },
    end: |scene| {
        scene.memory_alarm(false);
        scene.watched.sinks.set_broken(Sink::Ntfy, false);
    },
};

/// Another alarm: one that is on again before its end was told is not told again.
pub(super) const GOALERT_BROKEN: Act = Act {
    what: "GoAlert answers 503 while there is something to be told",
    alerts: &[lasting(warning("AlertmanagerFailing"))],
    begin: |scene| {
        scene.watched.sinks.set_broken(Sink::GoAlert, true);
        scene.disk_alarm(true);
    },
    end: |scene| {
        scene.disk_alarm(false);
        scene.watched.sinks.set_broken(Sink::GoAlert, false);
    },
};

pub(super) const BAD_RULE: Act = Act {
    what: "a rule is added that cannot be evaluated",
    alerts: &[lasting(warning("RulesFailing"))],
    begin: |scene| {
        let file = scene.rules();
        scene.props.before = fs::read_to_string(&file).expect("the rules are there");
        fs::write(&file, format!("{}{RULE}", scene.props.before)).expect("they are ours");
        scene.read_rules_again();
    },
    end: |scene| {
        fs::write(scene.rules(), &scene.props.before).expect("they are ours");
        scene.read_rules_again();
    },
};

impl Scene<'_, '_> {
    fn rules(&self) -> PathBuf {
        self.run.stand.directory.join("monitoring").join("alerting-rules.yml")
    }

    fn read_rules_again(&self) {
        let pid = self.watched.monitoring.prometheus.pid().expect("it runs");
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process has a number");
        kill_process(pid, Signal::HUP).expect("it is our child");
    }
}
