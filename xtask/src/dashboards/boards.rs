//! What is on each dashboard.
//!
//! Under `krystalinex up` both ports show the same numbers, so an expression names the job whose numbers it means.

use super::Board;
use super::panel::{Panel, lines, stat};

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

mod business;
mod machinery;
mod people;

use business::{money, overview, trading};
use machinery::{database, queue};
use people::{incident, slo};

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
const DEFECTS: &str = concat!(
    "sum(abs(",
    processor!("kx_ledger_imbalance"),
    ") > bool 0) + sum(",
    processor!("kx_negative_accounts"),
    ") + sum(",
    processor!("kx_projection_differences"),
    ") + sum(",
    processor!("kx_journal_breaks"),
    ")"
);

const WAITING: &str = concat!(
    "sum(rabbitmq_queue_messages{queue=\"orders\"}) or max(",
    processor!("kx_queue_messages", "queue=\"orders\""),
    ")"
);
