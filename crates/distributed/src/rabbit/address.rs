//! Where the broker is, and whom it is told that we are.

use super::{RabbitOptions, refused};
use lapin::{
    tcp::OwnedTLSConfig,
    types::ShortString,
    uri::{AMQPScheme, AMQPUri},
};
use services::ports::{PortError, PortResult};
use std::fmt;

/// A broker's address, ready to connect to.
#[derive(Clone)]
pub(super) struct Address {
    pub uri: AMQPUri,
    pub tls: OwnedTLSConfig,
}

/// Longer names of queues leave no room for `.retry` in AMQP's 255 bytes.
const LONGEST_NAME: usize = 240;

impl Address {
    /// Reads the options. An error never repeats the URI: it holds the password.
    pub fn parse(options: &RabbitOptions) -> PortResult<Address> {
        for name in [&options.video, &options.mp3] {
            if name.is_empty() || name.len() > LONGEST_NAME {
                let why = format!("`{name}` is no name for a queue: it must have 1 to {LONGEST_NAME} bytes");
                return Err(refused("read the names of RabbitMQ's queues", why));
            }
        }
        if options.video == options.mp3 {
            let why = format!("both are `{}`; videos and MP3s need a queue each", options.video);
            return Err(refused("read the names of RabbitMQ's queues", why));
        }
        let mut uri = parse_uri(&options.uri)?;
        let heartbeat = u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        uri.query.heartbeat.get_or_insert(heartbeat);
        Ok(Address { uri, tls: OwnedTLSConfig { identity: None, cert_chain: options.certificates.clone() } })
    }

    /// The host as the URI names it.
    pub fn host(&self) -> &str {
        &self.uri.authority.host
    }

    /// The port of the URI, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.uri.authority.port
    }

    /// Is the connection encrypted?
    pub fn encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

fn parse_uri(text: &str) -> PortResult<AMQPUri> {
    let wrong = |why: String| -> PortError {
        let how = "it must be amqp://user:password@host:port/virtual-host, or amqps://…";
        refused("read the URI of RabbitMQ", format!("{why}; {how}"))
    };
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err(wrong(format!("its scheme is `{}`", url.scheme())));
    }
    let mut uri: AMQPUri = text.parse().map_err(wrong)?;
    // lapin takes an IPv6 address for no host at all, and an empty path for the virtual host with the empty name.
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong("it names no host".into()));
    }
    uri.authority.host = host.to_owned();
    if uri.vhost.is_empty() {
        uri.vhost = "/".into();
    }
    // lapin panics at longer ones.
    if ShortString::try_new(uri.vhost.as_str()).is_err() {
        return Err(wrong("the name of its virtual host has more than 255 bytes".into()));
    }
    Ok(uri)
}

impl fmt::Display for Address {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        write!(f, "{host}:{}", self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(uri: &str) -> PortResult<Address> {
        Address::parse(&RabbitOptions::new(uri, "test"))
    }

    #[test]
    fn the_parts_of_a_uri_are_what_they_seem() {
        for (uri, shown, vhost, user) in [
            ("amqp://rabbitmq", "rabbitmq:5672", "/", "guest"),
            ("amqp://rabbitmq/", "rabbitmq:5672", "/", "guest"),
            ("amqp://a%40b:p%2Fw@h:1/my%2Fown", "h:1", "my/own", "a@b"),
            ("amqps://u:p@[::1]/%2f?heartbeat=3", "[::1]:5671", "/", "u"),
        ] {
            let address = address(uri).unwrap();
            assert_eq!(address.to_string(), shown, "{uri}");
            assert_eq!(address.uri.vhost, vhost, "{uri}");
            assert_eq!(address.uri.authority.userinfo.username, user, "{uri}");
        }
        assert_eq!(address("amqp://h?heartbeat=3").unwrap().uri.query.heartbeat, Some(3));
        assert_eq!(address("amqp://h").unwrap().uri.query.heartbeat, Some(10));
    }

    #[test]
    fn what_cannot_work_is_refused_without_the_password() {
        for (uri, word) in [
            ("http://u:secret@h", "`http`"),
            ("secret", "amqp://user"),
            ("amqp://u:secret@:5672", "host"),
            ("amqp:///x", "host"),
            ("amqp://u:secret@h:99999", "port"),
            ("amqp://u:secret@h?heartbeat=often", "digit"),
            (&format!("amqp://u:secret@h/{}", "v".repeat(256)), "255"),
        ] {
            let error = address(uri).err().unwrap();
            let text = format!("{error}: {}", error.source);
            assert!(text.contains(word) && !text.contains("secret"), "{uri}: {text}");
        }
        let same = RabbitOptions { mp3: "video".into(), ..RabbitOptions::new("amqp://h", "test") };
        assert!(Address::parse(&same).is_err());
        let long = RabbitOptions { mp3: "v".repeat(241), ..RabbitOptions::new("amqp://h", "test") };
        assert!(Address::parse(&long).is_err());
    }
}
