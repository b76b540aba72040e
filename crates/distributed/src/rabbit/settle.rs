//! A message in hand, and how it leaves.

use super::{Shared, letter::Letter, publish::PublishError, supervise::causes};
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
};
use services::ports::Settled;
use std::{future::Future, sync::Arc};
use tokio::{runtime::Handle, time::sleep};

/// A message that the broker has given us and waits to hear of.
pub(super) struct Hand {
    held: Option<Held>,
    runtime: Handle,
}

struct Held {
    shared: Arc<Shared>,
    queue: String,
    delivery: Delivery,
}

impl Hand {
    /// Takes it. Must be called within a Tokio runtime.
    pub fn new(shared: &Arc<Shared>, queue: &str, delivery: Delivery) -> Hand {
        let held = Held { shared: Arc::clone(shared), queue: queue.to_owned(), delivery };
        Hand { held: Some(held), runtime: Handle::current() }
    }

    /// Does the broker still wait? Not once its connection is gone.
    pub fn is_held(&self) -> bool {
        self.held.as_ref().is_some_and(Held::is_held)
    }

    /// Tells the broker, in the background.
    pub fn settle(mut self, settled: Settled) {
        if let Some(held) = self.held.take() {
            self.spawn(held, |held| async move { held.settle(settled).await });
        }
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, held: Held, work: impl FnOnce(Held) -> F) {
        if held.is_held() {
            let settlements = held.shared.settlements.clone();
            settlements.spawn_on(work(held), &self.runtime);
        }
    }
}

impl Drop for Hand {
    /// Unsettled, it goes back after a pause.
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.spawn(held, Held::give_back);
        }
    }
}

impl Held {
    fn is_held(&self) -> bool {
        self.delivery.acker.usable()
    }

    async fn settle(self, settled: Settled) {
        let pause = self.shared.options.pause;
        let moved = match &settled {
            Settled::Done => Ok(()),
            Settled::Later => self.publish(Letter::later(&self.queue, &self.delivery, pause)).await,
            Settled::Dead(reason) => {
                tracing::warn!(queue = %self.queue, reason, "a message goes to the dead letters");
                self.publish(Letter::dead(&self.queue, &self.delivery, reason)).await
            }
        };
        match moved {
            // A failure means that the connection is gone: it comes again.
            Ok(()) => drop(self.delivery.acker.ack(BasicAckOptions::default()).await),
            Err(error) => {
                let why = causes(&error);
                tracing::warn!(queue = %self.queue, "a message could not be moved and goes back: {why}");
                self.give_back().await;
            }
        }
    }

    /// Moves it; where the broker refuses it with what others have written beside it, without that.
    async fn publish(&self, letter: Letter) -> Result<(), PublishError> {
        let publisher = &self.shared.publisher;
        let bare = letter.clone().bare();
        for attempt in [letter.clone(), letter] {
            match publisher.publish(attempt).await {
                // The broker may have ended the connection because of it.
                Err(PublishError::Failed(_) | PublishError::Interrupted) if self.is_held() => {}
                other => return other,
            }
        }
        publisher.publish(bare).await
    }

    /// To its queue, but not at once: nobody could look at it just now.
    async fn give_back(self) {
        tokio::select! {
            () = sleep(self.shared.options.pause) => {}
            () = self.shared.closing.cancelled() => {}
        }
        let requeue = BasicNackOptions { requeue: true, multiple: false };
        let _ = self.delivery.acker.nack(requeue).await;
    }
}
