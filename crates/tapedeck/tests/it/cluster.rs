//! The servers of a distributed deck: a virtual host, databases and a mailbox of its own.

use mongodb::{
    Client, Collection,
    bson::{Bson, Document, doc},
};
use sqlx::Connection;
use std::collections::BTreeSet;
use testkit::smtp::{MailServer, Setup};

/// Makes an empty database, as an operator does before `tapedeck migrate`.
pub async fn create_database(server: &str, name: &str) {
    let mut connection = sqlx::MySqlConnection::connect(server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A deck's places on the servers that `cargo xtask test` started.
pub struct Cluster {
    name: String,
    /// The broker, with a virtual host of its own.
    pub amqp: String,
    /// The MongoDB server.
    pub mongodb: String,
    /// The database of the users.
    pub mysql: String,
    /// The mail server.
    pub mail: MailServer,
    secret: String,
    client: Client,
}

impl Cluster {
    pub async fn new() -> Cluster {
        let name = testkit::unique_name();
        let mongodb = testkit::mongodb_uri();
        create_database(&testkit::mysql_url(), &name).await;
        Cluster {
            amqp: testkit::virtual_host().await,
            mysql: format!("{}/{name}", testkit::mysql_url()),
            mail: MailServer::start(Setup::default()).await.unwrap(),
            secret: format!("a secret of this test alone, {name}"),
            client: Client::with_uri_str(&mongodb).await.unwrap(),
            mongodb,
            name,
        }
    }

    /// What tells a process where its backends are.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("MODE", "distributed".to_owned()),
            ("BACKENDS_JOBS", self.mongodb.clone()),
            ("BACKENDS_BLOBS", self.mongodb.clone()),
            ("BACKENDS_USERS", self.mysql.clone()),
            ("BACKENDS_WAKE", self.amqp.clone()),
            ("BACKENDS_MAILER", self.mail.url()),
            ("MONGODB_JOBS", format!("{}-jobs", self.name)),
            ("MONGODB_VIDEOS", format!("{}-videos", self.name)),
            ("MONGODB_MP3S", format!("{}-mp3s", self.name)),
            ("AUTH_JWT_SECRET", self.secret.clone()),
            // Four processes and three servers on a busy machine stand still for longer than one process does.
            ("TIMING_PATIENCE", "5s".to_owned()),
            // Messages come first, as they do in production; the store is asked now and then.
            ("TIMING_POLL", "500ms".to_owned()),
        ];
        pairs.map(|(name, value)| (format!("TAPEDECK_{name}"), value)).into()
    }

    pub fn jwt_secret(&self) -> &str {
        &self.secret
    }

    fn collection(&self, bucket: &str, name: &str) -> Collection<Document> {
        self.client.database(&format!("{}-{bucket}", self.name)).collection(name)
    }

    /// A collection of the bucket `videos` or `mp3s`.
    pub fn gridfs(&self, bucket: &str, name: &str) -> Collection<Document> {
        self.collection(bucket, &format!("fs.{name}"))
    }

    /// Every id of which anything at all is stored: a file, a chunk, a draft.
    pub async fn stored(&self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for bucket in ["videos", "mp3s"] {
            for (collection, field) in [("files", "_id"), ("chunks", "files_id"), ("drafts", "_id")] {
                let ids = self.gridfs(bucket, collection).distinct(field, doc! {}).await.unwrap();
                names.extend(ids.iter().filter_map(Bson::as_object_id).map(|id| format!("{bucket}/{id}")));
            }
        }
        names.into_iter().collect()
    }

    /// The mails that the mail server took.
    pub fn mails(&self) -> Vec<String> {
        self.mail.inbox().into_iter().map(|mail| String::from_utf8_lossy(&mail.raw).into_owned()).collect()
    }
}
