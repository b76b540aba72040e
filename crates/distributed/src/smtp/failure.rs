//! Why a mail was not taken, where in the conversation, and whether another try makes sense.

use lettre::transport::smtp::Error;
use std::{
    error::Error as _,
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// How far a mail came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Waiting for its turn, or at the breaker.
    Turn,
    /// Connecting: TCP, TLS, greeting, EHLO.
    Connect,
    /// Logging in.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, and the mail itself.
    Content,
}

const STAGES: [Stage; 6] =
    [Stage::Turn, Stage::Connect, Stage::Login, Stage::Sender, Stage::Recipient, Stage::Content];

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Turn => "before its turn",
            Stage::Connect => "connecting",
            Stage::Login => "logging in",
            Stage::Sender => "naming the sender",
            Stage::Recipient => "naming the recipient",
            Stage::Content => "handing over the mail",
        })
    }
}

/// The stage that a send has reached, to be read from outside when it is given up.
#[derive(Debug, Default)]
pub(super) struct StageMark(AtomicU8);

impl StageMark {
    pub fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> Stage {
        STAGES[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// A mail that was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {text}")]
pub(super) struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// The server's reply code, if it replied.
    pub code: Option<u16>,
    /// The server's words, or what happened.
    pub text: String,
    /// We ourselves found that this server can never take this mail.
    unfit: bool,
}

impl Failure {
    /// Something else than an error of lettre's.
    pub fn new(stage: Stage, text: impl Into<String>) -> Failure {
        Failure { stage, code: None, text: text.into(), unfit: false }
    }

    /// The mail cannot go through this server, ever.
    pub fn unfit(text: impl Into<String>) -> Failure {
        Failure { unfit: true, ..Failure::new(Stage::Recipient, text) }
    }

    /// The recipient's address is none.
    pub fn no_address(to: &str) -> Failure {
        Failure::unfit(format!("“{to}” is not an address that a mail can go to"))
    }

    /// The mailer is closing.
    pub fn busy() -> Failure {
        Failure::new(Stage::Turn, "the mailer is closing")
    }

    /// The time is up.
    pub fn silence(stage: Stage, limit: Duration) -> Failure {
        Failure::new(stage, format!("not done within {} seconds", limit.as_secs_f32()))
    }

    /// What lettre met at a stage. Its own text would name the source a second time.
    pub fn at(stage: Stage, error: Error) -> Failure {
        let code = error.status().map(u16::from);
        let mut root: &(dyn std::error::Error + 'static) = &error;
        while let Some(source) = root.source() {
            root = source;
        }
        let said = if error.source().is_some() { root.to_string() } else { error.to_string() };
        let text = match code {
            Some(code) => format!("the server answers {code} {said}"),
            None if said.contains("incomplete response") => "the server closed the connection".into(),
            None => said,
        };
        Failure { stage, code, text, unfit: false }
    }

    /// Will no later attempt be taken either?
    pub fn is_final(&self) -> bool {
        self.unfit || (self.is_rejection() && !self.is_about_us())
    }

    /// A 5xx for the recipient or the content.
    fn is_rejection(&self) -> bool {
        self.stage >= Stage::Recipient && self.code.is_some_and(|code| (500..600).contains(&code))
    }

    /// Not logged in, or not allowed to relay here: a setting is wrong, not the address.
    fn is_about_us(&self) -> bool {
        let login = matches!(self.code, Some(530 | 534 | 535 | 538));
        login || (self.stage == Stage::Recipient && self.text.to_ascii_lowercase().contains("relay"))
    }

    /// Is the session good for another mail? After a reply it is, unless the reply was a farewell.
    pub fn leaves_session(&self) -> bool {
        self.stage >= Stage::Recipient && self.code.is_some_and(|code| code != 421)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(stage: Stage, code: u16, text: &str) -> Failure {
        Failure { code: Some(code), ..Failure::new(stage, text) }
    }

    #[test]
    fn only_what_is_said_of_recipient_or_content_is_final() {
        assert!(failure(Stage::Recipient, 550, "5.1.1 no such user").is_final());
        assert!(failure(Stage::Recipient, 553, "5.1.3 bad address").is_final());
        assert!(failure(Stage::Content, 554, "5.7.1 spam").is_final());
        assert!(failure(Stage::Content, 552, "5.2.2 mailbox full").is_final());
        for passing in [
            failure(Stage::Connect, 554, "5.7.1 no service for you"),
            failure(Stage::Login, 535, "5.7.8 bad credentials"),
            failure(Stage::Sender, 530, "5.7.0 must issue a STARTTLS command first"),
            failure(Stage::Sender, 550, "5.7.1 sender rejected"),
            failure(Stage::Recipient, 450, "4.2.1 try later"),
            failure(Stage::Recipient, 530, "5.7.0 authentication required"),
            failure(Stage::Recipient, 554, "5.7.1 <a@b.c>: Relay access denied"),
            failure(Stage::Content, 451, "4.3.0 no disk"),
            Failure::silence(Stage::Content, Duration::from_secs(1)),
        ] {
            assert!(!passing.is_final(), "{passing}");
        }
    }

    #[test]
    fn the_mark_remembers_every_stage() {
        let mark = StageMark::default();
        assert_eq!(mark.get(), Stage::Turn);
        for stage in STAGES {
            mark.set(stage);
            assert_eq!(mark.get(), stage);
        }
    }
}
