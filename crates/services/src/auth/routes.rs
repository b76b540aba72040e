//! The auth service's HTTP face: `/login` and `/validate` as the wire contract has them, and `/setup` for our gateway.

use super::LocalAuth;
use crate::{
    http::{self, BearerHeader, basic_credentials, bearer},
    ports::{Auth, AuthError},
};
use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The header in which our gateway names the client whose attempts are counted.
pub(super) const CLIENT: HeaderName = HeaderName::from_static("x-tapedeck-client");

/// The body of `POST /setup`.
#[derive(Serialize, Deserialize)]
pub(super) struct SetUp {
    pub(super) token: String,
    pub(super) email: String,
    pub(super) password: String,
}

/// The routes of the auth service.
///
/// Whom attempts are counted against is told by our gateway, if it is on this machine or one of the `trusted` addresses;
/// else it is the peer itself.
pub fn routes(auth: Arc<LocalAuth>, trusted: Vec<IpAddr>) -> Router {
    Router::new()
        .route("/login", post(login))
        .route("/validate", post(validate))
        .route("/setup", post(set_up))
        .with_state(auth)
        .layer(Extension(Trusted(trusted.into())))
        .layer(middleware::from_fn(http::with_body_in_time))
}

#[derive(Clone)]
struct Trusted(Arc<[IpAddr]>);

async fn login(
    State(auth): State<Arc<LocalAuth>>,
    Extension(Trusted(trusted)): Extension<Trusted>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some((email, password)) = basic_credentials(&headers) else {
        return (StatusCode::UNAUTHORIZED, "missing credentials").into_response();
    };
    let peer = peer.ip().to_canonical();
    let told =
        headers.get(CLIENT).and_then(|client| client.to_str().ok()).filter(|client| client.len() <= 64);
    let client = match told {
        Some(told) if peer.is_loopback() || trusted.contains(&peer) => told.to_owned(),
        _ => http::client(peer, &headers, &trusted),
    };
    answer(auth.login(&email, &password, &client).await)
}

async fn validate(State(auth): State<Arc<LocalAuth>>, headers: HeaderMap) -> Response {
    let token = match bearer(&headers) {
        BearerHeader::Absent => return (StatusCode::UNAUTHORIZED, "missing credentials").into_response(),
        BearerHeader::Malformed => {
            return (StatusCode::UNAUTHORIZED, "the header must be `Authorization: Bearer <token>`")
                .into_response();
        }
        BearerHeader::Token(token) => token,
    };
    match auth.claims(&token).await {
        // The row's spelling of the e-mail is the owner, and the row's role the role, whatever the token says.
        Ok((mut claims, identity)) => {
            claims.username = identity.email;
            claims.role = Some(identity.role);
            Json(claims).into_response()
        }
        Err(error) => answer(Err(error)),
    }
}

async fn set_up(State(auth): State<Arc<LocalAuth>>, Json(wish): Json<SetUp>) -> Response {
    answer(auth.set_up(&wish.token, &wish.email, &wish.password).await)
}

/// A token, or the status and text that mean the error; [`super::RemoteAuth`] reads them back.
fn answer(result: Result<String, AuthError>) -> Response {
    let error = match result {
        Ok(token) => return token.into_response(),
        Err(error) => error,
    };
    let status = match &error {
        AuthError::InvalidCredentials => StatusCode::UNAUTHORIZED,
        AuthError::NotAuthorized => StatusCode::FORBIDDEN,
        AuthError::SetUpOver => StatusCode::GONE,
        AuthError::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
        AuthError::TooManyAttempts { seconds } => {
            let wait = [(header::RETRY_AFTER, seconds.to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, wait, error.to_string()).into_response();
        }
        AuthError::Unavailable(source) => {
            tracing::error!(error = %crate::chain(&**source), "auth failed");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, error.to_string()).into_response()
}
