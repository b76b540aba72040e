//! What a conversion is asked to do, and what it may cost.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the owner of the video may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Sound quality and format.
    pub preset: Preset,
    /// Bits, where they are to differ from the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The MP3's title when the container has none, usually the file's name.
    pub title: Option<String>,
}

/// A named set of encoder settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// VBR V2 at LAME's quality 3, about 190 kbit/s for stereo music, at the source's own sample rate where MP3 can
    /// carry it; mono stays mono, more than two channels become stereo.
    #[default]
    Music,
    /// What the original Python services made: constant 128 kbit/s, 44.1 kHz, stereo (mono is doubled).
    Original,
}

impl Preset {
    /// Every preset, in the order a menu shows them.
    pub const ALL: [Preset; 2] = [Preset::Music, Preset::Original];

    /// The stable name, as it stands in the API and in job records.
    pub fn as_str(self) -> &'static str {
        match self {
            Preset::Music => "music",
            Preset::Original => "original",
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many bits the sound gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Variable bit rate at one of LAME's levels, 0 (best) to 9 (smallest).
    Vbr(u8),
    /// Constant bit rate in kbit/s, one that MP3 has.
    Cbr(u16),
    /// Variable bit rate with this mean in kbit/s.
    Abr(u16),
}

/// A preset's name that is none.
#[derive(Debug, thiserror::Error)]
#[error("unknown preset {0:?}; known are music and original")]
pub struct UnknownPreset(String);

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Preset, UnknownPreset> {
        Preset::ALL
            .into_iter()
            .find(|preset| preset.as_str() == name)
            .ok_or_else(|| UnknownPreset(name.to_owned()))
    }
}

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
    fn presets_have_one_name_everywhere() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.as_str());
        }
        assert!("Music".parse::<Preset>().is_err());
    }

    #[test]
    fn options_of_an_older_or_a_newer_program_are_read() {
        let read: Options = serde_json::from_str(r#"{"preset":"original","later":1}"#).unwrap();
        assert_eq!(read, Options { preset: Preset::Original, ..Options::default() });
    }

    #[test]
    fn limits_survive_the_way_to_the_child() {
        let limits = Limits { stall: Duration::from_millis(1500), ..Limits::default() };
        let text = serde_json::to_string(&limits).unwrap();
        assert!(text.contains(r#""duration":86400,"#), "{text}");
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
    }
}
