//! The original gateway's routes, answered as the wire contract says: `/login` and `/download` (`/upload` has its own file).

use super::{Gateway, file};
use crate::{
    http::{Problem, basic_credentials},
    id::Id,
    ports::AuthError,
};
use axum::{
    extract::{ConnectInfo, Query, State, rejection::QueryRejection},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use std::{net::SocketAddr, sync::Arc};

pub(super) async fn login(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some((email, password)) = basic_credentials(&headers) else {
        return (StatusCode::UNAUTHORIZED, "missing credentials").into_response();
    };
    match gateway.auth.login(&email, &password, &gateway.client(peer, &headers)).await {
        Ok(token) => token.into_response(),
        Err(AuthError::Unavailable(source)) => Problem::internal(&*source).into_text(),
        Err(error @ AuthError::TooManyAttempts { seconds }) => {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", error.to_string());
            Problem { retry_after: Some(seconds), ..problem }.into_text()
        }
        Err(_) => (StatusCode::UNAUTHORIZED, "invalid credentials").into_response(),
    }
}

pub(super) async fn download(
    State(gateway): State<Arc<Gateway>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let identity = gateway.identify(&method, &headers).await?;
        let Query(query) = query.unwrap_or_default();
        // `fid`, or `id` as one of the originals documents it.
        let fid =
            query.into_iter().find(|(key, fid)| matches!(key.as_str(), "fid" | "id") && !fid.is_empty());
        let fid =
            fid.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "fid-required", "fid is required"))?;
        let id: Id = fid.1.parse().map_err(|_| file::not_found())?;
        match gateway.legacy_mp3(&identity, id).await? {
            Some(mp3) => gateway.send_file(&mp3, &headers, file::Disposition::Attachment).await,
            None => {
                let job = gateway.owned_by_either_id(&identity, id).await?;
                gateway.send_mp3(&job, &headers, file::Disposition::Attachment).await
            }
        }
    };
    found.await.unwrap_or_else(Problem::into_text)
}
