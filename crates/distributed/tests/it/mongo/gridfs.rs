//! Files: the contract, sizes around a chunk's, writers who meet, orphans, damage, and memory.

use super::{Place, mint, oid};
use bson::doc;
use bytes::Bytes;
use distributed::GridFs;
use engine::Source;
use futures_util::{StreamExt, TryStreamExt};
use services::ports::{Blob, BlobWriter, Blobs, Bucket, HEAD, PortErrorKind, PortResult, contract};
use std::{ops::Range, sync::Arc};

pub const CHUNK: usize = 255 * 1024;

/// Bytes that are others at every place.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 11).to_le_bytes()[..6]);
    }
    bytes.truncate(length);
    bytes
}

pub async fn put(files: &GridFs, blob: Blob, body: &[u8]) -> PortResult<()> {
    let mut writer = files.create(blob).await?;
    fill(&mut *writer, body).await?;
    writer.commit().await
}

pub async fn fill(writer: &mut dyn BlobWriter, body: &[u8]) -> PortResult<()> {
    for piece in body.chunks(100_001) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    Ok(())
}

pub async fn get(files: &GridFs, blob: Blob, range: Range<u64>) -> PortResult<Vec<u8>> {
    let pieces: Vec<Bytes> = files.read(blob, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn blobs_in_gridfs() {
    let place = Place::new().await;
    contract::blobs(Arc::new(place.files().await)).await;
    for database in [place.database.clone(), place.database.client().database(&place.videos())] {
        for collection in ["fs.files", "fs.chunks", "fs.drafts"] {
            let left =
                database.collection::<bson::Document>(collection).count_documents(doc! {}).await.unwrap();
            assert_eq!(left, 0, "nothing is left in {collection}");
        }
    }
    place.leave().await;
}

#[tokio::test]
async fn files_of_every_size_around_a_chunk_come_back_whole_and_in_parts() {
    let place = Place::new().await;
    let files = place.files().await;
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, 17 * CHUNK, 17 * CHUNK + 1, 40 * CHUNK + 77]
    {
        let (blob, body) = (Blob::mp3(mint()), noise(length, length as u64));
        put(&files, blob, &body).await.unwrap();
        let end = length as u64;
        assert!(get(&files, blob, 0..end).await.unwrap() == body, "{length} bytes");
        let stored = place.raw("fs.chunks").count_documents(doc! { "files_id": oid(blob.id) }).await.unwrap();
        assert_eq!(stored, (length as u64).div_ceil(CHUNK as u64));
        let (body, source) = (Arc::new(body), files.source(blob).await.unwrap().unwrap());
        tokio::task::spawn_blocking(move || read_at_many_places(&source, &body)).await.unwrap();
    }
    place.leave().await;
}

fn read_at_many_places(source: &dyn Source, body: &[u8]) {
    assert_eq!(source.len().unwrap(), body.len() as u64);
    let steps = (0..60_u64).map(|step| step * 7_919_003 % (body.len() as u64 + 1));
    // In order first, then to and fro.
    for offset in (0..body.len() as u64).step_by(1_000_003).chain(steps) {
        let mut buffer = vec![0; 300_000];
        let length = source.read_at(offset, &mut buffer).unwrap();
        let rest = &body[usize::try_from(offset).unwrap()..];
        assert_eq!(length, rest.len().min(buffer.len()), "at {offset}");
        assert!(buffer[..length] == rest[..length], "at {offset}");
    }
    assert_eq!(source.read_at(u64::MAX, &mut [0; 9]).unwrap(), 0, "beyond the end is the end");
}

#[tokio::test]
async fn the_documents_are_those_of_gridfs() {
    let place = Place::new().await;
    let files = place.files().await;
    let blob = Blob::mp3(mint());
    let mut writer = files.create(blob).await.unwrap();
    fill(&mut *writer, &noise(CHUNK + 5, 1)).await.unwrap();
    assert!(writer.rewrite_head(HEAD - 1, Bytes::from_static(b"xy")).await.is_err());
    writer.rewrite_head(HEAD - 2, Bytes::from_static(b"xy")).await.unwrap();
    writer.commit().await.unwrap();
    let file = place.raw("fs.files").find_one(doc! { "_id": oid(blob.id) }).await.unwrap().unwrap();
    assert_eq!(file.get_i64("length").unwrap(), CHUNK as i64 + 5);
    assert_eq!(file.get_i32("chunkSize").unwrap(), 261_120);
    assert_eq!(file.get_str("contentType").unwrap(), "audio/mpeg");
    assert!(file.get_datetime("uploadDate").is_ok() && file.get("md5").is_none());
    let names = place.raw("fs.chunks").list_index_names().await.unwrap();
    assert!(names.contains(&"files_id_1_n_1".to_owned()), "{names:?}");
    files.ensure_indexes().await.unwrap();
    place.leave().await;
}

#[tokio::test]
async fn a_committed_file_is_not_begun_anew() {
    let place = Place::new().await;
    let files = place.files().await;
    let blob = Blob::mp3(mint());
    put(&files, blob, b"first").await.unwrap();
    let refused = files.create(blob).await.err().expect("it is there already");
    assert_eq!(refused.kind, PortErrorKind::Refused);
    assert_eq!(get(&files, blob, 0..5).await.unwrap(), b"first");
    place.leave().await;
}

#[tokio::test]
async fn of_two_writers_of_one_name_the_later_wins_and_the_earlier_takes_nothing_of_it_away() {
    let place = Place::new().await;
    let files = place.files().await;
    let blob = Blob::mp3(mint());
    let (early_body, late_body) = (noise(40 * CHUNK, 1), noise(36 * CHUNK + 9, 2));
    let mut early = files.create(blob).await.unwrap();
    fill(&mut *early, &early_body[..20 * CHUNK]).await.unwrap();
    let mut late = files.create(blob).await.unwrap();
    // The earlier one goes on, and is further than the later: what it stores now is in the way.
    let more = fill(&mut *early, &early_body[20 * CHUNK..]).await;
    fill(&mut *late, &late_body).await.unwrap();
    let early = match more {
        Ok(()) => early.commit().await,
        Err(error) => Err(error),
    };
    assert_eq!(early.unwrap_err().kind, PortErrorKind::Refused);
    late.commit().await.unwrap();
    assert!(get(&files, blob, 0..late_body.len() as u64).await.unwrap() == late_body);
    let chunks = place.raw("fs.chunks").count_documents(doc! { "files_id": oid(blob.id) }).await.unwrap();
    assert_eq!(chunks, 37, "nothing of the earlier one is left");
    assert_eq!(place.raw("fs.drafts").count_documents(doc! {}).await.unwrap(), 0);
    place.leave().await;
}

#[tokio::test]
async fn a_late_message_of_an_earlier_writer_does_no_harm() {
    let place = Place::new().await;
    let files = place.files().await;
    let (blob, body) = (Blob::mp3(mint()), noise(3 * CHUNK, 3));
    let mut writer = files.create(blob).await.unwrap();
    // One in the way, one beyond the end.
    for n in [1, 9] {
        let stray = doc! { "files_id": oid(blob.id), "n": n, "data": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![7; 9] } };
        place.raw("fs.chunks").insert_one(stray).await.unwrap();
    }
    fill(&mut *writer, &body).await.unwrap();
    writer.commit().await.unwrap();
    assert!(get(&files, blob, 0..body.len() as u64).await.unwrap() == body);
    assert_eq!(place.raw("fs.chunks").count_documents(doc! {}).await.unwrap(), 3);
    place.leave().await;
}

