//! Keys of users, and requests that are signed with them.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{self, Reply};
use crate::world::{PASSWORD, User, World};

/// A key.
#[derive(Clone)]
pub struct Key {
    pub address: SocketAddr,
    pub id: String,
    pub secret: String,
}

/// A request that is signed.
pub struct Signed {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Milliseconds since 1970.
pub fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis()
}

/// The time, and never one that was given before: the same request twice in one millisecond would be a replay.
pub fn next() -> u128 {
    static LAST: Mutex<u128> = Mutex::new(0);
    let mut last = LAST.lock().expect("nobody panics with it");
    *last = now().max(*last + 1);
    *last
}

impl Key {
    /// Makes a key with scopes, good from anywhere it may be.
    pub fn new(user: &User, scopes: &[&str]) -> Self {
        let addresses: &[&str] = if scopes.contains(&"withdraw") { &["127.0.0.0/8"] } else { &[] };
        let body = json!({
            "label": "a test's", "scopes": scopes, "addresses": addresses, "password": PASSWORD
        });
        Self::of(user, &user.post("/api/v1/auth/api-keys", &body).expect(201))
    }

    pub fn of(user: &User, made: &Value) -> Self {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self { address: user.address, id: text(&made["key"]["id"]), secret: text(&made["secret"]) }
    }

    pub fn signature(&self, lines: &[&str]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any length");
        hex(&mac.chain_update(lines.join("\n")).finalize().into_bytes())
    }

    /// Signs a request at a time.
    pub fn sign_at(
        &self,
        at: u128,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Signed {
        let bytes = body.map(|body| body.to_string().into_bytes());
        let hash = hex(&Sha256::digest(bytes.as_deref().unwrap_or_default()));
        let timestamp = at.to_string();
        let mut lines = vec![timestamp.as_str(), method, path, hash.as_str()];
        lines.extend(
            headers.iter().filter(|(name, _)| *name == "idempotency-key").map(|(_, key)| *key),
        );
        let signature = self.signature(&lines);
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, value) in
            [("x-kx-key", &self.id), ("x-kx-timestamp", &timestamp), ("x-kx-signature", &signature)]
        {
            all.push((name.to_owned(), value.clone()));
        }
        if bytes.is_some() {
            all.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Signed { method: method.to_owned(), path: path.to_owned(), headers: all, body: bytes }
    }

    /// Signs a request now. The path is the one that is sent, to the letter.
    pub fn sign(&self, method: &str, path: &str, body: Option<&Value>) -> Signed {
        self.sign_at(next(), method, path, &[], body)
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.sign(method, path, body).send(self.address)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body))
    }
}

impl Signed {
    pub fn send(&self, address: SocketAddr) -> Reply {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        http::send(address, &self.method, &self.path, &headers, self.body.as_deref())
    }
}

/// Waits for what must come to be.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    /// Runs a statement about one user.
    pub fn change(&self, statement: &str, user: &User) -> u64 {
        self.runtime.block_on(async {
            let client = self.db.get().await.expect("the database answers");
            client.execute(statement, &[&user.email]).await.expect("the statement is right")
        })
    }

    /// Returns a user's id.
    pub fn id_of(&self, user: &User) -> String {
        user.get("/api/v1/auth/me").expect(200)["id"].as_str().expect("an id").to_owned()
    }

    /// Makes one of the exchange's own people, with two-factor authentication on.
    pub fn staff(&self, role: &str) -> User {
        let user = self.user();
        self.set_role(&user, role);
        self.change(
            "INSERT INTO two_factor (user_id, secret, confirmed_at) \
             SELECT id, '\\x00', clock_timestamp() FROM users WHERE email = $1",
            &user,
        );
        user
    }

    pub fn set_role(&self, user: &User, role: &str) {
        let role = role.to_owned();
        self.runtime.block_on(async {
            let client = self.db.get().await.expect("the database answers");
            let text = "UPDATE users SET role = $2 WHERE email = $1";
            client.execute(text, &[&user.email, &role]).await.expect("there is such a role");
        });
    }

    /// Returns the details of audit rows of an action by a user, oldest first.
    pub fn audited(&self, action: &str, user: &str) -> Vec<Value> {
        let filter = store::audit::AuditFilter {
            action: Some(action.to_owned()),
            user: Some(user.parse().expect("an id")),
            ..store::audit::AuditFilter::default()
        };
        let rows = self.runtime.block_on(store::audit::list(&self.db, &filter, 1_000));
        let rows = rows.expect("the log can be read");
        rows.into_iter().rev().map(|row| row.detail).collect()
    }
}
