//! Wake-ups over a real RabbitMQ: what is on the wire, and what it survives.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod broker;
mod network;
mod queues;
mod wire;

use distributed::{RabbitOptions, RabbitWake};
use lapin::{
    BasicProperties,
    message::Delivery as Raw,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use services::{
    clock::SystemClock,
    id::Id,
    message::{Message, Queue},
    ports::{Delivery, PortError, Settled, Wake},
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// Shorter than anything that must not happen.
const SHORT: Duration = Duration::from_millis(400);

fn options(url: &str) -> RabbitOptions {
    let pause = Duration::from_secs(1);
    RabbitOptions { heartbeat: Duration::from_secs(1), pause, ..RabbitOptions::new(url, "test/1") }
}

fn wake(url: &str) -> RabbitWake {
    RabbitWake::new(options(url)).unwrap()
}

fn message(username: &str) -> Message {
    let video_fid = Id::mint(&SystemClock);
    Message { video_fid, mp3_fid: None, username: username.into(), others: serde_json::Map::new() }
}

async fn next(wake: &RabbitWake) -> Delivery {
    timeout(LONG, wake.next(Queue::Video)).await.expect("a message arrives")
}

async fn nothing_comes(wake: &RabbitWake) {
    let came = timeout(SHORT, wake.next(Queue::Video)).await;
    assert!(came.is_err(), "a message comes that must not: {:?}", came.unwrap().message);
}

/// Publishes a message as the relay does: again until it is taken.
async fn publish(wake: &RabbitWake, username: &str) -> Message {
    let message = message(username);
    eventually("a message is published", async || wake.publish(Queue::Video, &message, None).await.ok())
        .await;
    message
}

async fn eventually<T>(what: &str, mut happens: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = happens().await {
            return value;
        }
        assert!(start.elapsed() < LONG, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// An error with all its causes.
fn text(error: &PortError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The broker as anybody else sees it.
struct Stranger {
    connection: lapin::Connection,
    channel: lapin::Channel,
}

impl Stranger {
    async fn at(url: &str) -> Stranger {
        let connection =
            lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Stranger { connection, channel }
    }

    async fn declare(&self, queue: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        self.channel.queue_declare(queue.into(), options, table).await.unwrap();
    }

    async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    async fn publish(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        self.channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
    }

    /// Takes a message out of a queue, once there is one.
    async fn take(&self, queue: &str) -> Raw {
        eventually(&format!("a message in {queue}"), async || self.look(queue).await).await
    }

    async fn look(&self, queue: &str) -> Option<Raw> {
        // A missing queue closes the channel.
        let channel = self.connection.create_channel().await.unwrap();
        let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await;
        got.ok().flatten().map(|got| got.delivery)
    }
}

async fn settle(delivery: Delivery, settled: Settled) {
    (delivery.settle)(settled);
}
