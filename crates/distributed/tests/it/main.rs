//! The distributed adapters over real servers.

mod rabbit;
