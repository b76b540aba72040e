//! One queue that this process reads, by a connection of its own that is kept up in the background.
//!
//! On any error, an end of the subscription included (the queue was deleted, a message was held for too long), all begins anew: what was
//! in hand is given out again by the broker.

use super::{
    Shared,
    connection::{ConnectError, Connection, RequestError, answered},
    letter::trace,
    queues::{self, Place},
    settle::Hand,
    supervise::Attempts,
};
use futures_util::StreamExt;
use lapin::{
    Consumer, ErrorKind,
    message::Delivery as Arrived,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use services::{
    message::{Message, Queue},
    ports::{Delivery, Settled},
};
use std::sync::Arc;
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// A queue's messages, as they come.
pub(super) struct Line {
    arrived: Arc<Mutex<mpsc::UnboundedReceiver<Wakeful>>>,
}

/// A message that nobody has taken yet.
struct Wakeful {
    message: Message,
    trace: Option<String>,
    hand: Hand,
}

impl Line {
    /// Begins to read the queue.
    pub fn start(shared: &Arc<Shared>, queue: Queue) -> Line {
        // The prefetch bounds what waits in it.
        let (sender, receiver) = mpsc::unbounded_channel();
        let arrived = Arc::new(Mutex::new(receiver));
        let reader = Reader {
            shared: Arc::clone(shared),
            queue,
            name: shared.options.queue(queue).to_owned(),
            sender,
            arrived: Arc::clone(&arrived),
        };
        let stopping = shared.stopping.clone();
        shared.keepers.spawn(async move { reader.keep(&stopping).await });
        Line { arrived }
    }

    /// The next message.
    pub async fn next(&self) -> Delivery {
        let mut arrived = self.arrived.lock().await;
        loop {
            match arrived.recv().await {
                // That of a lost connection comes again.
                Some(Wakeful { hand, .. }) if !hand.is_held() => {}
                Some(Wakeful { message, trace, hand }) => {
                    let settle = Box::new(move |settled| hand.settle(settled));
                    return Delivery { message, trace, settle };
                }
                // The reader has ended with the process.
                None => std::future::pending().await,
            }
        }
    }
}

/// Why nothing is read, or no more.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    #[error(
        "cannot use the queue `{0}`; make it by hand (durable, without arguments) or let the user configure it"
    )]
    Queue(String, #[source] RequestError),
    #[error("a request failed")]
    Request(#[from] RequestError),
    #[error(
        "the properties of a message in the queue `{0}` cannot be read, and it stands before all others; purge the queue by RabbitMQ's \
         management page: our jobs are found without their messages"
    )]
    Unreadable(String, #[source] lapin::Error),
    #[error("the connection is lost")]
    Lost(#[source] lapin::Error),
    #[error(
        "RabbitMQ ended the subscription; the queue `{0}` was deleted, or a message was held for too long"
    )]
    Cancelled(String),
}

/// What keeps the queue read.
struct Reader {
    shared: Arc<Shared>,
    queue: Queue,
    name: String,
    sender: mpsc::UnboundedSender<Wakeful>,
    arrived: Arc<Mutex<mpsc::UnboundedReceiver<Wakeful>>>,
}

impl Reader {
    async fn keep(self, stopping: &CancellationToken) {
        let mut attempts =
            Attempts::new(format!("RabbitMQ at {} (reading `{}`)", self.shared.address, self.name));
        loop {
            let error = match self.subscribe().await {
                Ok((connection, consumer)) => {
                    attempts.connected();
                    let ended = stopping.run_until_cancelled(self.read(consumer)).await;
                    connection.close().await;
                    self.forget();
                    match ended {
                        Some(error) => error,
                        None => return,
                    }
                }
                Err(error) => error,
            };
            if stopping.run_until_cancelled(sleep(attempts.failed(&error))).await.is_none() {
                return;
            }
        }
    }

    async fn subscribe(&self) -> Result<(Connection, Consumer), LineError> {
        let options = &self.shared.options;
        let name = format!("{} reading {}", options.name, self.name);
        let connection = Connection::open(&self.shared.address, &name).await?;
        let [queue, retry, dead] = Place::around(&self.name);
        queues::ensure(&connection, &queue)
            .await
            .map_err(|error| LineError::Queue(self.name.clone(), error))?;
        for ours in [retry, dead] {
            if let Err(error) = queues::ensure(&connection, &ours).await {
                // The queue can be read without.
                tracing::warn!("cannot make RabbitMQ's queue `{ours}`: {}", super::supervise::causes(&error));
            }
        }
        let channel = connection.channel().await?;
        answered(channel.basic_qos(options.prefetch(self.queue).max(1), BasicQosOptions::default())).await?;
        let tag = format!("tapedeck {}", options.name);
        let consuming = channel.basic_consume(
            self.name.as_str().into(),
            tag[..tag.floor_char_boundary(255)].into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = answered(consuming).await?;
        Ok((connection, consumer))
    }

    /// Reads until the subscription ends.
    async fn read(&self, mut consumer: Consumer) -> LineError {
        loop {
            match consumer.next().await {
                Some(Ok(delivery)) => self.take(delivery),
                Some(Err(error)) if matches!(error.kind(), ErrorKind::ParsingError(_)) => {
                    return LineError::Unreadable(self.name.clone(), error);
                }
                Some(Err(error)) => return LineError::Lost(error),
                None => return LineError::Cancelled(self.name.clone()),
            }
        }
    }

    fn take(&self, delivery: Arrived) {
        let (message, trace) = (Message::parse(&delivery.data), trace(&delivery));
        let hand = Hand::new(&self.shared, &self.name, delivery);
        match message {
            Ok(message) => {
                // Nobody waits any more: the process is ending.
                let _ = self.sender.send(Wakeful { message, trace, hand });
            }
            Err(error) => hand.settle(Settled::Dead(error.to_string())),
        }
    }

    /// Lets go of what came by a connection that is gone, where nobody has taken it yet.
    fn forget(&self) {
        if let Ok(mut arrived) = self.arrived.try_lock() {
            while arrived.try_recv().is_ok() {}
        }
    }
}
