//! `POST /upload`: a video comes in. Recorded before its first byte is written, promised only when its last one is stored.

use super::{
    Gateway, JobView,
    form::{Allowance, FORM},
    page::human_size,
};
use crate::{
    failpoints,
    http::{self, Problem},
    id::Id,
    job::{Event, Job, State as JobState, Video},
    ports::{Blob, BlobWriter, Identity, PortError, PortErrorKind, Swap},
    trace,
    transition::TransitionError,
};
use aws_lc_rs::digest;
use axum::{
    Json,
    body::Body,
    extract::{FromRequest, Multipart, Query, Request, State, multipart::Field, multipart::MultipartError},
    http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

/// The receiver's fence: a new record begins with it.
const FENCE: u64 = 1;

/// Who uploads, and how; its credentials are looked at twice.
struct Caller {
    method: Method,
    headers: HeaderMap,
    identity: Identity,
    options: engine::Options,
    request_id: String,
}

pub(super) async fn upload(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let json = accept.is_some_and(|accept| accept.contains("json"));
    let request_id = http::request_id();
    let receptions = gateway.receptions.clone();
    // In a task of its own: when the client goes away, the handler is dropped, but the reception cleans up.
    let reception = async move { gateway.receive(parts, body, request_id).await };
    let received = receptions.spawn(reception.in_current_span()).await;
    match received.unwrap_or_else(|panic| Err(Problem::internal(&panic))) {
        Ok(job) => accepted(&job, json),
        Err(problem) if json => problem.into_response(),
        Err(problem) => problem.into_text(),
    }
}

/// What the query asks the MP3 to be; names that are no option's are somebody else's, and passed over.
fn options(uri: &Uri) -> Result<engine::Options, Problem> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-query", error.body_text()))?;
    let mut options = engine::Options::default();
    let asked = query.iter().try_for_each(|(name, value)| options.set(name, value).map(drop));
    let bad = |error: engine::Error| Problem::new(StatusCode::BAD_REQUEST, error.code.as_str(), error.text);
    asked.and_then(|()| options.check()).map_err(bad)?;
    Ok(options)
}

fn accepted(job: &Job, json: bool) -> Response {
    let location = [(header::LOCATION, format!("/api/v1/jobs/{}", job.id))];
    if json {
        return (location, Json(JobView::from(job))).into_response();
    }
    let text = format!("success! the video is job {0}; its MP3 will be at /download?fid={0}\n", job.id);
    (location, text).into_response()
}

/// A file being received.
struct Reception<'a> {
    gateway: &'a Gateway,
    job: Job,
    writer: Box<dyn BlobWriter>,
    digest: digest::Context,
    size: u64,
    allowance: Allowance,
    /// Cancelled when the record is no longer ours to write.
    lost: CancellationToken,
    /// Ends the heartbeat with the reception.
    _heartbeat: DropGuard,
}

impl Gateway {
    /// Receives a request; the one file in it becomes a queued job.
    async fn receive(&self, parts: Parts, body: Body, request_id: String) -> Result<Job, Problem> {
        let (body, allowance) = Allowance::over(body);
        let caller = match self.admit(&parts, request_id).await {
            Ok(caller) => caller,
            Err(problem) => {
                // Who sent `Expect: 100-continue` has not sent the body, and now need not.
                if !parts.headers.contains_key(header::EXPECT) {
                    allowance.drain(body).await;
                }
                return Err(problem);
            }
        };
        let form = Multipart::from_request(Request::from_parts(parts, body), &()).await;
        let mut form = form.map_err(|_| one_file_required())?;
        let received = self.receive_form(&caller, &mut form, &allowance).await;
        if received.is_err() {
            allowance.drain_form(&mut form).await;
        }
        received
    }

