//! Accounts on the command line, and signing in on the page.

use crate::deck::{ANA, BOB, Deck, PASSWORD, Shape, tapedeck};
use reqwest::{StatusCode, redirect};
use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

/// Runs `tapedeck` with this on its standard input.
fn run(data: &Path, arguments: &[&str], input: &str) -> (Output, String) {
    let mut child = tapedeck(data, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have refused before it read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    assert!(
        run(data, &["user", "add", "georgio@email.com", "--admin", "--password-stdin"], "Admin123\n")
            .0
            .status
            .success()
    );
    assert!(
        run(data, &["user", "add", "kevin@email.com", "--password-stdin"], "Qwerty123").0.status.success()
    );
    assert_eq!(run(data, &["user", "list"], "").1, "georgio@email.com\tadmin\nkevin@email.com\tuser\n");
    for (arguments, input, word) in [
        (&["user", "add", "Georgio@email.com", "--password-stdin"][..], "Admin123\n", "account already"),
        (&["user", "add", "a@b\nc", "--password-stdin"], "Admin123\n", "line breaks"),
        (&["user", "add", "georgio", "--password-stdin"], "Admin123\n", "e-mail address"),
        (&["user", "add", "new@email.com", "--password-stdin"], "short\n", "8 characters"),
        (&["user", "add", "new@email.com", "--password-stdin"], "", "8 characters"),
        (&["user", "add", "new@email.com"], "Admin123\n", "--password-stdin"),
        (&["user", "passwd", "nobody@email.com", "--password-stdin"], "Admin123\n", "no account"),
        (&["user", "remove", "nobody@email.com"], "", "no account"),
    ] {
        let (output, said) = run(data, arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert!(
        run(data, &["user", "passwd", "KEVIN@email.com", "--password-stdin"], "another one\n")
            .0
            .status
            .success()
    );
    assert!(run(data, &["user", "remove", "kevin@email.com"], "").0.status.success());
    assert_eq!(run(data, &["user", "list"], "").1, "georgio@email.com\tadmin\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_user_deletes_their_jobs_and_nobody_elses() {
    let deck = Deck::start(Shape::OneProcess).await;
    let (ana, bob) = (deck.sign_in(ANA).await, deck.sign_in(BOB).await);
    let kept = ana.upload_media("wav__sample.wav").await;
    let done = bob.upload_media("wav__sample.wav").await;
    bob.ended(&done).await;
    bob.upload_media("bbb_480p_30s.mp4").await;
    let (_, said) = run(deck.dir(), &["user", "remove", BOB], "");
    assert!(said.contains("2 jobs"), "{said}");
    let refused = bob.get("/api/v1/jobs").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN, "a removed user's token is void at once");
    let job = ana.ended(&kept).await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while !deck.house_faults(std::slice::from_ref(&job)).await.is_empty() {
        assert!(std::time::Instant::now() < end, "{:#?}", deck.house_faults(&[job]).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    crate::deck::add_user(deck.dir(), BOB, PASSWORD);
    assert!(
        deck.sign_in(BOB).await.jobs().await.is_empty(),
        "whoever gets the name again gets nothing with it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_signs_in_by_a_form_and_out_again() {
    let deck = Deck::start(Shape::OneProcess).await;
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let sign_in = async |password: &str| {
        client
            .post(format!("{}/session", deck.url))
            .form(&[("email", ANA), ("password", password)])
            .send()
            .await
            .unwrap()
    };
    let wrong = sign_in("wrong password").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.text().await.unwrap().contains("E-mail or password is wrong"));
    let right = sign_in(PASSWORD).await;
    assert_eq!((right.status(), right.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/"));
    let cookie = right.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let page = client.get(&deck.url).header("cookie", cookie).send().await.unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    let page = page.text().await.unwrap();
    assert!(
        page.contains(ANA)
            && page.contains("30 days")
            && page.contains("7 days")
            && page.contains("24 hours")
    );
    let out = client.post(format!("{}/session/end", deck.url)).header("cookie", cookie).send().await.unwrap();
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_down_in_words() {
    let deck = Deck::start(Shape::FourProcesses).await;
    let mut statuses = Vec::new();
    for _ in 0..14 {
        let guess = deck
            .client
            .post(format!("{}/login", deck.url))
            .basic_auth(ANA, Some("guess"))
            .send()
            .await
            .unwrap();
        statuses.push(guess.status());
        if guess.status() == StatusCode::TOO_MANY_REQUESTS {
            assert!(guess.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
            assert!(guess.text().await.unwrap().contains("try again in"));
        }
    }
    assert!(
        statuses.contains(&StatusCode::UNAUTHORIZED) && statuses.contains(&StatusCode::TOO_MANY_REQUESTS),
        "{statuses:?}"
    );
    deck.sign_in(BOB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_all_at_once_gets_no_further() {
    let deck = Deck::start(Shape::OneProcess).await;
    let guesses = (0..200).map(|guess| {
        deck.client.post(format!("{}/login", deck.url)).basic_auth(ANA, Some(format!("guess{guess}"))).send()
    });
    let statuses: Vec<_> = futures_util::future::join_all(guesses)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().status())
        .collect();
    let tried = statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count();
    assert!((1..=20).contains(&tried), "{tried} of 200 guesses were looked at");
    let memory = deck.memory();
    assert!(memory < 200 << 20, "{memory} bytes are held after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_or_a_new_holder_voids_what_was_signed_before() {
    let deck = Deck::start(Shape::FourProcesses).await;
    let before = deck.sign_in(ANA).await;
    assert!(run(deck.dir(), &["user", "passwd", ANA, "--password-stdin"], "Admin123\n").0.status.success());
    assert_eq!(before.get("/api/v1/jobs").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let page = deck
        .client
        .get(format!("{}/api/v1/jobs", deck.url))
        .header("cookie", format!("tapedeck_session={}", before.token));
    assert_eq!(
        page.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED,
        "the page asks to sign in again"
    );
    let before = deck.sign_in(ANA).await;
    assert!(run(deck.dir(), &["user", "remove", ANA], "").0.status.success());
    crate::deck::add_user(deck.dir(), ANA, PASSWORD);
    assert_eq!(before.get("/api/v1/jobs").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert!(deck.sign_in(ANA).await.jobs().await.is_empty());
}
