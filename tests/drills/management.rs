//! The broker's management API: raw messages in and out, as nobody but a tester or an attacker makes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::Broker;
use e2e::Http;
use serde_json::{Value, json};

/// The queue of commands.
pub(crate) const ORDERS: &str = "orders";
/// Where undecidable messages go.
pub(crate) const DEAD_LETTERS: &str = "orders.dead";
/// The default virtual host, in an address.
const HOST: &str = "%2F";

/// A message of the broker.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) body: Vec<u8>,
    /// AMQP's `type`: what the body is.
    pub(crate) kind: Option<String>,
    /// Its properties as the broker tells them.
    pub(crate) properties: Value,
}

impl Message {
    /// Makes a message without a type, which is one command.
    pub(crate) fn plain(body: Vec<u8>) -> Self {
        Self { body, kind: None, properties: Value::Null }
    }
}

/// A client of the management API.
pub(crate) struct Management {
    http: Http,
    authorization: String,
}

impl Management {
    pub(crate) fn of(broker: &Broker) -> Self {
        let port = broker.management_port().expect("a stand's broker has the management API");
        let pair = format!("{}:{}", broker.user(), broker.password());
        Self {
            http: Http::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
                .with_patience(Duration::from_secs(60)),
            authorization: format!("Basic {}", STANDARD.encode(pair)),
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let authorization = self.authorization.clone();
        let headers = [("authorization", authorization.as_str())];
        let answer = self.http.send(method, path, &headers, body);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_default()
    }

    /// Publishes a message to a queue; it must be routed.
    pub(crate) fn publish(&mut self, queue: &str, message: &Message) {
        let mut properties = json!({"delivery_mode": 2});
        if let Some(kind) = &message.kind {
            properties["type"] = kind.clone().into();
        }
        let body = json!({
            "properties": properties, "routing_key": queue, "payload_encoding": "base64",
            "payload": STANDARD.encode(&message.body),
        });
        let path = format!("/api/exchanges/{HOST}/amq.default/publish");
        let answer = self.ask("POST", &path, Some(&body));
        assert_eq!(answer["routed"], true, "{queue} takes the message");
    }

    /// Takes at most `count` messages out of a queue.
    pub(crate) fn take(&mut self, queue: &str, count: usize) -> Vec<Message> {
        let body = json!({"count": count, "ackmode": "ack_requeue_false", "encoding": "base64"});
        let answer = self.ask("POST", &format!("/api/queues/{HOST}/{queue}/get"), Some(&body));
        let one = |found: &Value| {
            let payload = found["payload"].as_str().unwrap_or_default();
            let body = match found["payload_encoding"].as_str() {
                Some("base64") => STANDARD.decode(payload).expect("the broker encodes well"),
                _ => payload.as_bytes().to_vec(),
            };
            let kind = found["properties"]["type"].as_str().map(str::to_owned);
            Message { body, kind, properties: found["properties"].clone() }
        };
        answer.as_array().map(|all| all.iter().map(one).collect()).unwrap_or_default()
    }

    /// Makes a queue that gets a copy of everything that is delivered from `orders`, and turns the copying on.
    pub(crate) fn tap(&mut self, broker: &Broker, queue: &str) {
        let options =
            json!({"durable": false, "auto_delete": false, "arguments": {"x-max-length": 20_000}});
        self.ask("PUT", &format!("/api/queues/{HOST}/{queue}"), Some(&options));
        let path = format!("/api/bindings/{HOST}/e/amq.rabbitmq.trace/q/{queue}");
        let binding = json!({"routing_key": format!("deliver.{ORDERS}")});
        self.ask("POST", &path, Some(&binding));
        broker.ctl(&["trace_on"]).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Turns the copying off and removes the queue.
    pub(crate) fn untap(&mut self, broker: &Broker, queue: &str) {
        broker.ctl(&["trace_off"]).unwrap_or_else(|error| panic!("{error}"));
        self.ask("DELETE", &format!("/api/queues/{HOST}/{queue}"), None);
    }

    /// Takes copied messages, as they were published.
    pub(crate) fn take_copies(&mut self, queue: &str, count: usize) -> Vec<Message> {
        let copies = self.take(queue, count);
        let original = |copy: Message| {
            let kind = copy.properties["headers"]["properties"]["type"].as_str();
            Message { kind: kind.map(str::to_owned), properties: Value::Null, ..copy }
        };
        copies.into_iter().map(original).collect()
    }

    /// Returns how many messages a queue has, as the broker counted them a moment ago.
    pub(crate) fn depth(&mut self, queue: &str) -> u64 {
        let answer = self.ask("GET", &format!("/api/queues/{HOST}/{queue}"), None);
        answer["messages"].as_u64().unwrap_or(0)
    }
}