    /// Who may upload, before a byte of the body is read.
    async fn admit(&self, parts: &Parts, request_id: String) -> Result<Caller, Problem> {
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let identity = self.identify(&method, &headers).await?;
        let options = options(&parts.uri)?;
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > self.settings.upload_limit.saturating_add(FORM)) {
            return Err(self.too_large());
        }
        Ok(Caller { method, headers, identity, options, request_id })
    }

    fn too_large(&self) -> Problem {
        let limit = human_size(self.settings.upload_limit);
        let detail = format!(
            "This file is too large: the limit is {limit}. Cut it into parts, or send its sound alone."
        );
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// Receives the form; its one file becomes a queued job.
    async fn receive_form(
        &self,
        caller: &Caller,
        form: &mut Multipart,
        allowance: &Allowance,
    ) -> Result<Job, Problem> {
        let mut reception: Option<Reception<'_>> = None;
        let outcome = self.read_form(&mut reception, caller, form, allowance).await;
        match (outcome, reception) {
            (Ok(()), Some(reception)) => reception.finish().await,
            (Ok(()), None) => Err(one_file_required()),
            (Err(problem), reception) => {
                if let Some(reception) = reception {
                    reception.abandon().await;
                }
                Err(problem)
            }
        }
    }

    async fn read_form<'a>(
        &'a self,
        reception: &mut Option<Reception<'a>>,
        caller: &Caller,
        form: &mut Multipart,
        allowance: &Allowance,
    ) -> Result<(), Problem> {
        loop {
            let mut field = match self.in_time(form.next_field()).await? {
                Ok(Some(field)) => field,
                Ok(None) => break,
                // A body that holds no part at all, not even the form's end, holds no file either.
                Err(_) if reception.is_none() => return Err(one_file_required()),
                Err(broken_off) => return Err(broken_off),
            };
            let Some(name) = field.file_name().map(last_part) else { continue };
            let first = self.in_time(field.chunk()).await??;
            if name.is_empty() && first.is_none() {
                // A browser's form with no file chosen sends an empty part.
                continue;
            }
            if reception.is_some() {
                return Err(one_file_required());
            }
            let first = first.ok_or_else(empty_file)?;
            let received = reception.insert(self.begin(caller, name, allowance.clone()).await?);
            received.write(first).await?;
            failpoints::reach("upload.first_bytes_written");
            received.write_all(&mut field).await?;
        }
        if reception.as_ref().is_some_and(|reception| reception.size == 0) {
            Err(empty_file())
        } else {
            Ok(())
        }
    }

    /// A record, a sign of life, and a file to write into: in this order.
    async fn begin(
        &self,
        caller: &Caller,
        file_name: String,
        allowance: Allowance,
    ) -> Result<Reception<'_>, Problem> {
        let ledger = &self.ledger;
        let file_name = if file_name.is_empty() { "video".to_owned() } else { file_name };
        let mut job = Job::receiving(
            Id::mint(&*ledger.clock),
            caller.identity.email.clone(),
            file_name,
            ledger.worker.to_string(),
            caller.request_id.clone(),
            ledger.clock.now(),
        );
        job.options = caller.options.clone();
        job.trace = trace::current();
        if ledger.jobs.insert(&job).await.map_err(store_failed)? == Swap::Lost {
            let taken = std::io::Error::other(format!("the id {} is taken already", job.id));
            return Err(Problem::internal(&taken));
        }
        failpoints::reach("upload.recorded");
        let id = job.id;
        match self.open(caller, job, allowance).await {
            Ok(reception) => Ok(reception),
            Err(problem) => {
                self.abandon(id).await;
                Err(problem)
            }
        }
    }

    async fn open(&self, caller: &Caller, job: Job, allowance: Allowance) -> Result<Reception<'_>, Problem> {
        // Looked at again now that the record is there: whoever removes this user either sees the record, or is seen here.
        self.identify(&caller.method, &caller.headers).await?;
        // Counted after the record is made: however many come at once, no more than the limit stay.
        self.check_active(&job.owner, 0).await?;
        let lost = CancellationToken::new();
        let heartbeat = self.heartbeat(job.id, lost.clone());
        let writer = self.blobs.create(Blob::video(job.id)).await.map_err(store_failed)?;
        let digest = digest::Context::new(&digest::SHA256);
        Ok(Reception { gateway: self, job, writer, digest, size: 0, allowance, lost, _heartbeat: heartbeat })
    }

    /// Has this owner room for `more` jobs beside those that are not ended?
    pub(super) async fn check_active(&self, owner: &str, more: u64) -> Result<(), Problem> {
        let active = self.ledger.jobs.count_active(owner).await.map_err(store_failed)?;
        if active + more <= self.settings.active_jobs {
            return Ok(());
        }
        let detail = format!(
            "You have {} videos waiting already, which is the limit. Wait until one is done, or cancel one.",
            self.settings.active_jobs
        );
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-jobs", detail))
    }

    fn heartbeat(&self, id: Id, lost: CancellationToken) -> DropGuard {
        let (ledger, beat) = (self.ledger.clone(), self.settings.beat);
        let done = CancellationToken::new();
        let guard = done.clone().drop_guard();
        tokio::spawn(async move {
            while done.run_until_cancelled(tokio::time::sleep(beat)).await.is_some() {
                match ledger.apply(id, Event::Beat { fence: FENCE, progress: 0.0 }).await {
                    Ok(_) | Err(TransitionError::Store(_)) => {}
                    Err(TransitionError::Missing | TransitionError::Refused(_)) => return lost.cancel(),
                }
            }
        });
        guard
    }

    /// Leaves nothing of an upload behind. What fails here, the sweeper does later.
    async fn abandon(&self, id: Id) {
        let blob = Blob::video(id);
        let ended = self.ledger.apply(id, Event::Abandon).await;
        if let Err(TransitionError::Store(error)) = &ended {
            // A user waits for the answer: not for a store that is away.
            tracing::warn!(job = %id, error = %crate::chain(error), "left for the sweeper");
            return;
        }
        let deleted = self.blobs.delete(blob).await;
        if let Err(error) = &deleted {
            tracing::warn!(job = %id, error = %crate::chain(error), "left for the sweeper");
        } else if let (Ok(_), Ok(job)) = (ended, self.ledger.apply(id, Event::Deleted { blob }).await) {
            // Lost or failed: the sweeper will find it.
            let _ = self.ledger.jobs.remove(id, job.version).await;
        }
    }

    /// The next piece of the body, unless the client falls silent.
    async fn in_time<T>(
        &self,
        piece: impl Future<Output = Result<T, MultipartError>>,
    ) -> Result<Result<T, Problem>, Problem> {
        match tokio::time::timeout(self.settings.upload_idle, piece).await {
            Ok(piece) => Ok(piece.map_err(broken_off)),
            Err(_) => {
                let detail = "The upload stood still for too long and was given up. Check the connection and send it again.";
                Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "upload-stalled", detail))
            }
        }
    }
}

