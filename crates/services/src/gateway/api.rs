//! `/api/v1/jobs`: list, one, cancel, retry, delete.

use super::{Gateway, JobView, file};
use crate::{
    http::Problem,
    id::Id,
    job::{Event, Job},
    transition::TransitionError,
};
use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many jobs a list holds unless told otherwise, and at most.
pub(super) const LIST: usize = 200;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    /// Only jobs older than this one.
    before: Option<Id>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct JobList {
    pub(super) jobs: Vec<JobView>,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<JobList>, Problem> {
    let identity = gateway.identify(&method, &headers).await?;
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-query", error.body_text()))?;
    let limit = query.limit.unwrap_or(LIST).clamp(1, LIST);
    let jobs = gateway.ledger.jobs.by_owner(&identity.email, query.before, limit).await;
    let jobs = jobs.map_err(|error| Problem::internal(&error))?;
    Ok(Json(JobList { jobs: jobs.iter().map(JobView::from).collect() }))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    file::JobId(id): file::JobId,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<JobView>, Problem> {
    let job = gateway.owned(&method, &headers, &id).await?;
    Ok(Json(JobView::from(&job)))
}

pub(super) async fn cancel(
    State(gateway): State<Arc<Gateway>>,
    file::JobId(id): file::JobId,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<JobView>, Problem> {
    let job = gateway.change(&method, &headers, &id, Event::Cancel).await?;
    Ok(Json(JobView::from(&job)))
}

pub(super) async fn retry(
    State(gateway): State<Arc<Gateway>>,
    file::JobId(id): file::JobId,
    method: Method,
    headers: HeaderMap,
) -> Result<Json<JobView>, Problem> {
    let job = gateway.change(&method, &headers, &id, Event::Retry).await?;
    Ok(Json(JobView::from(&job)))
}

pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    file::JobId(id): file::JobId,
    method: Method,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    gateway.change(&method, &headers, &id, Event::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn no_such_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-route", "there is no such route; docs/api.md lists them all")
}

pub(super) async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no-such-method",
        "this route has other methods; docs/api.md lists them all",
    )
}

impl Gateway {
    async fn change(
        &self,
        method: &Method,
        headers: &HeaderMap,
        id: &str,
        event: Event,
    ) -> Result<Job, Problem> {
        let job = self.owned(method, headers, id).await?;
        if event == Event::Retry {
            self.check_active(&job.owner, 1).await?;
        }
        self.ledger.apply(job.id, event).await.map_err(|error| match error {
            TransitionError::Missing => file::not_found(),
            TransitionError::Refused(refused) => {
                Problem::new(StatusCode::CONFLICT, "not-now", format!("this cannot be done: {refused}"))
            }
            TransitionError::Store(error) => Problem::internal(&error),
        })
    }
}
