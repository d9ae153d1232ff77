//! The drills, by what they do harm to.

mod alerts;
mod blackhole;
mod broker;
mod checker;
mod clients;
mod clocks;
mod crowd;
mod database;
mod long;
mod messages;
mod money;
mod processes;
mod restore;
mod traces;

use crate::drill::Drill;
pub(crate) use alerts::is_alert;

/// Makes a drill's entry.
const fn drill(
    name: &'static str,
    what: &'static str,
    run: fn(&mut crate::drill::Run<'_>),
) -> Drill {
    Drill { name, what, long_only: false, run }
}

/// Drills that mostly wait: left out of a run of all tests, which has to end in its time.
pub(crate) const SLOW: &[&str] = &["promql", "blackhole"];

/// Every drill. Those that need a stand with another shape come last.
pub(crate) const ALL: &[Drill] = &[
    drill("checker", "the checker finds every broken promise that it is fed", checker::checker),
    drill("kill-processor", "SIGKILL of the active payment-processor", processes::kill_processor),
    drill("kill-server", "SIGKILL of a server with requests under way", processes::kill_server),
    drill("kill-all", "SIGKILL of every process at once", processes::kill_all),
    drill(
        "after-append",
        "killed after rows are committed and before the broker or a server hears of it",
        processes::after_append,
    ),
    drill(
        "before-ack",
        "killed after rows are committed and told, before the broker has the acknowledgement",
        processes::before_ack,
    ),
    drill(
        "between-decide-and-commit",
        "killed while decided rows are on their way to the database",
        processes::between_decide_and_commit,
    ),
    drill("rolling-restart", "SIGTERM of one process after the other", processes::rolling_restart),
    drill(
        "two-active",
        "somebody else claims the journal under the active payment-processor",
        processes::two_active,
    ),
    drill(
        "zombie",
        "the active payment-processor is stopped (SIGSTOP) and goes on when another has taken over",
        processes::zombie,
    ),
    drill(
        "clocks",
        "wall clocks jump a day ahead and an hour back, and a payment-processor starts with a wrong one",
        clocks::clocks,
    ),
    drill("late-server", "a server that starts late knows everything", processes::late_server),
    drill(
        "partition",
        "the active payment-processor is cut off from the broker alone",
        broker::partition,
    ),
    drill(
        "duplicate-delivery",
        "one message in ten is delivered again",
        messages::duplicate_delivery,
    ),
    drill("reorder", "cancellations before their orders, shuffled", messages::reorder),
    drill("poison", "messages that cannot be decided", messages::poison),
    drill("purge", "the queue is purged while commands wait in it", broker::purge),
    drill("queue-deleted", "the queue is deleted under load", broker::queue_deleted),
    drill("broker-restart", "RabbitMQ is stopped and started, and killed", broker::restart),
    drill("broker-away", "RabbitMQ is away for a while", broker::away),
    drill("broker-blocked", "RabbitMQ has a memory alarm and takes no messages", broker::blocked),
    drill(
        "confirm-lost",
        "messages arrive at the broker, and its confirmations do not come back",
        broker::confirm_lost,
    ),
    drill("cancel-match", "a cancellation races a match", money::cancel_match),
    drill(
        "last-coin",
        "orders, withdrawals and transfers for the same last coin at once",
        money::last_coin,
    ),
    drill("database-restart", "PostgreSQL is restarted fast, and at once", database::restart),
    drill("database-away", "PostgreSQL is away for a while", database::away),
    drill("connections", "others use up PostgreSQL's connections", database::connections),
    drill("slow-database", "every statement takes half a second longer", database::slow),
    drill(
        "trace",
        "one order's trace through a page, a server and a payment-processor",
        traces::trace,
    ),
    drill("stages", "a delay shows in its own stage and nowhere else", traces::stages),
    drill(
        "traces",
        "every order has its whole trace, with a collector that never answers",
        traces::traces,
    ),
    drill(
        "migrate-thrice",
        "three migrations at once on an empty database",
        database::migrate_thrice,
    ),
    drill(
        "idle",
        "thousands of connections that say nothing, and some more than a server takes",
        clients::idle,
    ),
    drill(
        "slowloris",
        "heads and bodies that come byte by byte, and bodies of 10 MB",
        clients::slowloris,
    ),
    drill("login-time", "a login takes as long for a user that there is not", clients::login_time),
    drill("haproxy", "three servers behind haproxy", crowd::haproxy),
    drill(
        "replicas",
        "three payment-processors with a fifth of a core each, behind a backlog",
        crowd::replicas,
    ),
    drill(
        "restore",
        "the database is restored from a backup, RabbitMQ has newer commands",
        restore::restore,
    ),
    drill("restore-running", "a restore while a payment-processor runs", restore::restore_running),
    drill(
        "alerts",
        "faults until GoAlert and a phone have heard of them, and of their end",
        alerts::alerts,
    ),
    drill("promql", "the p99 by PromQL is that of the users' own clocks", alerts::promql),
    drill(
        "blackhole",
        "collector, price feeds, mail and Prometheus accept connections and never answer",
        blackhole::blackhole,
    ),
    drill("disk-full", "the database's disk is full", long::disk_full),
    Drill {
        name: "alerts-lasting",
        what: "faults that take many minutes to be told of",
        long_only: true,
        run: alerts::lasting_alerts,
    },
    Drill {
        name: "endurance",
        what: "hundreds of kills of everything, one after the other",
        long_only: true,
        run: long::endurance,
    },
];
