//! A journal that grows, and processes that follow it.

use std::sync::Arc;
use std::time::Duration;

use follower::{Follower, Hold, Live, share_projections};
use queue::{BatchPublisher as _, InProcessFanOut};
use store::{Db, lookup};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trace::Recorder;
use units::Sequence;

use crate::common::database;
use crate::exchange::{Exchange, Random};

/// How long a state is waited for: far longer than it takes.
const LIMIT: Duration = Duration::from_secs(90);

/// Waits for a state.
pub(crate) async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !reached().await {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A journal, and what writes it.
pub(crate) struct World {
    pub(crate) db: Db,
    exchange: Exchange,
    fan_out: InProcessFanOut,
    random: Random,
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let db = database().await;
        let (exchange, _) = Exchange::open(&db, 6).await;
        Self { db, exchange, fan_out: InProcessFanOut::new(64), random: Random::new(seed) }
    }

    pub(crate) fn head(&self) -> Sequence {
        self.exchange.state().sequence()
    }

    /// Makes batches of everything that traders do.
    pub(crate) async fn trade(&mut self, batches: usize) {
        for _ in 0..batches {
            self.exchange.trade(&mut self.random, 1, 6).await;
            self.publish().await;
        }
    }

    /// Makes batches with nothing in them.
    pub(crate) async fn tick(&mut self, batches: usize) {
        for _ in 0..batches {
            self.exchange.commit(Vec::new()).await;
            self.publish().await;
        }
    }

    async fn publish(&self) {
        let row = store::journal::row(&self.db, self.head()).await.expect("an answer");
        self.fan_out.publish(row.expect("it was appended").into());
    }

    /// Asserts that every part says what the journal says, wherever it stands.
    pub(crate) async fn is_clean(&self) {
        let compared = store::projections::compare(&self.db, &mut |_| {}).await.expect("compared");
        assert_eq!(compared.differences, []);
    }

    /// Tells whether all parts are at the journal's head.
    pub(crate) async fn is_projected(&self) -> bool {
        lookup::projected(&self.db).await.expect("an answer") == self.head()
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let client = self.db.get().await.expect("a connection");
        client.query_one(sql, &[]).await.expect("an answer").get(0)
    }
}

/// A process that follows the journal and writes projections.
pub(crate) struct Replica {
    pub(crate) live: Arc<Live>,
    pub(crate) recorder: Arc<Recorder>,
    follower: JoinHandle<Result<(), follower::FollowError>>,
    projections: JoinHandle<()>,
    stop: CancellationToken,
}

impl Replica {
    pub(crate) async fn alone(world: &World) -> Self {
        Self::start(world, Hold::All).await
    }

    pub(crate) async fn sharing(world: &World, name: &str) -> Self {
        Self::start(world, Hold::Leases { holder: name.to_owned() }).await
    }

    async fn start(world: &World, hold: Hold) -> Self {
        let subscriber = Box::new(world.fan_out.subscriber());
        let follower = Follower::load(world.db.clone(), subscriber).await.expect("it loads");
        let (live, feeds) = (follower.live(), follower.feeds());
        let stop = CancellationToken::new();
        let (never, recorder) = (CancellationToken::new(), Arc::<Recorder>::default());
        let projections = share_projections(
            world.db.clone(),
            Arc::clone(&live),
            feeds,
            hold,
            Arc::clone(&recorder),
            never,
        );
        let projections = tokio::spawn(projections);
        let follower = tokio::spawn(follower.run(stop.clone()));
        Self { live, recorder, follower, projections, stop }
    }

    /// Ends as a process does: the follower first, the writers after it and by themselves.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.follower.await.expect("it does not panic").expect("it follows to the end");
        self.projections.await.expect("it does not panic");
    }

    /// Ends without a goodbye to anybody.
    pub(crate) fn kill(self) {
        self.follower.abort();
        self.projections.abort();
    }
}
