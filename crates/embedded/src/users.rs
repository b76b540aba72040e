//! Users in SQLite.

use crate::store::{Store, failed};
use async_trait::async_trait;
use services::ports::{PortResult, Role, Swap, User, Users};
use sqlx::{Row, sqlite::SqliteRow};

/// The users in this database.
#[derive(Debug, Clone)]
pub struct SqliteUsers {
    store: Store,
}

impl SqliteUsers {
    /// The users in `store`.
    pub fn new(store: Store) -> SqliteUsers {
        SqliteUsers { store }
    }

    async fn add_by(&self, statement: &'static str, user: &User) -> PortResult<Swap> {
        let insert = sqlx::query(statement)
            .bind(user.email.clone())
            .bind(user.password.clone())
            .bind(user.role.to_string());
        let done = insert.execute(&self.store.writer).await.map_err(|error| failed("add a user", error))?;
        Ok(if done.rows_affected() == 0 { Swap::Lost } else { Swap::Won })
    }
}

fn parse(row: &SqliteRow) -> PortResult<User> {
    let read = || -> Result<User, sqlx::Error> {
        let role: &str = row.try_get(2)?;
        let role = if role == "admin" { Role::Admin } else { Role::User };
        Ok(User { email: row.try_get(0)?, password: row.try_get(1)?, role })
    };
    read().map_err(|error| failed("read a user", error))
}

#[async_trait]
impl Users for SqliteUsers {
    async fn ping(&self) -> PortResult<()> {
        self.store.ping().await
    }

    async fn find(&self, email: &str) -> PortResult<Option<User>> {
        let query =
            sqlx::query("SELECT email, password, role FROM user WHERE email = ?").bind(email.to_owned());
        let row =
            query.fetch_optional(&self.store.readers).await.map_err(|error| failed("find a user", error))?;
        row.as_ref().map(parse).transpose()
    }

    async fn add(&self, user: &User) -> PortResult<Swap> {
        self.add_by(
            "INSERT INTO user (email, password, role) VALUES (?, ?, ?) ON CONFLICT (email) DO NOTHING",
            user,
        )
        .await
    }

    async fn add_first(&self, user: &User) -> PortResult<Swap> {
        let statement =
            "INSERT INTO user (email, password, role) SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM user)";
        self.add_by(statement, user).await
    }

    async fn set_password(&self, email: &str, hash: &str) -> PortResult<Swap> {
        let update = sqlx::query("UPDATE user SET password = ? WHERE email = ?")
            .bind(hash.to_owned())
            .bind(email.to_owned());
        let done =
            update.execute(&self.store.writer).await.map_err(|error| failed("set a password", error))?;
        Ok(if done.rows_affected() == 0 { Swap::Lost } else { Swap::Won })
    }

    async fn replace_password(&self, email: &str, known: &str, hash: &str) -> PortResult<Swap> {
        let update = sqlx::query("UPDATE user SET password = ? WHERE email = ? AND password = ?")
            .bind(hash.to_owned())
            .bind(email.to_owned())
            .bind(known.to_owned());
        let done =
            update.execute(&self.store.writer).await.map_err(|error| failed("replace a password", error))?;
        Ok(if done.rows_affected() == 0 { Swap::Lost } else { Swap::Won })
    }

    async fn list(&self) -> PortResult<Vec<User>> {
        let query = sqlx::query("SELECT email, password, role FROM user ORDER BY email");
        let rows =
            query.fetch_all(&self.store.readers).await.map_err(|error| failed("list the users", error))?;
        rows.iter().map(parse).collect()
    }

    async fn remove(&self, email: &str) -> PortResult<()> {
        let delete = sqlx::query("DELETE FROM user WHERE email = ?").bind(email.to_owned());
        delete.execute(&self.store.writer).await.map_err(|error| failed("remove a user", error))?;
        Ok(())
    }
}
