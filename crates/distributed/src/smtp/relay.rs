//! The mail server's address, read from its URL.

use lettre::transport::smtp::{
    authentication::Credentials,
    client::{Certificate, TlsParameters},
    extension::ClientId,
};
use services::ports::{PortError, PortErrorKind, PortResult};
use std::{fmt, fs, net::IpAddr};
use url::{Host, Url};

/// When a connection is encrypted.
#[derive(Clone)]
pub(super) enum Security {
    /// Never.
    None,
    /// After STARTTLS, before anything else.
    StartTls(TlsParameters),
    /// From the first byte.
    Tls(TlsParameters),
}

/// A mail server and how to speak to it.
#[derive(Clone)]
pub(super) struct Relay {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub credentials: Option<Credentials>,
    pub hello: ClientId,
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Relay {
    /// Reads the URL, and the file that its `ca` names.
    pub fn parse(url: &str) -> PortResult<Relay> {
        read(url).map_err(|why| PortError::new(PortErrorKind::Refused, "read the mail server's address", why))
    }
}

const FORMS: &str =
    "write smtp+starttls://user:password@host:587, smtps://user:password@host:465 or smtp://host:25";

fn read(url: &str) -> Result<Relay, String> {
    let url = Url::parse(url).map_err(|error| format!("{error}; {FORMS}"))?;
    let host = match url.host() {
        Some(Host::Ipv6(ip)) => ip.to_string(),
        Some(host) if !host.to_string().is_empty() => host.to_string(),
        _ => return Err(format!("it names no host; {FORMS}")),
    };
    if !["", "/"].contains(&url.path()) {
        return Err(format!("“{}” after the host means nothing here", url.path()));
    }
    let query = Query::read(&url)?;
    let tls = || tls(&host, query.ca.as_deref());
    let (port, security) = match url.scheme() {
        "smtp" => (25, Security::None),
        "smtp+starttls" => (587, Security::StartTls(tls()?)),
        "smtps" => (465, Security::Tls(tls()?)),
        other => return Err(format!("“{other}” is not smtp, smtp+starttls or smtps")),
    };
    let credentials = credentials(&url)?;
    if credentials.is_some() && matches!(security, Security::None) && !is_this_machine(&host) {
        return Err(
            "a password would cross the network in the clear: write smtp+starttls:// or smtps://".into()
        );
    }
    let hello = query.hello.map_or_else(ClientId::default, ClientId::Domain);
    Ok(Relay { port: url.port().unwrap_or(port), host, security, credentials, hello })
}

/// What the URL's query may say.
#[derive(Default)]
struct Query {
    ca: Option<String>,
    hello: Option<String>,
}

impl Query {
    fn read(url: &Url) -> Result<Query, String> {
        let mut query = Query::default();
        for (key, value) in url.query_pairs() {
            let plain = !value.is_empty() && !value.contains(|c: char| c.is_control() || c == ' ');
            match key.as_ref() {
                "ca" => query.ca = Some(value.into_owned()),
                "hello" if plain => query.hello = Some(value.into_owned()),
                "hello" => return Err("hello is a host's name, without blanks".into()),
                other => return Err(format!("there is no “{other}”; there are ca and hello")),
            }
        }
        Ok(query)
    }
}

fn tls(host: &str, ca: Option<&str>) -> Result<TlsParameters, String> {
    let mut tls = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca {
        let pem = fs::read(path).map_err(|error| format!("the CA file {path} cannot be read: {error}"))?;
        if !String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE") {
            return Err(format!("the CA file {path} holds no PEM certificate"));
        }
        let ca = Certificate::from_pem(&pem);
        tls = tls.add_root_certificate(ca.map_err(|error| format!("the CA file {path}: {error}"))?);
    }
    tls.build_rustls().map_err(|error| format!("TLS cannot be set up: {error}"))
}

fn credentials(url: &Url) -> Result<Option<Credentials>, String> {
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() && !password.is_empty() => {
            Ok(Some(Credentials::new(decode(user)?, decode(password)?)))
        }
        _ => Err("it names a user without a password, or a password without a user".into()),
    }
}

/// Decodes %XX. What is no such escape stands for itself.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]),
            None => (bytes.push(*first), rest = tail),
        };
    }
    String::from_utf8(bytes).map_err(|_| "user and password are percent-encoded UTF-8".into())
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_port_and_security() {
        for (url, port, secured) in [
            ("smtp://relay", 25, "none"),
            ("smtp://relay.example.com:2525/", 2525, "none"),
            ("smtp+starttls://u:p@smtp.gmail.com", 587, "starttls"),
            ("smtps://u:p@smtp.gmail.com?hello=tapedeck.example.com", 465, "tls"),
            ("smtp://u:p@localhost:2525", 2525, "none"),
            ("smtp://u:p@[::1]:2525", 2525, "none"),
        ] {
            let relay = read(url).unwrap();
            let security = match relay.security {
                Security::None => "none",
                Security::StartTls(_) => "starttls",
                Security::Tls(_) => "tls",
            };
            assert_eq!((relay.port, security), (port, secured), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_never_shown() {
        let relay = read("smtps://ana%40example.com:p%25a%20ss%C3%A4@host").unwrap();
        assert_eq!(relay.credentials, Some(Credentials::new("ana@example.com".into(), "p%a ssä".into())));
        assert_eq!(format!("{relay:?}"), "host:465");
        assert_eq!(decode("100%").unwrap(), "100%");
        assert_eq!(decode("%zz%4").unwrap(), "%zz%4");
        assert!(decode("%ff").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (url, word) in [
            ("smtp.gmail.com:587", "smtps"),
            ("smtp://", "host"),
            ("imap://host", "imap"),
            ("smtp://u:p@relay.example.com", "clear"),
            ("smtps://u@host", "without a password"),
            ("smtps://host?tls=off", "tls"),
            ("smtps://host/inbox", "inbox"),
            ("smtps://host?ca=/does/not/exist.pem", "/does/not/exist.pem"),
            ("smtps://host?hello=a%0d%0aMAIL", "hello"),
        ] {
            let why = read(url).map(|_| ()).unwrap_err();
            assert!(why.contains(word), "{url}: {why}");
        }
    }
}
