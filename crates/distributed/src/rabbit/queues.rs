//! The queues: declared as the contract wants them, taken as they are where somebody made them otherwise.

use super::{
    RabbitOptions,
    connection::{Connection, RequestError, answered},
};
use lapin::{
    options::QueueDeclareOptions,
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable},
};
use std::fmt;

/// A queue of ours, or of the wire contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A queue of the wire contract.
    Queue(String),
    /// Where messages of that queue wait until they are tried again.
    Retry(String),
    /// Where messages of that queue end which nobody can follow.
    Dead(String),
}

impl Place {
    /// All places of an installation.
    pub fn all(options: &RabbitOptions) -> [Place; 6] {
        let [video, mp3] = [&options.video, &options.mp3].map(|name| Place::around(name));
        let ([video, video_retry, video_dead], [mp3, mp3_retry, mp3_dead]) = (video, mp3);
        [video, mp3, video_retry, mp3_retry, video_dead, mp3_dead]
    }

    /// A queue and what belongs to it.
    pub fn around(queue: &str) -> [Place; 3] {
        [Place::Queue(queue.into()), Place::Retry(queue.into()), Place::Dead(queue.into())]
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        if let Place::Retry(queue) = self {
            let text = |text: &str| AMQPValue::LongString(text.into());
            arguments.insert("x-dead-letter-exchange".into(), text(""));
            arguments.insert("x-dead-letter-routing-key".into(), text(queue));
        }
        arguments
    }
}

impl fmt::Display for Place {
    /// The queue's name on the broker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Queue(name) => f.write_str(name),
            Place::Retry(name) => write!(f, "{name}.retry"),
            Place::Dead(name) => write!(f, "{name}.dead"),
        }
    }
}

/// How full a queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// Its name on the broker.
    pub name: String,
    /// Messages that wait in it; those that are in somebody's hand are not counted.
    pub messages: u32,
    /// Who reads it.
    pub consumers: u32,
}

/// Makes the queue, unless it is there; one that was made otherwise, or that this user may not make, is used as it is.
pub(super) async fn ensure(connection: &Connection, place: &Place) -> Result<(), RequestError> {
    let refused = match declare(connection, place, false).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match refused.refusal() {
        Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED) => {
            match declare(connection, place, true).await {
                Ok(_) => Ok(()),
                // The first refusal says more than that the queue is missing.
                Err(error) if error.refusal() == Some(AMQPSoftError::NOTFOUND) => Err(refused),
                Err(error) => Err(error),
            }
        }
        _ => Err(refused),
    }
}

/// How full the queue is; `None` where it does not exist.
pub(super) async fn depth(
    connection: &Connection,
    place: &Place,
) -> Result<Option<QueueDepth>, RequestError> {
    match declare(connection, place, true).await {
        Ok(depth) => Ok(Some(depth)),
        Err(error) if error.refusal() == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Declares it on a channel of its own: a refusal closes the channel.
pub(super) async fn declare(
    connection: &Connection,
    place: &Place,
    passive: bool,
) -> Result<QueueDepth, RequestError> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    let name = place.to_string();
    let queue = answered(channel.queue_declare(name.as_str().into(), options, place.arguments())).await?;
    let _ = answered(channel.close(200, "OK".into())).await;
    Ok(QueueDepth { name, messages: queue.message_count(), consumers: queue.consumer_count() })
}
