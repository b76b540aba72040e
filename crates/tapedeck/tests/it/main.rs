//! The end-to-end suite: the real binary, real files, HTTP and mails; in one process and in four, embedded and distributed.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod accounts;
mod cage;
mod cli;
mod cluster;
mod convert;
mod deck;
mod docs;
mod doctor;
mod faults;
mod golden;
mod life;
mod media;
mod neighbours;
mod originals;
mod page;
mod refusals;
mod telemetry;
mod walk;

#[cfg(feature = "failpoints")]
mod kill;

/// Makes of each function four tests: on a deck in one process and in four, on one machine and on real servers. Each ends in an
/// empty house.
macro_rules! on_every_deck {
    ($($name:ident),* $(,)?) => {
        crate::on_this_deck!(one_process, OneProcess, $($name),*);
        crate::on_this_deck!(four_processes, FourProcesses, $($name),*);
        crate::on_this_deck!(one_process_distributed, OneDistributed, $($name),*);
        crate::on_this_deck!(four_processes_distributed, FourDistributed, $($name),*);
    };
}
pub(crate) use on_every_deck;

/// The tests of one shape.
macro_rules! on_this_deck {
    ($module:ident, $shape:ident, $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let deck = crate::deck::Deck::start(crate::deck::Shape::$shape).await;
                super::$name(&deck).await;
                deck.assert_empty_house().await;
            })*
        }
    };
}
pub(crate) use on_this_deck;
