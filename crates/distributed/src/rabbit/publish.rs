//! The one connection by which this process publishes, kept up in the background.
//!
//! One message is under way at a time: lapin attributes a returned message to whichever confirm comes next, so two at once could be
//! mistaken for one another. Whatever goes wrong with one, its connection is thrown away, and nothing stays in doubt on the next.

use super::{
    RabbitOptions,
    address::Address,
    connection::{ConnectError, Connection, RequestError, answered},
    letter::Letter,
    queues::{self, Place},
    supervise::{Attempts, causes},
};
use futures_util::{Stream, StreamExt};
use lapin::{
    Channel, Confirmation, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a publisher waits for a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);
/// How long it waits for those before it.
const TURN_WITHIN: Duration = Duration::from_secs(4);
/// How long the broker may take to confirm.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(8);

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("there is no connection to RabbitMQ: {0}")]
    NotConnected(String),
    #[error("RabbitMQ takes no messages now ({0}); it goes on once it has memory and disk again")]
    Blocked(String),
    #[error("too many messages wait to be published")]
    Busy,
    #[error("RabbitMQ did not confirm the message within {} s", CONFIRMED_WITHIN.as_secs())]
    Unconfirmed,
    #[error("the connection to RabbitMQ was lost before the message was confirmed")]
    Interrupted,
    #[error("there is no queue `{0}`, and making it did not help")]
    NoQueue(String),
    #[error("the queue `{0}` refuses the message; it may be full")]
    Rejected(String),
    #[error("a request to RabbitMQ failed")]
    Failed(#[from] RequestError),
}

/// Publishes, and waits until it is confirmed.
pub(super) struct Publisher {
    route: watch::Receiver<Status>,
}

/// Whether anything can be published.
#[derive(Clone)]
enum Status {
    /// By this route.
    Open(Arc<Route>),
    /// The broker has asked publishers to wait.
    Blocked(String),
    /// There is no connection.
    Closed(String),
}

/// A connection to publish by.
pub(super) struct Route {
    pub connection: Connection,
    channel: Channel,
    turn: Mutex<()>,
    /// It is of no use any more.
    spent: CancellationToken,
}

impl Publisher {
    /// Begins to connect, until `stopping`.
    pub fn start(
        options: &RabbitOptions,
        address: Address,
        keepers: &TaskTracker,
        stopping: CancellationToken,
    ) -> Arc<Publisher> {
        let (status, route) = watch::channel(Status::Closed("it is being made".into()));
        let keeper = Keeper {
            name: format!("{} publishing", options.name),
            queues: [&options.video, &options.mp3].map(|name| Place::Queue(name.clone())),
            address,
            status,
        };
        keepers.spawn(async move {
            tokio::select! {
                () = keeper.keep() => {}
                () = stopping.cancelled() => keeper.end().await,
            }
        });
        Arc::new(Publisher { route })
    }

    /// Publishes in a task of its own: a caller that goes away leaves nothing half done.
    pub async fn publish(self: &Arc<Self>, letter: Letter) -> Result<(), PublishError> {
        let this = Arc::clone(self);
        let published = tokio::spawn(async move { this.publish_here(&letter).await }).await;
        published.unwrap_or_else(|_| Err(PublishError::NotConnected("this process is ending".into())))
    }

    async fn publish_here(&self, letter: &Letter) -> Result<(), PublishError> {
        let route = self.route().await?;
        let _turn = timeout(TURN_WITHIN, route.turn.lock()).await.map_err(|_| PublishError::Busy)?;
        let sent = tokio::select! {
            biased;
            sent = timeout(CONFIRMED_WITHIN, route.send(letter)) => sent.unwrap_or(Err(PublishError::Unconfirmed)),
            () = route.spent.cancelled() => Err(self.why_spent()),
        };
        if let Err(PublishError::Failed(_) | PublishError::Unconfirmed) = &sent {
            route.spent.cancel();
        }
        sent
    }

    /// The route, once there is one.
    pub async fn route(&self) -> Result<Arc<Route>, PublishError> {
        let mut status = self.route.clone();
        let known = |status: &Status| match status {
            Status::Open(route) => !route.spent.is_cancelled(),
            Status::Blocked(_) => true,
            Status::Closed(_) => false,
        };
        // Whatever it is after that time is the answer.
        let _ = timeout(CONNECTED_WITHIN, status.wait_for(known)).await;
        match &*self.route.borrow() {
            Status::Open(route) => Ok(Arc::clone(route)),
            Status::Blocked(why) => Err(PublishError::Blocked(why.clone())),
            Status::Closed(why) => Err(PublishError::NotConnected(why.clone())),
        }
    }

    fn why_spent(&self) -> PublishError {
        match &*self.route.borrow() {
            Status::Blocked(why) => PublishError::Blocked(why.clone()),
            _ => PublishError::Interrupted,
        }
    }
}

