//! What one conversion may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one conversion may cost. Durations are written as seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest sound that is converted; exactly this long is allowed, and so is a second of codec padding.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// The largest MP3, in bytes.
    pub output: u64,
    /// Memory that the engine process may take beyond what it has at its start, in bytes.
    pub memory: u64,
    /// Processor time of the engine process, counted in whole seconds.
    #[serde(with = "seconds")]
    pub cpu: Duration,
    /// Threads that encode, beside the one that decodes; 0 for as many as there are processors. The MP3 does not depend on it.
    pub threads: usize,
    /// How long the engine process may show no sign of life; time spent in the caller's sink does not count.
    #[serde(with = "seconds")]
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            duration: Duration::from_secs(24 * 60 * 60),
            output: 4 << 30,
            memory: 1 << 30,
            cpu: Duration::from_secs(6 * 60 * 60),
            threads: 0,
            stall: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// How many threads encode.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// Durations as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if duration.subsec_nanos() == 0 {
            serializer.serialize_u64(duration.as_secs())
        } else {
            serializer.serialize_f64(duration.as_secs_f64())
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_the_way_to_the_child() {
        let limits = Limits { stall: Duration::from_millis(1500), ..Limits::default() };
        let text = serde_json::to_string(&limits).unwrap();
        assert!(text.contains(r#""duration":86400,"#), "{text}");
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
    }
}
