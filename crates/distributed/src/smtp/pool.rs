//! Connections between two mails.

use lettre::transport::smtp::{client::AsyncSmtpConnection, commands::Rset};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// So long a kept connection may take to show that it is alive, and a closed one to say goodbye.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// The kept connections, the latest last.
pub(super) struct Pool {
    idle: Duration,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    connection: AsyncSmtpConnection,
    since: Instant,
}

impl Pool {
    /// A pool that keeps a connection for so long.
    pub fn new(idle: Duration) -> Pool {
        Pool { idle, kept: Mutex::default() }
    }

    /// A connection that has just shown that it is alive and ready for a mail, if there is one. The server may have closed it, or it
    /// may have died unseen; RSET finds out, and ends whatever mail went before.
    pub async fn take(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let mut kept = self.kept().pop()?;
            let fresh = kept.since.elapsed() < self.idle;
            if fresh
                && timeout(SIGN_OF_LIFE, kept.connection.command(Rset)).await.is_ok_and(|reset| reset.is_ok())
            {
                return Some(kept.connection);
            }
        }
    }

    /// Keeps a connection until it has been idle for too long.
    pub fn keep(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        self.kept().push(Kept { connection, since: Instant::now() });
        let (pool, idle) = (Arc::downgrade(self), self.idle);
        tokio::spawn(async move {
            tokio::time::sleep(idle).await;
            if let Some(pool) = pool.upgrade() {
                pool.close_stale().await;
            }
        });
    }

    async fn close_stale(&self) {
        let stale: Vec<Kept> = self.kept().extract_if(.., |kept| kept.since.elapsed() >= self.idle).collect();
        for mut kept in stale {
            // A farewell, as good manners have it; the connection ends without it, too.
            let _ = timeout(SIGN_OF_LIFE, kept.connection.abort()).await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
