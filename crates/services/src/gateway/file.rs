//! An MP3 on its way to its owner: Range, ETag, If-Range, length, file name.

use super::{Gateway, LegacyDownloads};
use crate::{
    http::Problem,
    id::Id,
    job::{Job, State},
    ports::{Blob, Identity, Role},
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, RawQuery, State as Extract},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use std::{ops::Range, sync::Arc};

/// Kept by its owner's browser alone, and asked for again each time: what is deleted is gone.
pub(super) const CACHING: &str = "private, no-cache";

/// Shown in the page, or saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    Inline,
    Attachment,
}

pub(super) async fn of_job(
    Extract(gateway): Extract<Arc<Gateway>>,
    JobId(id): JobId,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = gateway.owned(&method, &headers, &id).await?;
    let save =
        query.is_some_and(|query| query.split('&').any(|field| field.split('=').next() == Some("download")));
    let disposition = if save { Disposition::Attachment } else { Disposition::Inline };
    gateway.send_mp3(&job, &headers, disposition).await
}

/// The `{id}` of a path; what cannot even be read is no id.
pub(super) struct JobId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for JobId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<JobId, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| JobId(id)).map_err(|_| not_found())
    }
}

/// An MP3 to be sent.
pub(super) struct Mp3File {
    id: Id,
    size: u64,
    etag: String,
    name: String,
}

/// The same answer for what is not there and for what is somebody else's.
pub(super) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such file, or it is not yours")
}

impl Gateway {
    /// This owner's job, by the video's id.
    pub(super) async fn owned(&self, method: &Method, headers: &HeaderMap, id: &str) -> Result<Job, Problem> {
        let identity = self.identify(method, headers).await?;
        let id: Id = id.parse().map_err(|_| not_found())?;
        let job = self.ledger.jobs.get(id).await.map_err(|error| Problem::internal(&error))?;
        job.filter(|job| job.owner.eq_ignore_ascii_case(&identity.email) && !job.deleted)
            .ok_or_else(not_found)
    }

    /// This owner's job, by the video's id or by the MP3's.
    pub(super) async fn owned_by_either_id(&self, identity: &Identity, id: Id) -> Result<Job, Problem> {
        let internal = |error| Problem::internal(&error);
        let job = match self.ledger.jobs.by_mp3(id).await.map_err(internal)? {
            Some(job) => Some(job),
            None => self.ledger.jobs.get(id).await.map_err(internal)?,
        };
        job.filter(|job| job.owner.eq_ignore_ascii_case(&identity.email) && !job.deleted)
            .ok_or_else(not_found)
    }

    /// The MP3, or the part of it that is asked for.
    pub(super) async fn send_mp3(
        &self,
        job: &Job,
        headers: &HeaderMap,
        disposition: Disposition,
    ) -> Result<Response, Problem> {
        let (Some(id), Some(mp3)) = (job.mp3_fid, &job.mp3) else { return Err(no_mp3(job)) };
        let file = Mp3File { id, size: mp3.size, etag: format!("\"{}\"", mp3.sha256), name: job.mp3_name() };
        self.send_file(&file, headers, disposition).await
    }

    /// An MP3 that no record names, where the configuration lets this user have it.
    pub(super) async fn legacy_mp3(&self, identity: &Identity, id: Id) -> Result<Option<Mp3File>, Problem> {
        let allowed = match self.settings.legacy_downloads {
            LegacyDownloads::Nobody => false,
            LegacyDownloads::Admin => identity.role == Role::Admin,
            LegacyDownloads::AnyUser => true,
        };
        let internal = |error| Problem::internal(&error);
        let jobs = &self.ledger.jobs;
        if !allowed
            || jobs.by_mp3(id).await.map_err(internal)?.is_some()
            || jobs.get(id).await.map_err(internal)?.is_some()
            // Of a conversion that is not done yet, or was given up: it has an owner, whom its record does not name by this id.
            || self.blobs.is_ours(Blob::mp3(id)).await.map_err(internal)?
        {
            return Ok(None);
        }
        let size = self.blobs.size(Blob::mp3(id)).await.map_err(internal)?;
        // A file of this store never changes under its id.
        Ok(size.map(|size| Mp3File { id, size, etag: format!("\"{id}\""), name: format!("{id}.mp3") }))
    }

    /// The file, or the part of it that is asked for.
    pub(super) async fn send_file(
        &self,
        mp3: &Mp3File,
        headers: &HeaderMap,
        disposition: Disposition,
    ) -> Result<Response, Problem> {
        let Mp3File { id, etag, .. } = mp3;
        if matches_etag(headers.get(header::IF_NONE_MATCH), etag) {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.clone())]).into_response());
        }
        let Some(part) = wanted(headers, mp3.size, etag) else {
            let all = [(header::CONTENT_RANGE, format!("bytes */{}", mp3.size))];
            let detail = format!("this MP3 has {} bytes; the range asked for lies beyond them", mp3.size);
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable", detail);
            return Ok((all, problem).into_response());
        };
        let bytes =
            self.blobs.read(Blob::mp3(*id), part.clone()).await.map_err(|error| Problem::internal(&error))?;
        let mut response = Body::from_stream(bytes).into_response();
        let out = response.headers_mut();
        if part != (0..mp3.size) {
            let range = format!("bytes {}-{}/{}", part.start, part.end - 1, mp3.size);
            out.insert(header::CONTENT_RANGE, ascii(range));
        }
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("audio/mpeg"));
        out.insert(header::CONTENT_LENGTH, (part.end - part.start).into());
        out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHING));
        out.insert(header::ETAG, ascii(etag.clone()));
        out.insert(header::CONTENT_DISPOSITION, ascii(content_disposition(disposition, &mp3.name)));
        if part != (0..mp3.size) {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }
}

