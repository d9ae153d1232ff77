//! Which parts of the projections this process writes: all of them, or those that it has leases for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::projections::Part;
use store::{Db, StoreError, leases, lookup};
use telemetry::Metric;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use trace::Recorder;
use units::Sequence;

use crate::feeds::Feeds;
use crate::live::Live;
use crate::project::{Shared, Worker, run};

/// The role that processes which share the projections by leases are known under.
pub const PROJECTING_ROLE: &str = "payment-processor";

/// How often leases are renewed, and writers that have ended are begun anew.
const RENEW: Duration = Duration::from_secs(1);

/// Which parts a process writes.
#[derive(Clone, Debug)]
pub enum Hold {
    /// All of them, because nobody else does.
    All,
    /// Those that it gets leases for, so that replicas share them.
    Leases {
        /// The process' own name, which no other has.
        holder: String,
    },
}

/// Writes the projections from the follower's feeds until the follower has ended and what it has followed is written, or
/// until `shutdown`, whichever comes first.
pub async fn share_projections(
    db: Db,
    live: Arc<Live>,
    feeds: Arc<Feeds>,
    hold: Hold,
    recorder: Arc<Recorder>,
    shutdown: CancellationToken,
) {
    let shared = Shared::new(db, live, feeds, recorder);
    let mut crews =
        Crews { shared: shared.clone(), running: JoinSet::new(), parts: BTreeMap::new() };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = hear_wanted(&shared), if matches!(hold, Hold::Leases { .. }) => {}
        () = crews.work(&hold) => {}
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = crews.ended() => {}
    }
    crews.hold(&[]);
    crews.ended().await;
    if let Hold::Leases { holder } = &hold
        && let Err(error) = leases::release(&crews.shared.db, holder).await
    {
        tracing::warn!(reason = %error, "the leases of the projections were not given up; they end by themselves");
    }
}

/// Hears, for ever, which rows servers wait for in other processes. Without it they wait a little longer.
async fn hear_wanted(shared: &Shared) {
    loop {
        match lookup::listen_wanted(&shared.db).await {
            Ok(mut notices) => {
                while let Some(sequence) = notices.next().await {
                    shared.live.want_projected(Sequence::new(sequence));
                }
            }
            Err(error) => {
                tracing::debug!(reason = %error, "cannot hear of rows that are waited for");
            }
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// The running writers, in the groups in which they began.
struct Crews {
    shared: Shared,
    running: JoinSet<()>,
    parts: BTreeMap<Part, (Id, CancellationToken)>,
}

impl Crews {
    /// Holds what there is to hold until no feed brings anything new any more.
    async fn work(&mut self, hold: &Hold) {
        let feeds = Arc::clone(&self.shared.feeds);
        let mut due = tokio::time::interval(RENEW);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !feeds.is_closed() {
            tokio::select! {
                () = feeds.closed() => return,
                Some(ended) = self.running.join_next_with_id() => self.forget(ended),
                _ = due.tick() => {}
            }
            self.shared.show_lag();
            let held = tokio::select! {
                () = feeds.closed() => return,
                held = held(&self.shared.db, hold) => held,
            };
            match held {
                Ok(held) => self.hold(&held),
                // Nobody else can get them from a database that is away.
                Err(error) => {
                    tracing::warn!(reason = %error, "the leases of the projections cannot be renewed; trying again");
                }
            }
        }
    }

    /// Stops the writers of parts that are not held any more, and starts those of parts that are now, together.
    fn hold(&mut self, held: &[Part]) {
        let lost = self.parts.extract_if(.., |part, _| !held.contains(part));
        for (part, (_, stop)) in lost {
            stop.cancel();
            self.shared.forget(part);
        }
        let new: Vec<Part> =
            held.iter().copied().filter(|part| !self.parts.contains_key(part)).collect();
        if !new.is_empty() {
            let stops: Vec<_> = new.iter().map(|part| (*part, CancellationToken::new())).collect();
            let workers = stops
                .iter()
                .map(|(part, stop)| Worker::new(self.shared.clone(), *part, stop.clone()));
            let crew = run(self.shared.clone(), workers.collect());
            let id = self.running.spawn(crew).id();
            self.parts.extend(stops.into_iter().map(|(part, stop)| (part, (id, stop))));
        }
        for part in Part::ALL {
            let held = if held.contains(&part) { 1.0 } else { 0.0 };
            telemetry::set_labelled(Metric::ProjectionHeld, &[part.name()], held);
        }
    }

    /// Forgets a group that has ended, so that what is held of it begins anew.
    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!("a writer of the projections has panicked; it begins anew");
                error.id()
            }
        };
        self.parts.retain(|_, (of, _)| *of != id);
    }

    /// Waits until all writers have ended by themselves.
    async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

async fn held(db: &Db, hold: &Hold) -> Result<Vec<Part>, StoreError> {
    match hold {
        Hold::All => Ok(Part::ALL.to_vec()),
        Hold::Leases { holder } => leases::renew(db, holder, PROJECTING_ROLE).await,
    }
}
