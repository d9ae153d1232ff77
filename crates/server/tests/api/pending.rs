//! Orders whose outcome does not come in time, and a queue that does not take them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use engine::Action;
use queue::{CommandPublisher, PublishOutcome};
use serde_json::{Value, json};

use crate::Case;
use crate::world::{User, World, config, limit};

pub const CASES: &[Case] = &[
    (
        "an_order_that_waits_is_pending_on_every_server",
        an_order_that_waits_is_pending_on_every_server,
    ),
    (
        "a_repeat_of_an_order_that_waits_lives_no_longer",
        a_repeat_of_an_order_that_waits_lives_no_longer,
    ),
    ("a_cancel_reaches_an_order_that_waits", a_cancel_reaches_an_order_that_waits),
    (
        "a_queue_that_takes_nothing_is_503_and_nothing_happened",
        a_queue_that_takes_nothing_is_503_and_nothing_happened,
    ),
];

/// A queue that keeps what it is given until it is let go, or takes nothing.
#[derive(Default)]
struct Kept {
    messages: Mutex<Vec<Bytes>>,
    unroutable: bool,
}

#[async_trait]
impl CommandPublisher for Kept {
    async fn publish(&self, message: Bytes, _trace_id: u128) -> PublishOutcome {
        if self.unroutable {
            return PublishOutcome::Unroutable;
        }
        self.messages.lock().expect("nobody panics with it").push(message);
        PublishOutcome::Unknown
    }

    fn ready(&self) -> bool {
        !self.unroutable
    }
}

impl Kept {
    fn release(&self, world: &World) {
        for message in std::mem::take(&mut *self.messages.lock().expect("nobody panics with it")) {
            let outcome = world.runtime.block_on(world.queue.publish(message, 0));
            assert_eq!(outcome, PublishOutcome::Confirmed);
        }
    }
}

/// Serves a server with such a queue, and returns the user as one who asks it.
fn through(world: &World, kept: &Arc<Kept>, user: &User) -> User {
    let mut quick = config();
    quick.outcome_timeout = Duration::from_millis(200);
    let (address, _) = world.serve_with(quick, Arc::clone(kept) as _, world.stop.clone());
    User { address, ..user.clone() }
}

fn path(order: &Value) -> String {
    format!("/api/v1/orders/{}", order["id"].as_str().expect("an id"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
    }
}

fn an_order_that_waits_is_pending_on_every_server(world: &World) {
    let user = world.funded("10000.00", "0");
    let kept = Arc::new(Kept::default());
    let slow = through(world, &kept, &user);
    let send = |user: &User| {
        let body = limit("buy", "47000.00", "0.01");
        user.send("POST", "/api/v1/orders", &[("idempotency-key", "slow")], Some(&body))
    };
    let reply = send(&slow);
    let pending = reply.expect(202);
    assert_eq!((&pending["status"], &pending["fills"]), (&json!("pending"), &Value::Null));
    assert_eq!(reply.header("location"), Some(&*path(&pending)));
    // Another server shows it, and so does a list, and the runbook's query counts it.
    assert_eq!(user.get(&path(&pending)).expect(200)["status"], "pending");
    let list = user.get("/api/v1/orders?status=pending").expect(200);
    assert_eq!(list["items"][0]["id"], pending["id"], "{list}");
    let count = world.runtime.block_on(async {
        let client = world.db.get().await.expect("the database answers");
        let text = "SELECT COUNT(*) FROM orders WHERE status = 'pending'";
        client.query_one(text, &[]).await.expect("it counts").get::<_, i64>(0)
    });
    assert_eq!(count, 1);
    // The same key and body again is the same order, before it is decided and after.
    assert_eq!(send(&slow).expect(202)["id"], pending["id"]);
    kept.release(world);
    until("it is decided", || user.get(&path(&pending)).expect(200)["status"] == "open");
    assert_eq!(send(&user).expect(200)["id"], pending["id"]);
    let open = user.get("/api/v1/orders?status=open").expect(200);
    assert_eq!(open["items"].as_array().map(Vec::len), Some(1), "two deliveries are one order");
    user.delete("/api/v1/orders").expect(200);
}

fn a_repeat_of_an_order_that_waits_lives_no_longer(world: &World) {
    let user = world.funded("10000.00", "0");
    let kept = Arc::new(Kept::default());
    let slow = through(world, &kept, &user);
    let body = limit("buy", "47000.00", "0.01");
    for _ in 0..2 {
        slow.send("POST", "/api/v1/orders", &[("idempotency-key", "again")], Some(&body))
            .expect(202);
    }
    // Its owner may have read that it expired when the first one has.
    let expires_at: Vec<_> = {
        let messages = kept.messages.lock().expect("nobody panics with it");
        let decode = |message: &Bytes| journal::Message::decode(message).expect("a message");
        // The server has something to say of its own now and then.
        let commands = messages.iter().map(|message| decode(message).command);
        let orders = commands.filter(|command| matches!(command.action, Action::PlaceOrder(_)));
        orders.map(|command| command.expires_at).collect()
    };
    assert_eq!(expires_at.len(), 2);
    assert_eq!(expires_at[0], expires_at[1]);
    kept.release(world);
    until("it is decided", || {
        slow.get("/api/v1/orders?status=open").expect(200)["items"][0] != Value::Null
    });
    user.delete("/api/v1/orders").expect(200);
}

fn a_cancel_reaches_an_order_that_waits(world: &World) {
    let user = world.funded("10000.00", "0");
    let kept = Arc::new(Kept::default());
    let slow = through(world, &kept, &user);
    let pending = slow.order(&limit("buy", "47000.00", "0.01")).expect(202);
    // The cancel overtakes its order.
    user.delete(&path(&pending)).expect(202);
    kept.release(world);
    until("it is decided", || user.get(&path(&pending)).expect(200)["status"] == "cancelled");
    let order = user.get(&path(&pending)).expect(200);
    assert_eq!(order["reason"], "cancelled_before_arrival");
    assert_eq!(user.delete(&path(&pending)).problem(409), "order_closed");
}

fn a_queue_that_takes_nothing_is_503_and_nothing_happened(world: &World) {
    let user = world.funded("10000.00", "0");
    let kept = Arc::new(Kept { unroutable: true, ..Kept::default() });
    let deaf = through(world, &kept, &user);
    let before = world.digest();
    let reply = deaf.order(&limit("buy", "47000.00", "0.01"));
    assert_eq!(reply.problem(503), "unavailable");
    assert!(reply.header("retry-after").is_some());
    let transfer = json!({ "asset": "USD", "amount": "1", "to": world.user().wallet });
    assert_eq!(deaf.post("/api/v1/wallet/transfer", &transfer).problem(503), "unavailable");
    let ready = deaf.get("/ready");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(deaf.get("/health").status, 200);
    let orders = user.get("/api/v1/orders").expect(200);
    assert_eq!(orders["items"], json!([]));
    for (key, value) in before {
        assert_eq!(world.digest().get(&key), Some(&value), "{key}");
    }
}
