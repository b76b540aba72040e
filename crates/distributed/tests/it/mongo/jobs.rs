//! Job records: the contract, the documents, and answers that are lost.

use super::{Place, mint, oid, proxy::Proxy};
use bson::{Bson, doc};
use distributed::{Mongo, MongoJobs};
use jiff::Timestamp;
use services::{
    job::{Job, Task},
    ports::{Jobs, PortErrorKind, Swap, contract},
};
use std::{sync::Arc, time::Instant};
use testkit::{mongodb_uri, proxy::Fault};

fn job(owner: &str) -> Job {
    let now = Timestamp::from_second(1_000).unwrap();
    Job::receiving(mint(), owner.into(), "talk.mp4".into(), "w".into(), "r".into(), now)
}

#[tokio::test]
async fn jobs_in_mongodb() {
    let place = Place::new().await;
    contract::jobs(Arc::new(place.jobs().await)).await;
    place.leave().await;
}

#[tokio::test]
async fn a_record_comes_back_exactly_and_lies_there_readable() {
    let place = Place::new().await;
    let jobs = place.jobs().await;
    let mut job = job("Ana@Example.com");
    job.progress = 0.1 + 0.2;
    job.fence = u64::try_from(i64::MAX).unwrap();
    job.mp3_fid = Some(mint());
    job.mp3 =
        Some(services::job::Mp3 { size: 5_000_000_000, sha256: "ab".into(), duration: 1e-7, peaks: true });
    job.updated = "2026-11-21T12:00:00.123456789Z".parse().unwrap();
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Won);
    assert_eq!(jobs.get(job.id).await.unwrap().as_ref(), Some(&job));
    let stored = place.raw("jobs").find_one(doc! { "_id": oid(job.id) }).await.unwrap().unwrap();
    assert_eq!(stored.get_str("owner_key").unwrap(), "ana@example.com");
    assert_eq!(stored.get_str("state").unwrap(), "receiving");
    assert_eq!(stored.get_object_id("mp3_fid").unwrap(), oid(job.mp3_fid.unwrap()));
    assert_eq!(stored.get("version"), Some(&Bson::Int64(1)));
    assert!(stored.get_datetime("sweep_at").is_ok() && stored.get("convert_at").is_none(), "{stored}");
    let record = stored.get_document("record").unwrap();
    assert_eq!(record.get_str("owner").unwrap(), "Ana@Example.com");
    assert_eq!(record.get_document("mp3").unwrap().get("size"), Some(&Bson::Int64(5_000_000_000)));
    place.leave().await;
}

#[tokio::test]
async fn one_damaged_record_does_not_hide_the_others() {
    let place = Place::new().await;
    let jobs = place.jobs().await;
    let (damaged, sound) = (job("ana@example.com"), job("ana@example.com"));
    for job in [&damaged, &sound] {
        assert_eq!(jobs.insert(job).await.unwrap(), Swap::Won);
    }
    let damage = doc! { "$set": { "record.state": "from_the_future" } };
    place.raw("jobs").update_one(doc! { "_id": oid(damaged.id) }, damage).await.unwrap();
    let due = jobs.due(Task::Sweep, Timestamp::from_second(9_999).unwrap(), 10).await.unwrap();
    assert_eq!(due.iter().map(|job| job.id).collect::<Vec<_>>(), [sound.id]);
    let error = jobs.get(damaged.id).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert!(error.source.to_string().contains(&damaged.id.to_string()), "{}", error.source);
    place.leave().await;
}

