//! Containers, codecs, rates, layouts and tags that FFmpeg's program makes for us.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use engine::{Code, Limits, Options, Preset};
use id3::TagLike;
use tempfile::TempDir;

use super::{assert_sound, convert, convert_in_child, decoded, long_wav, make};

#[test]
fn each_container_and_codec_is_as_long_as_ffmpeg_says() {
    let folder = TempDir::new().unwrap();
    let stereo = "-f lavfi -i aevalsrc=sin(2764*t)/2|sin(1382*t)/2:s=44100:d=2.345";
    let with_video = format!("-f lavfi -i testsrc=s=64x64:r=25:d=2.4 {stereo}");
    let cases = [
        ("aac.m4a", stereo, "-c:a aac"),
        ("aac.mp4", &with_video, "-c:a aac -movflags +faststart"),
        ("fragmented.mp4", &with_video, "-c:a aac -movflags frag_keyframe+empty_moov -g 25"),
        ("alac.mov", &with_video, "-c:a alac"),
        ("pcm.mov", &with_video, "-c:a pcm_s24le"),
        ("opus.webm", &with_video, "-ar 48000 -c:a libopus"),
        ("flac.mkv", &with_video, "-c:a flac"),
        ("mp3.avi", &with_video, "-c:a libmp3lame"),
        ("pcm.avi", &with_video, "-c:a pcm_s16le"),
        ("wma.wmv", &with_video, "-c:v wmv2 -c:a wmav2"),
        ("aac.flv", &with_video, "-c:v flv -c:a aac"),
        ("aac.ts", &with_video, "-c:v mpeg2video -c:a aac"),
        ("mp2.mpg", &with_video, "-c:v mpeg2video -c:a mp2"),
        ("vorbis.ogg", stereo, "-c:a libvorbis"),
        ("flac.flac", stereo, "-c:a flac"),
        ("float.wav", stereo, "-c:a pcm_f32le"),
        ("pcm.w64", stereo, "-c:a pcm_s16le"),
        ("pcm.aiff", stereo, "-c:a pcm_s16be"),
        ("pcm.caf", stereo, "-c:a pcm_s16be"),
        ("aac.aac", stereo, "-c:a aac"),
        ("ac3.ac3", stereo, "-c:a ac3"),
        ("mp3.mp3", stereo, "-c:a libmp3lame"),
        ("mu.au", stereo, "-c:a pcm_mulaw"),
        ("truehd.mkv", stereo, "-c:a truehd -strict -2"),
    ];
    for (name, input, output) in cases {
        let path = make(&folder, name, &format!("{input} {output}"));
        let (summary, mp3) = convert(&path, &Options::default(), &Limits::default())
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(summary.samples * 2, decoded(&path), "{name}");
        assert_sound(name, &summary, &mp3);
    }
}

#[test]
fn rates_and_layouts_become_what_mp3_can_carry() {
    let folder = TempDir::new().unwrap();
    let eight = "-f lavfi -i aevalsrc=0.9|0.9|0.9|0.9|0.9|0.9|0.9|0.9:c=7.1:s=48000:d=1";
    let cases = [
        ("a.wav", "-f lavfi -i sine=r=96000:d=1", 48_000, 1),
        ("b.wav", "-f lavfi -i sine=r=88200:d=1", 44_100, 1),
        ("c.wav", "-f lavfi -i sine=r=8000:d=1", 8_000, 1),
        ("d.wav", "-f lavfi -i sine=r=37800:d=1", 44_100, 1),
        ("e.wav", "-f lavfi -i sine=r=11025:d=1 -ac 2", 11_025, 2),
        ("f.wav", eight, 48_000, 2),
        ("g.wav", "-f lavfi -i aevalsrc=0.9|0.9|0.9:c=2.1:s=22050:d=1", 22_050, 2),
    ];
    for (name, arguments, rate, channels) in cases {
        let path = make(&folder, name, arguments);
        let (summary, mp3) = convert(&path, &Options::default(), &Limits::default()).unwrap();
        assert_eq!((summary.sample_rate, summary.channels), (rate, channels), "{name}");
        assert!(summary.samples.abs_diff(u64::from(rate)) <= 1, "{name}: {}", summary.samples);
        assert_sound(name, &summary, &mp3);
    }
}

#[test]
fn the_original_preset_doubles_mono_at_44100() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "mono.wav", "-f lavfi -i sine=r=48000:d=3");
    let options = Options { preset: Preset::Original, ..Options::default() };
    let (summary, mp3) = convert(&path, &options, &Limits::default()).unwrap();
    assert_eq!((summary.sample_rate, summary.channels, summary.samples), (44_100, 2, 132_300));
    assert_sound("original", &summary, &mp3);
    assert!((45_000..52_000).contains(&mp3.len()), "128 kbit/s: {}", mp3.len());
}

#[test]
fn a_single_sample_and_samples_that_are_no_numbers_convert() {
    let folder = TempDir::new().unwrap();
    let one = make(&folder, "one.wav", "-f lavfi -i anullsrc=r=44100:cl=mono:n=1 -af atrim=end_sample=1");
    let (summary, mp3) = convert(&one, &Options::default(), &Limits::default()).unwrap();
    assert_eq!(summary.samples, 1);
    assert_sound("one sample", &summary, &mp3);

    let nan = make(&folder, "nan.wav", "-f lavfi -i aevalsrc=0/0*t|1/0:s=44100:d=1 -c:a pcm_f32le");
    let (summary, mp3) = convert(&nan, &Options::default(), &Limits::default()).unwrap();
    assert_eq!(summary.samples, 44_100);
    assert_sound("not a number", &summary, &mp3);
}

