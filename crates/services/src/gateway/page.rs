//! The page: server-rendered shells and the assets of `web/`, embedded in the binary.

use super::{Gateway, api::LIST, session};
use crate::http::Problem;
use askama::Template;
use axum::{
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
};
use rust_embed::RustEmbed;
use serde::Deserialize;
use std::sync::Arc;

#[derive(RustEmbed)]
#[folder = "../../web"]
struct Assets;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    error: Option<String>,
    email: String,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetUpPage {
    token: String,
    error: Option<String>,
    email: String,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    email: String,
    version: &'static str,
    list_size: usize,
    max_upload_bytes: u64,
    max_upload: String,
    max_duration: String,
    mp3_kept: String,
    video_kept_failed: String,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    title: String,
    text: String,
}

#[derive(Deserialize)]
pub(super) struct SetUpQuery {
    #[serde(default)]
    token: String,
}

pub(super) async fn home(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if session::session_cookie(&headers).is_none() {
        return sign_in(StatusCode::OK, None, String::new());
    }
    match gateway.identify(&method, &headers).await {
        Ok(identity) => gateway.jobs_page(identity.email),
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
            sign_in(StatusCode::OK, None, String::new())
        }
        Err(problem) => {
            render(problem.status, &ProblemPage { title: "Not available".into(), text: problem.detail })
        }
    }
}

impl Gateway {
    fn jobs_page(&self, email: String) -> Response {
        let settings = &self.settings;
        render(
            StatusCode::OK,
            &JobsPage {
                email,
                version: env!("CARGO_PKG_VERSION"),
                list_size: LIST,
                max_upload_bytes: settings.upload_limit,
                max_upload: human_size(settings.upload_limit),
                max_duration: settings.max_duration.clone(),
                mp3_kept: settings.mp3_kept.clone(),
                video_kept_failed: settings.failed_video_kept.clone(),
            },
        )
    }
}

pub(super) async fn set_up(Query(query): Query<SetUpQuery>) -> Response {
    set_up_form(StatusCode::OK, query.token, None, String::new())
}

pub(super) fn sign_in(status: StatusCode, error: Option<String>, email: String) -> Response {
    render(status, &SignInPage { error, email })
}

pub(super) fn set_up_form(
    status: StatusCode,
    token: String,
    error: Option<String>,
    email: String,
) -> Response {
    render(status, &SetUpPage { token, error, email })
}

/// The address that a refused sign-in leaves in the browser.
pub(super) async fn to_home() -> Redirect {
    Redirect::to("/")
}

pub(super) async fn no_such_page() -> Response {
    let text = "There is nothing at this address. Your videos and MP3s are on the first page.";
    render(StatusCode::NOT_FOUND, &ProblemPage { title: "Not found".into(), text: text.into() })
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(header::CACHE_CONTROL, "no-store")], Html(text)).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => return no_such_page().await,
    };
    let Some(file) = Assets::get(&name) else { return no_such_page().await };
    let etag = format!("\"{}\"", crate::hex(&file.metadata.sha256_hash()[..16]));
    let caching = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, content_type)], file.data).into_response()
}

/// Pages load nothing from elsewhere, run no inline script, and are framed by nobody.
pub(super) async fn with_policy(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                          form-action 'self'; frame-ancestors 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// "4 GiB", "1.5 MiB".
pub(super) fn human_size(bytes: u64) -> String {
    let mut unit = "bytes";
    #[expect(clippy::cast_precision_loss, reason = "it is rounded to one decimal anyway")]
    let mut value = bytes as f64;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let text = format!("{value:.1}");
    format!("{} {unit}", text.trim_end_matches(".0"))
}
