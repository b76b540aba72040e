//! A piece of the sound: from when to when, in seconds or as a clock shows them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A piece of the sound. Its times count from where the sound begins, which in a few videos is later than the picture; they are met to the
/// sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trim {
    /// Where it begins.
    #[serde(with = "seconds")]
    pub start: Duration,
    /// Where it ends; else with the sound.
    #[serde(with = "some_seconds", skip_serializing_if = "Option::is_none")]
    pub end: Option<Duration>,
}

impl Trim {
    /// The first sample of the piece, and the one behind its last.
    pub(crate) fn samples(&self, sample_rate: u32) -> (u64, Option<u64>) {
        let sample = |time| nearest_sample(time, sample_rate);
        (sample(self.start), self.end.map(sample))
    }
}

fn nearest_sample(time: Duration, sample_rate: u32) -> u64 {
    const SECOND: u128 = 1_000_000_000;
    let sample = (time.as_nanos() * u128::from(sample_rate) + SECOND / 2) / SECOND;
    u64::try_from(sample).unwrap_or(u64::MAX)
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", clock(self.start))?;
        self.end.map_or(Ok(()), |end| write!(f, "{}", clock(end)))
    }
}

/// `1:02:03.5`: what [`Trim`] is read from and what its errors say.
pub(crate) fn clock(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    let whole = match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    };
    match nanos {
        0 => whole,
        _ => format!("{whole}.{}", format!("{nanos:09}").trim_end_matches('0')),
    }
}

impl FromStr for Trim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Trim, Error> {
        let unclear = || {
            Error::bad_options(format!(
                "{text:?} names no piece of the sound. Write start-end in seconds or as a clock shows it, such as 90-120.5, 1:30-2:00, \
                 1:02:03- for all from there on, or -0:30 for the first half minute."
            ))
        };
        let (start, end) = text.split_once('-').ok_or_else(unclear)?;
        let (start, end) = (start.trim(), end.trim());
        if start.is_empty() && end.is_empty() {
            return Err(unclear());
        }
        let some = |text: &str| {
            if text.is_empty() { Some(None) } else { moment(text).map(Some) }
        };
        let (start, end) = some(start).zip(some(end)).ok_or_else(unclear)?;
        Ok(Trim { start: start.unwrap_or_default(), end })
    }
}

/// `90`, `90.25`, `1:30`, `1:02:03.5`; minutes and seconds behind a colon are below 60.
fn moment(text: &str) -> Option<Duration> {
    const MOST: u64 = 1_000_000_000;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (parts, mut seconds) = (whole.split(':').collect::<Vec<_>>(), 0_u64);
    if parts.len() > 3 || !digits(fraction) {
        return None;
    }
    for (place, part) in parts.iter().enumerate() {
        let number: u64 = part.parse().ok().filter(|number| digits(part) && *number < MOST)?;
        if place > 0 && (number > 59 || part.len() != 2) {
            return None;
        }
        seconds = seconds * 60 + number;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Duration::new(seconds, nanos))
}

/// A duration as a number of seconds; what is read is rounded to the nanosecond.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The same, or nothing.
mod some_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|some| some.as_secs_f64()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn pieces_are_read_as_people_write_them() {
        let millis = Duration::from_millis;
        let read = [
            ("90-120.5", 90_000, Some(120_500)),
            ("1:30-2:00", 90_000, Some(120_000)),
            ("1:02:03.25-", 3_723_250, None),
            ("-0:30", 0, Some(30_000)),
            ("0 - 5", 0, Some(5_000)),
            ("100:00-100:01", 6_000_000, Some(6_001_000)),
        ];
        for (text, start, end) in read {
            let trim = Trim { start: millis(start), end: end.map(millis) };
            assert_eq!(text.parse::<Trim>().unwrap(), trim, "{text}");
            assert_eq!(trim.to_string().parse::<Trim>().unwrap(), trim, "{text}");
        }
    }

    #[test]
    fn what_names_no_piece_is_refused_with_examples() {
        let long = "9".repeat(30);
        for text in [
            "",
            "-",
            "90",
            "a-b",
            "1:2-3",
            "1:60-2:00",
            "1:2:3:4-5",
            "-1-2",
            "1e3-",
            "+1-2",
            "1-2-3",
            "1.-٣",
            &long,
            ":-",
        ] {
            let error = text.parse::<Trim>().unwrap_err();
            assert!(error.code == Code::BadOptions && error.text.contains("1:30-2:00"), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_the_nearest_samples() {
        let trim = |text: &str| text.parse::<Trim>().unwrap().samples(44_100);
        assert_eq!(trim("1-2"), (44_100, Some(88_200)));
        // Each sample can be named: to six digits its time rounds back to it.
        for sample in 0..44_100_u32 {
            let text = format!("{:.6}-", f64::from(sample) / 44_100.0);
            assert_eq!(trim(&text), (u64::from(sample), None), "{text}");
        }
        let far = Trim { start: Duration::MAX, end: None };
        assert_eq!(far.samples(48_000).0, u64::MAX);
    }
}
