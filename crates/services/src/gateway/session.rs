//! Who is asking: a bearer token, or the page's session cookie with a check that the page itself asks.

use super::{Gateway, page};
use crate::{
    http::{self, BearerHeader, Problem, bearer},
    ports::{AuthError, Identity},
};
use axum::{
    Form,
    extract::{ConnectInfo, State, rejection::FormRejection},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc};

const COOKIE: &str = "tapedeck_session";

const INCOMPLETE: &str = "The form came incomplete. Fill in e-mail and password, and try again.";

/// The form of the sign-in page and of the set-up page.
#[derive(Deserialize)]
pub(super) struct SignIn {
    email: String,
    password: String,
    #[serde(default)]
    token: String,
}

impl Gateway {
    /// Who sent this request. The texts and statuses are the wire contract's.
    pub(super) async fn identify(&self, method: &Method, headers: &HeaderMap) -> Result<Identity, Problem> {
        let not_authorized = Problem::new(StatusCode::FORBIDDEN, "not-authorized", "not authorized");
        let (token, void) = match bearer(headers) {
            BearerHeader::Token(token) => (token, not_authorized),
            BearerHeader::Malformed => {
                let detail = "the header must be `Authorization: Bearer <token>`; POST /login gives a token";
                return Err(Problem::new(StatusCode::UNAUTHORIZED, "missing-credentials", detail));
            }
            BearerHeader::Absent => {
                let missing =
                    || Problem::new(StatusCode::UNAUTHORIZED, "missing-credentials", "missing credentials");
                let token = session_cookie(headers).ok_or_else(missing)?;
                same_origin(method, headers)?;
                let ended = "Your session has ended. Sign in again.";
                (token, Problem::new(StatusCode::UNAUTHORIZED, "signed-out", ended))
            }
        };
        self.auth.validate(&token).await.map_err(|error| match error {
            AuthError::Unavailable(source) => Problem::internal(&*source),
            _ => void,
        })
    }
}

/// The session's token, if the request has the cookie.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE && !value.is_empty()).then(|| value.to_owned())
    })
}

/// Refuses what another site's page sends with our cookie; following a link to us is fine.
fn same_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let ours = match header("sec-fetch-site") {
        Some("same-origin" | "none") => true,
        Some(_) => {
            (method == Method::GET || method == Method::HEAD)
                && header("sec-fetch-mode") == Some("navigate")
                && header("sec-fetch-dest") == Some("document")
        }
        None => match (header("origin"), header("host")) {
            (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, name)| name == host),
            (Some(_), None) => false,
            (None, _) => true,
        },
    };
    let detail = "another site's page sent this with your session; open Tapedeck itself and try there";
    if ours { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", detail)) }
}

pub(super) async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Response {
    if let Err(problem) = same_origin(&Method::POST, &headers) {
        return problem.into_response();
    }
    let Ok(Form(form)) = form else {
        return page::sign_in(StatusCode::BAD_REQUEST, Some(INCOMPLETE.into()), String::new());
    };
    match gateway.auth.login(&form.email, &form.password, &gateway.client(peer, &headers)).await {
        Ok(token) => gateway.signed_in(&token),
        Err(error) => {
            let (status, text) = in_words(&error);
            page::sign_in(status, Some(text), form.email)
        }
    }
}

pub(super) async fn set_up(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Response {
    if let Err(problem) = same_origin(&Method::POST, &headers) {
        return problem.into_response();
    }
    let Ok(Form(form)) = form else {
        return page::set_up_form(
            StatusCode::BAD_REQUEST,
            String::new(),
            Some(INCOMPLETE.into()),
            String::new(),
        );
    };
    match gateway.auth.set_up(&form.token, &form.email, &form.password).await {
        Ok(token) => gateway.signed_in(&token),
        Err(error) => {
            let (status, text) = in_words(&error);
            page::set_up_form(status, form.token, Some(text), form.email)
        }
    }
}

pub(super) async fn sign_out(headers: HeaderMap) -> Response {
    if let Err(problem) = same_origin(&Method::POST, &headers) {
        return problem.into_response();
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    ([(header::SET_COOKIE, gone)], Redirect::to("/")).into_response()
}

impl Gateway {
    fn signed_in(&self, token: &str) -> Response {
        let secure = if self.settings.https { "; Secure" } else { "" };
        let age = self.settings.session.as_secs();
        let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
        ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
    }

    /// Whom a sign-in is counted against.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> String {
        http::client(peer.ip(), headers, &self.settings.trusted_proxies)
    }
}

fn in_words(error: &AuthError) -> (StatusCode, String) {
    match error {
        AuthError::InvalidCredentials | AuthError::NotAuthorized => {
            (StatusCode::UNAUTHORIZED, "E-mail or password is wrong. Check both and try again.".into())
        }
        AuthError::TooManyAttempts { seconds } => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many wrong passwords. Try again in {seconds} second{}.", if *seconds == 1 { "" } else { "s" }),
        ),
        AuthError::SetUpOver => (
            StatusCode::GONE,
            "This set-up link is used up or wrong. If an account exists, sign in; else start Tapedeck again and open the link that it prints.".into(),
        ),
        AuthError::Unfit(text) => (StatusCode::UNPROCESSABLE_ENTITY, text.clone()),
        AuthError::Unavailable(source) => {
            tracing::error!(error = %crate::chain(&**source), "sign-in failed");
            (StatusCode::SERVICE_UNAVAILABLE, "Sign-in is not available just now. Try again in a minute.".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn another_sites_page_may_not_use_our_cookie() {
        for (method, pairs, allowed) in [
            (Method::POST, &[("sec-fetch-site", "same-origin")][..], true),
            (Method::POST, &[("sec-fetch-site", "cross-site")], false),
            (
                Method::GET,
                &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "audio")],
                false,
            ),
            (
                Method::GET,
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                true,
            ),
            (
                Method::GET,
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                false,
            ),
            (Method::POST, &[("origin", "http://evil.example"), ("host", "localhost:8080")], false),
            (Method::POST, &[("origin", "http://localhost:8080"), ("host", "localhost:8080")], true),
            (Method::POST, &[("origin", "null"), ("host", "localhost:8080")], false),
            (Method::GET, &[], true),
        ] {
            assert_eq!(same_origin(&method, &headers(pairs)).is_ok(), allowed, "{method} {pairs:?}");
        }
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        assert_eq!(
            session_cookie(&headers(&[("cookie", "a=b; tapedeck_session=x.y.z; c=d")])),
            Some("x.y.z".into())
        );
        assert_eq!(session_cookie(&headers(&[("cookie", "tapedeck_session=")])), None);
        assert_eq!(session_cookie(&HeaderMap::new()), None);
    }
}
