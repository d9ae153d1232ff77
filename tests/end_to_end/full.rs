//! `up --full`: the real RabbitMQ, Prometheus, Alertmanager and postgres exporter beside the exchange.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Exchange, Http, Settings, free_port, limit, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// Six programs start beside each other, on a machine that may have other work.
const READY_MAX: Duration = Duration::from_secs(180);
/// Longer than anything takes that happens by itself: a measurement, a rule.
const PATIENCE: Duration = Duration::from_secs(90);
/// The password of RabbitMQ's administrator, with letters that a shell, a URL or a configuration would trip over.
const PASSWORD: &str = "a #pass'word:with/\"everything\" %41 in it";
/// What is run, and the setting of its port.
const PORTS: [&str; 7] = [
    "KX_AMQP_PORT",
    "KX_RABBITMQ_PORT",
    "KX_RABBITMQ_METRICS_PORT",
    "KX_PROMETHEUS_PORT",
    "KX_ALERTMANAGER_PORT",
    "KX_POSTGRES_EXPORTER_PORT",
    "ALERT_RELAY_PORT",
];

/// The PromQL of the runbook's Appendix B, line by line.
fn queries_of_the_runbook() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/RUNBOOK.md");
    let text = std::fs::read_to_string(path).expect("there is a runbook");
    let (_, appendix) = text.split_once("### Prometheus Queries").expect("it has an appendix");
    let (_, rest) = appendix.split_once("```promql\n").expect("it has queries");
    let (block, _) = rest.split_once("```").expect("they end");
    let lines = block.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

struct Full {
    exchange: Exchange,
    ports: Vec<u16>,
}

impl Full {
    fn unstarted() -> Self {
        let ports: Vec<u16> =
            PORTS.iter().map(|_| broker::free_port().expect("there is one")).collect();
        let said = [
            ("RABBITMQ_PASSWORD", PASSWORD.to_owned()),
            // Nobody is there; the relay runs as soon as it is said whom it tells.
            ("KX_NTFY_URL", format!("http://127.0.0.1:{}", free_port())),
            ("KX_NTFY_TOPIC", "krystalinex-alerts-of-a-test".to_owned()),
        ];
        let mut environment: Vec<(String, String)> =
            said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for (name, port) in PORTS.iter().zip(&ports) {
            environment.push(((*name).to_owned(), port.to_string()));
        }
        let arguments = vec!["--full".to_owned(), "--demo".to_owned()];
        let settings = Settings { arguments, environment, ..Settings::default() };
        Self { exchange: Exchange::unstarted(settings), ports }
    }

    fn start(&mut self) {
        let times = |said: String| said.matches("is ready.").count();
        let before = times(self.exchange.said());
        self.exchange.spawn();
        wait_for("everything", READY_MAX, || {
            if let Some(status) = self.exchange.ended() {
                panic!("it ended with {status}:\n{}", self.exchange.said());
            }
            (times(self.exchange.said()) > before).then_some(())
        });
    }

    fn prometheus(&self) -> Http {
        http(self.ports[3])
    }

    /// Asks Prometheus; returns the values of what it finds.
    fn query(&self, query: &str) -> Vec<f64> {
        let answer = self.prometheus().get(&format!("/api/v1/query?query={}", encoded(query)));
        let answer = answer.expect("it answers").expect(200);
        let found = answer["data"]["result"].as_array().expect("a list");
        let value = |one: &Value| one["value"][1].as_str()?.parse().ok();
        found.iter().filter_map(value).collect()
    }

