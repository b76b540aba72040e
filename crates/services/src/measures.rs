//! What is counted and timed, under the names that alerts and dashboard use. Without a recorder nothing is.

use crate::job::{Job, MailState, State};
use jiff::Timestamp;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// Requests by route, method and status.
pub const REQUESTS: &str = "tapedeck_http_requests_total";
/// Seconds until a request's answer began.
pub const REQUEST_SECONDS: &str = "tapedeck_http_request_seconds";
/// Seconds that a stage of a job took: upload, wait, convert, verify, mail.
pub const STAGE_SECONDS: &str = "tapedeck_stage_seconds";
const RETRIES: &str = "tapedeck_retries_total";
const ENDED: &str = "tapedeck_jobs_ended_total";
const MAILS: &str = "tapedeck_mails_total";
const JOBS: &str = "tapedeck_jobs";
const OLDEST: &str = "tapedeck_oldest_queued_seconds";
const MAILS_DUE: &str = "tapedeck_mails_due";
const UNPUBLISHED: &str = "tapedeck_unpublished_wakeups";
const BROKER: &str = "tapedeck_broker_connected";

/// Says what each name means, and begins every series at nothing, so that a first event is a rise.
pub fn describe() {
    describe_counter!(REQUESTS, "HTTP requests by route, method and status");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time until the answer to a request began");
    describe_histogram!(
        STAGE_SECONDS,
        Unit::Seconds,
        "Time that a stage of a job took: upload, wait, convert, verify, mail"
    );
    describe_counter!(RETRIES, "Attempts that failed for a reason that may pass, by kind");
    describe_counter!(ENDED, "Jobs that ended, by state and error code");
    describe_counter!(MAILS, "Mails by what became of them: sent, bounced, retried");
    describe_gauge!(JOBS, "Job records by state");
    describe_gauge!(OLDEST, Unit::Seconds, "How long the longest waiting job that is due has been waiting");
    describe_gauge!(MAILS_DUE, "Mails that are due");
    describe_gauge!(UNPUBLISHED, "Wake-ups that are to be published");
    describe_gauge!(BROKER, "1 while this process is connected to the broker");
    for kind in ["transient", "suspect", "lost"] {
        counter!(RETRIES, "kind" => kind).absolute(0);
    }
    for result in ["sent", "bounced", "retried"] {
        counter!(MAILS, "result" => result).absolute(0);
    }
    counter!(ENDED, "state" => "converted", "code" => "").absolute(0);
    counter!(ENDED, "state" => "failed", "code" => "").absolute(0);
}

/// A stage took so long.
pub fn stage(stage: &'static str, seconds: f64) {
    histogram!(STAGE_SECONDS, "stage" => stage).record(seconds);
}

/// A request was answered.
pub fn request(route: String, method: &str, status: u16, took: Duration) {
    // Methods are the client's own words: unknown ones shall not become series.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = known.into_iter().find(|known| *known == method).unwrap_or("other");
    histogram!(REQUEST_SECONDS, "route" => route.clone()).record(took.as_secs_f64());
    counter!(REQUESTS, "route" => route, "method" => method, "status" => status.to_string()).increment(1);
}

/// All records, counted.
pub fn census(census: &crate::ports::Census, now: Timestamp) {
    for state in State::ALL {
        let count = census.states.get(&state).copied().unwrap_or(0);
        gauge!(JOBS, "state" => state.as_str()).set(count as f64);
    }
    let waited = census.oldest_due.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0));
    gauge!(OLDEST).set(waited);
    gauge!(MAILS_DUE).set(census.mails_due as f64);
    gauge!(UNPUBLISHED).set(census.unpublished as f64);
}

/// Is this process connected to the broker?
pub fn broker(connected: bool) {
    gauge!(BROKER).set(if connected { 1.0 } else { 0.0 });
}

/// A record changed.
pub(crate) fn observe(before: &Job, after: &Job) {
    let since = |then: Timestamp| after.updated.duration_since(then).as_secs_f64().max(0.0);
    if before.state != after.state {
        match (before.state, after.state) {
            (State::Receiving, State::Queued) => stage("upload", since(before.created)),
            (State::Queued, State::Converting) => stage("wait", since(before.since())),
            (State::Converting, State::Converted) => stage("convert", since(before.since())),
            _ => {}
        }
        if after.state.is_ended() && after.is_accepted() {
            let code = after.error.as_ref().map(|error| error.code.clone()).unwrap_or_default();
            counter!(ENDED, "state" => after.state.as_str(), "code" => code).increment(1);
        }
    }
    let (old, new) = (before.failures, after.failures);
    for (kind, grown) in [
        ("transient", new.transient > old.transient),
        ("suspect", new.suspect > old.suspect),
        ("lost", new.lost > old.lost),
    ] {
        if grown {
            counter!(RETRIES, "kind" => kind).increment(1);
        }
    }
    if before.mail.state == MailState::Sending {
        match after.mail.state {
            MailState::Sent => {
                stage("mail", since(after.since()));
                counter!(MAILS, "result" => "sent").increment(1);
            }
            MailState::Undeliverable => counter!(MAILS, "result" => "bounced").increment(1),
            MailState::Pending => counter!(MAILS, "result" => "retried").increment(1),
            MailState::None | MailState::HandedOver | MailState::Sending => {}
        }
    }
}
