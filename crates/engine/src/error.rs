//! Why a conversion failed: a code for programs, a sentence for the owner of the file, a chain for the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failed conversion. `Display` is [`Error::text`] alone; what lies beneath is in the `source` chain.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// What went wrong, for programs.
    pub code: Code,
    /// One or two plain sentences for the owner of the file: what failed, why, and how to mend it.
    pub text: String,
    /// What the operator wants to see: libav's last words, an `io::Error`, the engine process's last lines.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Error {
        Error { code, text: text.into(), source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// What to do about it: see [`Kind`].
    pub fn kind(&self) -> Kind {
        self.code.kind()
    }

    pub(crate) fn cancelled() -> Error {
        Error::new(Code::Cancelled, "The conversion was cancelled.")
    }

    pub(crate) fn read_failed(source: std::io::Error) -> Error {
        Error::new(
            Code::ReadFailed,
            "The video could not be read. The fault is not the video's: try again later.",
        )
        .because(source)
    }

    pub(crate) fn write_failed(source: std::io::Error) -> Error {
        Error::new(
            Code::WriteFailed,
            "The MP3 could not be written. The fault is not the video's: try again later.",
        )
        .because(source)
    }

    pub(crate) fn out_of_memory() -> Error {
        Error::new(
            Code::OutOfMemory,
            "The conversion needed more memory than it may use here. Saving the video in another \
             format, for instance as MP4, may help.",
        )
    }

    pub(crate) fn output_too_large(limit: u64) -> Error {
        let text = match limit >> 20 {
            0 => format!("The MP3 would be larger than the limit of {limit} bytes."),
            mebibytes => format!("The MP3 would be larger than the limit of {mebibytes} MiB."),
        };
        Error::new(Code::OutputTooLarge, text + " Cut the video into parts and convert them one by one.")
    }

    pub(crate) fn too_long(limit: std::time::Duration) -> Error {
        let limit = words(limit);
        Error::new(
            Code::TooLong,
            format!(
                "The sound is longer than the limit of {limit}. Cut the video into parts and convert them one by one."
            ),
        )
    }
}

/// A duration as people say it, to the precision that an error needs.
pub(crate) fn words(duration: std::time::Duration) -> String {
    let plural = |n: u64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        s if s < 120 => plural(s, "second"),
        s if s % 3600 == 0 => plural(s / 3600, "hour"),
        s if s < 7200 => plural(s / 60, "minute"),
        s => format!("{} and {}", plural(s / 3600, "hour"), plural(s % 3600 / 60, "minute")),
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal is $kind:ident,)*) => {
        /// What went wrong. The kebab-case names are stable: they stand in the API, in job records and in docs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What to do about it.
            pub fn kind(self) -> Kind {
                match self { $(Code::$name => Kind::$kind,)* }
            }
        }
    };
}

codes! {
    /// Options that no video can meet.
    BadOptions = "bad-options" is Permanent,
    /// The options ask for a track that the file does not have; the text says which there are.
    NoSuchTrack = "no-such-track" is Permanent,
    /// The options ask for a piece that lies behind the end of the sound.
    TrimBeyondEnd = "trim-beyond-end" is Permanent,
    /// The file has no byte.
    EmptyFile = "empty-file" is Permanent,
    /// No known media container.
    NotMedia = "not-media" is Permanent,
    /// A container without a sound track, or with one that holds nothing.
    NoAudio = "no-audio" is Permanent,
    /// The sound is in a codec that the engine cannot decode; the text names it.
    UnsupportedCodec = "unsupported-codec" is Permanent,
    /// The sound is encrypted (DRM).
    Encrypted = "encrypted" is Permanent,
    /// The file ends before its sound does.
    Truncated = "truncated" is Permanent,
    /// A known container or codec, damaged beyond use.
    Corrupt = "corrupt" is Permanent,
    /// More sound than [`crate::Limits::duration`].
    TooLong = "too-long" is Permanent,
    /// More MP3 than [`crate::Limits::output`].
    OutputTooLarge = "output-too-large" is Permanent,
    /// The caller gave up.
    Cancelled = "cancelled" is Cancelled,
    /// The source failed to read.
    ReadFailed = "read-failed" is Transient,
    /// The sink failed to write.
    WriteFailed = "write-failed" is Transient,
    /// The engine process could not be started, or ended before it touched the video.
    EngineNotStarted = "engine-not-started" is Transient,
    /// The machine lacks a layer of the sandbox; the text names it. See [`crate::Sandbox`].
    SandboxUnavailable = "sandbox-unavailable" is Transient,
    /// The engine process died, or broke the protocol.
    EngineCrashed = "engine-crashed" is Suspect,
    /// The engine process showed no sign of life for [`crate::Limits::stall`].
    EngineStalled = "engine-stalled" is Suspect,
    /// More memory than [`crate::Limits::memory`].
    OutOfMemory = "out-of-memory" is Suspect,
    /// More processor time than [`crate::Limits::cpu`].
    CpuLimit = "cpu-limit" is Suspect,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file is the cause: trying again brings the same.
    Permanent,
    /// The surroundings are the cause: try again later.
    Transient,
    /// The file may be the cause: try once more, then give up.
    Suspect,
    /// Asked for.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_code_has_one_name_in_text_and_in_json() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let read = [
            (0.25, "250 ms"),
            (1.0, "1 second"),
            (90.0, "90 seconds"),
            (600.0, "10 minutes"),
            (86400.0, "24 hours"),
            (9000.0, "2 hours and 30 minutes"),
        ];
        for (seconds, text) in read {
            assert_eq!(words(Duration::from_secs_f64(seconds)), text);
        }
    }
}
