//! The load: users that place and cancel orders as people and bots do, and repeat with the same key what was not answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::{Answer, Random};
use serde_json::Value;

use crate::flow::{Flow, Recorded, Step, lots};
use crate::journal::{Answered, Cancel, Journal, Known, Order, Told};
use crate::user::{Client, User};

/// How long a user asks again for an order before it is left unknown, once the load has ended.
const LAST_TRIES: Duration = Duration::from_secs(30);
/// How long a user waits before it asks again.
const PAUSE_MS: u64 = 150;

/// What distinguishes a load.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Steps of one user in a second, at most.
    pub(crate) steps_per_second: u64,
    /// Whether users repeat what was answered 503 or not at all.
    pub(crate) repeats: bool,
}

/// A load that runs.
pub(crate) struct Load {
    pub(crate) journal: Arc<Journal>,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Load {
    /// Starts one client for each user. `numbers` are the orders that each has placed before.
    pub(crate) fn start(
        users: &[Arc<User>],
        servers: &Arc<Vec<SocketAddr>>,
        numbers: &[u64],
        recorded: &[Vec<Recorded>],
        plan: &Plan,
        journal: Journal,
    ) -> Self {
        let (journal, stop) = (Arc::new(journal), Arc::new(AtomicBool::new(false)));
        let paused = Arc::new(AtomicBool::new(false));
        let mut random = Random::new(plan.seed);
        let one = |(place, user): (usize, &Arc<User>)| {
            let trader = Trader {
                client: Client::new(user, servers),
                flow: Flow::new(random.next(), numbers[place], recorded[place].clone()),
                random: Random::new(random.next()),
                journal: Arc::clone(&journal),
                stop: Arc::clone(&stop),
                paused: Arc::clone(&paused),
                plan: plan.clone(),
                resting: Vec::new(),
                keys: random.next(),
                stopped_at: None,
            };
            thread::spawn(move || trader.run())
        };
        let threads = users.iter().enumerate().map(one).collect();
        Self { journal, stop, paused, threads }
    }

    /// Lets nobody begin anything, or everybody again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    /// Ends the load; what is under way is asked for until it is known. Returns what is known, and each user's number of
    /// orders.
    pub(crate) fn finish(mut self) -> (Known, Vec<u64>) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = |thread: JoinHandle<u64>| thread.join().expect("no client panics");
        let numbers = self.threads.drain(..).map(ended).collect();
        (self.journal.close(), numbers)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A drill that has failed: nobody waits for the clients any more.
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// One user at work.
struct Trader {
    client: Client,
    flow: Flow,
    random: Random,
    journal: Arc<Journal>,
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    plan: Plan,
    resting: Vec<String>,
    keys: u64,
    stopped_at: Option<Instant>,
}

impl Trader {
    fn run(mut self) -> u64 {
        let between = Duration::from_millis(1_000 / self.plan.steps_per_second.max(1));
        while !self.is_stopped() {
            let began = Instant::now();
            if self.paused.load(Ordering::SeqCst) {
                thread::sleep(between);
                continue;
            }
            match self.flow.next(u64::try_from(self.resting.len()).unwrap_or(0)) {
                Step::Place { market, side, body, quantity_lots, rests } => {
                    self.place(market, side, body, quantity_lots, rests);
                }
                Step::Cancel { which } => self.cancel(which),
            }
            thread::sleep(between.saturating_sub(began.elapsed()));
        }
        self.flow.number()
    }

    fn is_stopped(&mut self) -> bool {
        if self.stop.load(Ordering::SeqCst) {
            self.stopped_at.get_or_insert_with(Instant::now);
        }
        self.stopped_at.is_some()
    }

    /// Tells whether a user goes on asking.
    fn goes_on(&mut self) -> bool {
        !self.is_stopped() || self.stopped_at.is_some_and(|at| at.elapsed() < LAST_TRIES)
    }

    fn place(
        &mut self,
        market: &'static str,
        side: &'static str,
        mut body: Value,
        quantity_lots: u64,
        rests: bool,
    ) {
        self.keys += 1;
        let key = format!("drill-{:016x}-{}", self.keys, self.flow.number());
        // Some name their orders themselves as well.
        if self.random.below(4) == 0 {
            body["clientOrderId"] = key.clone().into();
        }
        let told = self.ask("POST", "/api/v1/orders", &key, Some(&body), told);
        if let (Told::Accepted { id, .. }, true) = (&told, rests) {
            self.resting.push(id.clone());
        }
        let user = &self.client.user;
        let (user, account) = (user.number, user.account);
        self.journal.order(Order { user, account, key, market, side, quantity_lots, told });
    }

    fn cancel(&mut self, which: u64) {
        let id = self.resting.remove(usize::try_from(which).unwrap_or(0));
        self.keys += 1;
        let key = format!("drill-{:016x}-cancel", self.keys);
        let path = format!("/api/v1/orders/{id}");
        let status = self.ask("DELETE", &path, &key, None, |answer| Told::Refused {
            status: answer.status,
            code: String::new(),
        });
        if let Told::Refused { status, .. } = status {
            self.journal.cancel(Cancel { id, status });
        }
    }

    /// Asks until there is an answer that says something, each time with the same key.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
        read: impl Fn(&Answer) -> Told,
    ) -> Told {
        loop {
            let sent = Instant::now();
            let answer = self.client.send(method, path, &[("idempotency-key", key)], body);
            let status = answer.as_ref().ok().map(|answer| answer.status);
            let answered = Answered { sent, answered: Instant::now(), status };
            let who = (method, key, self.client.user.number, self.client.server());
            let text = answer.as_ref().map_or_else(ToString::to_string, |a| a.body.clone());
            self.journal.answer(who, body, answered, &text);
            match answer {
                Ok(answer) if !matches!(answer.status, 401 | 408 | 429 | 500..) => {
                    return read(&answer);
                }
                // Too many requests, or a token that has ended: nothing has happened, so it is asked again in any case.
                Ok(answer) if matches!(answer.status, 401 | 429) => {}
                Ok(_) | Err(_) if !self.plan.repeats => return Told::Nothing,
                // Behind, draining, gone: another server may know.
                Ok(_) | Err(_) => self.client.move_on(),
            }
            if !self.goes_on() {
                return Told::Nothing;
            }
            thread::sleep(Duration::from_millis(PAUSE_MS + self.random.below(PAUSE_MS)));
        }
    }
}

/// Reads the answer to an order.
fn told(answer: &Answer) -> Told {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let id = || body["id"].as_str().expect("an order has an id").to_owned();
    match answer.status {
        200 | 201 => Told::Accepted {
            id: id(),
            filled_lots: lots(body["filledQuantity"].as_str().unwrap_or("0")),
        },
        202 => Told::Pending { id: id() },
        status => {
            let code = body["code"].as_str().unwrap_or_default().to_owned();
            Told::Refused { status, code }
        }
    }
}
