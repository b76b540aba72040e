//! What comes with the sound: tags that were asked for, the cover and the chapters, as FFmpeg's program finds them in the MP3.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine::{Limits, Options};
use id3::{Tag, TagLike};
use tempfile::TempDir;

use super::options::options;
use super::{assert_sound, convert, ffmpeg, make, media};

/// Converts, and reads the tag.
fn tagged(path: &Path, options: &Options) -> (Tag, Vec<u8>) {
    let (summary, mp3) = convert(path, options, &Limits::default())
        .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    assert_sound(path.to_str().unwrap(), &summary, &mp3);
    (Tag::read_from2(std::io::Cursor::new(&mp3)).unwrap_or_default(), mp3)
}

#[test]
fn tags_that_are_asked_for_take_the_place_of_the_containers() {
    let folder = TempDir::new().unwrap();
    let path = make(
        &folder,
        "it.m4a",
        "-f lavfi -i sine=d=1 -metadata title=Old -metadata artist=Them -metadata genre=Jazz",
    );
    let (tag, _) = tagged(&path, &options("tag.title=New tag.artist= tag.date=2026-11-21 tag.track=2/9"));
    assert_eq!((tag.title(), tag.artist(), tag.genre()), (Some("New"), None, Some("Jazz")));
    assert_eq!(
        (tag.track(), tag.total_tracks(), tag.date_recorded().unwrap().day),
        (Some(2), Some(9), Some(21))
    );
    assert_eq!(tag.frames().count(), 4, "{tag:?}");
}

/// A JPEG of noise, which does not shrink, about as large as is said.
fn picture(folder: &TempDir, name: &str, side: u32) -> PathBuf {
    make(
        folder,
        name,
        &format!(
            "-f lavfi -i nullsrc=s={side}x{side},geq=random(1)*255:128:128 -frames:v 1 -update 1 -q:v 8"
        ),
    )
}

fn with_cover(folder: &TempDir, name: &str, cover: &Path, arguments: &str) -> PathBuf {
    let cover = cover.to_str().unwrap();
    make(
        folder,
        name,
        &format!(
            "-f lavfi -i sine=d=1 -i {cover} -map 0 -map 1 -c:v copy -disposition:v:0 attached_pic {arguments}"
        ),
    )
}

#[test]
fn an_attached_picture_becomes_the_cover() {
    let folder = TempDir::new().unwrap();
    let jpeg = picture(&folder, "cover.jpg", 96);
    let png = make(&folder, "cover.png", "-f lavfi -i testsrc=s=64x64 -frames:v 1 -update 1");
    let matroska = make(
        &folder,
        "it.mkv",
        &format!("-f lavfi -i sine=d=1 -attach {} -metadata:s:t mimetype=image/jpeg", jpeg.display()),
    );
    let cases = [
        (with_cover(&folder, "it.m4a", &jpeg, "-bitexact"), &jpeg, "image/jpeg"),
        (with_cover(&folder, "png.m4a", &png, "-bitexact"), &png, "image/png"),
        (with_cover(&folder, "it.mp3", &jpeg, "-bitexact"), &jpeg, "image/jpeg"),
        (with_cover(&folder, "it.flac", &jpeg, "-bitexact"), &jpeg, "image/jpeg"),
        (matroska, &jpeg, "image/jpeg"),
    ];
    for (path, cover, kind) in cases {
        let (tag, mp3) = tagged(&path, &Options::default());
        let pictures: Vec<_> = tag.pictures().collect();
        assert_eq!(pictures.len(), 1, "{}", path.display());
        assert!(pictures[0].data == std::fs::read(cover).unwrap(), "{}", path.display());
        assert_eq!(
            (pictures[0].mime_type.as_str(), pictures[0].picture_type),
            (kind, id3::frame::PictureType::CoverFront)
        );
        // FFmpeg's program shows it, and would complain of one that it cannot read.
        let made = folder.path().join("made.mp3");
        std::fs::write(&made, mp3).unwrap();
        assert!(!ffmpeg(&["-i", made.to_str().unwrap(), "-map", "0:v", "-f", "rawvideo", "-"]).is_empty());
    }
    let (tag, _) = tagged(&media().join("flac__bear_with_picture.flac"), &Options::default());
    assert_eq!(tag.pictures().count(), 1);
}

#[test]
fn a_cover_that_is_too_large_for_the_head_is_left_out_and_the_sound_is_whole() {
    let folder = TempDir::new().unwrap();
    let cover = |side, least: u64| {
        let picture = picture(&folder, &format!("{side}.jpg"), side);
        let size = std::fs::metadata(&picture).unwrap().len();
        assert!(size > least, "the picture is no test: {size}");
        let path = with_cover(&folder, &format!("{side}.m4a"), &picture, "-metadata title=T");
        let (tag, _) = tagged(&path, &Options::default());
        (size, tag.pictures().count(), tag.title().map(str::to_owned))
    };
    let (size, count, _) = cover(420, 64 << 10);
    assert!(size < 250 << 10 && count == 1, "{size}");
    let (_, count, title) = cover(1000, 255 << 10);
    assert_eq!((count, title.as_deref()), (0, Some("T")));
}

/// A file with three chapters, the last without a title.
fn with_chapters(folder: &TempDir, name: &str, codec: &str) -> PathBuf {
    let metadata = ";FFMETADATA1\ntitle=Talk\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2500\ntitle=Größe\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=2500\nEND=6000\ntitle=Two\n\
                    [CHAPTER]\nTIMEBASE=1/1000\nSTART=6000\nEND=10000\n";
    let chapters = folder.path().join("chapters.txt");
    std::fs::write(&chapters, metadata).unwrap();
    let chapters = chapters.to_str().unwrap();
    make(
        folder,
        name,
        &format!("-f lavfi -i sine=d=10 -i {chapters} -map 0 -map_metadata 1 -map_chapters 1 -c:a {codec}"),
    )
}

