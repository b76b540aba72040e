//! A look at the mail server on an operator's behalf: can we connect, encrypt and log in?

use super::{
    Limits,
    failure::{Failure, Stage, StageMark},
    relay::{Relay, Security},
    session,
};
use services::ports::{PortError, PortResult};
use std::{fmt, time::Duration};
use tokio::time::timeout;

/// A look may take so long.
const LOOK: Duration = Duration::from_secs(10);

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Host and port.
    pub relay: String,
    /// How the server calls itself.
    pub server: String,
    /// Is the connection encrypted, and the certificate checked?
    pub encrypted: bool,
    /// Did we log in?
    pub logged_in: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        let login = if self.logged_in { "logged in" } else { "without a login" };
        write!(f, "{} ({}): {encrypted}, {login}", self.relay, self.server)
    }
}

/// Connects, encrypts and logs in as a mail would, sends nothing, and reports. An error says in its source what is wrong and what to
/// do: unknown host, refused, silence, certificate not trusted or for another name, no STARTTLS, no AUTH, wrong password.
pub async fn probe(url: &str) -> PortResult<Report> {
    let relay = Relay::parse(url)?;
    let mark = StageMark::default();
    let limit = LOOK.min(Limits::default().send);
    let opened = timeout(limit, session::open(&relay, &mark)).await;
    let opened = opened.unwrap_or_else(|_| Err(Failure::silence(mark.get(), limit)));
    let mut connection = opened.map_err(|failure| {
        let text = match advice(&relay, &failure) {
            Some(advice) => format!("{failure}: {advice}"),
            None => failure.to_string(),
        };
        PortError::unavailable(format!("look at the mail server {relay}"), text)
    })?;
    let report = Report {
        relay: relay.to_string(),
        server: connection.server_info().name().to_owned(),
        encrypted: connection.is_encrypted(),
        logged_in: relay.credentials.is_some(),
    };
    // The report stands, however the farewell goes.
    let _ = timeout(Duration::from_secs(1), connection.abort()).await;
    Ok(report)
}

fn advice(relay: &Relay, failure: &Failure) -> Option<String> {
    let text = failure.text.as_str();
    let has = |word: &str| text.contains(word);
    Some(match failure.stage {
        Stage::Connect if has("lookup") || has("resolve") => {
            format!("there is no host “{}”: check its name", relay.host)
        }
        Stage::Connect if has("refused") => {
            format!("nothing listens on port {}: is it the right one? 587 takes STARTTLS, 465 TLS, 25 is for relays", relay.port)
        }
        Stage::Connect if has("UnknownIssuer") => "the certificate is not signed by an authority that this system trusts: give the \
             relay's own as ?ca=/path/ca.pem"
            .into(),
        Stage::Connect if has("NotValidForName") || has("not valid for name") => {
            format!("the certificate is for another name than “{}”: write the name that is in it", relay.host)
        }
        Stage::Connect if has("Expired") || has("expired") => "the server's certificate is out of date: renew it".into(),
        Stage::Connect if has("corrupt message") || has("InvalidContentType") => {
            "the server does not speak TLS from the first byte here: use smtp+starttls, or port 465".into()
        }
        Stage::Connect if has("STARTTLS") => {
            "use the submission port (587) or smtps on 465; nothing is sent in the clear".into()
        }
        Stage::Connect if has("not done within") && matches!(relay.security, Security::Tls(_)) => {
            "a firewall may swallow the connection".into()
        }
        Stage::Connect if has("not done within") || has("timed out") => {
            "a firewall may swallow the connection, or the port speaks TLS from the first byte (465: use smtps)".into()
        }
        Stage::Login if failure.code.is_some() => {
            "check user and password; Gmail wants an app password, made in the account's settings".into()
        }
        Stage::Login => "without TLS many servers offer no login: use smtp+starttls or smtps".into(),
        _ => return None,
    })
}
