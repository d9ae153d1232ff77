//! Every metric there is.

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// A counter of parts of a whole, kept in millionths.
    Sum,
    /// Rises and falls.
    Gauge,
    /// Durations, by buckets.
    Histogram,
    /// Numbers of things, by buckets.
    Sizes,
}

impl Kind {
    /// Returns Prometheus' name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter | Self::Sum => "counter",
            Self::Gauge => "gauge",
            Self::Histogram | Self::Sizes => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($variant:ident, $kind:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        /// A metric. Dashboards and alerts may use these names and no others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $variant,)*
        }

        impl Metric {
            /// Every metric, in the order in which they are rendered.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Finds a metric by the name that Prometheus sees.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|metric| metric.name() == name)
            }

            /// Returns the name that Prometheus sees.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns what it measures, in words.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }

            /// Returns the names of its labels.
            #[must_use]
            pub fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*],)* }
            }

            /// Returns what kind of metric it is.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
}

metrics! {
    HttpRequests, Counter, "http_requests_total", ["method", "route", "status"],
        "HTTP requests answered.";
    HttpRequestDuration, Histogram, "http_request_duration_seconds", ["method", "route"],
        "Time from the first byte of a request to the last of its answer.";
    WebSocketConnections, Gauge, "kx_websocket_connections", [], "Open WebSocket connections.";
    WebSocketDropped, Counter, "kx_websocket_dropped_total", ["reason"],
        "WebSocket connections closed by the server.";
    CommandsPublished, Counter, "kx_commands_published_total", ["outcome"],
        "Commands given to the queue, by what the queue said.";
    QueueMessages, Gauge, "kx_queue_messages", ["queue"], "Messages waiting in the in-process queue.";
    Commands, Counter, "kx_commands_total", [], "Commands decided with one outcome event, internal ones included.";
    CommandsRepeated, Counter, "kx_commands_repeated_total", [], "Deliveries of a command that was known already.";
    CommandsRejected, Counter, "kx_commands_rejected_total", ["code"], "Commands refused by the core, by code.";
    CommandsPanicked, Counter, "kx_commands_panicked_total", [],
        "Commands whose decision failed by a defect and which were rejected as internal.";
    DeadLetters, Counter, "kx_dead_letters_total", ["reason"], "Messages put aside undecided or after a defect.";
    Orders, Counter, "kx_orders_total", [], "Orders accepted.";
    Trades, Counter, "kx_trades_total", [], "Trades.";
    Batches, Counter, "kx_batches_total", [], "Journal rows appended.";
    AppendDuration, Histogram, "kx_journal_append_duration_seconds", [],
        "Time from handing a sealed row to PostgreSQL until its outcome was definite.";
    AppendRetries, Counter, "kx_journal_append_retries_total", [], "Appends tried again after an unknown outcome.";
    DecideDuration, Histogram, "kx_decide_duration_seconds", [], "Time to decide and apply what was waiting at once.";
    JournalSequence, Gauge, "kx_journal_sequence", [], "Newest journal row that this process knows as committed.";
    FollowerSequence, Gauge, "kx_follower_sequence", [], "Newest journal row in the followed state.";
    FollowerBehind, Gauge, "kx_follower_behind_seconds", [],
        "How long ago the followed state was known to be at the journal's head.";
    FollowerGaps, Counter, "kx_follower_gaps_total", [], "Times a gap in the fan-out was refilled from PostgreSQL.";
    FollowerStopped, Gauge, "kx_follower_stopped", [], "1 when following has stopped for good: see the log.";
    ProjectionSequence, Gauge, "kx_projection_sequence", ["part"],
        "Newest journal row in a part of the projections.";
    ProjectionLag, Gauge, "kx_projection_lag_seconds", ["part"],
        "Journal time between the followed state and a part of the projections.";
    ProjectionRows, Counter, "kx_projection_batches_total", ["part"],
        "Journal rows written to a part of the projections.";
    ProjectionHeld, Gauge, "kx_projection_held", ["part"], "1 while this process writes a part of the projections.";
    ProjectionDuration, Histogram, "kx_projection_write_duration_seconds", [],
        "Time of one transaction of the projection writer.";
    SnapshotSequence, Gauge, "kx_snapshot_sequence", [], "Newest journal row with a snapshot.";
    SnapshotDuration, Histogram, "kx_snapshot_duration_seconds", [], "Time to write one snapshot.";
    DedupCommands, Gauge, "kx_dedup_commands", [], "Commands remembered for repeats.";
    DedupBytes, Gauge, "kx_dedup_bytes", [], "Bytes that remembering them takes.";
    SequencerActive, Gauge, "kx_sequencer_active", [], "1 while this process is the active sequencer, 0 in standby.";
    Epoch, Gauge, "kx_epoch", [], "Epoch of this process' last claim.";
    Deposed, Counter, "kx_deposed_total", [], "Times this process lost the journal to a newer epoch.";
    Takeover, Gauge, "kx_takeover_seconds", [],
        "Time from being named by the queue to deciding, at this process' last takeover.";
    FollowerRestarts, Counter, "kx_follower_reloads_total", [], "Times the followed state was loaded anew.";
    DatabaseUp, Gauge, "kx_database_up", [], "1 while PostgreSQL answers this process.";
    AlertNotifications, Counter, "kx_alert_notifications_total", ["receiver", "outcome"],
        "Notices of alerts handed on by the relay, by whom they were for and what came of it.";
    PriceFeedAge, Gauge, "kx_price_feed_age_seconds", ["feed"],
        "Time since an outside price feed last gave a price that was fit for use.";
    PriceFeedUp, Gauge, "kx_price_feed_up", ["feed"],
        "1 while an outside price feed gives prices that are fit for use.";
    CircuitBreakerState, Gauge, "kx_circuit_breaker_state", ["breaker"],
        "A circuit breaker: 0 closed, 1 half open, 2 open.";
    CircuitBreakerOpened, Counter, "kx_circuit_breaker_opened_total", ["breaker"],
        "Times a circuit breaker opened.";
    ResidentBytes, Gauge, "process_resident_memory_bytes", [], "Resident memory.";
    OpenFiles, Gauge, "process_open_fds", [], "Open file descriptors.";
    StartTime, Gauge, "process_start_time_seconds", [], "When the process started, in seconds since 1970.";
    StageDuration, Histogram, "kx_stage_duration_seconds", ["stage"],
        "Time that a command spent in a stage of its way, as its server saw it.";
    Traces, Counter, "kx_traces_total", [], "Requests whose trace was kept.";
    TracesDropped, Counter, "kx_traces_dropped_total", ["reason"],
        "Traces that were not kept or not exported: no room, or the store or the collector failed.";
    TraceExportFailures, Counter, "kx_trace_export_failures_total", [], "Exports that the collector did not take.";
    Anomalies, Counter, "kx_anomalies_total", ["severity"],
        "Anomalies that have begun or worsened, by the severity that they came to.";
    AnomalyActive, Gauge, "kx_anomaly_active", ["severity"], "Anomalies that are open at this server, by severity.";
    Role, Gauge, "kx_role", ["role"], "1 for each role that this process has.";
    CommandOldestWaiting, Gauge, "kx_command_oldest_waiting_seconds", [],
        "Age of the oldest command that this server has published and whose outcome it does not know.";
    PendingCommands, Gauge, "kx_pending_commands", [], "Commands answered with 202 and not decided yet.";
    BatchCommands, Sizes, "kx_batch_commands", [], "Commands in a journal row, internal ones included.";
    TradeVolume, Sum, "kx_trade_volume_total", ["market"], "Traded notional, in units of the quote asset.";
    MarketHalted, Gauge, "kx_market_halted", ["market"], "1 while a market is halted.";
    LastTradeAge, Gauge, "kx_last_trade_age_seconds", [], "Age of the newest trade of any market.";
    HttpConnections, Gauge, "kx_http_connections", [], "Open connections to the HTTP port.";
    PoolConnections, Gauge, "kx_database_pool_connections", ["state"],
        "Connections of this process' pool to PostgreSQL by state, and who waits for one.";
    DatabaseRefused, Counter, "kx_database_connections_refused_total", [],
        "Times no connection to PostgreSQL was to be had: the pool or the server had none free.";
    MailWaiting, Gauge, "kx_mail_waiting", [], "Letters that have not been handed to the mail server yet.";
    LedgerImbalance, Gauge, "kx_ledger_imbalance", ["asset"],
        "Sum over all accounts, the outside world included, in ledger units: anything but 0 is a defect.";
    NegativeAccounts, Gauge, "kx_negative_accounts", [],
        "Balances below zero, the outside world's apart: anything but 0 is a defect.";
    ProjectionDifferences, Gauge, "kx_projection_differences", [],
        "Projected balances that differ from the journal's: anything but 0 is a defect.";
    JournalBreaks, Gauge, "kx_journal_breaks", [],
        "Places where the journal's chain of hashes, or the audit log's that it vouches for, is broken: anything but 0 is a defect.";
    AuditSucceeded, Gauge, "kx_audit_last_success_timestamp_seconds", [],
        "When the auditor last looked at everything, in seconds since 1970, whatever it found.";
    AuditDuration, Histogram, "kx_audit_duration_seconds", [], "Time of one look of the auditor at everything.";
    CpuSeconds, Sum, "process_cpu_seconds_total", [], "Processor time used, of user and system.";
    OpenFilesMax, Gauge, "process_max_fds", [], "File descriptors that may be open.";
    BuildInfo, Gauge, "build_info", ["version", "commit"], "1, with what was built.";
}
