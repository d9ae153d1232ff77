//! What is on each dashboard.
//!
//! Under `krystalinex up` both ports show the same numbers, so an expression names the job whose numbers it means.

use super::Board;
use super::panel::{Panel, lines, stat, table};

/// The server's series, of the chosen instances.
macro_rules! server {
    ($metric:literal) => {
        concat!($metric, "{job=\"krystalinex-server\",instance=~\"$instance\"}")
    };
    ($metric:literal, $more:literal) => {
        concat!($metric, "{job=\"krystalinex-server\",instance=~\"$instance\",", $more, "}")
    };
}

/// The payment processor's.
macro_rules! processor {
    ($metric:literal) => {
        concat!($metric, "{job=\"krystalinex-payment-processor\",instance=~\"$instance\"}")
    };
    ($metric:literal, $more:literal) => {
        concat!(
            $metric,
            "{job=\"krystalinex-payment-processor\",instance=~\"$instance\",",
            $more,
            "}"
        )
    };
}

/// Both roles'.
macro_rules! either {
    ($metric:literal) => {
        concat!($metric, "{job=~\"krystalinex-.+\",instance=~\"$instance\"}")
    };
}

/// Every dashboard.
pub(super) fn all() -> Vec<Board> {
    vec![overview(), trading(), money(), database(), queue(), slo(), incident()]
}

fn rate(series: &str) -> String {
    format!("sum(rate({series}[$__rate_interval]))")
}

fn rate_by(label: &str, series: &str) -> String {
    format!("sum by ({label}) (rate({series}[$__rate_interval]))")
}

fn quantile(thousandths: &str, by: &str, series: &str) -> String {
    format!("histogram_quantile(0.{thousandths}, sum by ({by}) (rate({series}[$__rate_interval])))")
}

/// The times of a histogram: half, and 99 of 100.
fn times(title: &'static str, series: &str) -> Panel {
    lines(title, "s")
        .and(quantile("5", "le", series), "p50")
        .and(quantile("95", "le", series), "p95")
        .and(quantile("99", "le", series), "p99")
}

fn errors() -> String {
    let failed = rate(server!("http_requests_total", "status=~\"5..\""));
    let all = rate(server!("http_requests_total"));
    format!("({failed} or vector(0)) / {all}")
}

fn signals() -> Vec<Panel> {
    vec![
        stat("Servers up", "none", "sum(up{job=\"krystalinex-server\"})")
            .red_below(1.0)
            .alert("ServerDown"),
        stat("Active sequencers", "none", concat!("sum(", processor!("kx_sequencer_active"), ")"))
            .red_below(1.0)
            .red(2.0)
            .alert("NoActiveSequencer"),
        stat("Answered with 5xx", "percentunit", errors())
            .orange(0.01)
            .red(0.05)
            .alert("ErrorRateHigh"),
        stat("p99 of orders", "s", quantile("99", "le", ORDER_TIMES))
            .orange(0.5)
            .red(1.0)
            .alert("OrderLatencyHigh"),
        stat(
            "Oldest waiting command",
            "s",
            concat!("max(", server!("kx_command_oldest_waiting_seconds"), ")"),
        )
        .orange(5.0)
        .red(15.0)
        .alert("CommandWaitingLong"),
        stat("Defects in money", "none", DEFECTS).red(1.0).alert("LedgerImbalance"),
    ]
}

const ORDER_TIMES: &str =
    server!("http_request_duration_seconds_bucket", "method=\"POST\",route=\"/api/v1/orders\"");
const HTTP_TIMES: &str = server!("http_request_duration_seconds_bucket");
const APPEND_TIMES: &str = processor!("kx_journal_append_duration_seconds_bucket");
const DEFECTS: &str = "sum(abs(kx_ledger_imbalance) > bool 0) + sum(kx_negative_accounts) \
    + sum(kx_projection_differences) + sum(kx_journal_breaks)";

