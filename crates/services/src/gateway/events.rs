//! Live events: a snapshot of the owner's jobs first, then every change, as server-sent events.

use super::{
    Gateway,
    api::{JobList, LIST},
    view::JobView,
};
use crate::{
    http::Problem,
    id::Id,
    ports::{Jobs, PortResult, Stamp},
};
use axum::{
    extract::State,
    http::{HeaderMap, Method},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// A stream ends after so long; the browser comes again.
const STREAM_LIFE: Duration = Duration::from_secs(15 * 60);

/// So often it is looked whether whoever follows may still do so: a removed user, or one with another password, may not.
const SESSION_LOOK: Duration = Duration::from_secs(30);

/// An owner's newest jobs, as they are listed.
type Listing = Arc<Vec<JobView>>;
type Owners = HashMap<String, watch::Receiver<Listing>>;

/// One reader of the store for each owner with an open page, however many pages that owner has open.
pub(super) struct Feed {
    jobs: Arc<dyn Jobs>,
    poll: Duration,
    owners: Arc<Mutex<Owners>>,
}

impl Feed {
    pub(super) fn new(jobs: Arc<dyn Jobs>, poll: Duration) -> Feed {
        Feed { jobs, poll, owners: Arc::default() }
    }

    /// The owner's jobs, now and after every change.
    async fn follow(&self, owner: &str) -> PortResult<watch::Receiver<Listing>> {
        if let Some(receiver) = self.lock().get(owner) {
            return Ok(receiver.clone());
        }
        let stamp = self.jobs.stamp(owner).await?;
        let listing = read(&*self.jobs, owner).await?;
        let mut owners = self.lock();
        // Somebody may have come while we read: of two readers one would end the other.
        if let Some(receiver) = owners.get(owner) {
            return Ok(receiver.clone());
        }
        let (sender, receiver) = watch::channel(listing);
        owners.insert(owner.to_owned(), receiver.clone());
        let reader = Reader {
            owner: owner.to_owned(),
            jobs: Arc::clone(&self.jobs),
            owners: Arc::clone(&self.owners),
            sender,
            stamp,
        };
        tokio::spawn(reader.run(self.poll));
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one owner's jobs for as long as somebody follows them.
struct Reader {
    owner: String,
    jobs: Arc<dyn Jobs>,
    owners: Arc<Mutex<Owners>>,
    sender: watch::Sender<Listing>,
    stamp: Stamp,
}

impl Reader {
    async fn run(mut self, poll: Duration) {
        loop {
            tokio::time::sleep(poll).await;
            if let Err(error) = self.look().await {
                tracing::warn!(error = %crate::chain(&error), "live events pause");
            }
            // Decided under the lock under which followers come; one receiver is the map's own.
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            if self.sender.receiver_count() <= 1 {
                owners.remove(&self.owner);
                return;
            }
        }
    }

    async fn look(&mut self) -> PortResult<()> {
        let stamp = self.jobs.stamp(&self.owner).await?;
        if stamp != self.stamp {
            let listing = read(&*self.jobs, &self.owner).await?;
            self.sender.send_if_modified(|then| (*then != listing).then(|| *then = listing).is_some());
            self.stamp = stamp;
        }
        Ok(())
    }
}

async fn read(jobs: &dyn Jobs, owner: &str) -> PortResult<Listing> {
    let jobs = jobs.by_owner(owner, None, LIST).await?;
    Ok(Arc::new(jobs.iter().map(JobView::from).collect()))
}

pub(super) async fn stream(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let identity = gateway.identify(&method, &headers).await?;
    let receiver = gateway.feed.follow(&identity.email).await.map_err(|error| Problem::internal(&error))?;
    let stopping = gateway.stopping.clone();
    let session_ends = async move {
        loop {
            tokio::time::sleep(SESSION_LOOK).await;
            // An auth service that is away is no reason.
            if gateway
                .identify(&method, &headers)
                .await
                .is_err_and(|problem| problem.status.is_client_error())
            {
                return;
            }
        }
    };
    let end = async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(STREAM_LIFE) => {}
            () = session_ends => {}
        }
    };
    let events = changes(WatchStream::new(receiver)).take_until(Box::pin(end));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

/// The first list whole, of every later one the difference.
fn changes(lists: impl Stream<Item = Listing>) -> impl Stream<Item = Result<Event, Infallible>> {
    lists
        .scan(None::<Listing>, |before, now| {
            let events = match before {
                // After an end of ours the browser comes again soon.
                None => {
                    vec![event("snapshot", &JobList { jobs: now.to_vec() }).retry(Duration::from_secs(1))]
                }
                Some(before) => difference(before, &now),
            };
            *before = Some(now);
            std::future::ready(Some(stream::iter(events.into_iter().map(Ok))))
        })
        .flatten()
}

fn difference(before: &[JobView], now: &[JobView]) -> Vec<Event> {
    let known: HashMap<Id, &JobView> = before.iter().map(|job| (job.id, job)).collect();
    let changed = now.iter().rev().filter(|job| known.get(&job.id) != Some(job)).map(|job| event("job", job));
    let still: std::collections::HashSet<Id> = now.iter().map(|job| job.id).collect();
    // What lies beyond the end of a full list is only no longer listed.
    let end = now.last().filter(|_| now.len() == LIST).map(|job| job.id);
    let removed = before.iter().filter(|job| !still.contains(&job.id) && end.is_none_or(|end| job.id > end));
    let removed = removed.map(|job| event("removed", &serde_json::json!({ "id": job.id })));
    changed.chain(removed).collect()
}

fn event(name: &str, body: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(body).expect("a job can always be written as JSON")
}
