//! WAV headers, written by hand: rates, channels, sizes and samples that no program writes.

use engine::Options;

use super::{assert_verdicts, tight, verdict, verdict_with};

/// What a header says.
#[derive(Clone, Copy)]
struct Header {
    format: u16,
    channels: u16,
    rate: u32,
    bits: u16,
    /// None for what follows from the others.
    block: Option<u16>,
    byte_rate: Option<u32>,
    /// None for what is there.
    size: Option<u32>,
}

const PLAIN: Header =
    Header { format: 1, channels: 1, rate: 8000, bits: 16, block: None, byte_rate: None, size: None };

fn wav(header: Header, samples: &[u8]) -> Vec<u8> {
    let Header { format, channels, rate, bits, .. } = header;
    let block = header.block.unwrap_or_else(|| channels.wrapping_mul(bits / 8));
    let byte_rate = header.byte_rate.unwrap_or_else(|| rate.wrapping_mul(block.into()));
    let size = header.size.unwrap_or(samples.len() as u32);
    let mut wav = b"RIFF".to_vec();
    wav.extend(size.saturating_add(36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0");
    for number in [format, channels] {
        wav.extend(number.to_le_bytes());
    }
    for number in [rate, byte_rate] {
        wav.extend(number.to_le_bytes());
    }
    for number in [block, bits] {
        wav.extend(number.to_le_bytes());
    }
    wav.extend(b"data");
    wav.extend(size.to_le_bytes());
    wav.extend(samples);
    wav
}

/// A saw tooth of so many bytes.
fn saw(bytes: usize) -> Vec<u8> {
    (0..bytes / 2).flat_map(|i| ((i % 100 * 50) as i16).to_le_bytes()).collect()
}

#[test]
fn odd_rates_become_mp3s_and_impossible_ones_an_error() {
    let with = |rate: u32, bytes: usize| wav(Header { rate, ..PLAIN }, &saw(bytes));
    assert_verdicts(&[
        ("0 Hz", with(0, 2000), "corrupt"),
        // The resampler wants some samples to begin with.
        ("1 Hz, too short", with(1, 20), "no-audio"),
        ("1 Hz", with(1, 80), "mp3 8000 1 320000"),
        ("7 Hz", with(7, 140), "mp3 8000 1 80000"),
        ("999 Hz", with(999, 1998), "mp3 8000 1 8000"),
        ("768 kHz", with(768_000, 1_536_000), "mp3 48000 1 48000"),
        ("705.6 kHz", with(705_600, 1_411_200), "mp3 44100 1 44100"),
        ("1.536 MHz", with(1_536_000, 307_200), "mp3 48000 1 4800"),
        ("6.144 MHz", with(6_144_000, 307_200), "mp3 48000 1 1200"),
        ("100 MHz", with(100_000_000, 307_200), "corrupt"),
        ("2.1 GHz", with(i32::MAX as u32, 307_200), "corrupt"),
        ("4.2 GHz", with(u32::MAX, 307_200), "corrupt"),
    ]);
}

#[test]
fn many_channels_become_two_and_impossible_numbers_an_error() {
    let with =
        |channels: u16| wav(Header { channels, ..PLAIN }, &saw(usize::from(channels).max(1) * 2 * 4000));
    assert_verdicts(&[
        ("0 channels", with(0), "corrupt"),
        ("3 channels", with(3), "mp3 8000 2 4000"),
        ("9 channels", with(9), "mp3 8000 2 4000"),
        ("16 channels", with(16), "mp3 8000 2 4000"),
        ("24 channels", with(24), "mp3 8000 2 4000"),
        ("63 channels", with(63), "mp3 8000 2 4000"),
        ("64 channels", with(64), "mp3 8000 2 4000"),
        ("65 channels", with(65), "unsupported-codec"),
        ("255 channels", with(255), "unsupported-codec"),
        ("256 channels", with(256), "unsupported-codec"),
        ("65535 channels", wav(Header { channels: u16::MAX, ..PLAIN }, &saw(100_000)), "corrupt"),
    ]);
}

#[test]
fn headers_that_lie_about_sizes_are_not_believed() {
    let second = saw(16_000);
    let with = |header: Header| wav(header, &second);
    assert_verdicts(&[
        ("no size", with(Header { size: Some(0), ..PLAIN }), "mp3 8000 1 8000"),
        ("no known size", with(Header { size: Some(u32::MAX), ..PLAIN }), "mp3 8000 1 8000"),
        ("twice the size", with(Header { size: Some(32_000), ..PLAIN }), "truncated"),
        ("a thousand times the size", with(Header { size: Some(16_000_000), ..PLAIN }), "mp3 8000 1 8000"),
        ("half the size", with(Header { size: Some(8_000), ..PLAIN }), "mp3 8000 1 4000"),
        ("an odd size", with(Header { size: Some(7_999), ..PLAIN }), "mp3 8000 1 3999|mp3 8000 1 4000"),
        ("no block", with(Header { block: Some(0), ..PLAIN }), "mp3 8000 1 8000"),
        ("an odd block", with(Header { block: Some(3), ..PLAIN }), "corrupt"),
        ("a large block", with(Header { block: Some(u16::MAX), ..PLAIN }), "mp3 8000 1 8000"),
        ("no byte rate", with(Header { byte_rate: Some(0), ..PLAIN }), "mp3 8000 1 8000"),
        ("a tiny byte rate", with(Header { byte_rate: Some(1), ..PLAIN }), "mp3 8000 1 8000"),
        ("a huge byte rate", with(Header { byte_rate: Some(u32::MAX), ..PLAIN }), "mp3 8000 1 8000"),
        ("no bits", with(Header { bits: 0, ..PLAIN }), "unsupported-codec"),
        ("1 bit", with(Header { bits: 1, ..PLAIN }), "mp3 8000 1 16000"),
        ("12 bits", with(Header { bits: 12, block: Some(2), ..PLAIN }), "mp3 8000 1 8000"),
        ("20 bits", with(Header { bits: 20, block: Some(3), ..PLAIN }), "mp3 8000 1 5333"),
        ("64 bits", with(Header { bits: 64, ..PLAIN }), "mp3 8000 1 2000"),
        ("999 bits", with(Header { bits: 999, ..PLAIN }), "unsupported-codec"),
        ("an unknown format", with(Header { format: 0x7777, ..PLAIN }), "unsupported-codec"),
        ("no format", with(Header { format: 0, ..PLAIN }), "unsupported-codec"),
        ("no sample", wav(PLAIN, b""), "no-audio"),
        ("half a sample", wav(PLAIN, b"x"), "corrupt"),
        ("a head alone", with(PLAIN)[..12].to_vec(), "not-media"),
        ("half a format", with(PLAIN)[..30].to_vec(), "not-media"),
        ("no data", with(PLAIN)[..36].to_vec(), "corrupt"),
        ("data twice", [with(PLAIN), with(PLAIN)].concat(), "mp3 8000 1 8000"),
    ]);
}

#[test]
fn samples_that_are_no_numbers_are_silence_and_what_is_too_loud_is_clipped() {
    let float = Header { format: 3, bits: 32, ..PLAIN };
    let with =
        |value: fn(usize) -> f32| -> Vec<u8> { (0..8000).flat_map(|i| value(i).to_le_bytes()).collect() };
    let double: Vec<u8> = (0..8000).flat_map(|_| f64::NAN.to_le_bytes()).collect();
    let cases = [
        ("not a number", wav(float, &with(|_| f32::NAN))),
        ("infinite", wav(float, &with(|_| f32::INFINITY))),
        ("both by turns", wav(float, &with(|i| if i % 2 == 0 { f32::NEG_INFINITY } else { f32::NAN }))),
        ("huge", wav(float, &with(|i| if i % 2 == 0 { f32::MAX } else { f32::MIN }))),
        ("tiny", wav(float, &with(|_| f32::from_bits(1)))),
        (
            "one amid a sound",
            wav(float, &with(|i| if i == 4000 { f32::NAN } else { (i % 100) as f32 / 200.0 })),
        ),
        ("doubles", wav(Header { bits: 64, ..float }, &double)),
    ];
    for (name, bytes) in cases {
        assert_eq!(verdict(name, &bytes), "mp3 8000 1 8000", "{name}");
        // At another rate the resampler would spread what is no number.
        let original = super::super::options::options("preset=original");
        assert_eq!(verdict_with(name, &bytes, &original, &tight()), "mp3 44100 2 44100", "{name}");
        let loud = super::super::options::options("loudness=-16");
        assert_eq!(verdict_with(name, &bytes, &loud, &tight()), "mp3 8000 1 8000", "{name}");
    }
    assert_eq!(
        verdict_with("plain", &wav(PLAIN, &saw(16_000)), &Options::default(), &tight()),
        "mp3 8000 1 8000"
    );
}
