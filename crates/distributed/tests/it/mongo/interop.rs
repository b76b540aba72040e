//! What we write, pymongo reads, and the other way round: it is what the original services are made with.

use super::{
    Place,
    gridfs::{CHUNK, get, noise, put},
    mint, oid,
};
use bson::doc;
use services::ports::{Blob, Blobs};
use std::process::Command;
use testkit::mongodb_uri;

/// Runs a script with pymongo's `db` and `fs` at hand, and `args` in `sys.argv[3:]`.
fn python(database: &str, script: &str, args: &[&str]) -> String {
    let interpreter = std::env::var("TAPEDECK_TEST_PYTHON").expect(
        "TAPEDECK_TEST_PYTHON is not set: run the tests by `cargo xtask test`, which makes a Python with pymongo",
    );
    let head = "import sys, hashlib, gridfs, pymongo, bson\ndb = pymongo.MongoClient(sys.argv[1])[sys.argv[2]]\nfs = gridfs.GridFS(db)\n";
    let output = Command::new(interpreter)
        .args(["-c", &format!("{head}{script}"), &mongodb_uri(), database])
        .args(args)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const LENGTHS: [usize; 6] = [0, 1, CHUNK, 3 * CHUNK, 16 * CHUNK, 33 * CHUNK + 5];

#[tokio::test]
async fn pymongo_reads_what_we_write_byte_for_byte() {
    let place = Place::new().await;
    let files = place.files().await;
    for length in LENGTHS {
        let (blob, body) = (Blob::mp3(mint()), noise(length, 1));
        put(&files, blob, &body).await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = "f = fs.get(bson.ObjectId(sys.argv[3]))\nopen(sys.argv[4], 'wb').write(f.read())\nprint(f.length, f.content_type, f.metadata['by'])";
        let facts =
            python(place.database.name(), script, &[&blob.id.to_string(), file.path().to_str().unwrap()]);
        assert_eq!(facts, format!("{length} audio/mpeg tapedeck"));
        assert!(std::fs::read(file.path()).unwrap() == body, "{length} bytes");
    }
    place.leave().await;
}

#[tokio::test]
async fn we_read_and_delete_what_pymongo_writes() {
    let place = Place::new().await;
    // As the original services do: no file name, and the indexes made by pymongo before ours.
    for (length, options) in LENGTHS
        .map(|length| (length, ""))
        .into_iter()
        .chain([(1_000_003, ", chunk_size=1000"), (1_000_003, ", filename='a.mp4'")])
    {
        let body = noise(length, 2);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &body).unwrap();
        let script = format!("print(fs.put(open(sys.argv[3], 'rb'){options}))");
        let id = python(place.database.name(), &script, &[file.path().to_str().unwrap()]);
        let (files, blob) = (place.files().await, Blob::mp3(id.parse().unwrap()));
        assert_eq!(files.size(blob).await.unwrap(), Some(length as u64));
        assert!(get(&files, blob, 0..length as u64).await.unwrap() == body, "{length} bytes{options}");
        let middle = length as u64 / 3..length as u64 / 2;
        assert!(get(&files, blob, middle).await.unwrap() == body[length / 3..length / 2]);
        files.delete(blob).await.unwrap();
        let left = place.raw("fs.chunks").count_documents(doc! { "files_id": oid(blob.id) }).await.unwrap();
        assert_eq!(left, 0);
        assert_eq!(
            python(place.database.name(), "print(fs.exists(bson.ObjectId(sys.argv[3])))", &[&id]),
            "False"
        );
    }
    place.leave().await;
}

#[tokio::test]
async fn lengths_of_any_number_type_are_understood() {
    let place = Place::new().await;
    let files = place.files().await;
    let body = noise(3 * CHUNK + 1, 3);
    for (length, size) in [
        (bson::Bson::Int32(783_361), bson::Bson::Int64(261_120)),
        (bson::Bson::Double(783_361.0), bson::Bson::Double(261_120.0)),
    ] {
        let blob = Blob::mp3(mint());
        put(&files, blob, &body).await.unwrap();
        let change = doc! { "$set": { "length": length, "chunkSize": size }, "$unset": { "filename": 1, "metadata": 1 } };
        place.raw("fs.files").update_one(doc! { "_id": oid(blob.id) }, change).await.unwrap();
        assert!(get(&files, blob, 0..body.len() as u64).await.unwrap() == body);
    }
    place.leave().await;
}