impl Route {
    async fn open(keeper: &Keeper) -> Result<Route, RouteError> {
        let connection = Connection::open(&keeper.address, &keeper.name).await?;
        for queue in &keeper.queues {
            queues::ensure(&connection, queue).await.map_err(|error| RouteError::queue(queue, error))?;
        }
        let channel = connection.channel().await?;
        answered(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Route { connection, channel, turn: Mutex::new(()), spent: CancellationToken::new() })
    }

    fn is_up(&self) -> bool {
        self.connection.amqp.status().connected() && self.channel.status().connected()
    }

    /// Publishes; where the queue is missing, makes it and publishes once more.
    async fn send(&self, letter: &Letter) -> Result<(), PublishError> {
        if self.confirmed(letter).await? {
            return Ok(());
        }
        tracing::warn!(queue = %letter.to, "the queue is gone from RabbitMQ; making it again");
        queues::ensure(&self.connection, &letter.to).await?;
        match self.confirmed(letter).await? {
            true => Ok(()),
            false => Err(PublishError::NoQueue(letter.to.to_string())),
        }
    }

    /// `true` when the queue keeps the message, `false` where there is no such queue.
    async fn confirmed(&self, letter: &Letter) -> Result<bool, PublishError> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (queue, properties) = (letter.to.to_string(), letter.properties.clone());
        let failed = |error| PublishError::Failed(RequestError::Failed(error));
        let sent =
            self.channel.basic_publish("".into(), queue.as_str().into(), options, &letter.body, properties);
        match sent.await.map_err(failed)?.await.map_err(failed)? {
            Confirmation::Ack(None) => Ok(true),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(false),
            Confirmation::Nack(None) | Confirmation::NotRequested => Err(PublishError::Rejected(queue)),
        }
    }
}

/// Why there is no route, or no more.
#[derive(Debug, thiserror::Error)]
enum RouteError {
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    #[error(
        "cannot use the queue `{0}`; make it by hand (durable, without arguments) or let the user configure it"
    )]
    Queue(String, #[source] RequestError),
    #[error("a request failed")]
    Request(#[from] RequestError),
    #[error("the connection is lost")]
    Lost(#[source] lapin::Error),
    #[error("the connection is lost")]
    Ended,
    #[error("a message could not be published")]
    Spent,
    #[error("RabbitMQ takes messages again")]
    Unblocked,
}

impl RouteError {
    fn queue(queue: &Place, error: RequestError) -> RouteError {
        match error.refusal() {
            Some(_) => RouteError::Queue(queue.to_string(), error),
            None => RouteError::Request(error),
        }
    }
}

/// What keeps the route open.
struct Keeper {
    name: String,
    queues: [Place; 2],
    address: Address,
    status: watch::Sender<Status>,
}

impl Keeper {
    async fn keep(&self) {
        let mut attempts = Attempts::new(format!("RabbitMQ at {} (publishing)", self.address));
        loop {
            let error = match Route::open(self).await {
                Ok(route) => {
                    let route = Arc::new(route);
                    attempts.connected();
                    let events = route.connection.amqp.events_listener();
                    self.status.send_replace(Status::Open(Arc::clone(&route)));
                    let error = self.watch(&route, events).await;
                    self.status.send_replace(Status::Closed(causes(&error)));
                    route.spent.cancel();
                    route.connection.close().await;
                    error
                }
                Err(error) => {
                    self.status.send_replace(Status::Closed(causes(&error)));
                    error
                }
            };
            sleep(attempts.failed(&error)).await;
        }
    }

    /// Waits until the route is of no use any more.
    async fn watch(&self, route: &Arc<Route>, events: impl Stream<Item = Event>) -> RouteError {
        let mut events = std::pin::pin!(events);
        let mut blocked = false;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        tracing::warn!("RabbitMQ takes no messages now ({why}); publishing waits");
                        blocked = true;
                        self.status.send_replace(Status::Blocked(why));
                        route.spent.cancel();
                    }
                    // What was under way when it was blocked may still be published: begin anew.
                    Some(Event::ConnectionUnblocked) => return RouteError::Unblocked,
                    // Refusals of other channels are events, too.
                    Some(Event::Error(error)) if !route.is_up() => return RouteError::Lost(error),
                    Some(_) => {}
                    None => return RouteError::Ended,
                },
                () = route.spent.cancelled(), if !blocked => return RouteError::Spent,
                // Not all ends of a connection are events.
                () = sleep(Duration::from_secs(1)) => if !route.is_up() {
                    return RouteError::Ended;
                },
            }
        }
    }

    async fn end(&self) {
        let status = self.status.send_replace(Status::Closed("this process is ending".into()));
        if let Status::Open(route) = status {
            route.connection.close().await;
        }
    }
}
