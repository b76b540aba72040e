//! `tapedeck convert`: exit codes for scripts, no overwriting, no half file.

use crate::deck::{media, tapedeck, tool};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A folder with copies of these files.
fn folder(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(media(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn convert(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } =
        tapedeck(dir, &[&["convert"], arguments].concat()).current_dir(dir).output().unwrap();
    (
        status.code().unwrap(),
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)),
    )
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_become_mp3s_beside_them_or_where_it_is_said() {
    let dir = folder(&["mp4__sample.mp4", "wav__sample.wav"]);
    let (code, said) = convert(dir.path(), &["mp4__sample.mp4", "wav__sample.wav"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("mp4__sample.mp4 -> mp4__sample.mp3"), "{said}");
    assert_eq!(
        names(dir.path()),
        ["mp4__sample.mp3", "mp4__sample.mp4", "wav__sample.mp3", "wav__sample.wav"]
    );
    assert_eq!(convert(dir.path(), &["mp4__sample.mp4", "-o", "talk.mp3", "--quiet"]), (0, String::new()));
    fs::create_dir(dir.path().join("out")).unwrap();
    assert_eq!(convert(dir.path(), &["mp4__sample.mp4", "wav__sample.wav", "-o", "out"]).0, 0);
    assert_eq!(names(&dir.path().join("out")), ["mp4__sample.mp3", "wav__sample.mp3"]);
    for mp3 in ["talk.mp3", "out/wav__sample.mp3"] {
        engine::mp3::check(fs::File::open(dir.path().join(mp3)).unwrap()).unwrap();
    }
}

#[test]
fn who_stops_listening_stops_no_conversion_and_no_name_moves_a_cursor() {
    let dir = folder(&["mp4__sample.mp4"]);
    let name = "red\u{1b}[31m\nand two lines.mp4";
    fs::rename(dir.path().join("mp4__sample.mp4"), dir.path().join(name)).unwrap();
    let (code, said) = convert(dir.path(), &[name]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains('\u{1b}') && said.lines().count() == 1, "{said:?}");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for (round, out) in [Stdio::from(full), Stdio::from(closed)].into_iter().enumerate() {
        let mp3 = format!("{round}.mp3");
        let mut run = tapedeck(dir.path(), &["convert", name, "-o", &mp3]);
        let run = run.current_dir(dir.path()).stdout(out).stderr(Stdio::piped()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(dir.path().join(mp3).exists());
    }
}

#[test]
fn a_device_or_a_pipe_is_not_replaced_and_behind_a_link_the_file_is() {
    let dir = folder(&["mp4__sample.mp4"]);
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (code, said) = convert(dir.path(), &["mp4__sample.mp4", "-o", "pipe", "--force"]);
    assert!(code != 0 && said.contains("is a device or a pipe"), "{code}: {said}");
    assert!(!fs::metadata(&pipe).unwrap().is_file());
    fs::create_dir(dir.path().join("real")).unwrap();
    fs::write(dir.path().join("real/it.mp3"), "old").unwrap();
    std::os::unix::fs::symlink("real/it.mp3", dir.path().join("link.mp3")).unwrap();
    assert_eq!(convert(dir.path(), &["mp4__sample.mp4", "-o", "link.mp3"]).0, 3, "it exists");
    let (code, said) = convert(dir.path(), &["mp4__sample.mp4", "-o", "link.mp3", "--force"]);
    assert_eq!(code, 0, "{said}");
    assert!(fs::symlink_metadata(dir.path().join("link.mp3")).unwrap().is_symlink());
    assert!(fs::read(dir.path().join("real/it.mp3")).unwrap().starts_with(b"ID3"));
}

#[test]
fn files_converted_at_once_are_those_converted_one_by_one() {
    let files = ["mp4__sample.mp4", "wav__sample.wav", "ogg__bear_vorbis.ogg"];
    let dir = folder(&files);
    fs::write(dir.path().join("text.mp4"), "no video").unwrap();
    fs::create_dir(dir.path().join("folder.mp4")).unwrap();
    for jobs in ["1", "2", "7"] {
        fs::create_dir(dir.path().join(jobs)).unwrap();
        let bad_ones_too = [&files[..1], &["text.mp4"], &files[1..], &["folder.mp4"]].concat();
        let (code, said) = convert(dir.path(), &[&bad_ones_too[..], &["-o", jobs, "--jobs", jobs]].concat());
        assert_eq!(code, 1, "the first failure's, whichever came first: {said}");
        assert!(said.contains("text.mp4: ") && said.contains("folder.mp4: is a folder"), "{said}");
        for file in files {
            let mp3 = |jobs: &str| fs::read(dir.path().join(jobs).join(file).with_extension("mp3")).unwrap();
            assert!(mp3(jobs) == mp3("1"), "{file}, {jobs} at once");
        }
    }
}

#[test]
fn what_exists_is_not_overwritten_unless_it_is_said() {
    let dir = folder(&["mp4__sample.mp4"]);
    fs::write(dir.path().join("mp4__sample.mp3"), "mine").unwrap();
    let (code, said) = convert(dir.path(), &["mp4__sample.mp4"]);
    assert!(code == 3 && said.contains("--force"), "{code}: {said}");
    assert_eq!(fs::read(dir.path().join("mp4__sample.mp3")).unwrap(), b"mine");
    assert_eq!(convert(dir.path(), &["mp4__sample.mp4", "--force"]).0, 0);
    engine::mp3::check(fs::File::open(dir.path().join("mp4__sample.mp3")).unwrap()).unwrap();
    let mp3 = folder(&["mp3__bear-id3.mp3"]);
    let (code, said) = convert(mp3.path(), &["mp3__bear-id3.mp3", "--force"]);
    assert!(code == 2 && said.contains("the source itself"), "{code}: {said}");
}

#[test]
fn exit_codes_tell_scripts_what_happened_and_nothing_is_left() {
    let dir = folder(&["vp9__bear-vp9.webm", "mp4__sample.mp4"]);
    fs::write(dir.path().join("empty.mp4"), "").unwrap();
    fs::write(dir.path().join("text.mp4"), "Dear diary,\n".repeat(100)).unwrap();
    for (arguments, code, word) in [
        (&["vp9__bear-vp9.webm"][..], 1, "no-audio"),
        (&["empty.mp4"], 1, "empty-file"),
        (&["text.mp4"], 1, "not-media"),
        (&["missing.mp4"], 4, "missing.mp4"),
        (&["."], 4, "folder"),
        (&["mp4__sample.mp4", "-o", "nowhere/talk.mp3"], 4, "nowhere"),
        (&["mp4__sample.mp4", "text.mp4", "-o", "one.mp3"], 2, "one.mp3 is none"),
        (&["mp4__sample.mp4", "mp4__sample.mp4"], 2, "both"),
        (&["--nonsense"], 2, "nonsense"),
        (&[], 2, "Usage"),
    ] {
        let (ended, said) = convert(dir.path(), arguments);
        assert!(ended == code && said.contains(word), "{arguments:?} ended with {ended}: {said}");
    }
    assert_eq!(names(dir.path()), ["empty.mp4", "mp4__sample.mp4", "text.mp4", "vp9__bear-vp9.webm"]);
    let (code, said) = convert(dir.path(), &["text.mp4", "mp4__sample.mp4"]);
    assert_eq!(code, 1, "the first failure's code: {said}");
    assert!(dir.path().join("mp4__sample.mp3").exists(), "the others are converted all the same");
}

/// So many seconds of noise: long enough to be interrupted.
pub fn long_video(dir: &Path, seconds: u32) -> PathBuf {
    let path = dir.join("long.wav");
    let noise = format!("anoisesrc=r=44100:a=0.2:d={seconds}");
    let made = Command::new(tool("FFMPEG", "ffmpeg"))
        .args(["-v", "error", "-f", "lavfi", "-i", &noise, "-ac", "2"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

#[test]
fn interrupted_or_killed_it_leaves_no_half_file_and_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let video = long_video(dir.path(), 1200);
    for (signal, code) in [(libc::SIGINT, Some(130)), (libc::SIGTERM, Some(130)), (libc::SIGKILL, None)] {
        let mut child = tapedeck(dir.path(), &["convert"]).arg(&video).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let engines = children_of(child.id());
        assert_eq!(engines.len(), 1, "one engine process is at work");
        let asked = Instant::now();
        // SAFETY: kill has no memory effects; the child is not reaped yet.
        unsafe { libc::kill(i32::try_from(child.id()).unwrap(), signal) };
        assert_eq!(child.wait().unwrap().code(), code);
        assert!(asked.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(300));
        // What has ended and nobody has buried has no command line.
        let line = fs::read(format!("/proc/{}/cmdline", engines[0])).unwrap_or_default();
        assert!(line.is_empty(), "the engine process is gone");
        assert_eq!(names(dir.path()), ["long.wav"]);
    }
}

#[test]
fn flags_say_what_the_mp3_is_to_be() {
    let dir = folder(&["bbb_480p_30s.mp4"]);
    let made = |flags: &[&str]| {
        let arguments = [&["bbb_480p_30s.mp4", "-o", "out.mp3", "--force", "--quiet"], flags].concat();
        assert_eq!(convert(dir.path(), &arguments), (0, String::new()), "{flags:?}");
        let mp3 = fs::read(dir.path().join("out.mp3")).unwrap();
        (engine::mp3::check(&mp3[..]).unwrap(), mp3)
    };
    let (facts, _) = made(&["--preset", "voice", "--trim", "-0:02.5"]);
    assert_eq!((facts.channels, facts.samples * 2), (1, u64::from(facts.sample_rate) * 5));
    let (facts, mp3) = made(&[
        "--cbr",
        "320",
        "--loudness",
        "-16",
        "--track",
        "1",
        "--tag",
        "artist=Ana",
        "--tag",
        "title=",
    ]);
    assert_eq!(facts.channels, 2);
    assert!(mp3.len() > 1_150_000 && mp3[..200].windows(3).any(|window| window == b"Ana"));
    let (facts, smaller) = made(&["--abr=48", "--mono", "--trim=10-"]);
    assert_eq!(facts.channels, 1);
    assert!((90_000..150_000).contains(&smaller.len()), "{}", smaller.len());

    for (flags, code, word) in [
        (&["--vbr", "12"][..], 2, "0 (best) to 9"),
        (&["--cbr", "100"], 2, "96, 112"),
        (&["--cbr", "128", "--vbr", "2"], 2, "cannot be used with"),
        (&["--trim", "soon"], 2, "1:30-2:00"),
        (&["--loudness", "3"], 2, "-70 to -5"),
        (&["--tag", "encoder=x"], 2, "artist"),
        (&["--tag", "Ana"], 2, "artist=Ana"),
        (&["--preset", "loud"], 2, "music, voice, small, original"),
        (&["--track", "7"], 1, "no-such-track"),
        (&["--trim", "50-"], 1, "trim-beyond-end"),
    ] {
        let (ended, said) = convert(dir.path(), &[&["bbb_480p_30s.mp4", "-o", "never.mp3"], flags].concat());
        assert!(ended == code && said.contains(word), "{flags:?}: {ended}, {said}");
    }
    assert_eq!(names(dir.path()), ["bbb_480p_30s.mp4", "out.mp3"]);
}

#[test]
fn peaks_are_written_where_it_is_said() {
    let dir = folder(&["bbb_480p_30s.mp4", "wav__sample.wav"]);
    let peaks = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(
        convert(dir.path(), &["bbb_480p_30s.mp4", "--peaks", "wave.json", "--quiet"]),
        (0, String::new())
    );
    let found = peaks("wave.json");
    let number = |key: &str| found[key].as_u64().unwrap();
    assert_eq!((number("version"), number("channels"), number("bits")), (2, 1, 8), "{found}");
    let mp3 = engine::mp3::check(fs::File::open(dir.path().join("bbb_480p_30s.mp3")).unwrap()).unwrap();
    assert_eq!(number("sample_rate"), u64::from(mp3.sample_rate));
    assert_eq!(number("length"), mp3.samples.div_ceil(number("samples_per_pixel")));
    assert_eq!(found["data"].as_array().unwrap().len() as u64, number("length") * 2);

    fs::create_dir(dir.path().join("out")).unwrap();
    let files = ["bbb_480p_30s.mp4", "wav__sample.wav", "-o", "out", "--peaks", "out"];
    assert_eq!(convert(dir.path(), &files).0, 0);
    let made = ["bbb_480p_30s.json", "bbb_480p_30s.mp3", "wav__sample.json", "wav__sample.mp3"];
    assert_eq!(names(&dir.path().join("out")), made);
    assert_eq!(peaks("out/bbb_480p_30s.json"), found);

    let before = names(dir.path());
    for (arguments, code, word) in [
        (&["wav__sample.wav", "--peaks", "wave.json"][..], 3, "wave.json exists"),
        (&["wav__sample.wav", "--peaks", "nowhere/wave.json"], 4, "nowhere"),
        (&["wav__sample.wav", "--peaks", "wav__sample.mp3"], 2, "both"),
        (&["wav__sample.wav", "--peaks", "wav__sample.wav", "--force"], 2, "source"),
        (&["wav__sample.wav", "bbb_480p_30s.mp4", "--peaks", "one.json"], 2, "--peaks must name a folder"),
    ] {
        let (ended, said) = convert(dir.path(), arguments);
        assert!(ended == code && said.contains(word), "{arguments:?} ended with {ended}: {said}");
    }
    assert_eq!(names(dir.path()), before, "nothing else was written");
}

pub fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

#[test]
fn a_terminal_shows_a_progress_bar_that_ends_with_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let video = long_video(dir.path(), 1200);
    // `script` gives the program a terminal of its own.
    let command = format!(
        "{} convert {} -o {}",
        crate::deck::program().display(),
        video.display(),
        dir.path().join("out.mp3").display()
    );
    let output =
        Command::new("script").args(["-qefc", &command, "/dev/null"]).env("TERM", "xterm").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" % ") && said.contains("left"), "{said}");
    assert!(
        said.trim_end().ends_with(')') && said.contains("long.wav ->") && said.contains("20:00"),
        "{said}"
    );
}
