//! Users in MySQL or MariaDB: the original auth service's table `user(id, email, password)`, as it is.
//!
//! The table is never altered, and the originals may go on reading it. Roles live beside it in our own table
//! `tapedeck_role(email, role)`, keyed by the e-mail in lower case; [`MySqlUsers::migrate`] makes it. Where it is missing,
//! everybody is a plain user.
//!
//! The running service needs SELECT, INSERT and UPDATE, and DELETE to remove users; it creates nothing. Whatever character set
//! and collation the table has: an e-mail is found without regard to the case of its ASCII letters, and no other letter is taken
//! for it (a collation may hold `é` and `e`, or a trailing blank, to be the same: we do not). Where such a collation forbids
//! two e-mails beside each other, the second one counts as taken.
//!
//! MySQL 8 and 9 log users in by `caching_sha2_password`, which needs TLS here: an exchange of RSA keys over a bare connection
//! is not built in. The server makes itself a certificate, and the default `ssl-mode=PREFERRED` takes it without asking whose it
//! is; `ssl-mode=VERIFY_IDENTITY&ssl-ca=/path/ca.pem` asks.
//!
//! What is not promised: that two e-mails differing in case alone cannot both be added, or two first users, where the table is
//! not InnoDB or the server is one of several that take writes; that an `Unavailable` from a write means that nothing was
//! written.

mod options;
mod probe;
mod rows;
mod schema;
mod trouble;

pub use probe::{Report, probe};

use async_trait::async_trait;
use rows::Row;
use services::ports::{PortResult, Role, Swap, User, Users};
use sqlx::{Connection, MySql, MySqlConnection, MySqlPool, mysql::MySqlPoolOptions, pool::PoolConnection};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use trouble::Trouble;

/// So many connections at most: a login needs one for a millisecond.
const CONNECTIONS: u32 = 8;
/// So long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);
/// So long a kept connection may take to show that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// So long a request may take, connection and all.
const LIMIT: Duration = Duration::from_secs(10);
/// So long the absence of the role table is believed.
const ROLES_MISSING: Duration = Duration::from_secs(30);
/// So often a deadlock's loser begins again.
const ATTEMPTS: u32 = 20;

/// The users in a MySQL or MariaDB database.
pub struct MySqlUsers {
    pool: MySqlPool,
    place: String,
    roles_missing_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for MySqlUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlUsers").field("place", &self.place).finish_non_exhaustive()
    }
}

impl MySqlUsers {
    /// The users at `mysql://user:password@host:3306/auth`; the database is `auth` where none is named. In the query: `ssl-mode`
    /// (DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY), `ssl-ca`, `ssl-cert`, `ssl-key`, `socket`.
    ///
    /// Nothing is connected yet: the server may come later. Call it within a Tokio runtime.
    pub fn connect(url: &str) -> PortResult<MySqlUsers> {
        let (options, place) = options::parse(url)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .idle_timeout(Duration::from_secs(60))
            // The pool's own test waits for a dead connection as long as for a new one.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(answers(connection)))
            .after_connect(|connection, _| Box::pin(rows::be_strict(connection)))
            .connect_lazy_with(options);
        Ok(MySqlUsers { pool, place, roles_missing_until: Mutex::new(None) })
    }

