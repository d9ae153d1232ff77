//! How commands come to the sequencer and committed rows to the followers: inside the process, or over RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use queue::{
    Address, BatchPublisher, BatchSubscriber, CommandPublisher, CommandSource, InProcessFanOut,
    InProcessQueue, QueueError, RabbitFanOut, RabbitPublisher, RabbitQueue,
};
use telemetry::Metric;
use tokio_util::sync::CancellationToken;

/// Messages that the in-process queue holds; one is at most a kilobyte, and mostly a tenth of it.
const QUEUE_MESSAGES_MAX: usize = 65_536;
/// Rows that the in-process fan-out keeps for a follower that is slow.
const FAN_OUT_ROWS_MAX: usize = 256;
/// The longest pause between two attempts to reach the broker.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// One way of transport, with both its ends.
#[derive(Clone)]
pub struct Transport {
    /// Takes commands from servers.
    pub publisher: Arc<dyn CommandPublisher>,
    /// Brings them to sequencers.
    pub source: Arc<dyn CommandSource>,
    /// Takes committed rows from the sequencer.
    pub rows: Arc<dyn BatchPublisher>,
    /// Brings them to followers.
    fan_out: FanOut,
}

#[derive(Clone)]
enum FanOut {
    InProcess(InProcessFanOut),
    Rabbit(RabbitFanOut),
}

impl Transport {
    /// The queue inside this process, whose depth is measured until `stop`.
    #[must_use]
    pub fn in_process(stop: CancellationToken) -> Self {
        let queue = InProcessQueue::new(QUEUE_MESSAGES_MAX);
        let fan_out = InProcessFanOut::new(FAN_OUT_ROWS_MAX);
        tokio::spawn(measure_queue(queue.clone(), stop));
        Self {
            publisher: Arc::new(queue.clone()),
            source: Arc::new(queue),
            rows: Arc::new(fan_out.clone()),
            fan_out: FanOut::InProcess(fan_out),
        }
    }

    /// RabbitMQ. What there must be at the broker is declared, as soon as it is there; `None` when told to stop before.
    ///
    /// # Errors
    ///
    /// The broker has a queue of ours that is not as it must be.
    pub async fn rabbit(
        address: Address,
        service: &str,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        let queue = RabbitQueue::new(address.clone(), service);
        let mut pause = Duration::from_millis(250);
        loop {
            match queue.declare().await {
                Ok(()) => break,
                Err(error @ QueueError::WrongQueue(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(broker = %address, reason = %error, "waiting for RabbitMQ");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        let fan_out = RabbitFanOut::start(address.clone(), service);
        Ok(Some(Self {
            publisher: Arc::new(RabbitPublisher::start(address, service)),
            source: Arc::new(queue),
            rows: Arc::new(fan_out.clone()),
            fan_out: FanOut::Rabbit(fan_out),
        }))
    }

    /// Makes a subscriber that hears of every row from now on.
    #[must_use]
    pub fn subscriber(&self) -> Box<dyn BatchSubscriber> {
        match &self.fan_out {
            FanOut::InProcess(fan_out) => Box::new(fan_out.subscriber()),
            FanOut::Rabbit(fan_out) => Box::new(fan_out.subscriber()),
        }
    }

    /// Tells whether other processes may be at its other ends.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.fan_out, FanOut::Rabbit(_))
    }
}

/// Shows how many commands wait.
async fn measure_queue(queue: InProcessQueue, stop: CancellationToken) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    while !stop.is_cancelled() {
        interval.tick().await;
        let depth = queue.depth().unwrap_or(0);
        telemetry::set_count_labelled(Metric::QueueMessages, &[queue::ORDERS], depth);
    }
}
