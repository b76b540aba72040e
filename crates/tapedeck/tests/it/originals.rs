//! Stand-ins for the original services, which behave as the wire contract says: their documents, their properties, their nacks.

use crate::{cluster::Cluster, deck::tool};
use futures_util::{StreamExt, TryStreamExt};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use mongodb::bson::{Binary, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype};
use serde_json::{Value, json};
use std::{process::Command, time::Duration};

/// The originals' side of a cluster.
pub struct Originals<'a> {
    cluster: &'a Cluster,
    _connection: Connection,
    pub channel: Channel,
}

impl<'a> Originals<'a> {
    /// Connects; the operator has made both queues by hand, durable and without arguments.
    pub async fn beside(cluster: &'a Cluster) -> Originals<'a> {
        let connection = Connection::connect(&cluster.amqp, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for queue in ["video", "mp3"] {
            channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
        }
        Originals { cluster, _connection: connection, channel }
    }

    /// `fs.put(bytes)` of pymongo's GridFS: no file name, no type, no metadata.
    pub async fn put(&self, bucket: &str, bytes: &[u8]) -> ObjectId {
        const CHUNK: usize = 261_120;
        let id = ObjectId::new();
        let chunks: Vec<Document> = (0_i32..)
            .zip(bytes.chunks(CHUNK))
            .map(|(n, piece)| {
                let data = Binary { subtype: BinarySubtype::Generic, bytes: piece.to_vec() };
                doc! { "_id": ObjectId::new(), "files_id": id, "n": n, "data": data }
            })
            .collect();
        if !chunks.is_empty() {
            self.cluster.gridfs(bucket, "chunks").insert_many(chunks).await.unwrap();
        }
        let length = i64::try_from(bytes.len()).unwrap();
        let file =
            doc! { "_id": id, "chunkSize": 261_120_i32, "length": length, "uploadDate": DateTime::now() };
        self.cluster.gridfs(bucket, "files").insert_one(file).await.unwrap();
        id
    }

    /// `fs.get(id).read()` of pymongo's GridFS.
    pub async fn get(&self, bucket: &str, id: &str) -> Option<Vec<u8>> {
        let id = ObjectId::parse_str(id).unwrap();
        let file = self.cluster.gridfs(bucket, "files").find_one(doc! { "_id": id }).await.unwrap()?;
        let collection = self.cluster.gridfs(bucket, "chunks");
        let chunks = collection.find(doc! { "files_id": id }).sort(doc! { "n": 1 });
        let chunks: Vec<Document> = chunks.await.unwrap().try_collect().await.unwrap();
        let bytes: Vec<u8> =
            chunks.iter().flat_map(|chunk| chunk.get_binary_generic("data").unwrap().clone()).collect();
        assert_eq!(file.get_i64("length").unwrap(), i64::try_from(bytes.len()).unwrap());
        Some(bytes)
    }

    /// Publishes as pika does it for them: persistent, and no other property.
    pub async fn publish(&self, queue: &str, body: &str) {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish("".into(), queue.into(), options, body.as_bytes(), persistent)
            .await
            .unwrap();
    }

    /// The original gateway: the video into GridFS, then the message.
    pub async fn upload(&self, video: &[u8], username: &str) -> String {
        let id = self.put("videos", video).await.to_hex();
        self.publish("video", &message(&id, None, username)).await;
        id
    }

    /// The next message of a queue, acknowledged; `None` where there is none for a while.
    pub async fn take(&self, queue: &str, patience: Duration) -> Option<Vec<u8>> {
        let end = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < end {
            let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
            if let Some(got) = got {
                got.delivery.ack(BasicAckOptions::default()).await.unwrap();
                return Some(got.delivery.data);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// What a dead letter says, and why it is one.
    pub async fn dead_letter(&self, queue: &str) -> (String, String) {
        for _ in 0..500 {
            let got = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
            match got.await {
                Ok(Some(got)) => {
                    let headers = got.delivery.properties.headers().clone().unwrap_or_default();
                    let reason = headers.inner().get("x-tapedeck-reason").cloned();
                    let reason = reason.and_then(|reason| reason.as_long_string().map(ToString::to_string));
                    return (String::from_utf8(got.delivery.data).unwrap(), reason.unwrap_or_default());
                }
                Ok(None) => {}
                Err(error) => panic!("{queue}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no dead letter on {queue}");
    }

    /// The original converter, until it is dropped: without a limit on what it holds, and with a nack for whatever goes wrong.
    pub async fn convert(&self) {
        let tag = "original-converter".into();
        let options = BasicConsumeOptions::default();
        let mut videos =
            self.channel.basic_consume("video".into(), tag, options, FieldTable::default()).await.unwrap();
        while let Some(delivery) = videos.next().await {
            let delivery = delivery.unwrap();
            match self.convert_one(&delivery).await {
                Some(()) => delivery.ack(BasicAckOptions::default()).await.unwrap(),
                None => delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await.unwrap(),
            };
        }
    }

    /// CBR 128, 44.1 kHz, stereo, no tags; keys that it does not know pass through.
    pub async fn convert_one(&self, delivery: &Delivery) -> Option<()> {
        let mut body: Value = serde_json::from_slice(&delivery.data).unwrap();
        let video = body["video_fid"].as_str().unwrap();
        // The original's process dies of this.
        let video =
            self.get("videos", video).await.expect("the video of a message that is being converted is there");
        let mp3 = original_mp3(&video)?;
        body["mp3_fid"] = json!(self.put("mp3s", &mp3).await.to_hex());
        self.publish("mp3", &dumps(&body)).await;
        Some(())
    }
}

/// What MoviePy makes of a video: FFmpeg's libmp3lame, CBR 128 kbit/s, 44.1 kHz, stereo.
pub fn original_mp3(video: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("video"), folder.path().join("sound.mp3"));
    std::fs::write(&from, video).unwrap();
    let made = Command::new(tool("FFMPEG", "ffmpeg"))
        .args(["-v", "error", "-y", "-i"])
        .arg(&from)
        .args([
            "-vn",
            "-map_metadata",
            "-1",
            "-acodec",
            "libmp3lame",
            "-b:a",
            "128k",
            "-ar",
            "44100",
            "-ac",
            "2",
        ])
        .arg(&to)
        .output()
        .unwrap();
    made.status.success().then(|| std::fs::read(to).unwrap())
}

/// The body of a message, as Python's `json.dumps` spells it.
pub fn message(video_fid: &str, mp3_fid: Option<&str>, username: &str) -> String {
    let mp3_fid = mp3_fid.map_or("null".into(), |id| format!("\"{id}\""));
    format!("{{\"video_fid\": \"{video_fid}\", \"mp3_fid\": {mp3_fid}, \"username\": \"{username}\"}}")
}

fn dumps(body: &Value) -> String {
    let pairs = body.as_object().unwrap().iter().map(|(key, value)| format!("\"{key}\": {value}"));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}
