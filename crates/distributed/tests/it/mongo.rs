//! MongoDB: the contract suites, and what is MongoDB's own.

mod gridfs;
mod interop;
mod jobs;
mod outage;
mod proxy;

use bson::Document;
use distributed::{GridFs, Mongo, MongoJobs};
use mongodb::{Client, Database};
use services::{clock::SystemClock, id::Id};
use testkit::{mongodb_uri, unique_name};

fn mint() -> Id {
    Id::mint(&SystemClock)
}

fn oid(id: Id) -> bson::oid::ObjectId {
    bson::oid::ObjectId::from_bytes(id.to_bytes())
}

/// A database of its own, gone when the test ends well, and the driver's view of it.
struct Place {
    database: Database,
    mongo: Mongo,
}

impl Place {
    async fn new() -> Place {
        let database = Client::with_uri_str(mongodb_uri()).await.unwrap().database(&unique_name());
        Place { database, mongo: Mongo::connect(&mongodb_uri()).await.unwrap() }
    }

    async fn jobs(&self) -> MongoJobs {
        let jobs = MongoJobs::new(&self.mongo, self.database.name());
        jobs.ensure_indexes().await.unwrap();
        jobs
    }

    /// Videos and MP3s; the MP3s' database is that of the place.
    async fn files(&self) -> GridFs {
        let files = GridFs::new(&self.mongo, &self.videos(), self.database.name());
        files.ensure_indexes().await.unwrap();
        files
    }

    fn videos(&self) -> String {
        format!("{}v", self.database.name())
    }

    fn raw(&self, collection: &str) -> mongodb::Collection<Document> {
        self.database.collection(collection)
    }

    async fn leave(self) {
        self.database.client().database(&self.videos()).drop().await.unwrap();
        self.database.drop().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_keeps_nobody_from_starting_and_is_reported_soon() {
    let began = std::time::Instant::now();
    let mongo = Mongo::connect("mongodb://127.0.0.1:1/videos").await.unwrap();
    let error = mongo.ping().await.unwrap_err();
    assert_eq!(error.kind, services::ports::PortErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "{:?}", began.elapsed());
    let error = Mongo::connect("mysql://127.0.0.1").await.unwrap_err();
    assert_eq!(error.kind, services::ports::PortErrorKind::Refused, "{error:?}");
}