fn overview() -> Board {
    Board {
        name: "overview",
        title: "overview",
        description: "Whether the exchange works, at a glance.",
        rows: vec![
            ("Now", signals()),
            (
                "Traffic",
                vec![
                    lines("Requests by status", "reqps")
                        .and(rate_by("status", server!("http_requests_total")), "{{status}}")
                        .stacked(),
                    times("Times of all requests", HTTP_TIMES).alert("LatencyHigh"),
                    lines("Orders and trades", "ops")
                        .and(rate(processor!("kx_orders_total")), "orders accepted")
                        .and(rate(processor!("kx_trades_total")), "trades")
                        .and(rate(processor!("kx_commands_rejected_total")), "commands refused"),
                    times("Times of orders", ORDER_TIMES).alert("OrderLatencyHigh"),
                ],
            ),
            (
                "Processes",
                vec![
                    lines("Processor time", "percentunit").and(
                        concat!(
                            "rate(",
                            either!("process_cpu_seconds_total"),
                            "[$__rate_interval])"
                        ),
                        "{{instance}}",
                    ),
                    lines("Memory", "bytes")
                        .and(either!("process_resident_memory_bytes"), "{{instance}}")
                        .alert("ProcessMemoryHigh"),
                    lines("Connections", "none")
                        .and(concat!("sum(", server!("kx_http_connections"), ")"), "HTTP")
                        .and(
                            concat!("sum(", server!("kx_websocket_connections"), ")"),
                            "WebSocket",
                        ),
                    table(
                        "What runs",
                        "none",
                        concat!("max by (instance, version, commit) (", either!("build_info"), ")"),
                    )
                    .alert("MixedBuilds"),
                ],
            ),
        ],
    }
}

fn trading() -> Board {
    Board {
        name: "trading",
        title: "trading",
        description: "Orders on their way, stage by stage, and the markets.",
        rows: vec![
            (
                "Markets",
                vec![
                    stat("Markets halted", "none", concat!("sum(max by (market) (", server!("kx_market_halted"), "))"))
                        .red(1.0)
                        .alert("MarketHalted"),
                    stat("Last trade", "s", concat!("min(", server!("kx_last_trade_age_seconds"), ")")).about("How long ago."),
                    stat("Trades a second", "ops", rate(processor!("kx_trades_total"))),
                    stat("Orders a second", "ops", rate(processor!("kx_orders_total"))),
                    lines("Volume by market", "none")
                        .and(
                            format!(
                                "sum by (market) (rate({}[$__rate_interval])) * 60",
                                processor!("kx_trade_volume_total")
                            ),
                            "{{market}}",
                        )
                        .about("Notional a minute, each in its own quote asset.")
                        .wide(8),
                ],
            ),
            (
                "The order's way",
                vec![
                    lines("p99 of each stage", "s")
                        .and(quantile("99", "le, stage", "kx_stage_duration_seconds_bucket{instance=~\"$instance\"}"), "{{stage}}")
                        .about("The stages of every order, as its trace has them."),
                    lines("p50 of each stage", "s")
                        .and(quantile("5", "le, stage", "kx_stage_duration_seconds_bucket{instance=~\"$instance\"}"), "{{stage}}"),
                    times("Times of orders over HTTP", ORDER_TIMES).alert("OrderLatencyHigh"),
                    times("Times of appends", APPEND_TIMES).alert("JournalAppendSlow"),
                    lines("Commands refused, by reason", "ops")
                        .and(rate_by("code", processor!("kx_commands_rejected_total")), "{{code}}"),
                    lines("Commands in a row", "none")
                        .and(quantile("5", "le", processor!("kx_batch_commands_bucket")), "p50")
                        .and(quantile("99", "le", processor!("kx_batch_commands_bucket")), "p99")
                        .about("How many commands one commit carries: it rises with load, which is what keeps latency low."),
                ],
            ),
            (
                "Prices from outside, for comparison only",
                vec![
                    lines("Age of each feed", "s")
                        .and("kx_price_feed_age_seconds{instance=~\"$instance\"}", "{{feed}}")
                        .alert("PriceFeedStale"),
                    lines("Circuit breakers", "none")
                        .and("kx_circuit_breaker_state{instance=~\"$instance\"}", "{{breaker}}")
                        .about("0 closed, 1 half open, 2 open.")
                        .alert("CircuitBreakerOpen"),
                ],
            ),
        ],
    }
}

