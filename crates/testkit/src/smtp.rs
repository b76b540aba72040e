//! A mail server in this process, with an inbox, that misbehaves on request.

mod session;

use crate::certificates::Certificates;
use anyhow::Result;
use session::Session;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// How the server encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    None,
    /// It offers STARTTLS, and takes neither AUTH nor mails before it.
    StartTls,
    /// From the first byte.
    Tls,
}

/// How the server shall be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How it encrypts.
    pub security: Security,
    /// User and password. With them it takes mails only after AUTH PLAIN or LOGIN.
    pub account: Option<(String, String)>,
    /// The names in its certificate.
    pub names: Vec<String>,
    /// The AUTH mechanisms that it offers.
    pub mechanisms: Vec<String>,
    /// What else it says that it can: 8BITMIME, SMTPUTF8.
    pub extensions: Vec<String>,
}

impl Default for Setup {
    fn default() -> Setup {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Setup {
            security: Security::None,
            account: None,
            names: words(&["localhost", "127.0.0.1"]),
            mechanisms: words(&["PLAIN", "LOGIN"]),
            extensions: words(&["8BITMIME", "SMTPUTF8"]),
        }
    }
}

/// Where a fault strikes; in the order of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Instead of the greeting; before TLS, where that is first.
    Connect,
    /// At EHLO.
    Ehlo,
    /// At STARTTLS.
    StartTls,
    /// At AUTH.
    Auth,
    /// At MAIL FROM.
    Mail,
    /// At RCPT TO.
    Rcpt,
    /// At DATA.
    Data,
    /// After the final dot.
    Dot,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It answers this: `550 5.1.1 no such user`. Nothing comes of the command.
    Reply(String),
    /// It never answers.
    Hang,
    /// It cuts the connection.
    Drop,
    /// After the dot: it keeps the mail, and cuts the connection before it says so.
    DropAfterAccept,
}

/// A mail that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The whole message, dots unstuffed, with its last line's end.
    pub raw: Vec<u8>,
    /// Came it over TLS?
    pub tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
}

/// The server. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    setup: Setup,
    certificates: Certificates,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

/// What all sessions share.
#[derive(Debug)]
struct State {
    setup: Setup,
    faults: Mutex<HashMap<Stage, (Fault, usize)>>,
    no_such_users: Mutex<HashSet<String>>,
    inbox: watch::Sender<Vec<Mail>>,
    connections: AtomicUsize,
    /// Counted up, all connections end.
    hang_ups: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MailServer {
    /// Starts a server on a free port of 127.0.0.1, in the present runtime.
    pub async fn start(setup: Setup) -> Result<MailServer> {
        let names: Vec<&str> = setup.names.iter().map(String::as_str).collect();
        let certificates = Certificates::for_names(&names)?;
        let tls = TlsAcceptor::from(certificates.server_config()?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            setup: setup.clone(),
            faults: Mutex::default(),
            no_such_users: Mutex::default(),
            inbox: watch::Sender::default(),
            connections: AtomicUsize::new(0),
            hang_ups: watch::Sender::new(0),
        });
        let sessions = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                sessions.connections.fetch_add(1, Ordering::Relaxed);
                let mut hang_up = sessions.hang_ups.subscribe();
                let session = Session::new(Arc::clone(&sessions), tls.clone());
                tokio::spawn(async move {
                    // A session ends by its own ways, or by ours; either way its socket closes.
                    tokio::select! {
                        _ = session.run(socket) => {}
                        _ = hang_up.changed() => {}
                    }
                });
            }
        });
        Ok(MailServer { address, setup, certificates, state, listening })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL for Tapedeck, which trusts its certificate: `smtp+starttls://user:password@localhost:1234?ca=…`.
    pub fn url(&self) -> String {
        self.url_as("localhost", self.setup.account.clone())
    }

    /// The URL with another host's name and another account.
    pub fn url_as(&self, host: &str, account: Option<(String, String)>) -> String {
        let scheme = match self.setup.security {
            Security::None => "smtp",
            Security::StartTls => "smtp+starttls",
            Security::Tls => "smtps",
        };
        let account = account
            .map_or(String::new(), |(user, password)| format!("{}:{}@", escape(&user), escape(&password)));
        format!("{scheme}://{account}{host}:{}?ca={}", self.port(), self.ca().display())
    }

    /// The PEM file of the authority that signed its certificate.
    pub fn ca(&self) -> PathBuf {
        self.certificates.ca()
    }

    /// From now on, so many times, this goes wrong there.
    pub fn inject(&self, stage: Stage, fault: Fault, times: usize) {
        lock(&self.state.faults).insert(stage, (fault, times));
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        lock(&self.state.faults).clear();
    }

    /// This recipient is unknown from now on: 550.
    pub fn refuse_recipient(&self, address: &str) {
        lock(&self.state.no_such_users).insert(address.to_owned());
    }

    /// Cuts all connections that are open now.
    pub fn hang_up(&self) {
        self.state.hang_ups.send_modify(|count| *count += 1);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.state.hang_ups.receiver_count()
    }

    /// All mails that have arrived.
    pub fn inbox(&self) -> Vec<Mail> {
        self.state.inbox.borrow().clone()
    }

    /// The mails to this address.
    pub fn inbox_of(&self, address: &str) -> Vec<Mail> {
        self.inbox().into_iter().filter(|mail| mail.to.iter().any(|to| to == address)).collect()
    }

    /// Waits until so many mails to this address have arrived; after half a minute it gives what there is.
    pub async fn wait_for(&self, address: &str, count: usize) -> Vec<Mail> {
        let mut inbox = self.state.inbox.subscribe();
        let is_to = |mail: &&Mail| mail.to.iter().any(|to| to == address);
        let enough = inbox.wait_for(|inbox| inbox.iter().filter(is_to).count() >= count);
        let _ = tokio::time::timeout(Duration::from_secs(30), enough).await;
        self.inbox_of(address)
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.listening.abort();
        self.hang_up();
    }
}

/// All but letters and digits as %XX.
fn escape(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

impl State {
    /// The fault that strikes now, if any.
    fn fault(&self, stage: Stage) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let (fault, times) = faults.get_mut(&stage)?;
        *times = times.checked_sub(1)?;
        Some(fault.clone())
    }

    fn keep(&self, mail: Mail) {
        self.inbox.send_modify(|inbox| inbox.push(mail));
    }

    fn knows(&self, recipient: &str) -> bool {
        !lock(&self.no_such_users).contains(recipient)
    }
}