#[test]
fn the_default_track_is_taken_and_not_the_first() {
    let folder = TempDir::new().unwrap();
    let two = "-f lavfi -i sine=r=48000:d=1 -f lavfi -i sine=r=48000:d=2 -map 0 -map 1 -c:a flac";
    let path = make(&folder, "two.mkv", &format!("{two} -disposition:a:0 0 -disposition:a:1 default"));
    assert_eq!(convert(&path, &Options::default(), &Limits::default()).unwrap().0.samples, 96_000);
    let path = make(&folder, "none.mkv", &format!("{two} -disposition:a:0 0 -disposition:a:1 0"));
    assert_eq!(convert(&path, &Options::default(), &Limits::default()).unwrap().0.samples, 48_000);
}

#[test]
fn the_works_tags_are_kept_in_the_mp3() {
    let folder = TempDir::new().unwrap();
    let tags = "-metadata title=Größe -metadata artist=大 -metadata album=A -metadata date=2024-05-06 -metadata genre=Jazz \
                -metadata track=3/12 -metadata comment=C";
    for name in ["tags.m4a", "tags.mkv", "tags.ogg", "tags.mp3", "tags.flac"] {
        let path = make(&folder, name, &format!("-f lavfi -i sine=d=1 {tags}"));
        let options = Options { title: Some("unused".to_owned()), ..Options::default() };
        let (_, mp3) = convert(&path, &options, &Limits::default()).unwrap();
        let tag = id3::Tag::read_from2(std::io::Cursor::new(&mp3)).unwrap();
        let said = (tag.title(), tag.artist(), tag.album(), tag.genre(), tag.track(), tag.total_tracks());
        assert_eq!(said, (Some("Größe"), Some("大"), Some("A"), Some("Jazz"), Some(3), Some(12)), "{name}");
        assert_eq!(tag.date_recorded().map(|date| (date.year, date.month)), Some((2024, Some(5))), "{name}");
        assert_eq!(tag.comments().next().map(|comment| comment.text.as_str()), Some("C"), "{name}");
        assert_eq!(tag.frames().count(), 7, "{name}: {tag:?}");
    }
    let path = make(&folder, "bare.wav", "-f lavfi -i sine=d=1 -bitexact");
    let options = Options { title: Some("Holiday".to_owned()), ..Options::default() };
    let (_, mp3) = convert(&path, &options, &Limits::default()).unwrap();
    assert_eq!(id3::Tag::read_from2(std::io::Cursor::new(&mp3)).unwrap().title(), Some("Holiday"));
}

#[test]
fn thirty_hours_of_silence_are_refused_within_seconds() {
    let folder = TempDir::new().unwrap();
    let silence =
        "-f lavfi -i anullsrc=r=8000:cl=mono:n=65535 -c:a flac -frame_size 65535 -compression_level 0";
    let path = make(&folder, "silence.flac", &format!("{silence} -t 108000"));
    let begun = Instant::now();
    let error = convert_in_child(&path, &Limits::default()).unwrap_err();
    assert_eq!(error.code, Code::TooLong);
    assert!(error.text.contains("24 hours"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    println!("30 hours refused in {:?}", begun.elapsed());
}

#[test]
fn a_limit_on_duration_counts_what_is_decoded_and_allows_the_limit_itself() {
    let folder = TempDir::new().unwrap();
    let path = long_wav(&folder, 20);
    let limits = |seconds| Limits { duration: Duration::from_secs(seconds), ..Limits::default() };
    assert!(convert(&path, &Options::default(), &limits(20)).is_ok());
    assert_eq!(convert(&path, &Options::default(), &limits(18)).unwrap_err().code, Code::TooLong);
    // A header that claims 2 of the 20 seconds: the count catches it.
    let lying = make(&folder, "lying.flv", "-f lavfi -i sine=d=20 -c:a mp3 -ar 44100");
    let mut bytes = std::fs::read(&lying).unwrap();
    let at = bytes.windows(8).position(|window| window == b"duration").unwrap() + 9;
    bytes[at..at + 8].copy_from_slice(&2.0_f64.to_be_bytes());
    std::fs::write(&lying, bytes).unwrap();
    assert_eq!(convert(&lying, &Options::default(), &limits(10)).unwrap_err().code, Code::TooLong);
    assert!(convert(&lying, &Options::default(), &limits(30)).is_ok());
}

#[test]
fn progress_never_goes_back_and_ends_at_one_and_break_ends_the_work() {
    let folder = TempDir::new().unwrap();
    let source = std::fs::File::open(long_wav(&folder, 1200)).unwrap();
    let (options, limits) = (Options::default(), Limits::default());
    let mut seen = Vec::new();
    engine::convert(&source, &mut Vec::new(), &options, &limits, &mut |progress| {
        seen.push(progress.fraction);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(seen.is_sorted() && seen.len() > 2 && seen.last() == Some(&1.0), "{seen:?}");
    let stopped =
        engine::convert(&source, &mut Vec::new(), &options, &limits, &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap_err().code, Code::Cancelled);
}