fn money() -> Board {
    Board {
        name: "money",
        title: "money",
        description: "What must always be zero, and how lately it was looked at. Anything else is SEV1.",
        rows: vec![
            (
                "Must be zero",
                vec![
                    stat(
                        "Assets that do not sum to zero",
                        "none",
                        "sum(abs(kx_ledger_imbalance) > bool 0)",
                    )
                    .red(1.0)
                    .alert("LedgerImbalance"),
                    stat("Balances below zero", "none", "sum(kx_negative_accounts)")
                        .red(1.0)
                        .alert("NegativeAccount"),
                    stat(
                        "Projected balances that differ",
                        "none",
                        "sum(kx_projection_differences)",
                    )
                    .red(1.0)
                    .alert("ProjectionDiffers"),
                    stat("Breaks in the journal", "none", "sum(kx_journal_breaks)")
                        .red(1.0)
                        .alert("JournalBreak"),
                    stat(
                        "Since the last audit",
                        "s",
                        "time() - max(kx_audit_last_success_timestamp_seconds)",
                    )
                    .orange(60.0)
                    .red(300.0)
                    .alert("AuditStale"),
                    stat(
                        "p99 of an audit",
                        "s",
                        quantile("99", "le", "kx_audit_duration_seconds_bucket"),
                    ),
                ],
            ),
            (
                "Over time",
                vec![
                    lines("Imbalance by asset", "none")
                        .and("sum by (asset) (kx_ledger_imbalance)", "{{asset}}")
                        .about("In ledger units."),
                    lines("Defects", "none")
                        .and("sum(kx_negative_accounts)", "balances below zero")
                        .and("sum(kx_projection_differences)", "projected balances that differ")
                        .and("sum(kx_journal_breaks)", "breaks in the journal"),
                    lines("Commands that failed by a defect, and put aside", "none")
                        .and(
                            format!("increase({}[5m])", processor!("kx_commands_panicked_total")),
                            "panicked",
                        )
                        .and(
                            format!(
                                "sum by (reason) (increase({}[5m]))",
                                processor!("kx_dead_letters_total")
                            ),
                            "{{reason}}",
                        )
                        .alert("DeadLetters"),
                    lines("Letters waiting", "none")
                        .and(concat!("max(", server!("kx_mail_waiting"), ")"), "letters")
                        .alert("MailStuck"),
                ],
            ),
        ],
    }
}

