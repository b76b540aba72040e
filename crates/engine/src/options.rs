//! What a conversion is asked to do: one type for the command line, the API, job records and the engine process.

mod limits;
mod text;
mod trim;

pub use limits::Limits;
pub use trim::Trim;
pub(crate) use trim::clock;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::encode::{TAGS, is_date};
use crate::{Code, Error};

/// What the owner of the video may choose. What is not chosen is not written down, and what a newer program wrote down is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Sound quality and format.
    pub preset: Preset,
    /// Bits, where they are to differ from the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// One channel, whatever the preset says: all of them mixed, none so loud that it clips.
    #[serde(skip_serializing_if = "is_default")]
    pub mono: bool,
    /// Which of the sound tracks, counted from 1 in the container's order; else the container's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<u32>,
    /// The piece that is converted; else all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trim: Option<Trim>,
    /// The loudness of the whole MP3, by EBU R128; else it is left as it is. One gain for the whole sound brings it there, or as near as the
    /// true peak of -1 dBTP allows: nothing is compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loudness: Option<Loudness>,
    /// The MP3's title when neither `tags` nor the container has one, usually the file's name.
    pub title: Option<String>,
    /// Tags that take the place of the container's, by the names in [`Options::TAGS`]; an empty one takes the container's away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

fn is_default(value: &bool) -> bool {
    !value
}

/// A named set of encoder settings. What they give is said for sound with content; silence takes less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// VBR V2 at LAME's quality 3, about 190 kbit/s for stereo music, at the source's own sample rate where MP3 can
    /// carry it; mono stays mono, more than two channels become stereo. What is MP3 already is copied, unless something else is asked for.
    #[default]
    Music,
    /// For talks, lectures, audio books: VBR V5 in mono, about 60 kbit/s, at the source's own sample rate.
    Voice,
    /// Music where space is short: VBR V7, about 100 kbit/s in stereo and 50 in mono, at the source's own sample rate.
    Small,
    /// What the original Python services made: constant 128 kbit/s, 44.1 kHz, stereo (mono is doubled).
    Original,
}

impl Preset {
    /// Every preset, in the order a menu shows them.
    pub const ALL: [Preset; 4] = [Preset::Music, Preset::Voice, Preset::Small, Preset::Original];

    /// The stable name, as it stands in the API and in job records.
    pub fn as_str(self) -> &'static str {
        match self {
            Preset::Music => "music",
            Preset::Voice => "voice",
            Preset::Small => "small",
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
    /// Constant bit rate in kbit/s, one of [`Quality::CBR`]. The sample rate follows: it is raised or lowered by halves until MP3 has this
    /// bit rate there.
    Cbr(u16),
    /// Variable bit rate with this mean in kbit/s, 8 to 310; the sample rate follows as with [`Quality::Cbr`].
    Abr(u16),
}

impl Quality {
    /// The constant bit rates in kbit/s. 144, which MP3 has at low sample rates alone, is left out.
    pub const CBR: [u16; 17] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
}

/// A loudness in LUFS, to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Loudness {
    tenths: i16,
}

impl Loudness {
    /// The quietest and the loudest that may be asked for: below lies what R128 takes for silence, above no sound without clipping.
    pub const RANGE: [Loudness; 2] = [Loudness { tenths: -700 }, Loudness { tenths: -50 }];

    /// In LUFS.
    pub fn lufs(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }
}

impl From<Loudness> for f64 {
    fn from(loudness: Loudness) -> f64 {
        loudness.lufs()
    }
}

impl TryFrom<f64> for Loudness {
    type Error = Error;

    fn try_from(lufs: f64) -> Result<Loudness, Error> {
        if !(-1000.0..=1000.0).contains(&lufs) {
            return Err(Error::bad_options(format!("A loudness of {lufs} LUFS is none. {LOUDNESS}")));
        }
        #[expect(clippy::cast_possible_truncation, reason = "it was just looked at")]
        Ok(Loudness { tenths: (lufs * 10.0).round() as i16 })
    }
}

