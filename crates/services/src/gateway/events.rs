//! Live events: a snapshot of the owner's jobs first, then every change, as server-sent events.

use super::{
    Gateway,
    api::{JobList, LIST},
    view::JobView,
};
use crate::{http::Problem, id::Id, ports::Jobs};
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
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// A stream ends after so long; the browser comes again, and its session is checked again.
const STREAM_LIFE: Duration = Duration::from_secs(15 * 60);

type Jobs_ = Arc<Vec<JobView>>;

/// One reader of the store for each owner with an open page, however many pages that owner has open.
pub(super) struct Feed {
    jobs: Arc<dyn Jobs>,
    poll: Duration,
    owners: Arc<Mutex<HashMap<String, watch::Receiver<Jobs_>>>>,
}

impl Feed {
    pub(super) fn new(jobs: Arc<dyn Jobs>, poll: Duration) -> Feed {
        Feed { jobs, poll, owners: Arc::default() }
    }

    /// The owner's jobs, now and after every change.
    async fn follow(&self, owner: &str) -> Result<watch::Receiver<Jobs_>, crate::ports::PortError> {
        let follow = || {
            let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            owners.get(owner).filter(|receiver| receiver.has_changed().is_ok()).cloned()
        };
        if let Some(receiver) = follow() {
            return Ok(receiver);
        }
        let (sender, receiver) = watch::channel(read(&*self.jobs, owner).await?);
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.to_owned(), receiver.clone());
        let (jobs, poll, owner) = (Arc::clone(&self.jobs), self.poll, owner.to_owned());
        let owners = Arc::clone(&self.owners);
        tokio::spawn(async move {
            // One receiver is the map's own.
            while sender.receiver_count() > 1 {
                tokio::time::sleep(poll).await;
                match read(&*jobs, &owner).await {
                    Ok(now) => {
                        sender.send_if_modified(|then| (*then != now).then(|| *then = now).is_some());
                    }
                    Err(error) => {
                        tracing::warn!(error = %crate::chain(&error), "live events pause")
                    }
                }
            }
            owners.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner);
        });
        Ok(receiver)
    }
}

async fn read(jobs: &dyn Jobs, owner: &str) -> Result<Jobs_, crate::ports::PortError> {
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
    let end = async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(STREAM_LIFE) => {}
        }
    };
    let events = changes(WatchStream::new(receiver)).take_until(Box::pin(end));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

/// The first list whole, of every later one the difference.
fn changes(lists: impl Stream<Item = Jobs_>) -> impl Stream<Item = Result<Event, Infallible>> {
    lists
        .scan(None::<Jobs_>, |before, now| {
            let events = match before {
                None => vec![event("snapshot", &JobList { jobs: now.to_vec() })],
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
    let removed = before.iter().filter(|job| !still.contains(&job.id));
    let removed = removed.map(|job| event("removed", &serde_json::json!({ "id": job.id })));
    changed.chain(removed).collect()
}

fn event(name: &str, body: &impl serde::Serialize) -> Event {
    Event::default().event(name).json_data(body).expect("a job can always be written as JSON")
}
