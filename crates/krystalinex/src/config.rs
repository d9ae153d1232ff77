//! The configuration: one typed value from defaults, a file, the environment and the command line, in rising order.
//!
//! Invariant: every fault is found before anything is started, all of them are reported at once, each naming its setting, and
//! no secret is ever part of a message.

mod accounts;
mod alerting;
mod beside;
mod outside;
mod peers;
mod protection;
mod settings;
#[cfg(test)]
mod tests;
mod tracing;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::mail::smtp::SmtpUrl;
use server::{JwtSecret, Mode, ServerConfig};
use store::DbConfig;
use telemetry::LogFormat;

pub use alerting::AlertRelay;
pub use beside::Beside;
pub use protection::Protection;
pub use settings::SETTINGS;
use settings::{Setting, find};
pub use tracing::Tracing;

/// What the process is started as: the roles differ in what they must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything in one process, embedding what it is not told about.
    Up,
    /// The server alone.
    Server,
    /// The payment processor alone.
    PaymentProcessor,
    /// The alert relay alone.
    AlertRelay,
    /// A tool that needs the database at most.
    Tool,
}

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Database {
    /// The program's own cluster, in this directory.
    Embedded(PathBuf),
    /// One that somebody else runs.
    External(DbConfig),
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is run for.
    pub mode: Mode,
    /// The address to listen on.
    pub listen: IpAddr,
    /// The server's port.
    pub port: u16,
    /// The payment processor's port.
    pub processor_port: u16,
    /// Where the alert relay listens, and to whom it tells what; `None` where there is none.
    pub alert_relay: Option<AlertRelay>,
    /// The development inbox's port, and whether it was asked for.
    pub inbox_port: (u16, bool),
    /// The signing key; `None`: `up` makes one.
    pub jwt_secret: Option<JwtSecret>,
    /// The signing key before this one.
    pub jwt_secret_previous: Option<JwtSecret>,
    /// The key that secrets in the database are sealed with.
    pub data_key: Option<JwtSecret>,
    /// Where mail goes; `None`: to the development inbox.
    pub smtp_url: Option<SmtpUrl>,
    /// The sender of mail.
    pub mail_from: String,
    /// Where people reach this exchange.
    pub public_url: Option<String>,
    /// How long a change of security settings freezes withdrawals.
    pub withdrawal_freeze: Duration,
    /// The database.
    pub database: Database,
    /// The broker; `None`: the queue is inside the process.
    pub rabbitmq: Option<queue::Address>,
    /// Where everything of an embedded exchange is.
    pub data_dir: PathBuf,
    /// The file of the markets; `None`: the built-in one.
    pub markets: Option<PathBuf>,
    /// Which log lines are written.
    pub log: String,
    /// How they look; `None`: JSON, and plain words for `up` in a terminal.
    pub log_format: Option<LogFormat>,
    /// Addresses whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins of other sites that may call the API.
    pub cors_origins: Vec<String>,
    /// Whether the server is reached over TLS: its own, or that of a proxy in front of it.
    pub tls: bool,
    /// The certificate and key of the server's own TLS.
    pub identity: Option<server::tls::Identity>,
    /// What protects accounts.
    pub protection: Protection,
    /// What `up --full` runs beside the exchange.
    pub beside: Beside,
    /// What is done with traces.
    pub tracing: Tracing,
    /// Which other exchanges are asked for prices.
    pub price_feeds: feeds::Settings,
    /// Commands between two snapshots.
    pub snapshot_commands: u64,
    /// Commands that one batch takes at most.
    pub batch_commands_max: usize,
}

impl Config {
    /// Returns where the server listens.
    #[must_use]
    pub fn server_address(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.port)
    }

    /// Returns what a server is told.
    #[must_use]
    pub fn for_server(&self, jwt_secret: JwtSecret) -> ServerConfig {
        let mut config = ServerConfig::new(jwt_secret);
        config.listen = self.server_address();
        config.mode = self.mode;
        config.tls = self.tls;
        config.identity.clone_from(&self.identity);
        config.trusted_proxies.clone_from(&self.trusted_proxies);
        config.cors_origins.clone_from(&self.cors_origins);
        self.protection.apply(&mut config);
        config.jwt_secret_previous.clone_from(&self.jwt_secret_previous);
        config.data_key.clone_from(&self.data_key);
        config.public_url.clone_from(&self.public_url);
        config.withdrawal_freeze = self.withdrawal_freeze;
        config.price_feeds.clone_from(&self.price_feeds);
        config
    }

    /// Returns where the payment processor listens.
    #[must_use]
    pub fn processor_address(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.processor_port)
    }
}

/// What is wrong with a configuration: every fault, each with its setting.
#[derive(Debug)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

impl std::error::Error for Faults {}