    /// Makes the role table, and the `user` table where that is missing, too. Needs the right to CREATE then, and only then. It may
    /// run again, and at the same time as others; it changes no table and no row that is there.
    pub async fn migrate(&self) -> PortResult<()> {
        let work = async {
            let mut lent = self.lend().await?;
            schema::migrate(&mut lent).await?;
            lent.give_back();
            self.remember_roles(None);
            Ok(())
        };
        self.limited("make the tables of the users", work).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn limited<T>(&self, what: &str, work: impl Future<Output = Result<T, Trouble>>) -> PortResult<T> {
        let done = timeout(LIMIT, work).await.unwrap_or(Err(Trouble::Silence));
        done.map_err(|trouble| trouble.into_port_error(what, &self.place))
    }

    async fn lend(&self) -> Result<Lent, Trouble> {
        Ok(Lent(Some(self.pool.acquire().await?)))
    }

    /// This e-mail's role. A missing role table is remembered for a while, so that not every login asks for it in vain.
    async fn role(&self, connection: &mut MySqlConnection, email: &str) -> Result<Role, Trouble> {
        let remembered = *self.roles_missing_until.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.is_some_and(|until| Instant::now() < until) {
            return Ok(Role::User);
        }
        match rows::role(connection, email).await {
            Err(error) if trouble::no_role_table(&error) => {
                tracing::warn!(
                    "the table tapedeck_role in {} is missing or may not be read, so nobody is an administrator: run `tapedeck migrate`",
                    self.place
                );
                self.remember_roles(Some(Instant::now() + ROLES_MISSING));
                Ok(Role::User)
            }
            found => Ok(found?),
        }
    }

    fn remember_roles(&self, missing_until: Option<Instant>) {
        *self.roles_missing_until.lock().unwrap_or_else(PoisonError::into_inner) = missing_until;
    }

    async fn user(&self, connection: &mut MySqlConnection, row: Row) -> Result<User, Trouble> {
        let role = self.role(connection, &row.email).await?;
        Ok(User { email: row.email, password: row.password, role })
    }

    /// Adds a user in a transaction that nobody else's can slip into. Two such transactions may lock each other out; the loser
    /// begins again.
    async fn insert(&self, user: &User, when: When) -> Result<Swap, Trouble> {
        let mut attempt = 1;
        loop {
            match self.try_to_insert(user, when).await {
                Err(Trouble::Sql(error)) if trouble::lost_a_race(&error) && attempt < ATTEMPTS => {
                    attempt += 1
                }
                done => return done,
            }
        }
    }

    async fn try_to_insert(&self, user: &User, when: When) -> Result<Swap, Trouble> {
        let mut lent = self.lend().await?;
        if user.role == Role::Admin {
            // Before the row, because a table that is not InnoDB does not take a row back.
            rows::role(&mut lent, &user.email).await.map_err(Trouble::at_roles)?;
        }
        rows::be_alone(&mut lent).await?;
        let mut transaction = lent.begin().await?;
        let taken = match when {
            When::Free => rows::find(&mut transaction, &user.email).await?.is_some(),
            When::Empty => rows::any(&mut transaction).await?,
        };
        let won = !taken && rows::insert(&mut transaction, user).await?;
        if won {
            let role = self.role(&mut transaction, &user.email).await?;
            if role != user.role {
                rows::set_role(&mut transaction, user).await.map_err(Trouble::at_roles)?;
            }
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        lent.give_back();
        Ok(if won { Swap::Won } else { Swap::Lost })
    }

    /// Sets the password of this e-mail's row, if there is one, and with `known` only if that is stored now.
    async fn update(&self, email: &str, known: Option<&str>, hash: &str) -> Result<Swap, Trouble> {
        let mut lent = self.lend().await?;
        let done = match rows::find(&mut lent, email).await? {
            Some(row) => rows::set_password(&mut lent, row.id, known, hash).await?,
            None => false,
        };
        lent.give_back();
        Ok(if done { Swap::Won } else { Swap::Lost })
    }
}

async fn answers(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let answered = timeout(SIGN_OF_LIFE, connection.ping()).await;
    answered.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
}

/// When a user is added.
#[derive(Clone, Copy)]
enum When {
    /// If nobody has the e-mail.
    Free,
    /// If there is no user at all.
    Empty,
}

#[async_trait]
impl Users for MySqlUsers {
    async fn ping(&self) -> PortResult<()> {
        let work = async {
            let mut lent = self.lend().await?;
            rows::any(&mut lent).await?;
            lent.give_back();
            Ok(())
        };
        self.limited("reach the users", work).await
    }

    async fn find(&self, email: &str) -> PortResult<Option<User>> {
        let work = async {
            let mut lent = self.lend().await?;
            let user = match rows::find(&mut lent, email).await? {
                Some(row) => Some(self.user(&mut lent, row).await?),
                None => None,
            };
            lent.give_back();
            Ok(user)
        };
        self.limited("find a user", work).await
    }

    async fn add(&self, user: &User) -> PortResult<Swap> {
        self.limited("add a user", self.insert(user, When::Free)).await
    }

    async fn add_first(&self, user: &User) -> PortResult<Swap> {
        self.limited("add the first user", self.insert(user, When::Empty)).await
    }

    async fn set_password(&self, email: &str, hash: &str) -> PortResult<Swap> {
        self.limited("set a password", self.update(email, None, hash)).await
    }

    async fn replace_password(&self, email: &str, known: &str, hash: &str) -> PortResult<Swap> {
        self.limited("replace a password", self.update(email, Some(known), hash)).await
    }

    async fn list(&self) -> PortResult<Vec<User>> {
        let work = async {
            let mut lent = self.lend().await?;
            let found = rows::list(&mut lent).await?;
            let roles = match rows::roles(&mut lent).await {
                Err(error) if trouble::no_role_table(&error) => Default::default(),
                roles => roles?,
            };
            lent.give_back();
            let user = |row: Row| {
                let role = roles.get(&rows::role_key(&row.email)).copied().unwrap_or(Role::User);
                User { email: row.email, password: row.password, role }
            };
            let mut users: Vec<User> = found.into_iter().map(user).collect();
            users.sort_by_cached_key(|user| (user.email.to_ascii_lowercase(), user.email.clone()));
            Ok(users)
        };
        self.limited("list the users", work).await
    }

    async fn remove(&self, email: &str) -> PortResult<()> {
        let work = async {
            let mut lent = self.lend().await?;
            let mut transaction = lent.begin().await?;
            if let Some(row) = rows::find(&mut transaction, email).await? {
                rows::remove(&mut transaction, row.id).await?;
                if self.role(&mut transaction, &row.email).await? != Role::User {
                    rows::remove_role(&mut transaction, &row.email).await?;
                }
            }
            transaction.commit().await?;
            lent.give_back();
            Ok(())
        };
        self.limited("remove a user", work).await
    }
}

/// A connection in use. Unless it is given back it is cut: somebody gave up waiting on it, or it failed.
struct Lent(Option<PoolConnection<MySql>>);

impl Lent {
    /// To the pool. That tries it out first, by itself without a time limit: a connection that has fallen silent would keep its place.
    fn give_back(mut self) {
        if let Some(mut connection) = self.0.take() {
            tokio::spawn(timeout(SIGN_OF_LIFE, connection.return_to_pool()));
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Deref for Lent {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.0.as_ref().expect("it is taken only by what consumes it")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.0.as_mut().expect("it is taken only by what consumes it")
    }
}