#[tokio::test]
async fn indexes_are_made_by_many_at_once_and_again_and_keep_two_jobs_from_having_one_mp3() {
    let place = Place::new().await;
    let makers =
        (0..4).map(|_| async { MongoJobs::new(&place.mongo, place.database.name()).ensure_indexes().await });
    for made in futures_util::future::join_all(makers).await {
        made.unwrap();
    }
    let jobs = place.jobs().await;
    assert_eq!(place.raw("jobs").list_index_names().await.unwrap().len(), 9);
    let first = Job { mp3_fid: Some(mint()), ..job("ana@example.com") };
    let second = job("bob@example.com");
    for job in [&first, &second] {
        assert_eq!(jobs.insert(job).await.unwrap(), Swap::Won);
    }
    let thief = Job { version: 2, mp3_fid: first.mp3_fid, ..second.clone() };
    assert_eq!(jobs.replace(&thief).await.unwrap_err().kind, PortErrorKind::Refused);
    assert_eq!(jobs.get(second.id).await.unwrap(), Some(second));
    place.leave().await;
}

/// The driver repeats a write once by itself, where the server says that it can tell: so two answers are lost, and the third counts.
#[tokio::test]
async fn a_write_whose_answers_are_lost_is_still_known_as_ours() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let direct = place.jobs().await;
    let jobs = MongoJobs::new(&Mongo::connect(proxy.uri()).await.unwrap(), place.database.name());
    let job = job("ana@example.com");
    proxy.lose("insert", "jobs", 2);
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Won, "it is ours that is there");
    assert_eq!(proxy.left(), 0, "answers were lost");
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Lost, "the same content by another write is not ours");
    let next = Job { version: 2, progress: 0.5, ..job.clone() };
    proxy.lose("update", "jobs", 2);
    assert_eq!(jobs.replace(&next).await.unwrap(), Swap::Won);
    assert_eq!(proxy.left(), 0, "answers were lost");
    assert_eq!(direct.get(job.id).await.unwrap(), Some(next.clone()));
    // Of two who write the same, one wins, whatever is lost.
    let last = Job { version: 3, ..next };
    assert_eq!(direct.replace(&last).await.unwrap(), Swap::Won);
    proxy.lose("update", "jobs", 2);
    assert_eq!(jobs.replace(&last).await.unwrap(), Swap::Lost);
    assert_eq!(proxy.left(), 0, "answers were lost");
    proxy.lose("delete", "jobs", 2);
    assert_eq!(jobs.remove(job.id, 3).await.unwrap(), Swap::Won);
    assert_eq!(proxy.left(), 0, "answers were lost");
    assert_eq!(direct.get(job.id).await.unwrap(), None);
    place.leave().await;
}

#[tokio::test]
async fn a_change_outlasts_a_short_outage() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let direct = place.jobs().await;
    let jobs = MongoJobs::new(&Mongo::connect(proxy.uri()).await.unwrap(), place.database.name());
    let job = job("ana@example.com");
    jobs.ping().await.unwrap();
    proxy.cut();
    let (inserted, ()) = tokio::join!(jobs.insert(&job), async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert_eq!(direct.get(job.id).await.unwrap(), None, "the outage is one");
        proxy.mend();
    });
    assert_eq!(inserted.unwrap(), Swap::Won);
    place.leave().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_keeps_nobody_waiting() {
    let place = Place::new().await;
    let server = mongodb_uri().trim_start_matches("mongodb://").split(['/', '?']).next().unwrap().to_owned();
    let network = testkit::proxy::Proxy::to(&server).await;
    let uri = network.url_for(&mongodb_uri(), &server);
    let jobs = MongoJobs::new(&Mongo::connect(&uri).await.unwrap(), place.database.name());
    let job = job("ana@example.com");
    jobs.ping().await.unwrap();
    network.set(Fault::BlackHole);
    let began = Instant::now();
    let (got, inserted) =
        tokio::join!(async { (jobs.get(job.id).await, began.elapsed().as_secs()) }, async {
            (jobs.insert(&job).await, began.elapsed().as_secs())
        },);
    for (error, (patience, seconds)) in [(got.0.err(), (10, got.1)), (inserted.0.err(), (15, inserted.1))] {
        assert_eq!(error.unwrap().kind, PortErrorKind::Unavailable);
        assert!((patience - 1..patience + 3).contains(&seconds), "{seconds} s");
    }
    place.leave().await;
}
