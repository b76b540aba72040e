//! MongoDB is away in the midst of it: for seconds it costs nothing, for longer it is an error that may pass.

use super::{
    Place,
    gridfs::{CHUNK, fill, get, noise, put},
    mint,
    proxy::Proxy,
};
use distributed::{GridFs, Mongo, MongoJobs};
use engine::Source;
use futures_util::StreamExt;
use services::{
    job::Job,
    ports::{Blob, Blobs, Jobs, PortErrorKind, Swap},
};
use std::{sync::Arc, time::Duration};

async fn through(proxy: &Proxy, place: &Place) -> GridFs {
    GridFs::new(&Mongo::connect(proxy.uri()).await.unwrap(), &place.videos(), place.database.name())
}

/// Away for three seconds from now on.
async fn outage(proxy: &Proxy) {
    proxy.cut();
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.mend();
}

#[tokio::test]
async fn an_upload_and_its_commit_outlast_an_outage() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let (direct, files) = (place.files().await, through(&proxy, &place).await);
    let (blob, body) = (Blob::mp3(mint()), noise(60 * CHUNK + 1, 1));
    let mut writer = files.create(blob).await.unwrap();
    fill(&mut *writer, &body[..20 * CHUNK]).await.unwrap();
    let (written, ()) = tokio::join!(fill(&mut *writer, &body[20 * CHUNK..]), outage(&proxy));
    written.unwrap();
    let (committed, ()) = tokio::join!(writer.commit(), outage(&proxy));
    committed.unwrap();
    assert!(get(&direct, blob, 0..body.len() as u64).await.unwrap() == body);
    place.leave().await;
}

/// Each kind of write in turn: the server does it, and its answer is lost, with that to the driver's own repetition.
#[tokio::test]
async fn an_upload_whose_answers_are_lost_is_whole_and_there_once() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let (direct, files) = (place.files().await, through(&proxy, &place).await);
    let body = noise(20 * CHUNK + 1, 2);
    for (command, collection) in [
        ("insert", "fs.chunks"),
        ("insert", "fs.files"),
        ("update", "fs.drafts"),
        ("delete", "fs.drafts"),
        ("delete", "fs.chunks"),
    ] {
        let blob = Blob::mp3(mint());
        proxy.lose(command, collection, 2);
        put(&files, blob, &body)
            .await
            .unwrap_or_else(|error| panic!("{command} {collection}: {error} {}", error.source));
        assert_eq!(proxy.left(), 0, "answers to {command} on {collection} were lost");
        assert!(get(&direct, blob, 0..body.len() as u64).await.unwrap() == body, "{command} {collection}");
        proxy.lose("delete", "fs.files", 2);
        files.delete(blob).await.unwrap();
        assert_eq!(proxy.left(), 0, "answers were lost");
    }
    for collection in ["fs.files", "fs.chunks", "fs.drafts"] {
        assert_eq!(place.raw(collection).count_documents(bson::doc! {}).await.unwrap(), 0, "{collection}");
    }
    place.leave().await;
}

#[tokio::test]
async fn a_download_and_a_conversions_reads_outlast_an_outage() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let (direct, files) = (place.files().await, through(&proxy, &place).await);
    let (blob, body) = (Blob::mp3(mint()), Arc::new(noise(100 * CHUNK + 1, 3)));
    put(&direct, blob, &body).await.unwrap();
    let mut stream = files.read(blob, 0..body.len() as u64).await.unwrap();
    let source = files.source(blob).await.unwrap().unwrap();
    let mut read = stream.next().await.unwrap().unwrap().to_vec();
    let expected = Arc::clone(&body);
    let conversion = tokio::task::spawn_blocking(move || {
        let mut read = vec![0; 0];
        let mut piece = vec![0; 32 * 1024];
        loop {
            match source.read_at(read.len() as u64, &mut piece).unwrap() {
                0 => return read == *expected,
                length => read.extend_from_slice(&piece[..length]),
            }
        }
    });
    let rest = async {
        while let Some(piece) = stream.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
    };
    tokio::join!(rest, outage(&proxy));
    assert!(read == *body);
    assert!(conversion.await.unwrap());
    place.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlasts_the_servers_sudden_death_and_an_upload_goes_on() {
    let mut server = testkit::mongodb::Server::start().unwrap();
    let mongo = Mongo::connect(&server.uri()).await.unwrap();
    let (files, jobs) = (GridFs::new(&mongo, "videos", "mp3s"), MongoJobs::new(&mongo, "tapedeck"));
    files.ensure_indexes().await.unwrap();
    jobs.ensure_indexes().await.unwrap();
    let (done, going_on) = (Blob::mp3(mint()), Blob::mp3(mint()));
    let body = Arc::new(noise(120 * CHUNK + 1, 6));
    put(&files, done, &body).await.unwrap();
    let now = jiff::Timestamp::from_second(1_000).unwrap();
    let job = Job::receiving(mint(), "ana@example.com".into(), "a.mp4".into(), "w".into(), "r".into(), now);
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Won);
    let upload = tokio::spawn({
        let (files, body) = (files.clone(), Arc::clone(&body));
        async move { put(&files, going_on, &body).await }
    });
    // On this thread, which lives as long as the server shall.
    tokio::task::block_in_place(|| {
        std::thread::sleep(Duration::from_millis(300));
        server.kill9();
        server.restart().unwrap();
    });
    upload.await.unwrap().unwrap();
    for blob in [done, going_on] {
        assert!(get(&files, blob, 0..body.len() as u64).await.unwrap() == *body, "{blob}");
    }
    assert_eq!(jobs.get(job.id).await.unwrap(), Some(job));
}

#[tokio::test]
async fn a_long_outage_is_an_error_that_may_pass_and_comes_in_time() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let (direct, files) = (place.files().await, through(&proxy, &place).await);
    let blob = Blob::mp3(mint());
    let mut writer = files.create(blob).await.unwrap();
    fill(&mut *writer, &noise(2 * CHUNK, 4)).await.unwrap();
    proxy.cut();
    let began = std::time::Instant::now();
    let error = writer.commit().await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable, "{error:?}");
    assert!((20..32).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(direct.size(blob).await.unwrap(), None);
    place.leave().await;
}

#[tokio::test]
async fn a_file_that_lost_a_part_cannot_be_committed_when_the_outage_is_over() {
    let (place, proxy) = (Place::new().await, Proxy::new().await);
    let (direct, files) = (place.files().await, through(&proxy, &place).await);
    let (blob, body) = (Blob::mp3(mint()), noise(20 * CHUNK, 5));
    let mut writer = files.create(blob).await.unwrap();
    proxy.cut();
    while fill(&mut *writer, &body).await.is_ok() {}
    proxy.mend();
    assert!(writer.commit().await.is_err());
    assert_eq!(direct.size(blob).await.unwrap(), None);
    place.leave().await;
}

#[test]
fn a_source_whose_runtime_is_gone_fails_and_does_not_panic() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (place, source) = runtime.block_on(async {
        let place = Place::new().await;
        let (files, blob) = (place.files().await, Blob::mp3(mint()));
        put(&files, blob, b"sound").await.unwrap();
        let source = files.source(blob).await.unwrap().unwrap();
        (place, source)
    });
    runtime.block_on(place.leave());
    drop(runtime);
    assert!(source.read_at(0, &mut [0; 5]).is_err());
}