    /// Asks until there is a value that will do.
    fn wait_query(&self, query: &str, good: impl Fn(f64) -> bool) -> f64 {
        wait_for(query, PATIENCE, || {
            let found = self.query(query).into_iter().find(|value| good(*value));
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(200));
            }
            found
        })
    }

    fn wait_silent(&self) {
        let began = Instant::now();
        for (port, name) in self.ports.iter().zip(PORTS) {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok() {
                assert!(began.elapsed() < PATIENCE, "something still listens at {name}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn http(port: u16) -> Http {
    Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Percent-encodes everything but letters and digits.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[test]
fn the_real_parts_run_beside_the_exchange_and_the_runbooks_queries_return_data() {
    let mut full = Full::unstarted();
    full.start();

    // The runbook's command: curl -u admin:$RABBITMQ_PASSWORD …/api/queues/%2F/orders | jq .messages
    let pair = STANDARD.encode(format!("admin:{PASSWORD}"));
    let headers = [("authorization", format!("Basic {pair}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let queue = wait_for("the queue's figures", PATIENCE, || {
        let answer = http(full.ports[1]).send("GET", "/api/queues/%2F/orders", &headers, None);
        let answer = answer.expect("it answers");
        assert!(answer.status < 300, "the administrator may look: {answer:?}");
        let queue = answer.json();
        queue["messages"].is_u64().then_some(queue)
    });
    assert_eq!(queue["type"], "quorum", "the exchange uses it: {queue}");
    assert!(!full.exchange.said().contains(PASSWORD), "no password is shown");

    let targets = wait_for("every target to be up", PATIENCE, || {
        let answer = full.prometheus().get("/api/v1/targets?state=active").expect("it answers");
        let targets = answer.expect(200)["data"]["activeTargets"].clone();
        let all = targets.as_array().expect("a list");
        let up = all.iter().filter(|target| target["health"] == "up").count();
        (all.len() == 8 && up == 8).then_some(targets)
    });
    let mut jobs: Vec<&str> = targets
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|target| target["labels"]["job"].as_str())
        .collect();
    jobs.sort_unstable();
    let expected = [
        "alertmanager",
        "krystalinex-alert-relay",
        "krystalinex-payment-processor",
        "krystalinex-server",
        "postgres",
        "prometheus",
        "rabbitmq",
        "rabbitmq-alarms",
    ];
    assert_eq!(jobs, expected);

    let mut alice = full.exchange.login("alice@demo.example", "alice-demo-password");
    // A rate needs two looks of Prometheus between which something has happened: so orders go on until the figure is there.
    let mut number = 0;
    let mut wait_busy = |query: &str, good: &dyn Fn(f64) -> bool| {
        wait_for(query, PATIENCE, || {
            number += 1;
            let price = format!("{}.00", 1_000 + number);
            let order = limit("BTC/USD", "buy", "0.01", &price);
            // Refused by the band, most likely: a request all the same, and a command that RabbitMQ carries.
            let answer = alice.post("/api/v1/orders", &order).expect("it answers");
            assert!(matches!(answer.status, 201 | 422), "{answer:?}");
            std::thread::sleep(Duration::from_millis(200));
            full.query(query).into_iter().find(|value| good(*value))
        })
    };
    let queries = queries_of_the_runbook();
    assert!(queries.len() >= 5, "{queries:?}");
    for query in &queries {
        wait_busy(query, &|value| value.is_finite() && value >= 0.0);
    }
    let p99 = queries.iter().find(|query| query.contains("0.99")).expect("it is there");
    wait_busy(p99, &|value| value > 0.0);
    assert_eq!(full.query(p99).len(), 1, "one figure for the service, not one for each series");
    full.wait_query("sum(pg_stat_activity_count)", |value| value > 1.0);

    // Ctrl-C ends all of it.
    let status = full.exchange.stop(Signal::INT);
    assert!(status.success(), "{status}: {}", full.exchange.said());
    full.wait_silent();
    assert!(!full.exchange.postgres_runs(), "nothing is left running");
}

#[test]
fn killed_it_leaves_none_of_them_and_comes_back_with_what_it_had() {
    let mut full = Full::unstarted();
    full.start();
    let balances = |full: &Full| {
        let mut alice = full.exchange.login("alice@demo.example", "alice-demo-password");
        alice.get("/api/v1/wallet/balances").expect("it answers").expect(200)
    };
    let before = balances(&full)["balances"].clone();
    full.exchange.kill();
    full.wait_silent();
    full.start();
    assert_eq!(balances(&full)["balances"], before);
}

#[test]
fn a_port_that_is_taken_is_named_with_what_it_is_for() {
    let mut full = Full::unstarted();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, full.ports[3])).expect("it is free");
    full.exchange.spawn();
    let said = wait_for("its words", READY_MAX, || {
        let ended = full.exchange.ended()?;
        assert!(!ended.success());
        Some(full.exchange.said()).filter(|said| said.contains("Port already in use"))
    });
    let port = full.ports[3].to_string();
    assert!(said.contains(&port) && said.contains("Prometheus"), "{said}");
    drop(taken);
    full.wait_silent();
}

#[test]
fn another_broker_and_its_own_are_not_both_used() {
    let environment = vec![(
        "RABBITMQ_URL".to_owned(),
        format!("amqp://guest:hush-hush@127.0.0.1:{}", free_port()),
    )];
    let arguments = vec!["--full".to_owned()];
    let mut exchange =
        Exchange::unstarted(Settings { arguments, environment, ..Settings::default() });
    exchange.spawn();
    let said = wait_for("its words", READY_MAX, || {
        let ended = exchange.ended()?;
        assert!(!ended.success());
        Some(exchange.said()).filter(|said| said.contains("RABBITMQ_URL"))
    });
    assert!(!said.contains("hush-hush"), "{said}");
}
