//! The distributed adapters over real servers.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod mysql;
mod smtp;