#[tokio::test]
async fn a_writer_whose_file_is_deleted_meanwhile_fails_and_leaves_nothing() {
    let place = Place::new().await;
    let files = place.files().await;
    let blob = Blob::mp3(mint());
    let mut writer = files.create(blob).await.unwrap();
    fill(&mut *writer, &noise(20 * CHUNK, 4)).await.unwrap();
    files.delete(blob).await.unwrap();
    fill(&mut *writer, &noise(20 * CHUNK, 5)).await.unwrap();
    assert_eq!(writer.commit().await.unwrap_err().kind, PortErrorKind::Refused);
    assert_eq!(files.size(blob).await.unwrap(), None);
    assert_eq!(files.list(Bucket::Mp3s).await.unwrap(), []);
    place.leave().await;
}

#[tokio::test]
async fn orphans_are_collected_and_nothing_else() {
    let place = Place::new().await;
    let files = place.files().await;
    let (kept, abandoned, strange, writing) =
        (Blob::mp3(mint()), Blob::mp3(mint()), Blob::mp3(mint()), Blob::mp3(mint()));
    put(&files, kept, &noise(3 * CHUNK, 6)).await.unwrap();
    let mut writer = files.create(abandoned).await.unwrap();
    fill(&mut *writer, &noise(18 * CHUNK, 7)).await.unwrap();
    drop(writer);
    // Another driver's upload that died: chunks, and neither draft nor files document.
    place.raw("fs.chunks").insert_one(doc! { "files_id": oid(strange.id), "n": 0 }).await.unwrap();
    // A file of another's that is named otherwise.
    place.raw("fs.chunks").insert_one(doc! { "files_id": "name", "n": 0 }).await.unwrap();
    // A committed file whose draft stayed.
    place
        .raw("fs.drafts")
        .insert_one(
            doc! { "_id": oid(kept.id), "writer": oid(mint()), "since": bson::DateTime::from_millis(0) },
        )
        .await
        .unwrap();
    let at = |seconds| {
        jiff::Timestamp::from_second(oid(kept.id).timestamp().timestamp_millis() / 1000 + seconds).unwrap()
    };
    assert_eq!(files.collect_orphans(at(-60)).await.unwrap(), 0, "what is young may yet become a file");
    assert_eq!(files.list(Bucket::Mp3s).await.unwrap(), [kept.id, abandoned.id, strange.id]);
    assert_eq!(
        place.raw("fs.drafts").count_documents(doc! {}).await.unwrap(),
        1,
        "of a committed file no draft is needed"
    );
    let mut living = files.create(writing).await.unwrap();
    let ahead = doc! { "$set": { "since": bson::DateTime::from_millis(at(7200).as_millisecond()) } };
    place.raw("fs.drafts").update_one(doc! { "_id": oid(writing.id) }, ahead).await.unwrap();
    fill(&mut *living, &noise(40 * CHUNK, 8)).await.unwrap();
    assert_eq!(files.collect_orphans(at(3600)).await.unwrap(), 2);
    assert_eq!(files.list(Bucket::Mp3s).await.unwrap(), [kept.id, writing.id]);
    living.commit().await.unwrap();
    for blob in [kept, writing] {
        let length = files.size(blob).await.unwrap().unwrap();
        assert_eq!(get(&files, blob, 0..length).await.unwrap().len() as u64, length);
    }
    assert_eq!(place.raw("fs.chunks").count_documents(doc! { "files_id": "name" }).await.unwrap(), 1);
    place.leave().await;
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_other_bytes() {
    let place = Place::new().await;
    let files = place.files().await;
    let of = |blob: Blob, n: i32| doc! { "files_id": oid(blob.id), "n": n };
    let (missing, short) = (Blob::mp3(mint()), Blob::mp3(mint()));
    for blob in [missing, short] {
        put(&files, blob, &noise(20 * CHUNK, 9)).await.unwrap();
    }
    place.raw("fs.chunks").delete_one(of(missing, 17)).await.unwrap();
    let cut = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1; 100] };
    place.raw("fs.chunks").update_one(of(short, 3), doc! { "$set": { "data": cut } }).await.unwrap();
    for (blob, n) in [(missing, 17), (short, 3)] {
        let error = get(&files, blob, 0..20 * HEAD).await.unwrap_err();
        assert!(error.source.to_string().contains(&format!("chunk {n} ")), "{}", error.source);
        assert_eq!(get(&files, blob, 0..HEAD).await.unwrap().len(), CHUNK, "what is whole can be read");
        let source = files.source(blob).await.unwrap().unwrap();
        let read = tokio::task::spawn_blocking(move || source.read_at(n * HEAD, &mut [0; 10])).await.unwrap();
        assert!(read.is_err());
    }
    place.leave().await;
}