/// What the command line says, before the rest is read.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Sources {
    /// A TOML file with settings; `krystalinex config` lists them. The environment overrides it.
    #[arg(long, value_name = "FILE", env = "KX_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where an embedded exchange keeps its data.
    #[arg(long, value_name = "DIR", env = "KX_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Sources {
    /// Reads the whole configuration of this process.
    ///
    /// # Errors
    ///
    /// [`Faults`].
    pub fn load(&self, role: Role) -> Result<Config, Faults> {
        let mut faults = Vec::new();
        let file = match &self.config {
            None => BTreeMap::new(),
            Some(path) => read_file(path, &mut faults),
        };
        let environment = read_environment(std::env::vars_os(), &mut faults);
        build(role, &file, &environment, self.data_dir.clone(), faults)
    }
}

/// Reads the file: settings' names in lower case, as strings, integers or booleans.
fn read_file(path: &Path, faults: &mut Vec<String>) -> BTreeMap<&'static str, String> {
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            faults.push(format!("{name}: cannot be read: {error}"));
            return BTreeMap::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => file_settings(&name.to_string(), table, faults),
        Err(error) => {
            // The parser's own text quotes the line, which may have a secret in it.
            let line = error
                .span()
                .map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            faults.push(format!("{name}: line {line} is not TOML: {}", error.message()));
            BTreeMap::new()
        }
    }
}

fn file_settings(
    name: &str,
    table: toml::Table,
    faults: &mut Vec<String>,
) -> BTreeMap<&'static str, String> {
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let upper = key.to_ascii_uppercase();
        let Some(setting) = find(&upper).filter(|_| key == key.to_ascii_lowercase()) else {
            faults.push(format!("{name}: unknown key `{key}`{}", settings::nearest(&upper, true)));
            continue;
        };
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            _ => {
                faults.push(format!("{name}: `{key}` must be a string, an integer or a boolean"));
                continue;
            }
        };
        values.insert(setting.name, value);
    }
    values
}

/// Takes the settings out of the environment. A variable that begins as ours do and is none of them is a typing error.
fn read_environment(
    variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    faults: &mut Vec<String>,
) -> BTreeMap<&'static str, String> {
    let mut values = BTreeMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else {
            continue;
        };
        match (find(name), value.into_string()) {
            (Some(setting), Ok(value)) => {
                values.insert(setting.name, value);
            }
            (Some(_), Err(_)) => faults.push(format!("{name}: it is not UTF-8")),
            (None, _) if name.starts_with("KX_") && !settings::FOREIGN.contains(&name) => {
                faults.push(format!("{name}: unknown variable{}", settings::nearest(name, false)));
            }
            (None, _) => {}
        }
    }
    values
}

/// The settings' values, and where faults go.
struct Reader<'a> {
    file: &'a BTreeMap<&'static str, String>,
    environment: &'a BTreeMap<&'static str, String>,
    faults: Vec<String>,
}

impl Reader<'_> {
    /// Returns what is said of a setting; nothing but space is nothing.
    fn text(&self, name: &str) -> Option<String> {
        let said = self.environment.get(name).filter(|text| !text.trim().is_empty());
        let said = said.or_else(|| self.file.get(name).filter(|text| !text.trim().is_empty()));
        said.map(|text| text.trim().to_owned())
    }

    /// Returns whether a setting was given, be it empty.
    fn is_given(&self, name: &str) -> bool {
        self.environment.contains_key(name) || self.file.contains_key(name)
    }

    fn text_or_default(&self, name: &str) -> String {
        let default =
            || find(name).and_then(|setting| setting.default).unwrap_or_default().to_owned();
        self.text(name).unwrap_or_else(default)
    }

    /// Reads a setting, or its default; a value that cannot be read is a fault.
    fn read<T>(&mut self, name: &str, rule: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text_or_default(name);
        let parsed = parse(&text);
        if parsed.is_none() {
            let secret = find(name).is_some_and(|setting| setting.secret);
            let shown = if secret { String::new() } else { format!("={text}") };
            self.faults.push(format!("{name}{shown}: it must be {rule}"));
        }
        parsed
    }

    fn port(&mut self, name: &str) -> u16 {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        self.read(name, "a port from 1 to 65535", port).unwrap_or(0)
    }

    fn list<T>(&mut self, name: &str, rule: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let items = |text: &str| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(&parse).collect::<Option<Vec<T>>>()
        };
        self.read(name, rule, items).unwrap_or_default()
    }
}

