//! Auth over HTTP: the gateway's way to an auth service in another process, ours or an original one.

use super::{
    Claims,
    routes::{CLIENT, SetUp},
};
use crate::{
    http,
    ports::{Auth, AuthError, Identity, Role},
    trace,
};
use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use std::time::Duration;

/// A client of an auth service.
pub struct RemoteAuth {
    client: Client,
    url: String,
}

impl RemoteAuth {
    /// A client of the auth service at `url`, for instance `http://auth:5000`.
    pub fn new(url: &str) -> Result<RemoteAuth, reqwest::Error> {
        // Argon2 on a busy machine takes a while; a hanging service must not take longer.
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(20))
            // Passwords go to the auth service and to nobody else, whatever the environment says.
            .no_proxy()
            .redirect(Policy::none())
            .build()?;
        Ok(RemoteAuth { client, url: url.trim_end_matches('/').to_owned() })
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let request =
            self.client.post(format!("{}{path}", self.url)).header(http::REQUEST_ID, http::request_id());
        match trace::current() {
            Some(traceparent) => request.header(trace::TRACEPARENT, traceparent),
            None => request,
        }
    }
}

#[async_trait]
impl Auth for RemoteAuth {
    async fn login(&self, email: &str, password: &str, client: &str) -> Result<String, AuthError> {
        let request = self.post("/login").basic_auth(email, Some(password)).header(CLIENT, client);
        token(request.send().await.map_err(unavailable)?).await
    }

    async fn validate(&self, token: &str) -> Result<Identity, AuthError> {
        let response = self.post("/validate").bearer_auth(token).send().await.map_err(unavailable)?;
        match response.status() {
            StatusCode::OK => {
                let claims: Claims = response.json().await.map_err(unavailable)?;
                // An original auth service knows no roles.
                Ok(Identity { email: claims.username, role: claims.role.unwrap_or(Role::User) })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(AuthError::NotAuthorized),
            status => Err(AuthError::Unavailable(format!("the auth service answered {status}").into())),
        }
    }

    async fn set_up(&self, set_up_token: &str, email: &str, password: &str) -> Result<String, AuthError> {
        let wish =
            SetUp { token: set_up_token.to_owned(), email: email.to_owned(), password: password.to_owned() };
        token(self.post("/setup").json(&wish).send().await.map_err(unavailable)?).await
    }
}

/// Reads the answer of `/login` and `/setup` back.
async fn token(response: Response) -> Result<String, AuthError> {
    let status = response.status();
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    let text = response.text().await.map_err(unavailable)?;
    match status {
        StatusCode::OK => Ok(text),
        StatusCode::UNAUTHORIZED => Err(AuthError::InvalidCredentials),
        StatusCode::FORBIDDEN => Err(AuthError::NotAuthorized),
        StatusCode::GONE => Err(AuthError::SetUpOver),
        StatusCode::UNPROCESSABLE_ENTITY => Err(AuthError::Unfit(text)),
        StatusCode::TOO_MANY_REQUESTS => Err(AuthError::TooManyAttempts { seconds: seconds.unwrap_or(60) }),
        status => Err(AuthError::Unavailable(format!("the auth service answered {status}: {text}").into())),
    }
}

fn unavailable(error: reqwest::Error) -> AuthError {
    AuthError::Unavailable(error.into())
}
