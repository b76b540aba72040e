//! A mailer that only logs, for installations without a mail server: `log:`.

use async_trait::async_trait;
use services::ports::{Letter, Mailer, PortResult};

/// Logs that there is a mail, and for whom; its text goes nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, letter: &Letter) -> PortResult<()> {
        tracing::info!(message_id = letter.message_id, to = letter.to, "a mail is only logged, not sent");
        Ok(())
    }
}
