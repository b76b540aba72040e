//! One connection: made in stages that fail with words of their own, and ended for certain.
//!
//! lapin's own recovery is off. Its handshake has no time limit, and a connection that it closes towards a silent broker waits for
//! ever, in a thread of its own. So we hold a second descriptor of the socket and shut it down: that ends them.

use super::address::Address;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    AsyncTcpStream, Channel, ConnectionProperties, Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::AMQPUriTcpExt,
    types::{AMQPValue, FieldTable, parsing::parse_field_table},
};
use std::{
    future::Future,
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a connection may take to be made, and the broker to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the host `{0}` is not known; check its name in the URI, and the name server")]
    UnknownHost(String, #[source] io::Error),
    #[error("nothing listens at {0}; check host and port in the URI, and that RabbitMQ runs")]
    NotListening(String, #[source] io::Error),
    #[error("{0} cannot be reached; check host and port in the URI, and the network between")]
    Unreachable(String, #[source] io::Error),
    #[error(
        "no encrypted connection to {0}; check that this port takes TLS, and that its certificate is trusted"
    )]
    Tls(String, #[source] io::Error),
    #[error("{0} does not answer within {patience} s; RabbitMQ may hang, a firewall swallow all, or something else listen there", patience = PATIENCE.as_secs())]
    Silent(String),
    #[error("what listens at {0} does not speak AMQP 0-9-1; RabbitMQ does on port 5672, or 5671 with TLS")]
    NotAmqp(String, #[source] Error),
    #[error(
        "RabbitMQ at {0} refuses the user `{1}`: name or password are wrong, or it is `guest`, who may come only from \
         RabbitMQ's own machine"
    )]
    Password(String, String, #[source] Error),
    #[error(
        "RabbitMQ at {0} does not let the user `{1}` into the virtual host `{2}`: there is none of that name, or the user \
         has no permission for it"
    )]
    VirtualHost(String, String, String, #[source] Error),
    #[error("RabbitMQ at {0} ended the connection while it was being made")]
    Ended(String, #[source] Error),
}

impl ConnectError {
    /// Will it fail again until somebody changes something?
    pub fn is_lasting(&self) -> bool {
        matches!(self, ConnectError::NotAmqp(..) | ConnectError::Password(..) | ConnectError::VirtualHost(..))
    }

    /// What lapin's error means while a connection is being made.
    fn from_handshake(address: &Address, error: Error) -> ConnectError {
        let (at, user) = (address.to_string(), address.uri.authority.userinfo.username.clone());
        match error.kind() {
            ErrorKind::ProtocolError(refusal) => match refusal.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ConnectError::Password(at, user, error),
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                    ConnectError::VirtualHost(at, user, address.uri.vhost.clone(), error)
                }
                _ => ConnectError::Ended(at, error),
            },
            ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
                ConnectError::NotAmqp(at, error)
            }
            _ => ConnectError::Ended(at, error),
        }
    }
}

/// Why a request to the broker failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("RabbitMQ does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("RabbitMQ refuses, or the connection is lost")]
    Failed(#[from] Error),
}

impl RequestError {
    /// What the broker says where it refuses this request alone.
    pub fn refusal(&self) -> Option<AMQPSoftError> {
        let RequestError::Failed(error) = self else { return None };
        let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
        match refusal.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        }
    }
}

/// Bounds a request to the broker.
pub(super) async fn answered<T>(request: impl Future<Output = lapin::Result<T>>) -> Result<T, RequestError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::Silent),
    }
}

/// A connection; dropped, it is cut.
pub(super) struct Connection {
    pub amqp: lapin::Connection,
    socket: Socket,
}

impl Connection {
    /// Connects as `name`.
    pub async fn open(address: &Address, name: &str) -> Result<Connection, ConnectError> {
        let deadline = Instant::now() + PATIENCE;
        let silent = |_| ConnectError::Silent(address.to_string());
        let hosts = timeout_at(deadline, resolve(address)).await.map_err(silent)??;
        // Dropped before the end of this, it cuts what has been made so far.
        let socket = Socket::default();
        let made = timeout_at(deadline, handshake(address, name, hosts, &socket)).await.map_err(silent)?;
        match made {
            Ok(amqp) => Ok(Connection { amqp, socket }),
            Err(error) => Err(socket.why().unwrap_or_else(|| ConnectError::from_handshake(address, error))),
        }
    }

    /// A new channel.
    pub async fn channel(&self) -> Result<Channel, RequestError> {
        answered(self.amqp.create_channel()).await
    }

