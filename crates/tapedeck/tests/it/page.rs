//! The page in a real browser: `tests/browser/walk.mjs` drives Chromium against a running deck.

use crate::deck::{ANA, Deck, PASSWORD, Shape, media, tool};
use std::{path::Path, process::Command};

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
        .env("SCREENSHOTS", &screenshots)
        .env("CHROMIUM", tool("CHROMIUM", "chromium"))
        .output()
        .expect("node starts; `cargo xtask test` installs it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_in_a_browser() {
    let deck = Deck::start(Shape::OneProcess).await;
    let walk = browser_walk(&deck);
    let said = format!("{}{}", String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{said}\nlog:\n{}", deck.log());
    println!("{said}");
}
