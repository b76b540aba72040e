//! MongoDB: the job records, and videos and MP3s in GridFS.
//!
//! A standalone server suffices. There is no transaction, no change stream and no server-side lock in here: every change is one
//! write with a filter, acknowledged by a majority and the journal. A write whose answer was lost is repeated in a way that can
//! tell whether it had arrived.

mod attempt;
mod bucket;
mod gridfs;
mod jobs;
mod orphans;
mod reading;
mod source;
mod writer;

pub use gridfs::GridFs;
pub use jobs::MongoJobs;
pub use source::GridFsSource;

use attempt::{FOR_LONG_WORK, long_call, once, patiently};
use bson::{doc, oid::ObjectId};
use mongodb::{
    Client, Collection, Database, IndexModel,
    error::ErrorKind,
    options::{ClientOptions, ReadPreference, SelectionCriteria, WriteConcern},
};
use services::{
    id::Id,
    ports::{PortError, PortErrorKind, PortResult},
};
use std::time::Duration;

/// How long to look for the server, and how long to wait for a connection, unless the URI says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections of one process at most, unless the URI says otherwise.
const CONNECTIONS: u32 = 100;

/// A MongoDB server, or a set of them.
#[derive(Debug, Clone)]
pub struct Mongo {
    client: Client,
}

impl Mongo {
    /// Speaks to the servers of this URI, `mongodb://user:password@host:27017/?options`. The database in its path is not meant:
    /// the names of ours are given apart. It connects when it is first used, so that a server that is away for a moment keeps
    /// nobody from starting: [`Mongo::ping`] tells.
    pub async fn connect(uri: &str) -> PortResult<Mongo> {
        let mut options = ClientOptions::parse(uri).await.map_err(uri_refused)?;
        options.app_name.get_or_insert_with(|| "tapedeck".into());
        options.server_selection_timeout.get_or_insert(PATIENCE);
        options.connect_timeout.get_or_insert(PATIENCE);
        options.max_pool_size.get_or_insert(CONNECTIONS);
        // These are not the URI's to choose: a record that may be rolled back, or read from before its last change, is none.
        options.write_concern =
            Some(WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build());
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        Ok(Mongo { client: Client::with_options(options).map_err(uri_refused)? })
    }

    /// Is the server within reach?
    pub async fn ping(&self) -> PortResult<()> {
        let admin = self.client.database("admin");
        once("reach MongoDB", admin.run_command(doc! { "ping": 1 })).await.map(|_| ())
    }

    fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }
}

fn uri_refused(error: mongodb::error::Error) -> PortError {
    let kind = match *error.kind {
        ErrorKind::DnsResolve { .. } => PortErrorKind::Unavailable,
        _ => PortErrorKind::Refused,
    };
    PortError::new(kind, "understand MongoDB's URI, mongodb://user:password@host:27017/?options", error)
}

/// Makes these indexes where they are missing. Several processes may do so at once.
async fn make_indexes<T: Send + Sync>(collection: &Collection<T>, models: &[IndexModel]) -> PortResult<()> {
    let what = format!("make the indexes of {}", collection.namespace());
    for model in models {
        patiently(&what, FOR_LONG_WORK, |_| async {
            match long_call(collection.create_index(model.clone())).await {
                // Somebody made one by hand: it is not ours to take away.
                Err(failure) if failure.is_other_index() => {
                    tracing::warn!(
                        what,
                        ?failure,
                        "an index is another than ours: drop it to have ours made"
                    );
                    Ok(())
                }
                done => done.map(|_| ()),
            }
        })
        .await?;
    }
    Ok(())
}

fn object_id(id: Id) -> ObjectId {
    ObjectId::from_bytes(id.to_bytes())
}

fn id_of(id: ObjectId) -> Id {
    Id::from_bytes(id.bytes())
}
