//! Wake-ups over RabbitMQ.
//!
//! What it makes on the broker, through the default exchange alone:
//!
//! | queue | declared | holds |
//! |---|---|---|
//! | `video`, `mp3` | durable, no argument | the messages, as the original services write and read them |
//! | `video.retry`, `mp3.retry` | durable, dead-lettered back to `video`, `mp3` | what was settled `Later`, until its time comes |
//! | `video.dead`, `mp3.dead` | durable | what is no message or was settled `Dead`, with the reason in `x-tapedeck-reason` |
//!
//! A queue that somebody has made otherwise is used as it is. Whoever publishes uses one connection, made when the
//! [`RabbitWake`] is; each queue that somebody waits on by `next` has one more. Connections are made again without end: neither
//! their start nor their loss is an error, save for what is being published.
//!
//! What it promises: a published message was confirmed by the broker, persistent and in a queue. A message leaves its queue only
//! when it is settled, and what is moved (`Later`, `Dead`) is confirmed at its new place before it is acknowledged at the old one;
//! a death in between doubles it. Settling a message of a lost connection does nothing: the broker gives it out again. So it does
//! where a message is held for longer than the broker's `consumer_timeout`. One that is dropped unsettled is given back after
//! [`RabbitOptions::pause`].
//!
//! What it does not promise: order, that a message comes only once, or that `Later` is punctual: in the retry queue a message waits
//! for those before it. A message whose properties are not what AMQP prescribes (a text that is no UTF-8) cannot be read at all, and
//! stops its queue until somebody purges it; the log says so, and jobs go on by polling.

mod address;
mod connection;
mod consume;
mod letter;
mod probe;
mod publish;
mod queues;
mod settle;
mod supervise;

pub use probe::{QueueReport, RabbitReport, probe};
pub use queues::QueueDepth;

