//! The statements, each with the reason for its odd parts.

use services::ports::{Role, User};
use sqlx::{Error, MySqlConnection, query, query_as, query_scalar};
use std::collections::HashMap;

/// A row of `user`.
pub(super) struct Row {
    pub id: i64,
    pub email: String,
    pub password: String,
}

/// Converted, because the columns may be latin1, or binary. A row with a NULL in it is no user's.
type Stored = (i64, Option<String>, Option<String>);

fn rows(stored: Vec<Stored>) -> impl Iterator<Item = Row> {
    stored
        .into_iter()
        .filter_map(|(id, email, password)| Some(Row { id, email: email?, password: password? }))
}

/// From now on what does not fit is an error. A server may be set to cut it off, or to put question marks, instead.
pub(super) async fn be_strict(connection: &mut MySqlConnection) -> Result<(), Error> {
    query("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')").execute(connection).await?;
    Ok(())
}

/// The next transaction sees and does what it would if it were alone, or fails.
pub(super) async fn be_alone(connection: &mut MySqlConnection) -> Result<(), Error> {
    query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").execute(connection).await?;
    Ok(())
}

/// Quick by the index, in the column's own idea of equality, which may be too narrow or too wide.
const BY_INDEX: &str = "SELECT CAST(id AS SIGNED), CONVERT(email USING utf8mb4), CONVERT(password USING utf8mb4) \
     FROM `user` WHERE email = ? ORDER BY id";
/// Slow, and finds any case under any collation.
const BY_CASE: &str = "SELECT CAST(id AS SIGNED), CONVERT(email USING utf8mb4), CONVERT(password USING utf8mb4) \
     FROM `user` WHERE LOWER(CONVERT(email USING utf8mb4)) COLLATE utf8mb4_bin = LOWER(?) ORDER BY id";

/// This e-mail's row. Where several differ in case alone, the one that is spelled so, or else the oldest.
pub(super) async fn find(connection: &mut MySqlConnection, email: &str) -> Result<Option<Row>, Error> {
    for statement in [BY_INDEX, BY_CASE] {
        let stored: Vec<Stored> = match query_as(statement).bind(email).fetch_all(&mut *connection).await {
            // The column's character set cannot even express it.
            Err(error) if super::trouble::number(&error) == Some(1267) => continue,
            stored => stored?,
        };
        let mut same: Vec<Row> = rows(stored).filter(|row| row.email.eq_ignore_ascii_case(email)).collect();
        if let Some(exact) = same.iter().position(|row| row.email == email) {
            return Ok(Some(same.swap_remove(exact)));
        }
        if !same.is_empty() {
            return Ok(Some(same.swap_remove(0)));
        }
    }
    Ok(None)
}

/// Is there any user?
pub(super) async fn any(connection: &mut MySqlConnection) -> Result<bool, Error> {
    let any: Option<i64> = query_scalar("SELECT 1 FROM `user` LIMIT 1").fetch_optional(connection).await?;
    Ok(any.is_some())
}

/// All users.
pub(super) async fn list(connection: &mut MySqlConnection) -> Result<Vec<Row>, Error> {
    let statement = "SELECT CAST(id AS SIGNED), CONVERT(email USING utf8mb4), CONVERT(password USING utf8mb4) FROM `user`";
    Ok(rows(query_as(statement).fetch_all(connection).await?).collect())
}

/// Adds a row. `false` where the table holds the e-mail to be taken.
pub(super) async fn insert(connection: &mut MySqlConnection, user: &User) -> Result<bool, Error> {
    let insert = query("INSERT INTO `user` (email, password) VALUES (?, ?)");
    match insert.bind(&user.email).bind(&user.password).execute(connection).await {
        Err(Error::Database(error)) if error.is_unique_violation() => Ok(false),
        done => done.map(|_| true),
    }
}

/// Sets a row's password, with `known` only if that is stored, byte for byte: a collation would let case pass, and trailing blanks.
pub(super) async fn set_password(
    connection: &mut MySqlConnection,
    id: i64,
    known: Option<&str>,
    hash: &str,
) -> Result<bool, Error> {
    let update = match known {
        Some(known) => query(
            "UPDATE `user` SET password = ? WHERE id = ? \
             AND CAST(CONVERT(password USING utf8mb4) AS BINARY) = CAST(? AS BINARY)",
        )
        .bind(hash)
        .bind(id)
        .bind(known),
        None => query("UPDATE `user` SET password = ? WHERE id = ?").bind(hash).bind(id),
    };
    // The driver asks for the count of rows found, not of those that changed.
    Ok(update.execute(connection).await?.rows_affected() > 0)
}

/// Removes a row.
pub(super) async fn remove(connection: &mut MySqlConnection, id: i64) -> Result<(), Error> {
    query("DELETE FROM `user` WHERE id = ?").bind(id).execute(connection).await?;
    Ok(())
}

/// What a role is stored under.
pub(super) fn role_key(email: &str) -> String {
    email.to_ascii_lowercase()
}

fn role_named(name: &str) -> Role {
    if name == "admin" { Role::Admin } else { Role::User }
}

/// This e-mail's role.
pub(super) async fn role(connection: &mut MySqlConnection, email: &str) -> Result<Role, Error> {
    let key = role_key(email);
    // The collation is binary, and still lets trailing blanks pass on some servers.
    let stored: Option<(String, String)> = query_as("SELECT email, role FROM tapedeck_role WHERE email = ?")
        .bind(&key)
        .fetch_optional(connection)
        .await?;
    Ok(stored.filter(|(email, _)| *email == key).map_or(Role::User, |(_, role)| role_named(&role)))
}

/// All roles, by [`role_key`].
pub(super) async fn roles(connection: &mut MySqlConnection) -> Result<HashMap<String, Role>, Error> {
    let stored: Vec<(String, String)> =
        query_as("SELECT email, role FROM tapedeck_role").fetch_all(connection).await?;
    Ok(stored.into_iter().map(|(email, role)| (email, role_named(&role))).collect())
}

/// Writes a user's role.
pub(super) async fn set_role(connection: &mut MySqlConnection, user: &User) -> Result<(), Error> {
    let upsert =
        query("INSERT INTO tapedeck_role (email, role) VALUES (?, ?) ON DUPLICATE KEY UPDATE role = ?");
    let role = user.role.to_string();
    upsert.bind(role_key(&user.email)).bind(&role).bind(&role).execute(connection).await?;
    Ok(())
}

/// Removes an e-mail's role.
pub(super) async fn remove_role(connection: &mut MySqlConnection, email: &str) -> Result<(), Error> {
    query("DELETE FROM tapedeck_role WHERE email = ?").bind(role_key(email)).execute(connection).await?;
    Ok(())
}
