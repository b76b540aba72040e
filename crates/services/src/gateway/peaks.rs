//! The peaks of an MP3, for the picture of its waveform, to its owner.

use super::{Gateway, file};
use crate::{http::Problem, ports::Blob};
use axum::{
    extract::State,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

pub(super) async fn of_job(
    State(gateway): State<Arc<Gateway>>,
    file::JobId(id): file::JobId,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = gateway.owned(&method, &headers, &id).await?;
    let (Some(id), Some(mp3)) = (job.mp3_fid, &job.mp3) else { return Err(file::no_mp3(&job)) };
    let etag = format!("\"{}-peaks\"", mp3.sha256);
    let caching = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, file::CACHING.to_owned())];
    if file::matches_etag(headers.get(header::IF_NONE_MATCH), &etag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let peaks = gateway.blobs.peaks(Blob::mp3(id)).await.map_err(|error| Problem::internal(&error))?;
    let peaks = peaks.ok_or_else(no_peaks)?;
    Ok((caching, [(header::CONTENT_TYPE, "application/json")], peaks).into_response())
}

fn no_peaks() -> Problem {
    let detail = "this MP3 has no peaks: its sound was copied as it came, or it was made by another converter or by an older Tapedeck";
    Problem::new(StatusCode::NOT_FOUND, "no-peaks", detail)
}
