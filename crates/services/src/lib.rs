//! The four services (gateway, auth, converter, notification), the job's life, and the ports they are written against.
//!
//! There is no database, no broker and no file system in this crate: those are adapters' (`embedded`, `distributed`).
//! The four service modules do not import each other; they meet in the job's record and through the ports.

pub mod auth;
pub mod clock;
pub mod converter;
pub mod failpoints;
pub mod gateway;
pub mod http;
pub mod id;
pub mod job;
pub mod measures;
pub mod message;
pub mod neighbours;
pub mod notification;
pub mod ports;
pub mod relay;
pub mod stored;
pub mod sweeper;
pub mod trace;
pub mod transition;

/// Fills `bytes` with randomness fit for keys.
pub fn random(bytes: &mut [u8]) {
    use aws_lc_rs::rand::{SecureRandom, SystemRandom};
    SystemRandom::new().fill(bytes).expect("the operating system's random source works");
}

/// `bytes` random bytes as hex digits.
pub fn random_hex<const BYTES: usize>() -> String {
    let mut secret = [0; BYTES];
    random(&mut secret);
    hex(&secret)
}

/// An error with all its causes, for the log, where it stops: `write a file: No space left on device`.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
