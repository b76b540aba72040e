//! What every HTTP face shares: request ids, problem+json, credentials in headers, health.

use crate::{measures, trace};
use axum::{
    Json, Router,
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{StreamExt, stream};
use headers::{Authorization, Header, authorization::Basic, authorization::Bearer};
use serde_json::json;
use std::{
    future::Future,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::Instrument;

/// A small body must arrive within so long: one that never ends would hold its connection for ever.
const BODY_TIME: Duration = Duration::from_secs(15);

/// The header that carries the request id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT_REQUEST: String;
}

/// The id of the request being answered; empty outside of one.
pub fn request_id() -> String {
    CURRENT_REQUEST.try_with(String::clone).unwrap_or_default()
}

/// Gives every request an id (the client's own where it is fit), a span, and one line in the log when it is answered.
pub async fn with_request_id(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        })
        .map_or_else(crate::random_hex::<8>, str::to_owned);
    let span = tracing::info_span!("request", request_id = %id, method = %request.method(), path = request.uri().path());
    trace::continue_in(
        &span,
        request.headers().get(trace::TRACEPARENT).and_then(|parent| parent.to_str().ok()),
    );
    let quiet = matches!(request.uri().path(), "/livez" | "/readyz");
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let (method, began) = (request.method().clone(), Instant::now());
    let answered = async {
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        measures::request(route, method.as_str(), status, began.elapsed());
        if quiet {
            tracing::debug!(status, "answered");
        } else {
            tracing::info!(status, "answered");
        }
        let value = HeaderValue::from_str(&request_id()).expect("a checked or minted id is a fit header");
        response.headers_mut().insert(REQUEST_ID, value);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    };
    CURRENT_REQUEST.scope(id, answered.instrument(span)).await
}

/// An answer that says what failed, why, and how to mend it: RFC 9457 `application/problem+json`.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable, kebab-case; all codes stand in docs/api.md.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with this status, code and detail.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), retry_after: None }
    }

    /// Our own failure: the cause goes to the log, the request id to the client.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Problem {
        tracing::error!(error = %crate::chain(cause), "a request failed");
        let detail = "Tapedeck could not do this just now. Try again; if it happens again, tell the operator the request id.";
        Problem {
            retry_after: Some(5),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// The same as plain text, for the compatibility routes.
    pub fn into_text(self) -> Response {
        let mut response = (self.status, self.detail).into_response();
        set_retry_after(response.headers_mut(), self.retry_after);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id(),
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        set_retry_after(headers, self.retry_after);
        response
    }
}

fn set_retry_after(headers: &mut HeaderMap, seconds: Option<u64>) {
    if let Some(seconds) = seconds {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
}

/// E-mail and password of `Authorization: Basic`; `None` where it is absent, empty, or anything else.
pub fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Authorization(basic) = Authorization::<Basic>::decode(&mut values).ok()?;
    Some((basic.username().to_owned(), basic.password().to_owned()))
}

/// A layer for routes whose bodies are small, such as forms: what has not arrived in time breaks off.
pub async fn with_body_in_time(request: Request, next: Next) -> Response {
    next.run(request.map(|body| in_time(body, BODY_TIME))).await
}

fn in_time(body: Body, time: Duration) -> Body {
    let end = tokio::time::Instant::now() + time;
    Body::from_stream(stream::unfold(Some(body.into_data_stream()), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout_at(end, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(late) => Some((Err(axum::Error::new(late)), None)),
        }
    }))
}

/// Whom a request comes from, for counting: past the proxies that we trust, and an IPv6 network as one.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> String {
    let mut client = peer.to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<Option<IpAddr>> = forwarded.flat_map(|line| line.split(',')).map(hop).collect();
    // From the nearest hop outwards: what lies beyond the first that we do not trust, or cannot read, is anybody's invention.
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop.filter(|_| trusted_proxies.contains(&client)) else { break };
        client = hop.to_canonical();
    }
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).to_string(),
    }
}

/// An address in a list of proxies; some write the port behind it.
fn hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// What an `Authorization` header says about a bearer.
#[derive(Debug, PartialEq, Eq)]
pub enum BearerHeader {
    /// There is none, or an empty one.
    Absent,
    /// It is not `Bearer` and one token.
    Malformed,
    /// The token.
    Token(String),
}

/// Reads `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> BearerHeader {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return BearerHeader::Absent };
    if value.as_bytes().iter().all(u8::is_ascii_whitespace) {
        return BearerHeader::Absent;
    }
    let mut values = std::iter::once(value);
    match Authorization::<Bearer>::decode(&mut values) {
        Ok(Authorization(bearer)) if !bearer.token().trim().is_empty() && !bearer.token().contains(' ') => {
            BearerHeader::Token(bearer.token().to_owned())
        }
        _ => BearerHeader::Malformed,
    }
}

/// Is everything this process needs within reach? `Err` says what is not.
pub type Readiness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// `/livez`: the process answers. `/readyz`: it can do its work.
pub fn health(ready: Readiness) -> Router {
    Router::new().route("/livez", get(async || "ok\n")).route(
        "/readyz",
        get(async move || match ready().await {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_bearer_header_is_one_scheme_and_one_token() {
        assert_eq!(bearer(&HeaderMap::new()), BearerHeader::Absent);
        assert_eq!(bearer(&with("")), BearerHeader::Absent);
        for malformed in ["Bearer", "Bearer ", "Basic YTpi", "token", "Bearer a b"] {
            assert_eq!(bearer(&with(malformed)), BearerHeader::Malformed, "{malformed}");
        }
        assert_eq!(bearer(&with("Bearer abc.def")), BearerHeader::Token("abc.def".into()));
    }

    #[test]
    fn a_client_is_whom_a_trusted_proxy_names_and_no_further() {
        let forwarded = |hops| {
            HeaderMap::from_iter([(
                HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_static(hops),
            )])
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let trusted = [address("10.0.0.1"), address("10.0.0.2")];
        for (peer, hops, expected) in [
            ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "6.6.6.6, 198.51.100.1:5533", "198.51.100.1"),
            ("10.0.0.1", "6.6.6.6, [2001:db8::1]:5533", "2001:db8::"),
            ("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
            ("::ffff:192.0.2.9", "", "192.0.2.9"),
        ] {
            assert_eq!(client(address(peer), &forwarded(hops), &trusted), expected, "{peer} {hops}");
        }
    }

    #[test]
    fn basic_credentials_may_hold_colons_in_the_password() {
        assert_eq!(basic_credentials(&with("Basic YUBiLmM6cDpx")), Some(("a@b.c".into(), "p:q".into())));
        assert_eq!(basic_credentials(&with("Basic !!!")), None);
        assert_eq!(basic_credentials(&with("Bearer abc")), None);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_breaks_off() {
        let read =
            async |body| axum::body::to_bytes(in_time(body, Duration::from_millis(100)), usize::MAX).await;
        assert_eq!(read(Body::from("all of it")).await.unwrap(), "all of it");
        // A byte now and then does not help.
        let drip = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, std::io::Error>("."), ()))
        });
        let read = tokio::time::timeout(Duration::from_secs(5), read(Body::from_stream(drip))).await;
        assert!(read.expect("it ends").is_err());
    }
}