use self::{address::Address, consume::Line, letter::Letter, publish::Publisher, queues::Place};
use async_trait::async_trait;
use services::{
    message::{Message, Queue},
    ports::{Delivery, PortError, PortErrorKind, PortResult, Wake},
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What connects to a broker, and how.
#[derive(Clone)]
pub struct RabbitOptions {
    /// `amqp://user:password@host:port/virtual-host`, or `amqps://…`. No path, or `/`, is the virtual host `/`; its name is
    /// percent-encoded.
    pub uri: String,
    /// PEM certificates to trust besides the system's, for `amqps`.
    pub certificates: Option<String>,
    /// Who connects, as the broker's connections and consumers are to be called: `gateway/71`.
    pub name: String,
    /// The queue of videos that wait for their conversion.
    pub video: String,
    /// The queue of finished MP3s.
    pub mp3: String,
    /// How many unsettled messages of the `video` queue are in hand at once: as many as there are workers.
    pub video_prefetch: u16,
    /// How many unsettled messages of the `mp3` queue are in hand at once.
    pub mp3_prefetch: u16,
    /// A connection on which nothing came for twice as long is dead. In whole seconds; the broker may ask for less.
    pub heartbeat: Duration,
    /// How long a message that is settled `Later` waits before it comes again; doubled each time, up to twelve times as long. How long
    /// one waits that could not be moved, or was dropped unsettled.
    pub pause: Duration,
}

impl RabbitOptions {
    /// The defaults, for the broker at this URI.
    pub fn new(uri: impl Into<String>, name: impl Into<String>) -> RabbitOptions {
        RabbitOptions {
            uri: uri.into(),
            certificates: None,
            name: name.into(),
            video: "video".into(),
            mp3: "mp3".into(),
            video_prefetch: 1,
            mp3_prefetch: 4,
            heartbeat: Duration::from_secs(10),
            pause: Duration::from_secs(5),
        }
    }

    fn queue(&self, queue: Queue) -> &str {
        match queue {
            Queue::Video => &self.video,
            Queue::Mp3 => &self.mp3,
        }
    }

    fn prefetch(&self, queue: Queue) -> u16 {
        match queue {
            Queue::Video => self.video_prefetch,
            Queue::Mp3 => self.mp3_prefetch,
        }
    }
}

impl fmt::Debug for RabbitOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What publisher and consumers have in common.
struct Shared {
    options: RabbitOptions,
    address: Address,
    publisher: Arc<Publisher>,
    /// Settlements under way.
    settlements: TaskTracker,
    /// They shall hurry.
    closing: CancellationToken,
    /// What keeps the connections up, and its end.
    keepers: TaskTracker,
    stopping: CancellationToken,
}

/// The wake-ups of an installation, by way of RabbitMQ.
pub struct RabbitWake {
    shared: Arc<Shared>,
    video: OnceLock<Line>,
    mp3: OnceLock<Line>,
    _stop: DropGuard,
}

impl RabbitWake {
    /// Begins to connect, in the background; the broker may come later. Must be called within a Tokio runtime. `Refused` where the
    /// options can never work.
    pub fn new(options: RabbitOptions) -> PortResult<RabbitWake> {
        let address = Address::parse(&options)?;
        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let (settlements, keepers) = (TaskTracker::new(), TaskTracker::new());
        let publisher = Publisher::start(&options, address.clone(), &keepers, stopping.clone());
        let _stop = stopping.clone().drop_guard();
        let shared = Shared { options, address, publisher, settlements, closing, keepers, stopping };
        Ok(RabbitWake { shared: Arc::new(shared), video: OnceLock::new(), mp3: OnceLock::new(), _stop })
    }

    /// How many messages wait in the queues and their retry and dead-letter queues, and how many consumers they have. Queues that do
    /// not exist are left out.
    pub async fn inspect(&self) -> PortResult<Vec<QueueDepth>> {
        let what = "look into RabbitMQ's queues";
        let route =
            self.shared.publisher.route().await.map_err(|error| PortError::unavailable(what, error))?;
        let mut depths = Vec::new();
        for place in Place::all(&self.shared.options) {
            let found = queues::depth(&route.connection, &place).await;
            depths.extend(found.map_err(|error| PortError::unavailable(what, error))?);
        }
        Ok(depths)
    }

    /// Is there a connection, and does the broker take messages? The error, after a few seconds, says why not.
    pub async fn ping(&self) -> PortResult<()> {
        let route = self.shared.publisher.route().await;
        route.map(drop).map_err(|error| PortError::unavailable("reach RabbitMQ", error))
    }

    /// Waits a few seconds for settlements under way, then takes leave of the broker. Without it they are lost with the process, and
    /// their messages come again.
    pub async fn close(&self) {
        let Shared { settlements, closing, keepers, stopping, .. } = &*self.shared;
        settlements.close();
        closing.cancel();
        if timeout(Duration::from_secs(5), settlements.wait()).await.is_err() {
            tracing::warn!("messages of RabbitMQ could not be settled in time; they will come again");
        }
        keepers.close();
        stopping.cancel();
        let _ = timeout(Duration::from_secs(2), keepers.wait()).await;
    }

    fn line(&self, queue: Queue) -> &Line {
        let line = match queue {
            Queue::Video => &self.video,
            Queue::Mp3 => &self.mp3,
        };
        line.get_or_init(|| Line::start(&self.shared, queue))
    }
}

#[async_trait]
impl Wake for RabbitWake {
    async fn publish(&self, queue: Queue, message: &Message, trace: Option<&str>) -> PortResult<()> {
        let place = Place::Queue(self.shared.options.queue(queue).to_owned());
        let letter = Letter::wake_up(place, message, trace);
        let published = self.shared.publisher.publish(letter).await;
        published.map_err(|error| PortError::unavailable(format!("publish a message on `{queue}`"), error))
    }

    async fn next(&self, queue: Queue) -> Delivery {
        self.line(queue).next().await
    }
}

/// A failure that only another configuration mends.
fn refused(what: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
    PortError::new(PortErrorKind::Refused, what, why)
}
