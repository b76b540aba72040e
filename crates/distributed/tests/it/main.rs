//! The adapters of a cluster over real servers.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod mongo;
mod mysql;
mod rabbit;
mod smtp;
