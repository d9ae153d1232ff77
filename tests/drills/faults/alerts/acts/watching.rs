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
    begin: |scene| scene.break_sink(Sink::Ntfy),
    end: |scene| scene.mend_sink(Sink::Ntfy),
};

pub(super) const GOALERT_BROKEN: Act = Act {
    what: "GoAlert answers 503 while there is something to be told",
    alerts: &[lasting(warning("AlertmanagerFailing"))],
    begin: |scene| scene.break_sink(Sink::GoAlert),
    end: |scene| scene.mend_sink(Sink::GoAlert),
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
    fn break_sink(&self, sink: Sink) {
        self.watched.sinks.set_broken(sink, true);
        self.ctl(&["set_vm_memory_high_watermark", "0"]);
    }

    fn mend_sink(&self, sink: Sink) {
        self.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
        self.watched.sinks.set_broken(sink, false);
    }

    fn rules(&self) -> PathBuf {
        self.run.stand.directory.join("monitoring").join("alerting-rules.yml")
    }

    fn read_rules_again(&self) {
        let pid = self.watched.monitoring.prometheus.pid().expect("it runs");
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process has a number");
        kill_process(pid, Signal::HUP).expect("it is our child");
    }
}
