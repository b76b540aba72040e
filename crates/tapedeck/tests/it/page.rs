//! The page in a real browser: `tests/browser/walk.mjs` drives Chromium against a running deck.

use crate::deck::{ANA, Deck, PASSWORD, Shape, media, tool};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn browser_walk(deck: &Deck) -> std::process::Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&screenshots).unwrap();
    Command::new(tool("NODE", "node"))
        .arg("walk.mjs")
        .current_dir(folder)
        .env("BASE_URL", &deck.url)
        .env("EMAIL", ANA)
        .env("PASSWORD", PASSWORD)
        .env("MEDIA", media(""))
        .env("LONG", lectures(deck.dir()))
        .env("SCREENSHOTS", &screenshots)
        .env("CHROMIUM", tool("CHROMIUM", "/usr/bin/chromium"))
        .output()
        .expect("node starts; `cargo xtask test` installs it")
}

/// A folder with three lectures of half an hour each, of which two convert at once.
fn lectures(dir: &Path) -> PathBuf {
    let folder = dir.join("lectures");
    std::fs::create_dir(&folder).unwrap();
    let first = folder.join("lecture-1.wav");
    let made = Command::new(tool("FFMPEG", "ffmpeg"))
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "anoisesrc=r=16000:a=0.2:d=1800",
            "-ac",
            "1",
            "-c:a",
            "pcm_u8",
        ])
        .arg(&first)
        .status()
        .unwrap();
    assert!(made.success());
    for copy in ["lecture-2.wav", "lecture-3.wav"] {
        std::fs::hard_link(&first, folder.join(copy)).unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_in_a_browser() {
    let deck = Deck::start_with(Shape::OneProcess, &[("TAPEDECK_CONVERTER_SLOTS", "2")]).await;
    let walk = browser_walk(&deck);
    let said = format!("{}{}", String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{said}\nlog:\n{}", deck.log());
    println!("{said}");
}