pub(super) fn no_mp3(job: &Job) -> Problem {
    match (job.state, &job.error) {
        (State::Expired, _) => Problem::new(
            StatusCode::GONE,
            "expired",
            "this MP3 was deleted when its time was up; upload the video again",
        ),
        (State::Failed, Some(error)) => Problem::new(StatusCode::CONFLICT, "failed", error.text.clone()),
        (State::Cancelled, _) => {
            Problem::new(StatusCode::CONFLICT, "cancelled", "this conversion was cancelled; retry it first")
        }
        (state, _) => {
            let detail = format!("the MP3 is not ready yet: the job is {state}; try again in a moment");
            Problem { retry_after: Some(2), ..Problem::new(StatusCode::CONFLICT, "not-ready", detail) }
        }
    }
}

/// The range asked for: the whole where none is, or where the client's part is of another file; `None` where it is none of this file.
fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Option<Range<u64>> {
    let whole = 0..size;
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Some(whole);
    };
    if headers.get(header::IF_RANGE).is_some_and(|known| known.as_bytes() != etag.as_bytes()) {
        return Some(whole);
    }
    match parse_range(range, size) {
        // What is no single range is to be ignored (RFC 9110, 14.2).
        None => Some(whole),
        Some(part) => (!part.is_empty()).then_some(part),
    }
}

/// `bytes=A-B`, `bytes=A-` and `bytes=-N` of a file with `size` bytes, empty where they lie beyond it; `None` for all else.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let number = |digits: &str| match digits {
        "" => Some(None),
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (number(first.trim())?, number(last.trim())?) {
        (Some(first), Some(last)) if last < first => None,
        (Some(first), last) => {
            Some(first.min(size)..last.map_or(size, |last| last.saturating_add(1).min(size)))
        }
        (None, Some(count)) => Some(size.saturating_sub(count)..size),
        (None, None) => None,
    }
}

pub(super) fn matches_etag(known: Option<&HeaderValue>, etag: &str) -> bool {
    let Some(known) = known.and_then(|known| known.to_str().ok()) else { return false };
    known.split(',').any(|known| {
        matches!(known.trim().trim_start_matches("W/"), "*") || known.trim().trim_start_matches("W/") == etag
    })
}

/// RFC 6266: a plain name for old clients, the real one in UTF-8.
fn content_disposition(disposition: Disposition, name: &str) -> String {
    let kind = if disposition == Disposition::Inline { "inline" } else { "attachment" };
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !r#""\%;/"#.contains(c) || c == ' ' { c } else { '_' })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of visible ASCII alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(header::HeaderName, &'static str)]) -> Option<Range<u64>> {
        let headers =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        wanted(&headers, 1000, "\"abc\"")
    }

    #[test]
    fn ranges_are_what_rfc_9110_says() {
        use header::{IF_RANGE, RANGE};
        assert_eq!(ask(&[]), Some(0..1000));
        assert_eq!(ask(&[(RANGE, "bytes=0-0")]), Some(0..1));
        assert_eq!(ask(&[(RANGE, "bytes=10-")]), Some(10..1000));
        assert_eq!(ask(&[(RANGE, "bytes=-10")]), Some(990..1000));
        assert_eq!(ask(&[(RANGE, "bytes=900-5000")]), Some(900..1000));
        assert_eq!(ask(&[(RANGE, "bytes=1000-")]), None);
        assert_eq!(ask(&[(RANGE, "bytes=-65536")]), Some(0..1000));
        assert_eq!(ask(&[(RANGE, "bytes=-0")]), None);
        assert_eq!(ask(&[(RANGE, "bytes=99999999999999999999-")]), None);
        for ignored in ["bytes=0-1,5-6", "bytes=0-10,5-20", "bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1"]
        {
            let headers = [(RANGE, HeaderValue::from_static(ignored))].into_iter().collect();
            assert_eq!(wanted(&headers, 1000, ""), Some(0..1000), "{ignored}");
        }
        assert_eq!(ask(&[(RANGE, "nonsense")]), Some(0..1000));
        assert_eq!(ask(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"abc\"")]), Some(0..1));
        assert_eq!(ask(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"old\"")]), Some(0..1000));
    }

    #[test]
    fn a_file_name_cannot_break_out_of_its_header() {
        let text = content_disposition(Disposition::Attachment, "Vorträge \"1\"\r\nSet-Cookie: x.mp3");
        assert_eq!(
            text,
            "attachment; filename=\"Vortr_ge _1___Set-Cookie: x.mp3\"; filename*=UTF-8''Vortr%C3%A4ge%20%221%22%0D%0ASet-Cookie%3A%20x.mp3"
        );
    }
}
