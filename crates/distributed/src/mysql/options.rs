//! The URL of the users' database.

use services::ports::{PortError, PortErrorKind, PortResult};
use sqlx::{ConnectOptions, mysql::MySqlConnectOptions};
use url::Url;

const KEYS: [&str; 5] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];

/// How to connect, and the same in words without the password: `auth at db.example.com:3306`.
pub(super) fn parse(url: &str) -> PortResult<(MySqlConnectOptions, String)> {
    let refused =
        |why: String| PortError::new(PortErrorKind::Refused, "read the address of the users' database", why);
    let parsed = Url::parse(url)
        .map_err(|error| refused(format!("{error}; write mysql://user:password@host:3306/auth")))?;
    if !["mysql", "mariadb"].contains(&parsed.scheme()) {
        return Err(refused(format!("“{}” is not mysql:// or mariadb://", parsed.scheme())));
    }
    if let Some((key, _)) = parsed.query_pairs().find(|(key, _)| !KEYS.contains(&key.as_ref())) {
        return Err(refused(format!("there is no “{key}”; there are {}", KEYS.join(", "))));
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host; write mysql://user:password@host:3306/auth".into()));
    }
    let options = MySqlConnectOptions::from_url(&parsed).map_err(|error| refused(error.to_string()))?;
    // The charset is ours, whatever the server's default is: all that is sent and received is UTF-8.
    let options = options.charset("utf8mb4");
    let named = parsed.path().trim_matches('/');
    let database = if named.is_empty() { "auth" } else { named };
    let options = if named.is_empty() { options.database(database) } else { options };
    let host = parsed.host_str().unwrap_or_default();
    Ok((options, format!("{database} at {host}:{}", parsed.port().unwrap_or(3306))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_auth_unless_named() {
        let (options, place) = parse("mysql://auth_user:Auth%40123@db").unwrap();
        assert_eq!(place, "auth at db:3306");
        let url = options.to_url_lossy();
        assert_eq!((url.path(), url.password()), ("/auth", Some("Auth%40123")));
        let (options, place) = parse("mysql://u:p@[::1]:3307/other?ssl-mode=REQUIRED").unwrap();
        assert_eq!(place, "other at [::1]:3307");
        assert!(options.to_url_lossy().query().unwrap().contains("ssl-mode=REQUIRED"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (url, word) in [
            ("db:3306", "mysql://"),
            ("postgres://db/auth", "postgres"),
            ("mysql://u:p@db/auth?ssl-mod=REQUIRED", "ssl-mode"),
            ("mysql://u:p@db/auth?ssl-mode=always", "always"),
            ("mysql:///auth", "host"),
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Refused);
            assert!(error.source.to_string().contains(word), "{url}: {}", error.source);
        }
    }
}