/// Start, end and title of each chapter, as FFmpeg's program reads them; for one without a title it says its identifier.
fn chapters(mp3: &[u8]) -> Vec<(f64, f64, String)> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it.mp3");
    std::fs::write(&path, mp3).unwrap();
    let show = [
        "-v",
        "error",
        "-show_chapters",
        "-of",
        "csv=nk=1:p=0",
        "-show_entries",
        "chapter=start_time,end_time:chapter_tags=title",
    ];
    let shown = Command::new("ffprobe").args(show).arg(&path).output().unwrap();
    assert!(shown.status.success() && shown.stderr.is_empty(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let chapter = |line: &str| {
        let mut parts = line.splitn(3, ',');
        let mut time = || parts.next().unwrap().parse().unwrap();
        (time(), time(), parts.next().unwrap_or_default().to_owned())
    };
    shown.lines().map(chapter).collect()
}

#[test]
fn chapters_come_along_and_are_listed_in_their_order() {
    let folder = TempDir::new().unwrap();
    for (name, codec) in
        [("it.mkv", "flac"), ("it.m4a", "aac"), ("it.opus", "libopus"), ("it.mp3", "libmp3lame")]
    {
        let path = with_chapters(&folder, name, codec);
        let (tag, mp3) = tagged(&path, &Options::default());
        let mut found = chapters(&mp3);
        // The last chapter's end is the sound's, to which some containers add.
        found.iter_mut().for_each(|(_, end, _)| *end = (*end * 10.0).round() / 10.0);
        // FFmpeg 5.1 writes a wrong time into Ogg.
        let second = if name == "it.opus" { 3.5 } else { 2.5 };
        // In MP3, libav takes an identifier for the title.
        let third = if name == "it.mp3" { "ch2" } else { "chp2" };
        let expected = [(0.0, second, "Größe"), (second, 6.0, "Two"), (6.0, 10.0, third)];
        let expected = expected.map(|(start, end, title)| (start, end, title.to_owned()));
        assert_eq!(found, expected, "{name}");
        let table: Vec<_> = tag.tables_of_contents().collect();
        assert!(table.len() == 1 && table[0].top_level && table[0].ordered, "{name}");
        let ids: Vec<_> = tag.chapters().map(|chapter| &chapter.element_id).collect();
        assert_eq!(table[0].elements.iter().collect::<Vec<_>>(), ids, "{name}");
        assert_eq!(tag.title(), Some("Talk"), "{name}");
    }
}

#[test]
fn chapters_fit_a_sound_that_begins_after_the_picture() {
    let folder = TempDir::new().unwrap();
    let chaptered = with_chapters(&folder, "all.mka", "flac");
    let chaptered = chaptered.to_str().unwrap();
    for (name, codec) in [("late.mkv", "flac"), ("copied.mkv", "libmp3lame"), ("late.mp4", "aac")] {
        let inputs = "-f lavfi -i color=s=64x64:r=5:d=10 -itsoffset 4 -f lavfi -i sine=d=6";
        let path = make(
            &folder,
            name,
            &format!("{inputs} -i {chaptered} -map 0 -map 1 -map_chapters 2 -c:v mpeg4 -c:a {codec}"),
        );
        let (_, mp3) = convert(&path, &Options::default(), &Limits::default()).unwrap();
        let found = chapters(&mp3);
        assert_eq!(found.len(), 2, "{name}: the first ends before the sound begins: {found:?}");
        // To within an encoder's delay.
        assert!(found[0].0 == 0.0 && (found[0].1 - 2.0).abs() < 0.06, "{name}: {found:?}");
        assert!((found[1].0 - 2.0).abs() < 0.06 && (found[1].1 - 6.0).abs() < 0.2, "{name}: {found:?}");
    }
}

#[test]
fn chapters_of_a_piece_are_those_within_it_from_its_start() {
    let folder = TempDir::new().unwrap();
    let path = with_chapters(&folder, "it.mkv", "flac");
    let found = |wish| chapters(&tagged(&path, &options(wish)).1);
    assert_eq!(found("trim=2-5"), [(0.0, 0.5, "Größe".to_owned()), (0.5, 3.0, "Two".to_owned())]);
    assert_eq!(found("trim=2.5-6"), [(0.0, 3.5, "Two".to_owned())]);
    assert_eq!(found("trim=7-"), [(0.0, 3.0, "chp0".to_owned())]);
}

#[test]
fn a_thousand_chapters_with_long_titles_leave_a_sound_mp3() {
    let folder = TempDir::new().unwrap();
    let mut metadata = String::from(";FFMETADATA1\n");
    let title = "大".repeat(300);
    for i in 0..1_000 {
        metadata +=
            &format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={title}\n", i * 5, i * 5 + 5);
    }
    let list = folder.path().join("chapters.txt");
    std::fs::write(&list, metadata).unwrap();
    let path = make(
        &folder,
        "it.mkv",
        &format!("-f lavfi -i sine=d=5 -i {} -map 0 -map_chapters 1 -c:a flac", list.display()),
    );
    let (tag, _) = tagged(&path, &Options::default());
    assert_eq!(tag.chapters().count(), 255);
    let last = tag.chapters().last().unwrap();
    assert_eq!(Duration::from_millis(last.end_time.into()), Duration::from_millis(255 * 5));
    assert!(last.frames.iter().all(|frame| frame.content().text().unwrap().len() <= 200));
}
