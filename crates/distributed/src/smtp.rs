//! Mails over SMTP, to a relay or a provider's submission port.
//!
//! The letter's bytes are sent as they are, under an envelope of our own. The certificate is checked wherever there is TLS, and
//! where STARTTLS is asked for, nothing is sent without it. Connections are kept for a while and tried out before they carry the
//! next mail. Every send ends within a time limit, whatever the server does.
//!
//! A mail is refused for ever only where the server says so of its recipient or its content (5xx after RCPT or DATA). What the server
//! says before that (greeting, TLS, AUTH, MAIL FROM) is about us: an operator mends it, and the mail is tried again. So is a
//! recipient that is refused because the server does not relay for us, or wants us to log in first. After some
//! such failures in a row a circuit breaker opens, and sends fail at once for a while.
//!
//! What is not promised: that a mail arrives once. A server that takes a mail and goes away before it says so cannot be told from one
//! that lost it, so the mail is sent again; it has the same Message-ID, by which a receiver may tell.

mod breaker;
mod failure;
mod log;
mod pool;
mod probe;
mod relay;
mod session;

pub use breaker::Patience;
pub use log::LogMailer;
pub use probe::{Report, probe};

use async_trait::async_trait;
use breaker::{Breaker, Pass};
use failure::{Failure, Stage, StageMark};
use lettre::Address;
use pool::Pool;
use relay::Relay;
use services::ports::{Letter, Mailer, PortError, PortErrorKind, PortResult};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// So many mails are under way at once.
const AT_ONCE: usize = 4;

/// How long the mailer waits for what.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A whole send, connecting and waiting for its turn included.
    pub send: Duration,
    /// How long a connection without work is kept.
    pub idle: Duration,
    /// When the breaker opens, and for how long.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { send: Duration::from_secs(30), idle: Duration::from_secs(30), patience: Patience::default() }
    }
}

/// A mailer over SMTP.
pub struct SmtpMailer {
    relay: Relay,
    from: Address,
    limits: Limits,
    pool: Arc<Pool>,
    turns: Semaphore,
    breaker: Breaker,
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer")
            .field("relay", &self.relay)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl SmtpMailer {
    /// A mailer through the server at `url`, in whose envelopes `from` is the sender:
    ///
    /// - `smtp+starttls://user:password@smtp.gmail.com:587`: STARTTLS, or nothing is sent;
    /// - `smtps://user:password@host:465`: TLS from the first byte;
    /// - `smtp://host:25`: without TLS, for a relay on this machine or in this cluster. A password goes only to this machine.
    ///
    /// User and password are percent-encoded. In the query: `ca`, a PEM file with a certificate authority to be trusted beside the
    /// system's; `hello`, the name to greet with. Nothing is connected yet: the server may come later.
    pub fn connect(url: &str, from: &str) -> PortResult<SmtpMailer> {
        SmtpMailer::with_limits(url, from, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(url: &str, from: &str, limits: Limits) -> PortResult<SmtpMailer> {
        let relay = Relay::parse(url)?;
        let from = from.parse().map_err(|error| {
            let what = format!("“{from}” is not an address that a mail can come from");
            PortError::new(
                PortErrorKind::Refused,
                what,
                Box::<dyn std::error::Error + Send + Sync>::from(error),
            )
        })?;
        let breaker = Breaker::new(limits.patience.clone());
        let pool = Arc::new(Pool::new(limits.idle));
        Ok(SmtpMailer { relay, from, limits, pool, turns: Semaphore::new(AT_ONCE), breaker })
    }

    async fn try_to_send(&self, letter: &Letter) -> Result<(), Failure> {
        let pass = self.breaker.admit(Instant::now())?;
        let mark = StageMark::default();
        let sent = timeout(self.limits.send, self.hand_over(letter, &mark)).await;
        let sent = sent.unwrap_or_else(|_| Err(Failure::silence(mark.get(), self.limits.send)));
        self.judge(pass, sent.as_ref().err());
        sent
    }

    /// On every way out of here but the good ones the connection is dropped with the future, and with it whatever was under way.
    async fn hand_over(&self, letter: &Letter, mark: &StageMark) -> Result<(), Failure> {
        let to: Address = letter.to.parse().map_err(|_| Failure::no_address(&letter.to))?;
        let _turn = self.turns.acquire().await.map_err(|_| Failure::busy())?;
        let mut connection = match self.pool.take().await {
            Some(connection) => connection,
            None => session::open(&self.relay, mark).await?,
        };
        let sent = session::send(&mut connection, &self.from, &to, &letter.text, mark).await;
        // A refused mail leaves the session as good as a taken one.
        if sent.as_ref().err().is_none_or(|failure| failure.leaves_session()) {
            self.pool.keep(connection);
        }
        sent
    }

    fn judge(&self, pass: Pass<'_>, failure: Option<&Failure>) {
        match failure {
            Some(failure) if failure.stage == Stage::Turn => drop(pass),
            Some(failure) if failure.stage < Stage::Recipient => {
                tracing::warn!(relay = %self.relay, "the mail server failed us: {failure}");
                if let Some(pause) = pass.failed(Instant::now(), &failure.to_string()) {
                    tracing::error!(
                        relay = %self.relay,
                        "no mail goes out for {} seconds: the mail server has failed too often: {failure}",
                        pause.as_secs()
                    );
                }
            }
            // Silence after RCPT says nothing sure, neither good nor bad.
            Some(failure) if failure.code.is_none() => drop(pass),
            _ => pass.succeeded(),
        }
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, letter: &Letter) -> PortResult<()> {
        self.try_to_send(letter).await.map_err(|failure| {
            let kind = if failure.is_final() { PortErrorKind::Refused } else { PortErrorKind::Unavailable };
            PortError::new(kind, format!("send a mail through {}", self.relay), failure)
        })
    }
}
