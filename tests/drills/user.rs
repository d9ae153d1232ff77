//! A user of the exchange and its client: it logs in again when its token has ended, and goes to another server when one
//! does not answer.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::{Answer, Http};
use serde_json::{Value, json};

/// The password of every user of the drills, hashed at the least cost: what it guards is gone with the drill.
const PASSWORD: &str = "drill-user-password";
pub(crate) const PASSWORD_HASH: &str = "$argon2id$v=19$m=64,t=1,p=1$YSBzYWx0IGZvciBkcmlsbHM$4+zMbxIpKpqN8P01G7YRKt9eKL5hTQiGlbbollHitF8";

/// How long a client waits for a connection and for each part of an answer: more than the server ever takes.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) number: usize,
    pub(crate) email: String,
    pub(crate) account: u64,
    token: Mutex<Option<String>>,
}

impl User {
    pub(crate) fn new(number: usize, email: String, account: u64) -> Self {
        Self { number, email, account, token: Mutex::default() }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().expect("no client panics").clone()
    }

    fn set_token(&self, token: Option<String>) {
        *self.token.lock().expect("no client panics") = token;
    }

    /// The address that a balancer would name: each user has its own, as people have.
    fn forwarded_for(&self) -> String {
        format!("10.7.{}.{}", self.number / 250, self.number % 250 + 1)
    }
}

/// One connection of a user at a time, to one of several servers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: Arc<User>,
    servers: Arc<Vec<SocketAddr>>,
    at: usize,
    http: Option<Http>,
}

impl Client {
    pub(crate) fn new(user: &Arc<User>, servers: &Arc<Vec<SocketAddr>>) -> Self {
        let at = user.number % servers.len();
        Self { user: Arc::clone(user), servers: Arc::clone(servers), at, http: None }
    }

    /// Returns which server it asks.
    pub(crate) fn server(&self) -> usize {
        self.at
    }

    /// Returns the token that it uses.
    pub(crate) fn token(&self) -> String {
        self.user.token().unwrap_or_default()
    }

    /// Goes to the next server.
    pub(crate) fn move_on(&mut self) {
        self.at = (self.at + 1) % self.servers.len();
        self.http = None;
    }

    /// Sends a request once; logs in before it where that is needed.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        if self.user.token().is_none() {
            self.log_in()?;
        }
        let forwarded = self.user.forwarded_for();
        let mut all = vec![("x-forwarded-for", forwarded.as_str())];
        all.extend_from_slice(headers);
        let token = self.user.token();
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::new(self.servers[self.at]).with_patience(ANSWER_MAX),
        };
        let mut http = http.with_token(&token.unwrap_or_default());
        let answer = http.send(method, path, &all, body);
        match &answer {
            Ok(answer) if answer.status == 401 => self.user.set_token(None),
            Ok(_) => self.http = Some(http),
            Err(_) => {}
        }
        answer
    }

    /// Logs in at the present server.
    pub(crate) fn log_in(&mut self) -> io::Result<()> {
        let mut http = Http::new(self.servers[self.at]).with_patience(ANSWER_MAX);
        let body = json!({"email": self.user.email, "password": PASSWORD});
        let forwarded = self.user.forwarded_for();
        let headers = [("x-forwarded-for", forwarded.as_str())];
        let answer = http.send("POST", "/api/v1/auth/login", &headers, Some(&body))?;
        let token = answer.json()["accessToken"].as_str().map(str::to_owned);
        match token {
            Some(token) if answer.status == 200 => {
                self.user.set_token(Some(token));
                Ok(())
            }
            _ => Err(io::Error::other(format!("a login was answered {}", answer.status))),
        }
    }
}
