//! The gateway: the page, the API, and the routes of the original gateway, over the job records and the files.

mod api;
mod compat;
mod events;
mod file;
mod form;
mod page;
mod peaks;
mod session;
mod upload;
mod view;

pub use view::JobView;

use crate::{
    http,
    ports::{Auth, Blobs},
    transition::Ledger,
};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{any, get, post},
};
use events::Feed;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the gateway is told by the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest video, bytes.
    pub upload_limit: u64,
    /// The most jobs of one user that are not ended.
    pub active_jobs: u64,
    /// An upload that sends nothing for so long is given up.
    pub upload_idle: Duration,
    /// Proxies whose word is taken for whom a request comes from.
    pub trusted_proxies: Vec<IpAddr>,
    /// The page is reached over HTTPS: cookies are for HTTPS alone.
    pub https: bool,
    /// How often a receiver shows a sign of life.
    pub beat: Duration,
    /// How often the records are read for live events.
    pub poll: Duration,
    /// Tokens and so sessions live for so long.
    pub session: Duration,
    /// Who may download an MP3 that no record names.
    pub legacy_downloads: LegacyDownloads,
    /// For the page, in words: the longest sound.
    pub max_duration: String,
    /// For the page, in words: how long MP3s are kept.
    pub mp3_kept: String,
    /// For the page, in words: how long videos of failed jobs are kept.
    pub failed_video_kept: String,
}

/// Who may download an MP3 that no record names: one that original services made before Tapedeck came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LegacyDownloads {
    /// Nobody; `tapedeck adopt` gives it an owner.
    #[default]
    Nobody,
    /// Administrators.
    Admin,
    /// Whoever can sign in and knows its id, as it was with the originals.
    AnyUser,
}

/// The gateway's state.
pub struct Gateway {
    ledger: Ledger,
    blobs: Arc<dyn Blobs>,
    auth: Arc<dyn Auth>,
    settings: Settings,
    feed: Feed,
    /// Ends open event streams, which would otherwise hold the shutdown up for ever.
    stopping: CancellationToken,
    /// Uploads go on when their connection's handler is dropped, to clean up behind them.
    receptions: TaskTracker,
}

impl Gateway {
    /// A gateway over these ports. Its event streams end when `stopping` is cancelled.
    pub fn new(
        ledger: Ledger,
        blobs: Arc<dyn Blobs>,
        auth: Arc<dyn Auth>,
        settings: Settings,
        stopping: CancellationToken,
    ) -> Arc<Gateway> {
        let feed = Feed::new(Arc::clone(&ledger.jobs), settings.poll);
        let receptions = TaskTracker::new();
        Arc::new(Gateway { ledger, blobs, auth, settings, feed, stopping, receptions })
    }

    /// Resolves when no upload is in hand any more.
    pub async fn idle(&self) {
        self.receptions.close();
        self.receptions.wait().await;
    }
}

/// All routes of the gateway.
pub fn routes(gateway: Arc<Gateway>) -> Router {
    let api = Router::new()
        .route("/jobs", get(api::list))
        .route("/jobs/{id}", get(api::one).delete(api::delete))
        .route("/jobs/{id}/cancel", post(api::cancel))
        .route("/jobs/{id}/retry", post(api::retry))
        .route("/jobs/{id}/file", get(file::of_job))
        .route("/jobs/{id}/peaks", get(peaks::of_job))
        .route("/events", get(events::stream))
        .fallback(api::no_such_route)
        .method_not_allowed_fallback(api::no_such_method);
    let page = Router::new()
        .route("/", get(page::home))
        .route("/setup", get(page::set_up).post(session::set_up))
        .route("/session", get(page::to_home).post(session::sign_in))
        .route("/session/end", post(session::sign_out))
        .route("/assets/{name}", get(page::asset))
        .fallback(page::no_such_page)
        .layer(middleware::from_fn(page::with_policy))
        .layer(middleware::from_fn(http::with_body_in_time));
    Router::new()
        .route("/login", post(compat::login))
        .route("/upload", post(upload::upload).layer(DefaultBodyLimit::disable()))
        .route("/download", get(compat::download))
        .nest("/api/v1", api)
        .route("/api/v1/", any(api::no_such_route))
        .method_not_allowed_fallback(api::no_such_method)
        .merge(page)
        .with_state(gateway)
}

/// The routes with request ids and spans, as a process serves them.
pub fn layered(routes: Router) -> Router {
    routes.layer(middleware::from_fn(http::with_request_id))
}