/// A shorter piece may hold no sample.
const SHORTEST_PIECE: Duration = Duration::from_millis(1);

const LOUDNESS: &str = "Ask for -70 to -5 LUFS: broadcasts have -23, podcasts -16, streaming services -14.";

impl Options {
    /// The names of the tags that may be set.
    pub const TAGS: [&'static str; 12] = TAGS;

    /// The longest value of a tag, in bytes.
    pub const LONGEST_TAG: usize = 1_000;

    /// Whether these options can be met by any video: the one place where that is decided. [`crate::convert()`] asks it, too.
    pub fn check(&self) -> Result<(), Error> {
        let quality = self.quality.map_or(Ok(()), check_quality);
        quality.and_then(|()| self.check_piece()).and_then(|()| self.check_tags())
    }

    /// Whether a sound that is MP3 already is what these options ask for, as it is.
    pub(crate) fn leave_mp3_alone(&self) -> bool {
        let Options { preset, quality, mono, track: _, trim, loudness, title: _, tags: _ } = self;
        *preset == Preset::Music && quality.is_none() && !mono && trim.is_none() && loudness.is_none()
    }

    fn check_piece(&self) -> Result<(), Error> {
        if self.track == Some(0) {
            return refuse("There is no track 0: the first sound track is number 1.");
        }
        if let Some(trim) = self.trim
            && trim.end.is_some_and(|end| end <= trim.start)
        {
            return refuse(format!(
                "The piece {trim} holds nothing: its end is not behind its start. Give the start first, then the end."
            ));
        }
        if let Some(trim) = self.trim
            && trim.end.is_some_and(|end| end - trim.start < SHORTEST_PIECE)
        {
            return refuse(format!("The piece {trim} is shorter than a millisecond. Choose a later end."));
        }
        match self.loudness {
            Some(asked) if !(Loudness::RANGE[0]..=Loudness::RANGE[1]).contains(&asked) => {
                refuse(format!("A loudness of {} LUFS cannot be asked for. {LOUDNESS}", asked.lufs()))
            }
            _ => Ok(()),
        }
    }

    fn check_tags(&self) -> Result<(), Error> {
        for (name, value) in &self.tags {
            if !TAGS.contains(&name.as_str()) {
                let known = TAGS.join(", ");
                return refuse(format!("There is no tag with the name {name:?}. Known are {known}."));
            }
            if value.len() > Self::LONGEST_TAG {
                let (length, most) = (value.len(), Self::LONGEST_TAG);
                return refuse(format!(
                    "The tag {name} is too long: {length} bytes, and {most} are the most. Shorten it."
                ));
            }
            if name == "date" && !value.is_empty() && !is_date(value) {
                return refuse(format!(
                    "{value:?} is no date that MP3 has. Write 2026, 2026-11 or 2026-11-21."
                ));
            }
        }
        Ok(())
    }
}

fn check_quality(quality: Quality) -> Result<(), Error> {
    match quality {
        Quality::Vbr(level @ 10..) => {
            refuse(format!("There is no VBR level {level}. Choose 0 (best) to 9 (smallest)."))
        }
        Quality::Cbr(kilobits) if !Quality::CBR.contains(&kilobits) => {
            let known = Quality::CBR.map(|known| known.to_string()).join(", ");
            refuse(format!(
                "MP3 has no constant bit rate of {kilobits} kbit/s. Choose one of {known}, or a mean bit rate (ABR)."
            ))
        }
        Quality::Abr(kilobits) if !(8..=310).contains(&kilobits) => {
            refuse(format!("A mean bit rate of {kilobits} kbit/s cannot be kept. Choose 8 to 310."))
        }
        _ => Ok(()),
    }
}

fn refuse(text: impl Into<String>) -> Result<(), Error> {
    Err(Error::bad_options(text))
}

impl Error {
    fn bad_options(text: impl Into<String>) -> Error {
        Error::new(Code::BadOptions, text)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn everything() -> Options {
        Options {
            preset: Preset::Voice,
            quality: Some(Quality::Abr(48)),
            mono: true,
            track: Some(2),
            trim: Some(Trim { start: Duration::from_millis(1_500), end: Some(Duration::from_secs(90)) }),
            loudness: Some(Loudness { tenths: -165 }),
            title: Some("T".to_owned()),
            tags: [("artist".to_owned(), "A".to_owned())].into(),
        }
    }

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
        let read: Options = serde_json::from_str(r#"{"preset":"music","title":null}"#).unwrap();
        assert_eq!(read, Options::default());
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
    }

    #[test]
    fn an_older_program_reads_what_it_knows() {
        let written = serde_json::to_string(&Options::default()).unwrap();
        assert_eq!(written, r#"{"preset":"music","title":null}"#, "nothing else was chosen");
    }

    #[test]
    fn all_options_survive_the_way_to_the_child() {
        let written = serde_json::to_string(&everything()).unwrap();
        let expected = concat!(
            r#"{"preset":"voice","quality":{"abr":48},"mono":true,"track":2,"trim":{"start":1.5,"end":90.0},"#,
            r#""loudness":-16.5,"title":"T","tags":{"artist":"A"}}"#
        );
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_str::<Options>(&written).unwrap(), everything());
        everything().check().unwrap();
    }

    #[test]
    fn what_no_video_can_meet_is_refused_in_words() {
        type Change = fn(&mut Options);
        let with = |change: Change| {
            let mut options = everything();
            change(&mut options);
            options.check().map_err(|error| {
                assert_eq!(error.code, Code::BadOptions);
                error.text
            })
        };
        let refused: [(Change, &str); 11] = [
            (|o| o.quality = Some(Quality::Vbr(10)), "0 (best) to 9"),
            (|o| o.quality = Some(Quality::Cbr(100)), "96, 112"),
            (|o| o.quality = Some(Quality::Cbr(0)), "one of 8"),
            (|o| o.quality = Some(Quality::Abr(311)), "8 to 310"),
            (|o| o.track = Some(0), "number 1"),
            (
                |o| o.trim = Some(Trim { start: Duration::from_secs(2), end: Some(Duration::from_secs(2)) }),
                "start",
            ),
            (|o| o.loudness = Some(Loudness { tenths: -49 }), "-70 to -5"),
            (|o| o.loudness = Some(Loudness { tenths: 160 }), "-70 to -5"),
            (|o| drop(o.tags.insert("encoder".into(), String::new())), "artist"),
            (|o| drop(o.tags.insert("date".into(), "21.11.2026".into())), "2026-11-21"),
            (|o| drop(o.tags.insert("title".into(), "x".repeat(1_001))), "1000 are the most"),
        ];
        for (change, word) in refused {
            let text = with(change).unwrap_err();
            assert!(text.contains(word), "{text}");
        }
        let taken: [Change; 6] = [
            |o| drop(o.tags.insert("date".into(), "2026-11".into())),
            |o| o.quality = Some(Quality::Vbr(9)),
            |o| o.quality = Some(Quality::Cbr(320)),
            |o| o.quality = Some(Quality::Abr(8)),
            |o| o.loudness = Some(Loudness { tenths: -50 }),
            |o| drop(o.tags.insert("comment".into(), String::new())),
        ];
        taken.into_iter().for_each(|change| with(change).unwrap());
    }

    #[test]
    fn a_loudness_in_a_record_that_is_none_is_refused() {
        for number in ["1e300", "-1e300", "1001"] {
            assert!(serde_json::from_str::<Loudness>(number).is_err(), "{number}");
        }
        assert_eq!(serde_json::from_str::<Loudness>("-16").unwrap(), Loudness { tenths: -160 });
    }
}
