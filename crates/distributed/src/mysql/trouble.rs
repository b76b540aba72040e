//! What the server's errors mean to an operator, and to the ports.

use services::ports::{PortError, PortErrorKind};
use sqlx::{Error, mysql::MySqlDatabaseError};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(
        "the server did not answer within {} seconds: is it overloaded, stopped, or cut off?",
        super::LIMIT.as_secs()
    )]
    Silence,
    #[error(
        "an administrator needs the table tapedeck_role, which is missing: run `tapedeck migrate` as a MySQL user with the right to CREATE, then add the user again"
    )]
    NoRoleTable,
    #[error(transparent)]
    Sql(#[from] Error),
}

/// A server's error with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{advice} ({said})")]
struct Advised {
    advice: String,
    said: String,
    #[source]
    source: Error,
}

impl Trouble {
    /// An error of a statement on the role table.
    pub fn at_roles(error: Error) -> Trouble {
        if no_role_table(&error) { Trouble::NoRoleTable } else { Trouble::Sql(error) }
    }

    /// As the ports speak of it. `place` says where: `auth at db:3306`.
    pub fn into_port_error(self, what: &str, place: &str) -> PortError {
        let what = format!("{what} ({place})");
        match self {
            Trouble::NoRoleTable => PortError::new(PortErrorKind::Refused, what, self),
            Trouble::Silence => PortError::unavailable(what, self),
            Trouble::Sql(error) => match advice(&error) {
                Some(advice) => {
                    let said = error.to_string();
                    PortError::new(kind(&error), what, Advised { advice, said, source: error })
                }
                None => PortError::new(kind(&error), what, error),
            },
        }
    }
}

/// The server's own number for an error: <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>.
pub(super) fn number(error: &Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}

/// Is the role table not there? A user with rights on single tables is told that it may not be read.
pub(super) fn no_role_table(error: &Error) -> bool {
    let named = error.as_database_error().is_some_and(|error| error.message().contains("tapedeck_role"));
    named && matches!(number(error), Some(1146 | 1142))
}

/// Did somebody else's transaction win (deadlock, lock wait timeout)?
pub(super) fn lost_a_race(error: &Error) -> bool {
    matches!(number(error), Some(1213 | 1205))
}

fn kind(error: &Error) -> PortErrorKind {
    match number(error) {
        // Disk full, table full.
        Some(1021 | 1114) => PortErrorKind::Full,
        // What is to be stored does not fit: too long, or in no letters of the table's character set.
        Some(1366 | 1406 | 1267 | 1300 | 3988) => PortErrorKind::Refused,
        _ => PortErrorKind::Unavailable,
    }
}

/// What to do about it, where that is known.
pub(super) fn advice(error: &Error) -> Option<String> {
    let text = match error {
        Error::Database(_) => return number(error).and_then(advice_by_number).map(str::to_owned),
        Error::PoolTimedOut => {
            "no connection within 5 seconds: is the server running, is this its host and port, does a firewall swallow the connection?"
        }
        Error::Configuration(why) if why.to_string().contains("RSA") => {
            "the server logs in by caching_sha2_password, which needs TLS here: switch TLS on at the server and do not set ssl-mode=DISABLED"
        }
        Error::Tls(_) => {
            "TLS failed: ssl-mode=VERIFY_CA and VERIFY_IDENTITY need the server's certificate to be signed by a known authority, or by the one in ssl-ca; VERIFY_IDENTITY needs the host's name in it, too"
        }
        Error::Io(io) => return Some(advice_by_io(io).to_owned()),
        _ => return None,
    };
    Some(text.to_owned())
}

fn advice_by_io(error: &std::io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("lookup") || text.contains("resolve") {
        return "there is no host of this name: check the address (MYSQL_HOST)";
    }
    if text.contains("certificate") {
        return "the server's certificate is not trusted: give its authority's PEM file as ssl-ca, and the name in the certificate as the host";
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the server running, and is this its host and port (MYSQL_HOST, MYSQL_PORT)? A MySQL on the same machine may listen on 127.0.0.1 alone (bind-address)"
        }
        _ => "the connection broke: is the server running, and does it speak MySQL on this port?",
    }
}

fn advice_by_number(number: u16) -> Option<&'static str> {
    Some(match number {
        1045 | 1698 => {
            "the server refuses this user or password: check both (MYSQL_USER, MYSQL_PASSWORD), and that the user may come from this host ('name'@'%')"
        }
        1044 => {
            "this user has no right to the database: GRANT SELECT, INSERT, UPDATE, DELETE ON auth.* TO the user"
        }
        1049 => "there is no such database: make it by deploy/mysql/init.sql, or name another one (MYSQL_DB)",
        1146 => "a table is missing: run `tapedeck migrate`, or deploy/mysql/init.sql",
        1142 | 1143 => {
            "this user lacks a right: GRANT SELECT, INSERT, UPDATE, DELETE ON auth.* TO the user (CREATE, too, for `tapedeck migrate`)"
        }
        1040 | 1203 | 1226 => {
            "the server has no connection left: raise max_connections, or close other clients"
        }
        1129 | 1130 => {
            "the server does not let this machine in: create the user for this host ('name'@'%'), or FLUSH HOSTS"
        }
        1290 | 1792 | 1836 | 3100 => "the server takes no writes just now: name the primary, not a replica",
        1366 | 1267 | 1300 | 3988 => "the table's character set cannot express a letter in it",
        1406 => "it is longer than the table's column",
        1021 | 1114 => "the server has no room left",
        1054 => "the table `user` has no column id, email or password: is this the auth service's database?",
        _ => return None,
    })
}
