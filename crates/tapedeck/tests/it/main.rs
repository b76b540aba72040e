//! The end-to-end suite: the real binary, real files, HTTP and mails; once in one process and once in four.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod accounts;
mod cli;
mod convert;
mod deck;
mod docs;
mod golden;
mod life;
mod media;
mod page;
mod refusals;
mod walk;

#[cfg(feature = "failpoints")]
mod kill;

/// Makes of each function two tests: one on a deck in one process, one on a deck in four, each ending in an empty house.
macro_rules! on_every_deck {
    ($($name:ident),* $(,)?) => {
        mod one_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let deck = crate::deck::Deck::start(crate::deck::Shape::OneProcess).await;
                super::$name(&deck).await;
                deck.assert_empty_house().await;
            })*
        }
        mod four_processes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let deck = crate::deck::Deck::start(crate::deck::Shape::FourProcesses).await;
                super::$name(&deck).await;
                deck.assert_empty_house().await;
            })*
        }
    };
}
pub(crate) use on_every_deck;
