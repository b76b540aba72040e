//! Ids: 24 hex digits, shaped and minted as MongoDB's ObjectId so that both modes speak of files alike.

use crate::clock::Clock;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The id of a video or of an MP3: 12 bytes, written as 24 lower-case hex digits.
///
/// Layout (BSON ObjectId): seconds since 1970 (4 bytes, big endian), a random value per process (5), a counter (3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id([u8; 12]);

/// What was given is not 24 hex digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an id has 24 hex digits, for instance 65f0c2a91b7e4d0012ab34cd")]
pub struct NotAnId;

impl Id {
    /// Mints a new id.
    pub fn mint(clock: &dyn Clock) -> Id {
        static PROCESS: OnceLock<([u8; 5], AtomicU32)> = OnceLock::new();
        let (process, counter) = PROCESS.get_or_init(|| {
            let mut seed = [0; 9];
            crate::random(&mut seed);
            let counter = u32::from_be_bytes([0, seed[5], seed[6], seed[7]]);
            ([seed[0], seed[1], seed[2], seed[3], seed[4]], AtomicU32::new(counter))
        });
        let seconds = u32::try_from(clock.now().as_second()).unwrap_or_default();
        let count = counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..9].copy_from_slice(process);
        bytes[9..].copy_from_slice(&count[1..]);
        Id(bytes)
    }

    /// The id made of these twelve bytes.
    pub const fn from_bytes(bytes: [u8; 12]) -> Id {
        Id(bytes)
    }

    /// Its twelve bytes.
    pub const fn to_bytes(self) -> [u8; 12] {
        self.0
    }

    /// A number that is stable for this id and spread evenly over ids, in `0.0..1.0`: jitter without a random source.
    pub fn spread(self) -> f64 {
        // FNV-1a over the twelve bytes.
        let hash = self.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        f64::from((hash >> 32) as u32) / f64::from(u32::MAX)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Id, NotAnId> {
        let digits = text.as_bytes();
        if digits.len() != 24 {
            return Err(NotAnId);
        }
        let mut bytes = [0; 12];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(NotAnId);
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Id(bytes))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Id, NotAnId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = Id::mint(&SystemClock);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn ids_are_distinct_and_in_order_of_their_making() {
        let ids: Vec<Id> = (0..1000).map(|_| Id::mint(&SystemClock)).collect();
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "abc",
            "65f0c2a91b7e4d0012ab34c",
            "65f0c2a91b7e4d0012ab34cg",
            "65f0c2a91b7e4d0012ab34cdd",
            "../../../../etc/passwd..",
        ] {
            assert_eq!(text.parse::<Id>(), Err(NotAnId), "{text}");
        }
        assert_eq!("é5f0c2a91b7e4d0012ab34c".parse::<Id>(), Err(NotAnId));
    }
}
