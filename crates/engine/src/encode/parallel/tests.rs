//! The encoder beside one LAME: lengths, frames, threads, joins.

use proptest::prelude::*;

use super::*;
use crate::encode::Quality;
use crate::encode::merge::Joins;
use crate::mp3::unpack::{Frame, Unpacker};

struct Mp3(Vec<u8>);

impl Outlet for Mp3 {
    fn mp3(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn encoded(&mut self, _samples: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// Tones that move, noise that comes and goes, and beats: what a psychoacoustic model has work with.
fn music(sample_rate: u32, samples: usize) -> (Vec<f32>, Vec<f32>) {
    let mut noise = 1_u32;
    let mut random = move || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let sound = |i: usize| {
        let t = i as f32 / sample_rate as f32;
        let chord: f32 = [220.0, 277.0, 331.0, 1250.0]
            .iter()
            .map(|f| (t * f * std::f32::consts::TAU + (t * 3.0).sin()).sin())
            .sum();
        let beat = (-((t * 2.0).fract()) * 12.0).exp();
        (chord * 0.1 * (0.6 + 0.4 * (t * 0.7).sin()), beat, t)
    };
    let both = (0..samples).map(|i| {
        let (chord, beat, t) = sound(i);
        let (one, two) = (random(), random());
        let hush = if (t * 0.21).fract() < 0.1 { 0.05 } else { 1.0 };
        (
            (chord + beat * one * 0.4) * hush,
            (chord * 0.7 + beat * (one * 0.3 + two * 0.1) + 0.01 * two) * hush,
        )
    });
    both.unzip()
}

fn format(sample_rate: u32, channels: u8, quality: Quality) -> Format {
    Format { sample_rate, channels, decoded_channels: channels, quality }
}

fn encode(format: &Format, cut: Cut, threads: usize, sound: &(Vec<f32>, Vec<f32>)) -> (Vec<u8>, Joins) {
    std::thread::scope(|scope| {
        let mut encoder = Encoder::with_cut(scope, format, threads, cut).unwrap();
        let mut mp3 = Mp3(encoder.place_holder().to_vec());
        for (left, right) in sound.0.chunks(1000).zip(sound.1.chunks(1000)) {
            let right = (format.decoded_channels == 2).then_some(right);
            encoder.push(left, right, &mut mp3).unwrap();
        }
        let (samples, info) = encoder.end(&mut mp3).unwrap();
        assert_eq!(samples, sound.0.len() as u64);
        mp3.0[..info.len()].copy_from_slice(&info);
        let facts = crate::mp3::check(&mp3.0[..]).unwrap();
        assert_eq!(facts.samples, samples, "the MP3 is as long as the sound");
        (mp3.0, encoder.merger.joins)
    })
}

fn one_lame(format: &Format, sound: &(Vec<f32>, Vec<f32>)) -> Vec<Frame> {
    let mut lame = Lame::bare(format).unwrap();
    let right = (format.decoded_channels == 2).then_some(&sound.1[..]);
    let (mut unpacker, mut frames) = (Unpacker::default(), Vec::new());
    let unpack = |mp3: &[u8]| {
        unpacker.push(mp3, &mut frames).unwrap();
        Ok(())
    };
    lame.encode(&sound.0, right, unpack).unwrap();
    unpacker.push(lame.finish().unwrap(), &mut frames).unwrap();
    frames
}

fn frames(mp3: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    Unpacker::default().push(mp3, &mut frames).unwrap();
    frames.split_off(1) // behind the Info frame
}

#[test]
fn the_frames_are_those_of_one_lame_and_the_threads_make_no_difference() {
    let (mut same, mut all, mut joins) = (0, 0, Joins::default());
    for (rate, channels) in [(44_100, 2), (32_000, 1), (22_050, 2), (8_000, 1)] {
        let sound = music(rate, rate as usize * 30 + 7);
        let low = if rate < 32_000 { 40 } else { 128 };
        for quality in [Quality::Vbr(2), Quality::Vbr(6), Quality::Cbr(low), Quality::Abr(low)] {
            let format = format(rate, channels, quality);
            let cut = Cut::of(quality);
            let (mp3, joined) = encode(&format, cut, 2, &sound);
            for threads in [1, 3, 8] {
                assert!(encode(&format, cut, threads, &sound).0 == mp3, "{format:?} on {threads} threads");
            }
            let (ours, lames) = (frames(&mp3), one_lame(&format, &sound));
            assert_eq!(ours.len(), lames.len(), "{format:?}");
            let equal = ours.iter().zip(&lames).filter(|(ours, lames)| ours.says_the_same(lames)).count();
            println!("{format:?}: {equal} of {} frames, {joined:?}", lames.len());
            (same, all) = (same + equal, all + lames.len());
            joins.exact += joined.exact;
            joins.fitting += joined.fitting;
            joins.bridged += joined.bridged;
        }
    }
    println!("{same} of {all} frames are those of one LAME; {joins:?}");
    assert!(joins.exact > 0, "{joins:?}");
    assert!(same * 1000 > all * 999, "{same} of {all}");
}

/// Half a minute of a film's sound.
fn film(sample_rate: u32) -> (Vec<f32>, Vec<f32>) {
    ffmpeg("[0:a]anull", sample_rate)
}

/// A minute of real sound at full scale: a film's, the same backwards, and music.
fn loud(sample_rate: u32) -> (Vec<f32>, Vec<f32>) {
    let all = "[0:a]volume=16dB,alimiter=limit=0.99:level=0,asplit[film][again];[again]areverse[back];\
               [1:a]aresample=48000,volume=12dB,alimiter=limit=0.99:level=0[music];[film][back][music]concat=n=3:v=0:a=1";
    ffmpeg(all, sample_rate)
}

/// Two channels of noise that have nothing to do with each other: at high bit rates, no sound keeps neighbours apart for longer.
fn noise(sample_rate: u32) -> (Vec<f32>, Vec<f32>) {
    ffmpeg("aevalsrc=random(0)*2-1|random(1)*2-1:s=48000:d=20", sample_rate)
}

/// What a filter makes of a film's sound and of music.
fn ffmpeg(filter: &str, sample_rate: u32) -> (Vec<f32>, Vec<f32>) {
    let media = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media");
    let mut ffmpeg = crate::ffmpeg_program();
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(media.join("bbb_480p_30s.mp4"));
    ffmpeg.arg("-i").arg(media.join("flac__bear_with_picture.flac")).args(["-filter_complex", filter]);
    let run = ffmpeg.args(["-ac", "2", "-ar", &sample_rate.to_string(), "-f", "f32le", "-"]).output();
    let run = run.expect("ffmpeg is installed: cargo xtask setup --tests");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let samples =
        run.stdout.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes).clamp(-1.0, 1.0));
    let samples: Vec<f32> = samples.collect();
    samples.as_chunks::<2>().0.iter().map(|[left, right]| (*left, *right)).unzip()
}

/// Encodes at this setting; how many frames are those of one LAME, and how many there are.
fn compare(format: &Format, what: &str, sound: &(Vec<f32>, Vec<f32>)) -> (usize, usize) {
    let (mp3, joins) = encode(format, Cut::of(format.quality), 2, sound);
    let (ours, lames) = (frames(&mp3), one_lame(format, sound));
    let equal = ours.iter().zip(&lames).filter(|(ours, lames)| ours.says_the_same(lames)).count();
    println!("{what}, {format:?}: {equal} of {} frames, {joins:?}", lames.len());
    assert_eq!(ours.len(), lames.len());
    (equal, lames.len())
}

#[test]
fn at_a_constant_bit_rate_every_frame_is_one_lames() {
    type Sound = fn(u32) -> (Vec<f32>, Vec<f32>);
    let kinds: [(&str, u32, u8, Sound); 5] = [
        ("film", 44_100, 2, film),
        ("loud", 44_100, 2, loud),
        ("loud", 48_000, 1, loud),
        ("noise", 44_100, 2, noise),
        ("noise", 22_050, 1, noise),
    ];
    for (what, rate, channels, sound) in kinds {
        let sound = sound(rate);
        for kbit in if rate < 32_000 { [24, 40, 64, 96, 160] } else { [64, 128, 192, 256, 320] } {
            let (same, all) = compare(&format(rate, channels, Quality::Cbr(kbit)), what, &sound);
            assert_eq!(same, all, "{what} at {kbit} kbit/s");
        }
    }
}

#[test]
fn where_frames_take_what_they_need_nearly_all_are_one_lames() {
    use Quality::{Abr, Vbr};
    // It falls silent at its end: what LAME hears in silence depends on how loud it was before.
    let films = [44_100, 48_000].map(|rate| (rate, film(rate)));
    let louds = [(44_100, 2), (48_000, 1)].map(|(rate, channels)| (rate, channels, loud(rate)));
    for quality in [Vbr(0), Vbr(1), Vbr(2), Vbr(4), Vbr(9), Abr(128)] {
        for (rate, film) in &films {
            let (same, all) = compare(&format(*rate, 2, quality), "film", film);
            assert!(same * 1000 >= all * 999, "{quality:?}: {same} of {all} frames are those of one LAME");
        }
        let (mut same, mut all) = (0, 0);
        for (rate, channels, sound) in &louds {
            let found = compare(&format(*rate, *channels, quality), "loud", sound);
            (same, all) = (same + found.0, all + found.1);
        }
        // A few full frames in a segment do not bind it to its reservoir; they differ where it does.
        let least = if quality == Vbr(1) { 990 } else { 995 };
        assert!(same * 1000 >= all * least, "{quality:?}: {same} of {all} frames are those of one LAME");
    }
    // An average near the top rate fills frames as well, and of low sample rates the top rate is low.
    for (rate, kbit, sound) in [(44_100, 192, &louds[0].2), (22_050, 128, &film(22_050))] {
        let (same, all) = compare(&format(rate, 2, Abr(kbit)), "full", sound);
        assert!(
            same * 1000 >= all * 998,
            "{rate} Hz, {kbit} kbit/s: {same} of {all} frames are those of one LAME"
        );
    }
}

#[test]
fn where_no_frame_fits_one_encoder_goes_on_into_the_next_segment() {
    for quality in [Quality::Vbr(2), Quality::Cbr(128)] {
        let format = format(44_100, 2, quality);
        // Neighbours that never encode the same frame twice.
        let cut = Cut { usable: 0, tail: 0, ..Cut::of(quality) };
        let sound = music(44_100, 44_100 * 20);
        let (mp3, joins) = encode(&format, cut, 2, &sound);
        assert!(joins.bridged > 0, "{joins:?}");
        let (ours, lames) = (frames(&mp3), one_lame(&format, &sound));
        let equal = ours.iter().zip(&lames).filter(|(ours, lames)| ours.says_the_same(lames)).count();
        println!("{quality:?}: {equal} of {}; {joins:?}", lames.len());
        assert!(equal * 100 > lames.len() * 98, "{equal} of {}", lames.len());
    }
}

#[test]
fn every_setting_has_the_sounds_length_and_the_same_bytes_on_any_number_of_threads() {
    for rate in crate::encode::RATES {
        let sound = music(rate, rate as usize * 9 + 1);
        let rates: &[u16] = if rate < 32_000 { &[8, 32, 64, 160] } else { &[32, 64, 128, 192, 320] };
        let qualities = rates.iter().flat_map(|rate| [Quality::Cbr(*rate), Quality::Abr(*rate)]);
        for quality in qualities.chain((0..10).map(Quality::Vbr)) {
            for channels in [1, 2] {
                let format = format(rate, channels, quality);
                let by = |threads| encode(&format, Cut::of(quality), threads, &sound).0;
                let mp3 = by(1);
                for threads in [2, 3, 8] {
                    assert!(by(threads) == mp3, "{format:?} on {threads} threads");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_length_is_kept(samples in prop_oneof![1_usize..5000, 160_000_usize..400_000], vbr in any::<bool>(), threads in 1_usize..4) {
        let quality = if vbr { Quality::Vbr(4) } else { Quality::Cbr(96) };
        let sound = music(44_100, samples);
        encode(&format(44_100, 2, quality), Cut::of(quality), threads, &sound);
    }
}