impl Reception<'_> {
    async fn write_all(&mut self, field: &mut Field<'_>) -> Result<(), Problem> {
        while let Some(bytes) = self.gateway.in_time(field.chunk()).await?? {
            self.write(bytes).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Problem> {
        if self.lost.is_cancelled() {
            return Err(taken_away());
        }
        self.size += bytes.len() as u64;
        if self.size > self.gateway.settings.upload_limit {
            return Err(self.gateway.too_large());
        }
        self.allowance.renew();
        self.digest.update(&bytes);
        self.writer.write(bytes).await.map_err(store_failed)
    }

    /// Makes the file durable, then the promise.
    async fn finish(self) -> Result<Job, Problem> {
        if failpoints::sabotaged("answer-before-commit") {
            return self.promise_too_early();
        }
        let Reception { gateway, job, writer, digest, size, .. } = self;
        gateway.keep(job.id, writer, digest, size).await
    }

    async fn abandon(self) {
        let Reception { gateway, job, writer, .. } = self;
        drop(writer);
        gateway.abandon(job.id).await;
    }

    /// The broken build that the kill suite must catch: the answer first, the file later.
    fn promise_too_early(self) -> Result<Job, Problem> {
        let Reception { gateway, job, writer, digest, size, .. } = self;
        let (ledger, blobs, auth) =
            (gateway.ledger.clone(), Arc::clone(&gateway.blobs), Arc::clone(&gateway.auth));
        let late = Gateway::new(ledger, blobs, auth, gateway.settings.clone(), gateway.stopping.clone());
        let id = job.id;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            late.keep(id, writer, digest, size).await
        });
        Ok(job)
    }
}

