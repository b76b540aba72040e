//! Every file of `media/` through `convert` and through the page's way: the right MP3, or the right error.

use crate::{
    deck::{ANA, Deck, Shape, media, tapedeck},
    golden::{self, Golden},
};
use std::{fs, path::Path};

/// One AAC frame: as far as a length may be off.
const FRAME: u64 = 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_becomes_the_right_mp3_or_the_right_error() {
    let deck = Deck::start(Shape::OneProcess).await;
    let user = deck.sign_in(ANA).await;
    let mut uploads = Vec::new();
    for (name, golden) in golden::all() {
        uploads.push((user.upload_media(&name).await, name, golden));
    }
    println!("{:44} {:>10} {:>10} {:>10}  result", "file", "FFmpeg", "convert", "page");
    for (id, name, golden) in uploads {
        let job = user.ended(&id).await;
        let by_convert = converted(deck.dir(), &name);
        match golden {
            Golden::Sound { samples, rate } => {
                let expected = golden::decoded_by_ffmpeg(&media(&name));
                assert_eq!(
                    expected, samples,
                    "{name}: this FFmpeg decodes another length than the golden one"
                );
                let saved = deck.dir().join("page.mp3");
                fs::write(&saved, user.download(&id).await).unwrap();
                let (page, convert) = (golden::decoded_by_ffmpeg(&saved), by_convert.unwrap());
                println!(
                    "{name:44} {expected:10} {convert:10} {page:10}  {:.3} s",
                    page as f64 / f64::from(rate)
                );
                for length in [page, convert] {
                    assert!(
                        length.abs_diff(expected) <= FRAME,
                        "{name}: {length} samples, FFmpeg has {expected}"
                    );
                }
                let told = job["mp3"]["duration"].as_f64().unwrap();
                assert!(
                    (told - page as f64 / f64::from(rate)).abs() < 1e-6,
                    "{name}: the job tells {told} s"
                );
            }
            Golden::Error { error } => {
                println!("{name:44} {:>10} {:>10} {:>10}  {error}", "-", "-", "-");
                assert_eq!(
                    (job["state"].as_str(), job["error"]["code"].as_str()),
                    (Some("failed"), Some(error.as_str())),
                    "{name}"
                );
                assert_eq!(by_convert, Err(error), "{name}");
            }
        }
    }
    deck.assert_empty_house().await;
}

/// The length of what `tapedeck convert` makes, as FFmpeg decodes it; or the error's code.
fn converted(dir: &Path, name: &str) -> Result<u64, String> {
    let mp3 = dir.join("convert.mp3");
    let output =
        tapedeck(dir, &["convert", "--force"]).arg("-o").arg(&mp3).arg(media(name)).output().unwrap();
    if output.status.success() {
        return Ok(golden::decoded_by_ffmpeg(&mp3));
    }
    assert_eq!(output.status.code(), Some(1), "{name}");
    let said = String::from_utf8(output.stderr).unwrap();
    Err(said.trim_end().rsplit_once('(').unwrap().1.trim_end_matches(')').to_owned())
}

#[test]
fn every_file_has_a_golden_fact() {
    let known = golden::all();
    for entry in fs::read_dir(media("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_media = !name.ends_with(".md") && !name.ends_with(".toml") && !name.starts_with("LICENSE");
        assert!(!is_media || known.contains_key(&name), "{name} has no entry in media/golden.toml");
    }
}
