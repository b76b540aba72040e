//! Every file in media/ converts to the facts, or fails with the code, that golden.toml says.

use std::collections::BTreeMap;

use engine::{Limits, Options};

use super::{assert_sound, convert, convert_in_child, media, real_files};

#[test]
fn every_real_file_converts_as_ffmpeg_reads_it() {
    let golden = std::fs::read_to_string(media().join("golden.toml")).unwrap();
    let mut golden: BTreeMap<String, toml::Table> = toml::from_str(&golden).unwrap();
    for path in real_files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = golden.remove(&name).unwrap_or_else(|| panic!("{name} has no entry in golden.toml"));
        let here = convert(&path, &Options::default(), &Limits::default());
        let there = convert_in_child(&path, &Limits::default());
        match expected.get("error") {
            Some(code) => {
                let (here, there) = (here.unwrap_err(), there.unwrap_err());
                assert_eq!(here.code.as_str(), code.as_str().unwrap(), "{name}");
                assert_eq!((here.code, here.text), (there.code, there.text), "{name}, in a child");
            }
            None => {
                let number = |key: &str| u64::try_from(expected[key].as_integer().unwrap()).unwrap();
                let (summary, mp3) = here.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                let made = (summary.samples, u64::from(summary.sample_rate), u64::from(summary.channels));
                assert_eq!(made, (number("samples"), number("rate"), number("channels").min(2)), "{name}");
                assert_sound(&name, &summary, &mp3);
                let (in_child, same) = there.unwrap_or_else(|error| panic!("{name}, in a child: {error:?}"));
                assert!(in_child == summary && same == mp3, "{name}: a child makes another MP3");
            }
        }
    }
    assert!(golden.is_empty(), "golden.toml names files that are not there: {:?}", golden.keys());
}