impl Gateway {
    async fn keep(
        &self,
        id: Id,
        writer: Box<dyn BlobWriter>,
        digest: digest::Context,
        size: u64,
    ) -> Result<Job, Problem> {
        failpoints::reach("upload.written");
        if let Err(error) = writer.commit().await {
            // A file whose job was deleted meanwhile is gone, and cannot be committed.
            let taken = match self.ledger.jobs.get(id).await {
                Ok(job) => job.is_none_or(|job| job.state != JobState::Receiving),
                Err(_) => false,
            };
            self.abandon(id).await;
            return Err(if taken { taken_away() } else { store_failed(error) });
        }
        failpoints::reach("upload.committed");
        let video = Video { size, sha256: crate::hex(digest.finish().as_ref()), kept: true };
        match self.ledger.apply(id, Event::Accept { video }).await {
            Ok(job) => {
                failpoints::reach("upload.queued");
                Ok(job)
            }
            Err(TransitionError::Store(error)) => Err(store_failed(error)),
            Err(TransitionError::Missing | TransitionError::Refused(_)) => {
                let _ = self.blobs.delete(Blob::video(id)).await;
                Err(taken_away())
            }
        }
    }
}

/// The last part of a path, whatever system it came from, without control characters, and not too long for a file system.
fn last_part(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !c.is_control()).collect();
    while name.len() > 200 {
        name.pop();
    }
    let name = name.trim();
    if matches!(name, "." | "..") { String::new() } else { name.to_owned() }
}

fn one_file_required() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "one-file-required", "exactly 1 file required")
}

fn empty_file() -> Problem {
    let detail = "This file is empty (0 bytes). Check that it was copied whole, and send it again.";
    Problem::new(StatusCode::BAD_REQUEST, "empty-file", detail)
}

fn taken_away() -> Problem {
    let detail =
        "This upload was cancelled while it was under way. Send the file again if you still want it.";
    Problem::new(StatusCode::CONFLICT, "upload-cancelled", detail)
}

fn broken_off(error: MultipartError) -> Problem {
    let detail =
        format!("The upload broke off or is no valid form ({}). Send the file again.", error.body_text());
    Problem::new(StatusCode::BAD_REQUEST, "upload-broken", detail)
}

fn store_failed(error: PortError) -> Problem {
    if error.kind == PortErrorKind::Full {
        tracing::error!(error = %crate::chain(&error), "the store is full");
        let detail = "There is no room left to store this video. Tell the operator, or try again later.";
        return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "storage-full", detail);
    }
    Problem::internal(&error)
}

#[cfg(test)]
mod tests {
    use super::last_part;

    #[test]
    fn of_a_path_the_last_part_is_kept() {
        for (path, name) in [
            ("talk.mp4", "talk.mp4"),
            ("../../etc/passwd", "passwd"),
            (r"C:\Users\ana\talk.mp4", "talk.mp4"),
            ("a\r\nb.mp4", "ab.mp4"),
            ("..", ""),
            ("videos/", ""),
        ] {
            assert_eq!(last_part(path), name, "{path}");
        }
        assert!(last_part(&"é".repeat(500)).len() <= 200);
    }
}
