//! The notification service: one mail for every end that its owner should hear of.

mod letter;

pub use letter::Sender;

use crate::{
    failpoints,
    id::Id,
    job::{Event, Job, Neighbour, Task},
    message::Queue,
    neighbours::{self, Received},
    ports::{Blobs, Delivery, Letter, Mailer, PortErrorKind, Settled, Wake},
    trace,
    transition::{Ledger, TransitionError},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How long one mail may take, the whole conversation with the mail server included.
const SEND: Duration = Duration::from_secs(60);

/// The notification service's ports and settings.
pub struct Notifier {
    /// The records.
    pub ledger: Ledger,
    /// The files: an MP3 that another converter made is looked at before its owner is told.
    pub blobs: Arc<dyn Blobs>,
    /// The wake-ups.
    pub wake: Arc<dyn Wake>,
    /// Where mails go.
    pub mailer: Arc<dyn Mailer>,
    /// From whom they come, and where their links lead.
    pub sender: Sender,
    /// How often a mail in hand shows a sign of life.
    pub beat: Duration,
    /// How often the records are read for mails that no wake-up told of.
    pub poll: Duration,
}

/// Sends mails until `shutdown`; the one in hand is finished.
pub async fn run(notifier: Notifier, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match notifier.send_due(&shutdown).await {
            Ok(true) => {}
            Ok(false) => notifier.wait(&shutdown).await,
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "mails wait; trying again");
                notifier.wait(&shutdown).await;
            }
        }
    }
}

impl Notifier {
    /// Waits for a message, and sends the mail that it tells of; or for a while.
    async fn wait(&self, shutdown: &CancellationToken) {
        let theirs = self.ledger.policy.neighbours.notification == Neighbour::Original;
        tokio::select! {
            delivery = self.wake.next(Queue::Mp3), if !theirs => self.follow(delivery).await,
            () = tokio::time::sleep(self.poll) => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn follow(&self, delivery: Delivery) {
        let Delivery { message, trace, settle } = delivery;
        let followed = async {
            let received = neighbours::received_mp3(&self.ledger, &*self.blobs, &message, trace).await?;
            failpoints::reach("mail.told");
            if let Received::Job(job) = &received {
                self.claim_and_send(job, true).await?;
            }
            Ok::<Received, TransitionError>(received)
        };
        match followed.await {
            Ok(Received::Job(_) | Received::Over) => settle(Settled::Done),
            Ok(Received::Dead(reason)) => {
                tracing::warn!(video_fid = %message.video_fid, reason, "a message on the queue of MP3s is put aside");
                settle(Settled::Dead(reason));
            }
            Err(TransitionError::Store(error)) if error.kind == PortErrorKind::Refused => {
                tracing::error!(video_fid = %message.video_fid, error = %crate::chain(&error), "a message on the queue of MP3s is put aside");
                settle(Settled::Dead(crate::chain(&error)));
            }
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a message could not be followed; trying again");
                settle(Settled::Later);
            }
        }
    }

    /// Sends what is due; `false` where nothing was.
    async fn send_due(&self, shutdown: &CancellationToken) -> Result<bool, TransitionError> {
        let due = self.ledger.jobs.due(Task::Mail, self.ledger.clock.now(), 16).await?;
        let mut sent = false;
        for job in due {
            if shutdown.is_cancelled() {
                break;
            }
            match self.claim_and_send(&job, false).await {
                Ok(this) => sent |= this,
                Err(error) if error.is_of_this_record() => {
                    // Its owner waits, and others do not.
                    tracing::warn!(job = %job.id, error = %crate::chain(&error), "this job's mail cannot be sent");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Sends this job's mail, unless somebody else does: then `false`.
    async fn claim_and_send(&self, job: &Job, by_message: bool) -> Result<bool, TransitionError> {
        let claim = Event::ClaimMail { worker: self.ledger.worker.to_string(), by_message };
        let claimed = if by_message {
            // The message is the right to it, however often others change the record meanwhile.
            self.ledger.apply(job.id, claim).await.map(Some)
        } else {
            self.ledger.apply_to(job, claim).await
        };
        match claimed {
            Ok(Some(job)) => {
                failpoints::reach("mail.claimed");
                let span = tracing::info_span!("mail", job = %job.id, request_id = %job.request_id, attempt = job.mail.attempt);
                trace::continue_in(&span, job.trace.as_deref());
                self.send(&job).instrument(span).await?;
                Ok(true)
            }
            Ok(None) | Err(TransitionError::Refused(_) | TransitionError::Missing) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, job: &Job) -> Result<(), TransitionError> {
        let fence = job.mail.fence;
        let event = match self.sender.letter(job, self.ledger.clock.now()) {
            Ok(letter) => self.hand_over(job.id, fence, &letter).await,
            Err(error) => Event::MailFailed { fence, text: error.to_string(), permanent: true },
        };
        let delivered = matches!(event, Event::MailSent { .. });
        // The mail is on its way, whatever becomes of the store: that it was sent must not be forgotten, or it would be sent again.
        match self.ledger.insist(job.id, event).await {
            Ok(job) if delivered => {
                failpoints::reach("mail.sent");
                tracing::info!(job = %job.id, request_id = %job.request_id, mp3_fid = job.mp3_fid.map(tracing::field::display), "mail sent");
                Ok(())
            }
            Ok(job) => {
                tracing::warn!(job = %job.id, request_id = %job.request_id, state = ?job.mail.state, error = job.mail.error, "mail not sent");
                Ok(())
            }
            // Deleted or retried meanwhile: there is nothing more to tell.
            Err(TransitionError::Missing | TransitionError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn hand_over(&self, id: Id, fence: u64, letter: &Letter) -> Event {
        let failed = |text: String, permanent| Event::MailFailed { fence, text, permanent };
        let sending = tokio::time::timeout(SEND, self.mailer.send(letter));
        let beating = async {
            loop {
                tokio::time::sleep(self.beat).await;
                // What fails here shows at the end.
                let _ = self.ledger.apply(id, Event::BeatMail { fence }).await;
            }
        };
        let sent = tokio::select! {
            sent = sending => sent,
            () = beating => return failed("unreachable".into(), false),
        };
        failpoints::reach("mail.delivered");
        match sent {
            Ok(Ok(())) => Event::MailSent { fence },
            Ok(Err(error)) => {
                failed(format!("{error}: {}", error.source), error.kind == PortErrorKind::Refused)
            }
            Err(_) => failed(format!("the mail server took longer than {} seconds", SEND.as_secs()), false),
        }
    }
}