#[tokio::test]
async fn a_conversion_reads_from_gridfs_what_it_reads_from_a_file() {
    let place = Place::new().await;
    let (files, blob) = (place.files().await, Blob::video(mint()));
    let video = concat!(env!("CARGO_MANIFEST_DIR"), "/../../media/bbb_480p_30s.mp4");
    put(&files, blob, &std::fs::read(video).unwrap()).await.unwrap();
    let source = files.source(blob).await.unwrap().unwrap();
    let converted = |source: &dyn Source| {
        let (mut mp3, mut watch) = (Vec::new(), |_| std::ops::ControlFlow::Continue(()));
        let (options, limits) = (engine::Options::default(), engine::Limits::default());
        engine::convert(source, &mut mp3, &options, &limits, &mut watch).unwrap();
        mp3
    };
    let both = move || (converted(&source), converted(&std::fs::File::open(video).unwrap()));
    let (from_gridfs, from_file) = tokio::task::spawn_blocking(both).await.unwrap();
    assert!(from_gridfs.len() > 100_000 && from_gridfs == from_file);
    assert!(matches!(files.engine_input(blob).await.unwrap(), Some(engine::Input::Ranges(_))));
    place.leave().await;
}

/// This process's resident memory, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_gibibyte_goes_through_in_flat_memory() {
    const MIB: usize = 1024 * 1024;
    let place = Place::new().await;
    let files = place.files().await;
    let blob = Blob::mp3(mint());
    let piece = Bytes::from(noise(MIB, 10));
    let mut writer = files.create(blob).await.unwrap();
    let (before, mut most) = (memory(), 0);
    for _ in 0..1024 {
        writer.write(piece.clone()).await.unwrap();
        most = most.max(memory());
    }
    writer.commit().await.unwrap();
    let mut stream = files.read(blob, 0..1 << 30).await.unwrap();
    let mut length = 0;
    while let Some(piece) = stream.next().await {
        length += piece.unwrap().len();
        most = most.max(memory());
    }
    assert_eq!(length, 1 << 30);
    // Other tests run in this process at the same time; held whole, it would be a thousand.
    assert!(most - before < 200 * MIB, "{} MiB more", (most - before) / MIB);
    println!("{} MiB more", (most - before) / MIB);
    place.leave().await;
}
