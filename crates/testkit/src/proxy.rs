//! A TCP proxy that misbehaves on request: it stands between a client and a real server and does to their connection what a
//! network does.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};

/// What the proxy does to the bytes that go through it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing: they pass.
    None,
    /// They pass, each piece later by this, in both directions.
    Latency(Duration),
    /// They pass, no more than so many a second in each direction.
    Rate(u64),
    /// They are taken and never arrive; nobody is told. A connection of which bytes were lost is reset once this ends.
    BlackHole,
    /// The server's are lost, the client's arrive.
    LostAnswers,
    /// The client's are lost, the server's arrive.
    LostRequests,
    /// New connections are reset at once; those that are open go on.
    Refuse,
    /// Each connection is reset when so many bytes have gone through one of its directions since this began.
    CutAfter(u64),
}

/// The proxy. It ends with its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    resets: watch::Sender<u64>,
    open: Arc<()>,
    accepted: Arc<AtomicUsize>,
    listener: JoinHandle<()>,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToServer,
    ToClient,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 to `server` (`host:port`); it begins without a fault.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(server: &str) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port for the proxy");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (fault, faults) = watch::channel(Fault::None);
        let (resets, reset) = watch::channel(0);
        let (server, open) = (server.to_owned(), Arc::new(()));
        let count = Arc::clone(&open);
        let accepted = Arc::new(AtomicUsize::new(0));
        let total = Arc::clone(&accepted);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                total.fetch_add(1, Ordering::Relaxed);
                let work = connection(client, server.clone(), faults.clone(), reset.clone());
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    work.await;
                    drop(count);
                });
            }
        });
        Proxy { address, fault, resets, open, accepted, listener }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, this fault.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Resets all connections that are open now.
    pub fn reset_all(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        // This one and the listener's are none.
        Arc::strong_count(&self.open).saturating_sub(2)
    }

    /// How many connections it has ever taken.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// `url` with the proxy's address in the place of `server` (`host:port`), as it was given to [`Proxy::to`].
    pub fn url_for(&self, url: &str, server: &str) -> String {
        url.replace(server, &self.address.to_string())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.reset_all();
    }
}

/// Takes TLS on a free port of 127.0.0.1, for `localhost`, and passes what is in it to `server` (`host:port`). The address, and the
/// certificate to trust, PEM.
///
/// # Panics
/// If no port is free.
pub async fn encrypted(server: &str) -> (SocketAddr, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("the key that was just made");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("certificate and key belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port for TLS");
    let address = listener.local_addr().expect("a bound socket has an address");
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, own.cert.pem())
}

async fn connection(
    mut client: TcpStream,
    server: String,
    faults: watch::Receiver<Fault>,
    mut reset: watch::Receiver<u64>,
) {
    // All ends are resets: a client that is used to a polite end learns nothing here.
    let _ = client.set_zero_linger();
    if *faults.borrow() == Fault::Refuse {
        return;
    }
    reset.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true), server.set_zero_linger());
    // Not `into_split`: its halves shut down politely when they are dropped.
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::select! {
        () = pump(from_client, to_server, Way::ToServer, faults.clone()) => {}
        () = pump(from_server, to_client, Way::ToClient, faults) => {}
        _ = reset.changed() => {}
    }
}

/// Carries bytes one way until an end closes, or the fault wants the connection to end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way, mut faults: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 16 * 1024];
    let (mut lost, mut passed) = (false, 0_u64);
    loop {
        let fault = *faults.borrow_and_update();
        if lost && !loses(fault, way) {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = faults.changed() => match changed {
                Ok(()) => {
                    passed = 0;
                    continue;
                }
                Err(_) => return,
            },
        };
        let Ok(read @ 1..) = read else { return };
        let arrived = Instant::now();
        match fault {
            _ if loses(fault, way) => {
                lost = true;
                continue;
            }
            Fault::Latency(late) => sleep_until(arrived + late).await,
            Fault::Rate(per_second) => {
                sleep(Duration::from_secs_f64(read as f64 / per_second.max(1) as f64)).await;
            }
            Fault::CutAfter(bytes) if passed + read as u64 > bytes => {
                let rest = usize::try_from(bytes - passed).unwrap_or(read);
                let _ = to.write_all(&buffer[..rest]).await;
                return;
            }
            _ => {}
        }
        passed += read as u64;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn loses(fault: Fault, way: Way) -> bool {
    match fault {
        Fault::BlackHole => true,
        Fault::LostAnswers => way == Way::ToClient,
        Fault::LostRequests => way == Way::ToServer,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(10);

    /// A server that says everything back.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = client.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    async fn says_back(client: &mut TcpStream) -> std::io::Result<()> {
        client.write_all(b"hello").await?;
        let mut answer = [0; 5];
        timeout(LONG, client.read_exact(&mut answer)).await.map_err(|_| ErrorKind::TimedOut)??;
        assert_eq!(&answer, b"hello");
        Ok(())
    }

    #[tokio::test]
    async fn bytes_pass_late_and_slowly_as_told() {
        let proxy = Proxy::to(&echo().await).await;
        let mut client = client(&proxy).await;
        says_back(&mut client).await.unwrap();
        for fault in [Fault::Latency(Duration::from_millis(100)), Fault::Rate(50)] {
            proxy.set(fault);
            let start = Instant::now();
            says_back(&mut client).await.unwrap();
            assert!(start.elapsed() >= Duration::from_millis(199), "{fault:?}: {:?}", start.elapsed());
        }
    }

    #[tokio::test]
    async fn a_black_hole_takes_all_and_its_victims_are_reset_when_it_ends() {
        let proxy = Proxy::to(&echo().await).await;
        for fault in [Fault::BlackHole, Fault::LostAnswers, Fault::LostRequests] {
            proxy.set(Fault::None);
            let mut client = client(&proxy).await;
            says_back(&mut client).await.unwrap();
            proxy.set(fault);
            client.write_all(b"x").await.unwrap();
            assert!(timeout(Duration::from_millis(200), client.read_u8()).await.is_err(), "{fault:?}");
            proxy.set(Fault::None);
            let end = timeout(LONG, client.read_u8()).await.unwrap().unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn connections_are_refused_cut_and_reset() {
        let proxy = Proxy::to(&echo().await).await;
        let mut open = client(&proxy).await;
        says_back(&mut open).await.unwrap();
        proxy.set(Fault::Refuse);
        says_back(&mut open).await.unwrap();
        assert!(says_back(&mut client(&proxy).await).await.is_err(), "new ones are refused");
        proxy.set(Fault::CutAfter(7));
        says_back(&mut open).await.unwrap();
        assert!(says_back(&mut open).await.is_err(), "cut after 7 bytes");
        proxy.set(Fault::None);
        let mut open = client(&proxy).await;
        says_back(&mut open).await.unwrap();
        assert_eq!(proxy.connections(), 1, "those that ended are not counted");
        assert_eq!(proxy.accepted(), 3);
        proxy.reset_all();
        assert_eq!(
            timeout(LONG, open.read_u8()).await.unwrap().unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    }
}
