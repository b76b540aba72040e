//! A network that fails when it is told to: a relay of TCP between the driver and the server.

use std::sync::{Arc, Mutex};
use testkit::mongodb_uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
};

/// The relay. Connections end when it is dropped.
pub struct Proxy {
    uri: String,
    open: watch::Sender<bool>,
    lost: Arc<Mutex<Losses>>,
}

/// Answers that are to be lost: the server has done what it was asked, and nobody learns of it.
#[derive(Default)]
struct Losses {
    command: Vec<u8>,
    collection: Vec<u8>,
    left: u32,
}

impl Proxy {
    pub async fn new() -> Proxy {
        let server = url::Url::parse(&mongodb_uri()).unwrap();
        let server = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap_or(27017));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
        let (open, opened) = watch::channel(true);
        let lost = Arc::new(Mutex::new(Losses::default()));
        let losses = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let opened = opened.clone();
                if *opened.borrow() {
                    let server = TcpStream::connect(&server).await.unwrap();
                    tokio::spawn(relay(client, server, opened, Arc::clone(&losses)));
                }
            }
        });
        Proxy { uri, open, lost }
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Ends all connections and lets no new one through.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn mend(&self) {
        self.open.send_replace(true);
    }

    /// Loses the next `times` answers to `command` on `collection`.
    pub fn lose(&self, command: &str, collection: &str, times: u32) {
        // A command's name is its first key, and the collection its value: a string, with length and final zero.
        let named = |name: &str| [name.as_bytes(), b"\0"].concat();
        *self.lost.lock().unwrap() =
            Losses { command: named(command), collection: named(collection), left: times };
    }

    /// How many answers are still to be lost.
    pub fn left(&self) -> u32 {
        self.lost.lock().unwrap().left
    }
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    mut opened: watch::Receiver<bool>,
    losses: Arc<Mutex<Losses>>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = opened.wait_for(|open| !open);
    let pass = async {
        let mut lose = false;
        loop {
            let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
            tokio::select! {
                read = piece(&mut from_client, &mut up) => {
                    let Some(bytes) = read else { return };
                    lose |= losses.lock().unwrap().take(bytes);
                    if to_server.write_all(bytes).await.is_err() { return }
                }
                read = piece(&mut from_server, &mut down) => match read {
                    Some(bytes) if !lose => if to_client.write_all(bytes).await.is_err() { return },
                    _ => return,
                }
            }
        }
    };
    tokio::select! { _ = cut => {}, () = pass => {} }
}

async fn piece<'a>(from: &mut OwnedReadHalf, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = from.read(buffer).await.ok().filter(|length| *length > 0)?;
    Some(&buffer[..length])
}

impl Losses {
    /// Does a message begin here whose answer is to be lost? The driver waits for each answer, so a message begins a piece.
    fn take(&mut self, bytes: &[u8]) -> bool {
        // Header (16), flags (4), kind (1), the document's length (4), its first element's type (1), then the command's name.
        let Some(rest) = bytes.get(26..).filter(|_| self.left > 0) else { return false };
        let meant = rest.strip_prefix(&self.command[..]).and_then(|rest| rest.get(4..));
        let meant = meant.is_some_and(|value| value.starts_with(&self.collection));
        self.left -= u32::from(meant);
        meant
    }
}