    /// Takes leave of the broker, then cuts the connection.
    pub async fn close(&self) {
        let _ = timeout(Duration::from_secs(1), self.amqp.close(200, "OK".into())).await;
        self.socket.cut();
    }
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, ConnectError> {
    let hosts = tokio::net::lookup_host((address.host(), address.port())).await;
    Ok(hosts.map_err(|error| ConnectError::UnknownHost(address.host().to_owned(), error))?.collect())
}

/// TCP, TLS and AMQP. What fails before AMQP is told by [`Socket::why`].
async fn handshake(
    address: &Address,
    name: &str,
    hosts: Vec<SocketAddr>,
    socket: &Socket,
) -> lapin::Result<lapin::Connection> {
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("tapedeck {name}").into())
        .with_client_property("product".into(), "Tapedeck".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let (at, encrypted, tls) = (address.to_string(), address.encrypted(), address.tls.clone());
    let (host, socket) = (address.host().to_owned(), Arc::clone(&socket.0));
    let failed = move |socket: &Mutex<Progress>, why: ConnectError| {
        *lock(socket) = Progress::Failed(why);
        Error::from(io::Error::from(io::ErrorKind::NotConnected))
    };
    let runtime = lapin::runtime::default_runtime()?;
    // The closure runs in lapin's thread, which our own time limit does not end.
    lapin::Connection::connector(
        address.uri.clone(),
        runtime,
        async move |_, runtime| {
            let dialled = timeout(PATIENCE, AsyncTcpStream::connect(&runtime, hosts.clone())).await;
            let stream = match dialled {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(failed(&socket, ConnectError::NotListening(at.clone(), error)));
                }
                Ok(Err(error)) => return Err(failed(&socket, ConnectError::Unreachable(at.clone(), error))),
                Err(_) => return Err(failed(&socket, ConnectError::Silent(at.clone()))),
            };
            if let AsyncTcpStream::Plain(plain) = &stream {
                let second = TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?);
                if !Progress::dialled(&socket, second) {
                    return Err(io::Error::from(io::ErrorKind::NotConnected).into());
                }
            }
            if !encrypted {
                return Ok(stream);
            }
            match timeout(PATIENCE, stream.into_tls(&host, tls.as_ref())).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(failed(&socket, ConnectError::Tls(at.clone(), error))),
                Err(_) => Err(failed(&socket, ConnectError::Silent(at.clone()))),
            }
        },
        properties,
    )
    .await
}

/// A second descriptor of a connection's socket, through which it can be cut, wherever the first one is.
#[derive(Default)]
struct Socket(Arc<Mutex<Progress>>);

/// How far the socket has come.
#[derive(Default)]
enum Progress {
    #[default]
    Dialling,
    Dialled(TcpStream),
    Failed(ConnectError),
    Cut,
}

impl Progress {
    /// Keeps the socket; `false` where nobody wants it any more.
    fn dialled(progress: &Mutex<Progress>, socket: TcpStream) -> bool {
        let mut progress = lock(progress);
        let wanted = !matches!(*progress, Progress::Cut);
        if wanted {
            *progress = Progress::Dialled(socket);
        }
        wanted
    }
}

impl Socket {
    fn cut(&self) {
        let progress = std::mem::replace(&mut *lock(&self.0), Progress::Cut);
        if let Progress::Dialled(socket) = progress {
            // Whoever reads or writes it is told.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Why there is no socket, if there is none.
    fn why(&self) -> Option<ConnectError> {
        let mut progress = lock(&self.0);
        match std::mem::replace(&mut *progress, Progress::Cut) {
            Progress::Failed(why) => Some(why),
            other => {
                *progress = other;
                None
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Name and version of the broker at `address`, as it introduces itself before anybody signs in.
pub(super) async fn introduction(address: &Address) -> Result<String, ConnectError> {
    let not_amqp = |error: io::Error| ConnectError::NotAmqp(address.to_string(), error.into());
    let greeting = timeout(PATIENCE, greeting(address)).await;
    let payload = greeting.map_err(|_| ConnectError::Silent(address.to_string()))?.map_err(not_amqp)?;
    // Class, method and protocol version go before the properties.
    let properties = payload.get(6..).and_then(|table| parse_field_table(table).ok());
    let (_, properties) = properties.ok_or_else(|| not_amqp(io::ErrorKind::InvalidData.into()))?;
    let text = |key| text(&properties, key).unwrap_or_else(|| "unknown".into());
    Ok(format!("{} {}", text("product"), text("version")))
}

/// The payload of the first frame that a broker sends.
async fn greeting(address: &Address) -> io::Result<Vec<u8>> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let mut stream = address.uri.connect_with_config_async(address.tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    stream.flush().await?;
    // The frame's type, channel and size.
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if head[0] != 1 || size > 64 * 1024 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// A text in a table of AMQP values.
pub(super) fn text(table: &FieldTable, key: &str) -> Option<String> {
    match table.inner().get(key)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
