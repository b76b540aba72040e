//! Options from text: as they stand in a URL, a form or on a command line.

use std::str::FromStr;

use super::{Loudness, Options, Preset, Quality};
use crate::Error;

impl Options {
    /// Sets the option with this name; false when none has it. The names are `preset`, `vbr`, `cbr`, `abr`, `mono`, `track`, `trim`, `loudness`,
    /// and `tag.` with a name of [`Options::TAGS`] behind it. What the values say together, [`Options::check`] judges.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, Error> {
        match name {
            "preset" => self.preset = value.parse()?,
            "vbr" => self.set_quality(Quality::Vbr(number("a VBR level", "0 to 9", value)?))?,
            "cbr" => self.set_quality(Quality::Cbr(number("a bit rate in kbit/s", "128", value)?))?,
            "abr" => self.set_quality(Quality::Abr(number("a bit rate in kbit/s", "128", value)?))?,
            "mono" => self.mono = yes_or_no(value)?,
            "track" => self.track = Some(number("a track's number", "2", value)?),
            "trim" => self.trim = Some(value.parse()?),
            "loudness" => self.loudness = Some(value.parse()?),
            _ => match name.strip_prefix("tag.") {
                Some(tag) => drop(self.tags.insert(tag.to_owned(), value.to_owned())),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn set_quality(&mut self, quality: Quality) -> Result<(), Error> {
        match self.quality.replace(quality) {
            None => Ok(()),
            Some(_) => {
                Err(Error::bad_options("Only one of vbr, cbr and abr can be met. Leave the others out."))
            }
        }
    }
}

fn number<T: FromStr>(what: &str, such_as: &str, value: &str) -> Result<T, Error> {
    let unclear =
        |_| Error::bad_options(format!("{value:?} is not {what}. Give a whole number, such as {such_as}."));
    value.trim().parse().map_err(unclear)
}

fn yes_or_no(value: &str) -> Result<bool, Error> {
    match value {
        "" | "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(Error::bad_options(format!("{value:?} is neither yes nor no. Write true or false."))),
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Preset, Error> {
        Preset::ALL.into_iter().find(|preset| preset.as_str() == name).ok_or_else(|| {
            let known = Preset::ALL.map(Preset::as_str).join(", ");
            Error::bad_options(format!("There is no preset {name:?}. Known are {known}."))
        })
    }
}

impl FromStr for Loudness {
    type Err = Error;

    fn from_str(text: &str) -> Result<Loudness, Error> {
        let unclear =
            |_| Error::bad_options(format!("{text:?} is no loudness. Give a number in LUFS, such as -16."));
        text.trim().parse::<f64>().map_err(unclear).and_then(Loudness::try_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn set(pairs: &[(&str, &str)]) -> Result<Options, Error> {
        let mut options = Options::default();
        for (name, value) in pairs {
            assert!(options.set(name, value)?, "{name}");
        }
        Ok(options)
    }

    #[test]
    fn options_are_read_from_text() {
        let all = [
            ("preset", "small"),
            ("vbr", "4"),
            ("mono", "true"),
            ("track", "3"),
            ("trim", "1:00-"),
            ("loudness", "-16.04"),
            ("tag.artist", "A"),
        ];
        let options = set(&all).unwrap();
        let expected = Options {
            preset: Preset::Small,
            quality: Some(Quality::Vbr(4)),
            mono: true,
            track: Some(3),
            trim: Some("60-".parse().unwrap()),
            loudness: Some(Loudness { tenths: -160 }),
            title: None,
            tags: [("artist".to_owned(), "A".to_owned())].into(),
        };
        assert_eq!(options, expected);
        assert_eq!(set(&[("cbr", "320")]).unwrap().quality, Some(Quality::Cbr(320)));
        assert_eq!(set(&[("abr", "99")]).unwrap().quality, Some(Quality::Abr(99)));
        assert!(!Options::default().set("utm_source", "x").unwrap());
    }

    #[test]
    fn text_that_is_no_option_is_refused_in_words() {
        let refused: [(&[(&str, &str)], &str); 9] = [
            (&[("preset", "loud")], "music, voice, small, original"),
            (&[("vbr", "best")], "0 to 9"),
            (&[("vbr", "-1")], "0 to 9"),
            (&[("cbr", "128k")], "128"),
            (&[("track", "9999999999")], "number"),
            (&[("mono", "perhaps")], "true or false"),
            (&[("loudness", "loud")], "-16"),
            (&[("loudness", "NaN")], "LUFS"),
            (&[("vbr", "2"), ("cbr", "128")], "Only one"),
        ];
        for (pairs, word) in refused {
            let error = set(pairs).unwrap_err();
            assert!(error.code == Code::BadOptions && error.text.contains(word), "{pairs:?}: {error}");
        }
    }
}
