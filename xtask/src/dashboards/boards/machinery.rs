//! What it stands on: the database and the queue.

use super::super::Board;
use super::super::panel::{Panel, lines, stat};
use super::*;

pub(super) fn database() -> Board {
    let states = format!("sum by (state) ({})", either!("kx_database_pool_connections"));
    Board {
        name: "database",
        title: "database",
        description: "PostgreSQL, the journal in it, and what follows the journal.",
        rows: vec![
            (
                "PostgreSQL",
                vec![
                    stat("Answers", "none", concat!("min(", either!("kx_database_up"), ")"))
                        .red_below(1.0)
                        .alert("DatabaseDown"),
                    stat("Connections of the maximum", "percentunit", "sum(pg_stat_activity_count) / max(pg_settings_max_connections)")
                        .orange(0.8)
                        .red(0.9)
                        .alert("DatabaseConnectionsNearMax"),
                    lines("Connections by state", "none").and("sum by (state) (pg_stat_activity_count)", "{{state}}").stacked().wide(8),
                    lines("Our pools", "none")
                        .and(states, "{{state}}")
                        .and(format!("increase({}[5m])", either!("kx_database_connections_refused_total")), "refused, 5 min")
                        .alert("DatabasePoolExhausted")
                        .wide(8),
                    lines("Transactions", "ops")
                        .and("sum(rate(pg_stat_database_xact_commit[$__rate_interval]))", "committed")
                        .and("sum(rate(pg_stat_database_xact_rollback[$__rate_interval]))", "undone"),
                    lines("Read from memory", "percentunit").and(
                        "sum(rate(pg_stat_database_blks_hit[$__rate_interval])) / (sum(rate(pg_stat_database_blks_hit[$__rate_interval])) + sum(rate(pg_stat_database_blks_read[$__rate_interval])))",
                        "of all blocks",
                    ),
                    lines("Longest transaction", "s")
                        .and("max by (state) (pg_stat_activity_max_tx_duration)", "{{state}}")
                        .alert("IdleInTransaction"),
                    lines("Size", "bytes").and("sum by (datname) (pg_database_size_bytes)", "{{datname}}"),
                ],
            ),
            (
                "Journal and followers",
                vec![
                    times("Times of appends", APPEND_TIMES).alert("JournalAppendSlow"),
                    lines("Rows and retries", "ops")
                        .and(rate(processor!("kx_batches_total")), "rows")
                        .and(rate(processor!("kx_journal_append_retries_total")), "appends tried again"),
                    lines("Followers behind", "s")
                        .and(either!("kx_follower_behind_seconds"), "{{instance}}")
                        .red(2.0)
                        .alert("FollowerBehind"),
                    lines("Projections behind", "s")
                        .and(concat!("max by (part) (", processor!("kx_projection_lag_seconds"), ")"), "{{part}}")
                        .alert("ProjectionLagging"),
                    lines("Times of projections' transactions", "s")
                        .and(quantile("99", "le", processor!("kx_projection_write_duration_seconds_bucket")), "p99"),
                    lines("Rows since the last snapshot", "none").and(
                        concat!("max(", either!("kx_journal_sequence"), ") - max(", either!("kx_snapshot_sequence"), ")"),
                        "rows",
                    ),
                ],
            ),
        ],
    }
}

pub(super) fn queue() -> Board {
    Board {
        name: "queue",
        title: "queue",
        description: "RabbitMQ, or the queue inside the process where there is none; and who takes from it.",
        rows: vec![
            ("Orders", orders_queue()),
            (
                "RabbitMQ",
                vec![
                    lines("Memory", "bytes")
                        .and("rabbitmq_process_resident_memory_bytes", "{{instance}}")
                        .alert("RabbitmqMemoryAlarm"),
                    lines("Disk left", "bytes")
                        .and("rabbitmq_disk_space_available_bytes", "{{instance}}")
                        .alert("RabbitmqDiskAlarm"),
                ],
            ),
            (
                "Failover",
                vec![
                    lines("Who is active", "none")
                        .and(processor!("kx_sequencer_active"), "{{instance}}"),
                    lines("Epoch, and claims lost", "none")
                        .and(processor!("kx_epoch"), "epoch of {{instance}}")
                        .and(processor!("kx_deposed_total"), "lost by {{instance}}")
                        .alert("SequencerDeposed"),
                ],
            ),
        ],
    }
}

fn orders_queue() -> Vec<Panel> {
    vec![
        stat("Commands waiting", "none", WAITING)
            .orange(1_000.0)
            .red(10_000.0)
            .alert("OrdersQueueGrowing"),
        stat(
            "Oldest waiting command",
            "s",
            concat!("max(", server!("kx_command_oldest_waiting_seconds"), ")"),
        )
        .orange(5.0)
        .red(15.0)
        .alert("CommandWaitingLong"),
        stat(
            "Answered 202 and undecided",
            "none",
            concat!("max(", server!("kx_pending_commands"), ")"),
        )
        .orange(1.0)
        .alert("CommandsNotDecided"),
        stat("Consumers", "none", "sum(rabbitmq_queue_consumers{queue=\"orders\"})")
            .red_below(1.0)
            .alert("OrdersQueueWithoutConsumer"),
        stat("Put aside", "none", "sum(rabbitmq_queue_messages{queue=\"orders.dead\"})")
            .orange(1.0)
            .alert("DeadLetters"),
        stat("Active sequencers", "none", concat!("sum(", processor!("kx_sequencer_active"), ")"))
            .red_below(1.0)
            .red(2.0)
            .alert("TwoActiveSequencers"),
        lines("Depth by queue", "none")
            .and("sum by (queue) (rabbitmq_queue_messages)", "{{queue}}")
            .and(
                concat!("max by (queue) (", processor!("kx_queue_messages"), ")"),
                "{{queue}} in the process",
            ),
        lines("Published, by what the queue said", "ops")
            .and(rate_by("outcome", server!("kx_commands_published_total")), "{{outcome}}"),
        lines("Decided", "ops")
            .and(rate(processor!("kx_commands_total")), "commands")
            .and(rate(processor!("kx_commands_repeated_total")), "repeats"),
        lines("Sequencer busy", "percentunit")
            .and(
                concat!(
                    "rate(",
                    processor!("kx_decide_duration_seconds_sum"),
                    "[$__rate_interval])"
                ),
                "{{instance}}",
            )
            .red(0.9)
            .alert("SequencerSaturated"),
    ]
}
