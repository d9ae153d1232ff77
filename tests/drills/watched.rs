//! A stand that is watched: real Prometheus, Alertmanager and postgres exporter, the alert relay, and those who are told.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use e2e::{Http, wait_for};
use monitoring::{Database, GoAlert, Intervals, Job, Monitoring, Plan, Ports, Receivers};
use serde_json::Value;

use crate::process::{PATIENCE, Process, Role};
use crate::proxy::Proxy;
use crate::sinks::{KEY, Sinks, TOPIC};
use crate::stand::Stand;

/// What watches a stand. All intervals are those of `config/`.
pub(crate) struct Watched {
    pub(crate) monitoring: Monitoring,
    pub(crate) sinks: Sinks,
    /// The exporter's way to the database.
    pub(crate) database: Proxy,
    _relay: Process,
}

impl Watched {
    /// Starts it and waits until Prometheus reaches everything.
    pub(crate) fn start(stand: &Stand) -> Self {
        let sinks = Sinks::start();
        let mut relay = stand.process(Role::Relay);
        relay.set("KX_NTFY_URL", &format!("http://127.0.0.1:{}", sinks.ntfy_port));
        relay.set("KX_NTFY_TOPIC", TOPIC);
        relay.spawn();
        let database = Proxy::start(stand.database_port());
        let key_file = stand.directory.join("goalert-key");
        fs::write(&key_file, KEY).expect("the stand's directory is writable");
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let all = |name, processes: &[Process]| Job {
            name,
            targets: processes.iter().map(|one| one.address().to_string()).collect(),
            tls: false,
        };
        let rabbitmq = stand.broker.metrics_port().expect("it serves them");
        let plan = Plan {
            ports: Ports::default(),
            jobs: vec![
                all("krystalinex-server", &stand.servers),
                all("krystalinex-payment-processor", &stand.processors),
                Job::local("krystalinex-alert-relay", relay.port),
                Job::local("rabbitmq", rabbitmq),
                Job::local("rabbitmq-alarms", rabbitmq),
            ],
            database: Database {
                host: "127.0.0.1".to_owned(),
                port: database.port(),
                user: "exchange".to_owned(),
                database: "crypto_exchange".to_owned(),
                password: stand.psql().password,
            },
            receivers: Receivers {
                goalert: Some(GoAlert {
                    authority: format!("127.0.0.1:{}", sinks.goalert_port),
                    key_file,
                }),
                relay: Some(relay.address().to_string()),
            },
            intervals: Intervals::default(),
            keep: "1d",
        };
        let monitoring = Monitoring::start(&stand.directory.join("monitoring"), &plan);
        let monitoring = monitoring.unwrap_or_else(|error| panic!("{error}"));
        let watched = Self { monitoring, sinks, database, _relay: relay };
        watched.wait_all_up(stand);
        watched
    }

    /// Waits until Prometheus reaches every process.
    pub(crate) fn wait_all_up(&self, stand: &Stand) {
        let all = stand.servers.len() + stand.processors.len() + 6;
        wait_for("everything to be watched", PATIENCE, || {
            let up = self.query("up").into_iter().filter(|up| *up > 0.5).count();
            if up < all {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            (up == all).then_some(())
        });
    }

    fn prometheus(&self) -> Http {
        Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.monitoring.prometheus.port())))
    }

    /// Asks Prometheus; returns the values that it finds.
    pub(crate) fn query(&self, query: &str) -> Vec<f64> {
        let one = |byte: u8| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        let encoded: String = query.bytes().map(one).collect();
        let answer = self.prometheus().get(&format!("/api/v1/query?query={encoded}"));
        let answer = answer.unwrap_or_else(|error| panic!("{query}: {error}")).expect(200);
        let found = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |one: &Value| one["value"][1].as_str()?.parse().ok();
        found.iter().filter_map(value).collect()
    }

    /// Returns the alerts that fire now, by their names.
    pub(crate) fn firing(&self) -> Vec<String> {
        let answer = self.prometheus().get("/api/v1/alerts").expect("it answers").expect(200);
        let all = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = all.iter().filter(|alert| alert["state"] == "firing");
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        let mut names: Vec<String> = firing.filter_map(name).collect();
        names.sort();
        names.dedup();
        names
    }
}
