//! A look at the users' database on an operator's behalf: what is there, and what is missing to run on it.

use super::{CONNECT, options, rows, trouble::Trouble, trouble::no_role_table, trouble::number};
use services::ports::PortResult;
use sqlx::{
    ConnectOptions, Connection, Error, MySqlConnection, mysql::MySqlConnectOptions, query, query_as,
    query_scalar,
};
use std::{fmt, time::Duration};
use tokio::time::timeout;

/// An Argon2id hash as a PHC string, with room to spare.
const HASH: u64 = 128;

/// What [`probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The database and where it is: `auth at db:3306`.
    pub place: String,
    /// The server's version, as it says.
    pub version: String,
    /// Is the connection encrypted?
    pub encrypted: bool,
    /// How many users there are.
    pub users: u64,
    /// Is the role table there, and may it be read?
    pub roles: bool,
    /// What else needs an operator, each with what to do.
    pub warnings: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = if self.encrypted { "encrypted" } else { "not encrypted" };
        write!(f, "{}: {}, {encrypted}, {} users", self.place, self.version, self.users)
    }
}

/// Connects once, within seconds, changes nothing, and reports. An error says in its source what is wrong and what to do: unknown
/// host, refused, access denied, unknown database, missing table. What only limits the service is a warning in the report.
pub async fn probe(url: &str) -> PortResult<Report> {
    let (options, place) = options::parse(url)?;
    let look = async {
        let mut connection = timeout(CONNECT, options.connect()).await.unwrap_or(Err(Error::PoolTimedOut))?;
        let report = look(&mut connection, &options, place.clone()).await?;
        // The report stands, however the farewell goes.
        let _ = timeout(Duration::from_secs(1), connection.close()).await;
        Ok(report)
    };
    let looked = timeout(super::LIMIT, look).await.unwrap_or(Err(Trouble::Silence));
    looked.map_err(|trouble| trouble.into_port_error("look at the users' database", &place))
}

async fn look(
    connection: &mut MySqlConnection,
    options: &MySqlConnectOptions,
    place: String,
) -> Result<Report, Trouble> {
    let version: String = query_scalar("SELECT VERSION()").fetch_one(&mut *connection).await?;
    let cipher: Option<(String, String)> =
        query_as("SHOW SESSION STATUS LIKE 'Ssl_cipher'").fetch_optional(&mut *connection).await?;
    let encrypted = cipher.is_some_and(|(_, cipher)| !cipher.is_empty());
    let users: i64 = query_scalar("SELECT COUNT(*) FROM `user`").fetch_one(&mut *connection).await?;
    // Are the columns there?
    rows::find(connection, "").await?;
    let mut warnings = lacking_rights(connection).await?;
    warnings.extend(narrow_column(connection).await?);
    let roles = match rows::roles(connection).await {
        Err(error) if no_role_table(&error) => false,
        roles => roles.map(|_| true)?,
    };
    if !roles {
        warnings.push("the table tapedeck_role is missing or may not be read, so nobody is an administrator: run `tapedeck migrate`".into());
    }
    if !encrypted && !is_local(options) {
        warnings.push("the connection is not encrypted, so passwords cross the network in the clear: switch TLS on at the server, and add ?ssl-mode=REQUIRED".into());
    }
    Ok(Report { place, version, encrypted, users: users.unsigned_abs(), roles, warnings })
}

fn is_local(options: &MySqlConnectOptions) -> bool {
    let host = options.to_url_lossy().host_str().unwrap_or_default().to_owned();
    host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Statements that touch no row, but are refused to whoever lacks the right.
async fn lacking_rights(connection: &mut MySqlConnection) -> Result<Vec<String>, Error> {
    let tries = [
        (
            "UPDATE",
            "UPDATE `user` SET password = password WHERE 1 = 0",
            "passwords cannot be changed or rehashed",
        ),
        (
            "INSERT",
            "INSERT INTO `user` (email, password) SELECT email, password FROM `user` WHERE 1 = 0",
            "users cannot be added",
        ),
        ("DELETE", "DELETE FROM `user` WHERE 1 = 0", "users cannot be removed"),
    ];
    let mut lacking = Vec::new();
    for (right, statement, consequence) in tries {
        match query(statement).execute(&mut *connection).await {
            Err(error) if matches!(number(&error), Some(1142 | 1143)) => lacking.push(format!(
                "this MySQL user has no right to {right}, so {consequence}: GRANT {right} ON this database's `user` to it"
            )),
            Err(error) if matches!(number(&error), Some(1290 | 1792 | 1836 | 3100)) => {
                return Ok(vec!["the server takes no writes: name the primary, not a replica".into()]);
            }
            tried => tried.map(|_| ())?,
        }
    }
    Ok(lacking)
}

async fn narrow_column(connection: &mut MySqlConnection) -> Result<Option<String>, Error> {
    let statement = "SELECT CAST(CHARACTER_MAXIMUM_LENGTH AS UNSIGNED) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'user' AND COLUMN_NAME = 'password'";
    let width: Option<Option<u64>> = query_scalar(statement).fetch_optional(connection).await?;
    let narrow = width.flatten().filter(|width| *width < HASH);
    Ok(narrow.map(|width| {
        format!("the column `password` holds {width} letters, too few for a hash: ALTER TABLE `user` MODIFY password VARCHAR(255) NOT NULL")
    }))
}
