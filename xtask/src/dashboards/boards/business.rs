//! What the exchange is for: traffic, trading, money.

use super::super::Board;
use super::super::panel::{Panel, lines, stat, table};
use super::*;

pub(super) fn overview() -> Board {
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

pub(super) fn trading() -> Board {
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

pub(super) fn money() -> Board {
    Board {
        name: "money",
        title: "money",
        description: "What must always be zero, and how lately it was looked at. Anything else is SEV1.",
        rows: vec![
            ("Must be zero", must_be_zero()),
            (
                "Over time",
                vec![
                    lines("Imbalance by asset", "none")
                        .and(
                            concat!("sum by (asset) (", processor!("kx_ledger_imbalance"), ")"),
                            "{{asset}}",
                        )
                        .signed()
                        .about("In ledger units."),
                    lines("Defects", "none")
                        .and(
                            concat!("sum(", processor!("kx_negative_accounts"), ")"),
                            "balances below zero",
                        )
                        .and(
                            concat!("sum(", processor!("kx_projection_differences"), ")"),
                            "projected balances that differ",
                        )
                        .and(
                            concat!("sum(", processor!("kx_journal_breaks"), ")"),
                            "breaks in the journal",
                        ),
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

fn must_be_zero() -> Vec<Panel> {
    vec![
        stat(
            "Assets that do not sum to zero",
            "none",
            concat!("sum(abs(", processor!("kx_ledger_imbalance"), ") > bool 0)"),
        )
        .red(1.0)
        .alert("LedgerImbalance"),
        stat(
            "Balances below zero",
            "none",
            concat!("sum(", processor!("kx_negative_accounts"), ")"),
        )
        .red(1.0)
        .alert("NegativeAccount"),
        stat(
            "Projected balances that differ",
            "none",
            concat!("sum(", processor!("kx_projection_differences"), ")"),
        )
        .red(1.0)
        .alert("ProjectionDiffers"),
        stat(
            "Breaks in the journal",
            "none",
            concat!("sum(", processor!("kx_journal_breaks"), ")"),
        )
        .red(1.0)
        .alert("JournalBreak"),
        stat(
            "Since the last audit",
            "s",
            concat!("time() - max(", processor!("kx_audit_last_success_timestamp_seconds"), ")"),
        )
        .orange(60.0)
        .red(300.0)
        .alert("AuditStale"),
        stat(
            "p99 of an audit",
            "s",
            quantile("99", "le", processor!("kx_audit_duration_seconds_bucket")),
        ),
    ]
}
