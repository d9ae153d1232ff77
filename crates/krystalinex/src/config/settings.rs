//! The list of settings: in the environment by these names, in a file by the same in lower case.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the environment.
    pub name: &'static str,
    /// What it is where nobody says.
    pub default: Option<&'static str>,
    /// Whether its value is never printed.
    pub secret: bool,
    /// What it is.
    pub help: &'static str,
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting { name, default, secret: false, help }
}

const fn secret(name: &'static str, help: &'static str) -> Setting {
    Setting { name, default: None, secret: true, help }
}

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    setting("NODE_ENV", Some("development"), "environment mode: development, production or test"),
    setting("PORT", Some("5000"), "the server's port"),
    setting(
        "PROCESSOR_PORT",
        Some("3001"),
        "the payment processor's port: /health, /ready, /metrics",
    ),
    setting("INBOX_PORT", Some("1080"), "the development inbox's port"),
    secret(
        "JWT_SECRET",
        "signing key of access tokens, 32 bytes or more; `up` makes one, but not in production",
    ),
    secret(
        "JWT_SECRET_PREVIOUS",
        "the key before JWT_SECRET: what it has signed or sealed is still taken while keys change",
    ),
    secret(
        "KX_DATA_KEY",
        "key that secrets in the database are sealed with, 32 bytes or more; from JWT_SECRET where it is not set",
    ),
    secret(
        "SMTP_URL",
        "where mail goes, smtp://user:password@host:port or smtps://…; the development inbox where it is not set",
    ),
    setting("KX_MAIL_FROM", Some("KrystalineX <no-reply@krystalinex.local>"), "the sender of mail"),
    setting(
        "KX_PUBLIC_URL",
        None,
        "where people reach this exchange, for links in mail; without it mail has no links",
    ),
    setting(
        "KX_WITHDRAWAL_FREEZE_HOURS",
        Some("24"),
        "how long a change of security settings freezes withdrawals, in hours",
    ),
    setting(
        "DB_HOST",
        Some("localhost"),
        "PostgreSQL's host or socket directory; `up` runs its own where it is not set",
    ),
    setting("DB_PORT", Some("5432"), "PostgreSQL's port"),
    setting("DB_USER", Some("exchange"), "PostgreSQL's role"),
    setting("DB_NAME", Some("crypto_exchange"), "PostgreSQL's database"),
    secret("DB_PASSWORD", "PostgreSQL's password; needed with DB_HOST and by roles started alone"),
    secret(
        "RABBITMQ_URL",
        "the broker, amqp://…; `up` keeps the queue in its process where it is not set",
    ),
    setting("KX_DATA_DIR", None, "where an embedded exchange keeps its data"),
    setting("KX_CONFIG", None, "a TOML file with these settings, in lower case"),
    setting(
        "KX_MARKETS",
        None,
        "the file of assets, markets and limits; built in where it is not set",
    ),
    setting("KX_LISTEN", Some("0.0.0.0"), "the address to listen on"),
    setting("KX_LOG", Some("info"), "which log lines: a level, or such as info,store=debug"),
    setting("KX_LOG_FORMAT", Some(""), "json or text; json, but text for `up` in a terminal"),
    setting(
        "KX_TRUSTED_PROXIES",
        Some(""),
        "addresses whose X-Forwarded-For is believed, with commas between",
    ),
    setting(
        "KX_CORS_ORIGINS",
        Some(""),
        "origins of other sites that may call the API, with commas between",
    ),
    setting(
        "KX_TLS",
        Some("false"),
        "whether browsers reach the server over TLS: set it where a proxy does that",
    ),
    setting("KX_TLS_CERTIFICATE", None, "a PEM file: the server itself serves TLS, as this"),
    setting("KX_TLS_KEY", None, "the PEM file of that certificate's key"),
    setting("KX_KEYS_WINDOW_MS", Some("5000"), "how far off a signed request's timestamp may be"),
    setting(
        "KX_WITHDRAWAL_ALLOW_LIST",
        Some(""),
        "required: money leaves to listed destinations alone; optional: each user chooses; required in production",
    ),
    setting(
        "KX_WITHDRAWAL_COOLING_OFF_HOURS",
        Some("24"),
        "hours that a destination must have been listed",
    ),
    setting(
        "KX_WITHDRAWAL_LIMITS",
        Some(""),
        "what may leave in 24 hours, such as BTC=2,USD=50000; no limit for an asset that is not named",
    ),
    setting(
        "KX_RATE_LIMITS",
        Some(""),
        "requests of one caller, such as anonymous=100,user=100,orders=2000,attempts=60,money=600; 0: no limit",
    ),
    setting("KX_AMQP_PORT", Some("5672"), "`up --full`: RabbitMQ's port for AMQP"),
    setting("KX_RABBITMQ_PORT", Some("15672"), "`up --full`: RabbitMQ's management page"),
    setting(
        "KX_RABBITMQ_METRICS_PORT",
        Some("15692"),
        "`up --full`: RabbitMQ's metrics, /metrics/per-object",
    ),
    secret(
        "RABBITMQ_PASSWORD",
        "`up --full`: the password of RabbitMQ's user admin; one is made where it is not set",
    ),
    setting("KX_PROMETHEUS_PORT", Some("9090"), "`up --full`: Prometheus"),
    setting("KX_ALERTMANAGER_PORT", Some("9093"), "`up --full`: Alertmanager"),
    setting(
        "KX_POSTGRES_EXPORTER_PORT",
        Some("9187"),
        "`up --full`: the exporter of PostgreSQL's figures",
    ),
    setting(
        "KX_GOALERT_KEY_FILE",
        None,
        "`up --full`: a file with the key of GoAlert's integration; GoAlert is not told where it is not set",
    ),
    setting(
        "KX_CONNECTIONS_MAX",
        Some("10240"),
        "connections of clients at once, WebSockets among them; one more is told 503 and closed",
    ),
    setting("KX_TRACES", Some("on"), "whether every change has its trace: on or off"),
    setting("KX_TRACE_DAYS", Some("7"), "how many days traces are kept"),
    setting(
        "KX_TRACE_MIB_MAX",
        Some("4096"),
        "how much of the database traces may take, in MiB, about",
    ),
    setting(
        "JAEGER_PORT",
        Some("16686"),
        "the port of the built-in traces, in Jaeger's API, on this machine alone; 0: none",
    ),
    setting(
        "OTLP_PORT",
        Some("4318"),
        "the port that takes other services' spans, by OTLP over HTTP, on this machine alone; 0: none",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "a collector that traces are sent to as well, such as http://jaeger:4317",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        None,
        "grpc or http/protobuf; by the port where it is not set: 4318 is HTTP's",
    ),
    secret(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "headers for the collector, name=value with commas between",
    ),
    setting(
        "KX_PRICE_FEEDS",
        Some(""),
        "other exchanges whose prices are shown beside ours, the preferred one first, such as binance,kraken; \
         binance=wss://… for another address; nobody is asked where it is not set",
    ),
    setting(
        "KX_PRICE_FEEDS_STALE_SECONDS",
        Some("30"),
        "how long such a price is shown after it was heard",
    ),
    setting("KX_SNAPSHOT_COMMANDS", Some("500000"), "commands between two snapshots of the state"),
    setting("ALERT_RELAY_PORT", Some("8082"), "the alert relay's port"),
    setting(
        "KX_ALERT_LISTEN",
        Some("127.0.0.1"),
        "the address that the alert relay listens on: whoever reaches it can ring the phones",
    ),
    setting(
        "KX_NTFY_URL",
        Some("https://ntfy.sh"),
        "the ntfy server that the alert relay sends to",
    ),
    secret(
        "KX_NTFY_TOPIC",
        "the alert relay's topic, which is a password; scripts/new-ntfy-topic makes one",
    ),
    setting(
        "KX_NTFY_TOPIC_FILE",
        None,
        "a file, readable by its owner alone, with the topic in it",
    ),
    setting(
        "KX_NTFY_TOKEN_FILE",
        None,
        "a file, readable by its owner alone, with ntfy's access token, where its server wants one",
    ),
    setting(
        "KX_ALERT_SLACK_URL_FILE",
        None,
        "a file, readable by its owner alone, with Slack's incoming webhook: alerts go there, too",
    ),
    setting("KX_BATCH_COMMANDS_MAX", Some("512"), "commands that one journal row takes at most"),
];

/// Variables that begin as ours do and belong to our tests and tools.
pub(super) const FOREIGN: &[&str] = &["KX_BINARY", "KX_SEED", "KX_KILLS", "KX_FAILPOINTS"];

/// Finds a setting by its name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Names the setting that was probably meant.
pub(super) fn nearest(name: &str, lower: bool) -> String {
    let near = SETTINGS.iter().map(|setting| (distance(name, setting.name), setting.name));
    match near.min() {
        Some((distance, near)) if distance <= 3 => {
            let near = if lower { near.to_ascii_lowercase() } else { near.to_owned() };
            format!(" (did you mean `{near}`?)")
        }
        _ => " (`krystalinex config` lists the settings)".to_owned(),
    }
}

/// How many letters must be changed, added or left out to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
