//! The ports on a cluster: RabbitMQ for wake-ups, MongoDB for records and GridFS for files, MySQL or MariaDB for users, SMTP
//! for mails. What is written here, the original services can read, and the other way round.

mod mongo;
pub mod mysql;
mod rabbit;
pub mod smtp;

pub use mongo::{GridFs, GridFsSource, Mongo, MongoJobs};
pub use rabbit::{QueueDepth, QueueReport, RabbitOptions, RabbitReport, RabbitWake, probe as probe_rabbit};
