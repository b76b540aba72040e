//! The original services' environment names, laid over the distributed mode's defaults.

use super::layers::set;
use std::{collections::BTreeMap, fmt::Write};
use toml::{Table, Value};

type Environment = BTreeMap<String, String>;

/// Lays what the originals' names say over `table`.
pub(super) fn overlay(table: &mut Table, environment: &Environment, mistakes: &mut Vec<String>) {
    let mut put = |section: &str, key: &str, value: String| {
        if let Some(Value::Table(keys)) = table.get_mut(section) {
            keys.insert(key.to_owned(), Value::String(value));
        }
    };
    for (name, places) in [
        ("MONGO_URI", &[("backends", "jobs"), ("backends", "blobs")][..]),
        ("RABBITMQ_URI", &[("backends", "wake")]),
        ("JWT_SECRET", &[("auth", "jwt_secret")]),
        ("VIDEO_QUEUE", &[("queues", "video")]),
        ("MP3_QUEUE", &[("queues", "mp3")]),
        ("GMAIL_ADDRESS", &[("mail", "from")]),
    ] {
        for (section, key) in places.iter().filter(|_| set(environment, name).is_some()) {
            put(section, key, set(environment, name).unwrap_or_default().to_owned());
        }
    }
    if let Some(address) = set(environment, "AUTH_SVC_ADDRESS") {
        // The originals write host and port alone.
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        put("backends", "auth", url);
    }
    if let Some(url) = mysql(environment, mistakes) {
        put("backends", "users", url);
    }
    if let Some(url) = gmail(environment, mistakes) {
        put("backends", "mailer", url);
    }
}

fn mysql(environment: &Environment, mistakes: &mut Vec<String>) -> Option<String> {
    let host = set(environment, "MYSQL_HOST")?;
    // For a Service named mysql, Kubernetes sets MYSQL_PORT to tcp://ADDRESS:PORT.
    let port = set(environment, "MYSQL_PORT").unwrap_or("3306");
    let port = port.rsplit(':').next().unwrap_or_default();
    if port.parse::<u16>().is_err() {
        mistakes.push(format!("environment: MYSQL_PORT: “{port}” is no port"));
    }
    let database = encode(set(environment, "MYSQL_DB").unwrap_or("auth"));
    let user = match (set(environment, "MYSQL_USER"), set(environment, "MYSQL_PASSWORD")) {
        (Some(user), Some(password)) => format!("{}:{}@", encode(user), encode(password)),
        (Some(user), None) => format!("{}@", encode(user)),
        (None, _) => String::new(),
    };
    Some(format!("mysql://{user}{host}:{port}/{database}"))
}

fn gmail(environment: &Environment, mistakes: &mut Vec<String>) -> Option<String> {
    let address = set(environment, "GMAIL_ADDRESS")?;
    let Some(password) = set(environment, "GMAIL_PASSWORD") else {
        // A mailer may be set by our own name.
        if set(environment, "TAPEDECK_BACKENDS_MAILER").is_none() {
            mistakes.push("environment: GMAIL_ADDRESS is set, and GMAIL_PASSWORD is not: set both".into());
        }
        return None;
    };
    Some(format!("smtp+starttls://{}:{}@smtp.gmail.com:587", encode(address), encode(password)))
}

/// Percent-encodes all that has a meaning in a URL.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
