//! A form on its way in: read piece by piece, with an allowance for all in it that is not the file.
//!
//! A part's header that never ends, or a body without its boundary, would otherwise be collected in memory for as long as it comes.

use axum::{
    body::{Body, BodyDataStream},
    extract::Multipart,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

/// What a form weighs beside its file.
pub(super) const FORM: u64 = 1 << 20;
/// After a refusal the rest of the body is read and thrown away up to here, so that the client gets to read the answer.
const DRAIN: u64 = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How many bytes may still come before the next byte of the file.
#[derive(Clone)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// A body, and the allowance that it is read under.
    pub(super) fn over(body: Body) -> (Body, Allowance) {
        let allowance = Allowance(Arc::new(AtomicU64::new(FORM)));
        let metered = Metered { body: body.into_data_stream(), allowance: allowance.clone(), resting: false };
        (Body::from_stream(metered), allowance)
    }

    /// The file has grown: the allowance begins anew.
    pub(super) fn renew(&self) {
        self.0.store(FORM, Ordering::Relaxed);
    }

    /// Takes so much; `false` where it is more than is left.
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed).checked_sub(bytes as u64);
        self.0.store(left.unwrap_or(0), Ordering::Relaxed);
        left.is_some()
    }

    /// Reads on what is refused already, so that the client can read our answer instead of a reset connection.
    pub(super) async fn drain(&self, body: Body) {
        self.0.store(DRAIN, Ordering::Relaxed);
        let mut pieces = body.into_data_stream();
        let _ =
            tokio::time::timeout(DRAIN_TIME, async { while let Some(Ok(_)) = pieces.next().await {} }).await;
    }

    /// The same for a form that was begun.
    pub(super) async fn drain_form(&self, form: &mut Multipart) {
        self.0.store(DRAIN, Ordering::Relaxed);
        let _ = tokio::time::timeout(DRAIN_TIME, async {
            while let Ok(Some(mut field)) = form.next_field().await {
                while let Ok(Some(_)) = field.chunk().await {}
            }
        })
        .await;
    }
}

struct Metered {
    body: BodyDataStream,
    allowance: Allowance,
    resting: bool,
}

impl Stream for Metered {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // One piece at a turn: the form's parser reads on for as long as there is something, and looks at it only then.
        if std::mem::take(&mut self.resting) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = ready!(self.body.poll_next_unpin(context)) else { return Poll::Ready(None) };
        self.resting = true;
        Poll::Ready(Some(match piece {
            Ok(bytes) if self.allowance.take(bytes.len()) => Ok(bytes),
            Ok(_) => Err("there is too much in it that is no file".into()),
            Err(error) => Err(error.into()),
        }))
    }
}
