//! The MP3 walker takes what the engine makes and nothing less, more or else.

use std::sync::LazyLock;

use engine::{Limits, Options, mp3};
use proptest::prelude::*;

use super::{convert, media};

static MADE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let options = Options { title: Some("A title".to_owned()), ..Options::default() };
    convert(&media().join("mp4__sample.mp4"), &options, &Limits::default()).unwrap().1
});

#[test]
fn an_mp3_with_something_behind_it_is_refused() {
    assert!(mp3::check(&MADE[..]).is_ok());
    assert!(mp3::check(&[&MADE[..], &[b'T', b'A', b'G', 0]].concat()[..]).is_err());
    assert!(mp3::check(&[&MADE[..], &MADE[..]].concat()[..]).is_err());
    assert!(mp3::check(&b""[..]).is_err());
}

#[test]
fn an_mp3_of_another_encoder_is_refused() {
    let foreign = std::fs::read(media().join("mp3__bear-id3.mp3")).unwrap();
    assert!(mp3::check(&foreign[..]).is_err());
}

#[test]
fn an_mp3_of_another_encoder_is_measured() {
    let foreign = std::fs::read(media().join("mp3__bear-id3.mp3")).unwrap();
    let facts = mp3::measure(&foreign[..]).unwrap();
    assert_eq!((facts.sample_rate, facts.bytes), (48_000, foreign.len() as u64));
    assert!((2.5..3.5).contains(&(facts.samples as f64 / 48_000.0)), "{facts:?}");
    let own = mp3::measure(&MADE[..]).unwrap();
    assert!(own.samples >= mp3::check(&MADE[..]).unwrap().samples, "delay and padding are not taken off");
    let with_tag = mp3::measure(&[&MADE[..], b"TAG", &[0; 125]].concat()[..]).unwrap();
    assert_eq!(with_tag.frames, own.frames);
    let cut = mp3::measure(&MADE[..MADE.len() - 10]).unwrap();
    assert_eq!(cut.frames, own.frames - 1);
    assert!(mp3::measure(&b"<html>"[..]).is_err() && mp3::measure(&b""[..]).is_err());
}

proptest! {
    #[test]
    fn a_cut_mp3_never_passes(cut in 1..MADE.len()) {
        prop_assert!(mp3::check(&MADE[..MADE.len() - cut]).is_err());
    }

    #[test]
    fn a_changed_byte_behind_the_tag_never_passes(at in 100..MADE.len(), to in any::<u8>()) {
        let mut changed = MADE.clone();
        prop_assume!(changed[at] != to);
        changed[at] = to;
        prop_assert!(mp3::check(&changed[..]).is_err(), "byte {at}");
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert!(mp3::check(&bytes[..]).is_err());
        let _ = mp3::measure(&bytes[..]);
    }
}