fn build(
    role: Role,
    file: &BTreeMap<&'static str, String>,
    environment: &BTreeMap<&'static str, String>,
    data_dir: Option<PathBuf>,
    faults: Vec<String>,
) -> Result<Config, Faults> {
    let mut reader = Reader { file, environment, faults };
    let mode = reader.read("NODE_ENV", "development, production or test", mode);
    let mode = mode.unwrap_or_default();
    let data_dir = data_dir
        .or_else(|| reader.text("KX_DATA_DIR").map(PathBuf::from))
        .or_else(default_data_dir);
    let data_dir = data_dir.unwrap_or_else(|| {
        reader.faults.push(
            "KX_DATA_DIR: there is no home directory to put data into; name a directory".to_owned(),
        );
        PathBuf::new()
    });
    let jwt_secret = jwt_secret(role, mode, &mut reader);
    let database = peers::database(role, &data_dir, &mut reader);
    let identity = peers::identity(&mut reader);
    let jwt_secret_previous = accounts::key("JWT_SECRET_PREVIOUS", &mut reader);
    let data_key = accounts::key("KX_DATA_KEY", &mut reader);
    let config = Config {
        mode,
        listen: reader.read("KX_LISTEN", "an IP address", ip).unwrap_or(IpAddr::from([0, 0, 0, 0])),
        port: reader.port("PORT"),
        processor_port: reader.port("PROCESSOR_PORT"),
        alert_relay: alerting::read(role, &mut reader),
        inbox_port: (reader.port("INBOX_PORT"), reader.is_given("INBOX_PORT")),
        jwt_secret,
        jwt_secret_previous,
        data_key,
        smtp_url: accounts::smtp_url(&mut reader),
        mail_from: accounts::mail_from(&mut reader),
        public_url: accounts::public_url(&mut reader),
        withdrawal_freeze: accounts::withdrawal_freeze(&mut reader),
        database,
        rabbitmq: peers::rabbitmq(role, &mut reader),
        data_dir,
        markets: reader.text("KX_MARKETS").map(PathBuf::from),
        log: reader.text_or_default("KX_LOG"),
        log_format: reader.read("KX_LOG_FORMAT", "json or text", log_format).flatten(),
        trusted_proxies: reader.list(
            "KX_TRUSTED_PROXIES",
            "a list of IP addresses with commas between",
            ip,
        ),
        cors_origins: reader.list(
            "KX_CORS_ORIGINS",
            "a list of origins such as https://example.org",
            origin,
        ),
        tls: reader.read("KX_TLS", "true or false", flag).unwrap_or_default() || identity.is_some(),
        identity,
        protection: Protection::read(mode, &mut reader),
        beside: Beside::read(&mut reader),
        tracing: Tracing::read(&mut reader),
        price_feeds: outside::price_feeds(&mut reader),
        snapshot_commands: reader
            .read("KX_SNAPSHOT_COMMANDS", "a whole number above 0", positive)
            .unwrap_or(1),
        batch_commands_max: reader
            .read("KX_BATCH_COMMANDS_MAX", "a whole number from 1 to 4096", batch_size)
            .unwrap_or(1),
    };
    same_ports(&config, role, &mut reader.faults);
    if reader.faults.is_empty() { Ok(config) } else { Err(Faults(reader.faults)) }
}

fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn log_format(text: &str) -> Option<Option<LogFormat>> {
    match text {
        "" => Some(None),
        "json" => Some(Some(LogFormat::Json)),
        "text" => Some(Some(LogFormat::Text)),
        _ => None,
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn origin(text: &str) -> Option<String> {
    let good = text.starts_with("http://") || text.starts_with("https://");
    (good && !text.ends_with('/')).then(|| text.to_owned())
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

fn batch_size(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| (1..=4_096).contains(number))
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "development" | "test" => Some(Mode::Development),
        "production" => Some(Mode::Production),
        _ => None,
    }
}

fn same_ports(config: &Config, role: Role, faults: &mut Vec<String>) {
    if role == Role::Up && config.port == config.processor_port && config.port > 0 {
        faults.push(format!("PROCESSOR_PORT={}: it must be another port than PORT", config.port));
    }
}

/// The signing key: the roles that sign or check must be given a good one; `up` makes its own, but not for real.
fn jwt_secret(role: Role, mode: Mode, reader: &mut Reader<'_>) -> Option<JwtSecret> {
    let needed = role == Role::Server || (role == Role::Up && mode == Mode::Production);
    if matches!(role, Role::Tool | Role::AlertRelay)
        || (role == Role::PaymentProcessor && !reader.is_given("JWT_SECRET"))
    {
        return None;
    }
    if !reader.is_given("JWT_SECRET") {
        if needed {
            reader.faults.push("Invalid JWT_SECRET: it is not set".to_owned());
        }
        return None;
    }
    let text = reader.text("JWT_SECRET").unwrap_or_default();
    match JwtSecret::new(&text) {
        Ok(secret) => Some(secret),
        Err(error) => {
            reader.faults.push(error.to_string());
            None
        }
    }
}

/// `$XDG_DATA_HOME/krystalinex`, else `~/.local/share/krystalinex`.
fn default_data_dir() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base =
        absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(base.join("krystalinex"))
}

/// Prints every setting.
#[must_use]
pub fn reference() -> String {
    let line = |setting: &Setting| {
        let default = setting.default.filter(|text| !text.is_empty()).unwrap_or("-");
        format!("{:<22} {:<16} {}\n", setting.name, default, setting.help)
    };
    let lines: String = SETTINGS.iter().map(line).collect();
    format!("{:<22} {:<16} what it is\n{lines}", "setting", "default")
}