fn database() -> Board {
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

fn queue() -> Board {
    Board {
        name: "queue",
        title: "queue",
        description: "RabbitMQ, or the queue inside the process where there is none; and who takes from it.",
        rows: vec![
            (
                "Orders",
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
                    stat(
                        "Put aside",
                        "none",
                        "sum(rabbitmq_queue_messages{queue=\"orders.dead\"})",
                    )
                    .orange(1.0)
                    .alert("DeadLetters"),
                    stat(
                        "Active sequencers",
                        "none",
                        concat!("sum(", processor!("kx_sequencer_active"), ")"),
                    )
                    .red_below(1.0)
                    .red(2.0)
                    .alert("TwoActiveSequencers"),
                    lines("Depth by queue", "none")
                        .and("sum by (queue) (rabbitmq_queue_messages)", "{{queue}}")
                        .and(
                            concat!("max by (queue) (", processor!("kx_queue_messages"), ")"),
                            "{{queue}} in the process",
                        ),
                    lines("Published, by what the queue said", "ops").and(
                        rate_by("outcome", server!("kx_commands_published_total")),
                        "{{outcome}}",
                    ),
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
                ],
            ),
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

const WAITING: &str = concat!(
    "sum(rabbitmq_queue_messages{queue=\"orders\"}) or max(",
    processor!("kx_queue_messages", "queue=\"orders\""),
    ")"
);

fn slo() -> Board {
    let left = |bad: &str, share: &str| format!("1 - avg_over_time({bad}[30d]) / {share}");
    Board {
        name: "slo",
        title: "objectives",
        description: "Of a month's API requests at least 99.9 % are answered without a 5xx; of its orders at least 99 % within a second.",
        rows: vec![
            (
                "Requests answered",
                vec![
                    stat("Budget left, 30 days", "percentunit", left("krystalinex:api_errors:ratio_rate1h", "0.001"))
                        .red_below(0.0)
                        .about("1: nothing of it is spent. Below 0: the objective is missed. About: the mean over time, not by requests."),
                    stat("Failed, 1 h", "percentunit", "krystalinex:api_errors:ratio_rate1h").orange(0.001).red(0.0144),
                    stat("Failed, 6 h", "percentunit", "krystalinex:api_errors:ratio_rate6h").orange(0.001).red(0.006),
                    lines("How fast the budget is spent", "none")
                        .and("krystalinex:api_errors:ratio_rate5m / 0.001", "5 min")
                        .and("krystalinex:api_errors:ratio_rate1h / 0.001", "1 h")
                        .and("krystalinex:api_errors:ratio_rate6h / 0.001", "6 h")
                        .red(14.4)
                        .about("1: the budget lasts the month.")
                        .alert("ApiErrorBudgetBurnFast"),
                ],
            ),
            (
                "Orders within a second",
                vec![
                    stat("Budget left, 30 days", "percentunit", left("krystalinex:orders_slow:ratio_rate1h", "0.01")).red_below(0.0),
                    stat("Slow, 1 h", "percentunit", "krystalinex:orders_slow:ratio_rate1h").orange(0.01).red(0.144),
                    stat("Slow, 6 h", "percentunit", "krystalinex:orders_slow:ratio_rate6h").orange(0.01).red(0.06),
                    lines("How fast the budget is spent", "none")
                        .and("krystalinex:orders_slow:ratio_rate5m / 0.01", "5 min")
                        .and("krystalinex:orders_slow:ratio_rate1h / 0.01", "1 h")
                        .and("krystalinex:orders_slow:ratio_rate6h / 0.01", "6 h")
                        .red(14.4)
                        .alert("OrderLatencyBudgetBurnFast"),
                ],
            ),
        ],
    }
}

fn incident() -> Board {
    Board {
        name: "incident",
        title: "incident",
        description: "For the one who was paged: what fires, what is slow, what has changed.",
        rows: vec![
            (
                "What fires",
                vec![
                    table("Alerts", "none", "ALERTS{alertstate=\"firing\"}").wide(16),
                    table("Builds and starts", "dateTimeAsIso", concat!("max by (instance) (", either!("process_start_time_seconds"), ") * 1000"))
                        .about("Did somebody deploy?")
                        .wide(8),
                ],
            ),
            ("Now", signals()),
            (
                "Who suffers",
                vec![
                    lines("5xx by route", "reqps").and(rate_by("route, status", server!("http_requests_total", "status=~\"5..\"")), "{{route}} {{status}}"),
                    lines("p99 by route", "s").and(format!("topk(8, {})", quantile("99", "le, route", HTTP_TIMES)), "{{route}}"),
                ],
            ),
            (
                "Where it waits",
                vec![
                    lines("Oldest waiting command", "s")
                        .and(server!("kx_command_oldest_waiting_seconds"), "{{instance}}")
                        .alert("CommandWaitingLong"),
                    lines("Commands waiting", "none").and(WAITING, "orders").alert("OrdersQueueGrowing"),
                    times("Times of appends", APPEND_TIMES).alert("JournalAppendSlow"),
                    lines("Followers behind", "s").and(either!("kx_follower_behind_seconds"), "{{instance}}").alert("FollowerBehind"),
                    lines("Waiting for a connection", "none")
                        .and(concat!("sum by (instance) (", "kx_database_pool_connections{state=\"waiting\",instance=~\"$instance\"}", ")"), "{{instance}}")
                        .alert("DatabasePoolExhausted"),
                    lines("Database connections by state", "none").and("sum by (state) (pg_stat_activity_count)", "{{state}}").stacked(),
                ],
            ),
            (
                "Traces",
                vec![
                    lines("Traces kept and dropped", "ops")
                        .and("sum(rate(kx_traces_total[$__rate_interval]))", "kept")
                        .and("sum by (reason) (rate(kx_traces_dropped_total[$__rate_interval]))", "dropped: {{reason}}")
                        .alert("TracesDropped"),
                    lines("Restarts, gaps, reloads in 5 min", "none")
                        .and(format!("sum(changes({}[5m]))", either!("process_start_time_seconds")), "starts")
                        .and(format!("sum(increase({}[5m]))", either!("kx_follower_gaps_total")), "gaps refilled")
                        .and(format!("sum(increase({}[5m]))", either!("kx_follower_reloads_total")), "states loaded anew"),
                ],
            ),
        ],
    }
}
