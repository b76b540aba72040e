//! Times and sizes as people write them: `30s`, `24h`, `30d`; `512KiB`, `4GiB`.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr, time::Duration};

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl Time {
    /// The same, with a sign.
    pub fn signed(self) -> SignedDuration {
        SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX)
    }

    /// "30 days", "24 hours", "90 seconds": the largest unit that fits evenly and counts more than one.
    pub fn in_words(self) -> String {
        let seconds = self.0.as_secs();
        for (unit, length) in [("days", 86_400), ("hours", 3_600), ("minutes", 60)] {
            if seconds.is_multiple_of(length) && seconds / length > 1 {
                return format!("{} {unit}", seconds / length);
            }
        }
        format!("{seconds} seconds")
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let wrong =
            || format!("“{text}” is no length of time; write for instance 250ms, 30s, 15m, 24h or 30d");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        Duration::try_from(signed).map(Time).map_err(|_| wrong())
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("“{text}” is no size; write for instance 512KiB, 200MiB or 4GiB");
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            Some(1)
        } else {
            UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor.ok_or_else(wrong)?).map(Size).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let even =
            UNITS[..4].iter().rev().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match even {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let even = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find(|(_, length)| millis >= *length && millis.is_multiple_of(*length));
        match even {
            Some((unit, length)) => write!(f, "{}{unit}", millis / length),
            None => write!(f, "{millis}ms"),
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
as_text!(Time, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_written_and_said() {
        for (text, seconds, words) in [
            ("30d", 2_592_000, "30 days"),
            ("24h", 86_400, "24 hours"),
            ("90s", 90, "90 seconds"),
            ("15m", 900, "15 minutes"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!((time.0.as_secs(), time.in_words().as_str()), (seconds, words));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        assert_eq!("250ms".parse(), Ok(Time(Duration::from_millis(250))));
        for wrong in ["", "30", "soon", "-5s"] {
            assert!(wrong.parse::<Time>().unwrap_err().contains("30s"), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("4GiB", 4 << 30), ("512 KiB", 512 << 10), ("2MB", 2_000_000), ("17", 17)] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for wrong in ["", "GiB", "4 elephants", "99999999999TiB"] {
            assert!(wrong.parse::<Size>().unwrap_err().contains("4GiB"), "{wrong}");
        }
    }
}
