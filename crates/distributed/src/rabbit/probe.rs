//! A look at the broker for operators: connects once, changes nothing, and says in words what is wrong.

use super::{
    RabbitOptions,
    address::Address,
    connection::{ConnectError, Connection, RequestError, introduction},
    queues::{self, Place, QueueDepth},
    supervise::causes,
};
use services::ports::{PortError, PortErrorKind};

/// What was found at a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitReport {
    /// Its name and version: `RabbitMQ 3.10.8`.
    pub version: String,
    /// The virtual host.
    pub virtual_host: String,
    /// `video` and `mp3`, then their retry and dead-letter queues.
    pub queues: Vec<QueueReport>,
}

/// What was found of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueReport {
    /// It is as it should be.
    Fine(QueueDepth),
    /// It was made otherwise, and is used as it is. The text is the broker's.
    Otherwise(QueueDepth, String),
    /// There is no such queue; it is made when a service starts.
    Missing(String),
}

/// Connects once, within five seconds a step. The error says in words what to mend: host, port, password, virtual host.
pub async fn probe(options: &RabbitOptions) -> Result<RabbitReport, PortError> {
    let address = Address::parse(options)?;
    let connection =
        Connection::open(&address, &format!("{} probing", options.name)).await.map_err(failed)?;
    let version = introduction(&address).await.map_err(failed)?;
    let mut queues = Vec::new();
    for place in Place::all(options) {
        let report = look(&connection, &place).await;
        let what = || format!("look at RabbitMQ's queue `{place}`");
        queues.push(report.map_err(|error| PortError::unavailable(what(), error))?);
    }
    connection.close().await;
    Ok(RabbitReport { version, virtual_host: address.uri.vhost, queues })
}

fn failed(error: ConnectError) -> PortError {
    let kind = if error.is_lasting() { PortErrorKind::Refused } else { PortErrorKind::Unavailable };
    PortError::new(kind, "connect to RabbitMQ", error)
}

async fn look(connection: &Connection, place: &Place) -> Result<QueueReport, RequestError> {
    let Some(depth) = queues::depth(connection, place).await? else {
        return Ok(QueueReport::Missing(place.to_string()));
    };
    // To declare what exists changes nothing.
    match queues::declare(connection, place, false).await {
        Ok(depth) => Ok(QueueReport::Fine(depth)),
        Err(error) if error.refusal().is_some() => Ok(QueueReport::Otherwise(depth, causes(&error))),
        Err(error) => Err(error),
    }
}
