//! Who looks after it: the objectives, and the one who was paged.

use super::super::Board;
use super::super::panel::{lines, stat, table};
use super::*;

pub(super) fn slo() -> Board {
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

pub(super) fn incident() -> Board {
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
