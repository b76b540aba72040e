//! Wake-ups within one process. Between processes that share a data folder there are none: their services poll.

use async_trait::async_trait;
use services::{
    message::{Message, Queue},
    ports::{Delivery, PortResult, Wake},
};
use tokio::sync::{Mutex, mpsc};

/// More than these need no waiting: whoever is woken looks at the records, which know all.
const DEPTH: usize = 64;

/// Two short in-process queues.
#[derive(Default)]
pub struct LocalWake {
    video: Line,
    mp3: Line,
}

struct Line {
    sender: mpsc::Sender<Message>,
    receiver: Mutex<mpsc::Receiver<Message>>,
}

impl Default for Line {
    fn default() -> Line {
        let (sender, receiver) = mpsc::channel(DEPTH);
        Line { sender, receiver: Mutex::new(receiver) }
    }
}

impl LocalWake {
    fn line(&self, queue: Queue) -> &Line {
        match queue {
            Queue::Video => &self.video,
            Queue::Mp3 => &self.mp3,
        }
    }
}

#[async_trait]
impl Wake for LocalWake {
    async fn publish(&self, queue: Queue, message: &Message, _trace: Option<&str>) -> PortResult<()> {
        // Full: as many wake-ups wait already, and one would do.
        let _ = self.line(queue).sender.try_send(message.clone());
        Ok(())
    }

    async fn next(&self, queue: Queue) -> Delivery {
        match self.line(queue).receiver.lock().await.recv().await {
            // Nothing is kept: whoever is woken looks at the records.
            Some(message) => Delivery { message, trace: None, settle: Box::new(|_| {}) },
            // The sender lives as long as this does.
            None => std::future::pending().await,
        }
    }
}
