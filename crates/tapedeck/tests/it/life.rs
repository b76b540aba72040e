//! How a process begins and ends: first start, two-stage shutdown, retention, one tenant for a folder.

use crate::deck::{ANA, Deck, Home, PASSWORD, Shape, tapedeck};
use reqwest::{StatusCode, redirect};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_prints_a_link_that_makes_one_admin() {
    for shape in [Shape::OneProcess, Shape::FourProcesses] {
        let deck = Deck::on(Home::empty(shape).await, shape, &[]).await;
        let client = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        let page = client.get(&deck.url).send().await.unwrap().text().await.unwrap();
        assert!(page.contains("Sign in") && !page.contains(PASSWORD), "no default password anywhere");
        let token = set_up_token(&deck).await;
        let set_up = async |token: &str, email: &str, password: &str| {
            let form = [("token", token), ("email", email), ("password", password)];
            client.post(format!("{}/setup", deck.url)).form(&form).send().await.unwrap()
        };
        assert_eq!(set_up("guess", ANA, PASSWORD).await.status(), StatusCode::GONE);
        let short = set_up(&token, ANA, "short").await;
        assert_eq!(short.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(short.text().await.unwrap().contains("at least 8 characters"));
        let made = set_up(&token, ANA, PASSWORD).await;
        assert_eq!(made.status(), StatusCode::SEE_OTHER, "and signed in");
        assert!(made.headers()["set-cookie"].to_str().unwrap().starts_with("tapedeck_session="));
        assert_eq!(
            set_up(&token, "eve@example.com", PASSWORD).await.status(),
            StatusCode::GONE,
            "the link works once"
        );
        deck.sign_in(ANA).await;
    }
}

async fn set_up_token(deck: &Deck) -> String {
    for _ in 0..200 {
        if let Some((_, link)) = deck.printed.lock().unwrap().split_once("/setup?token=") {
            return link.lines().next().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no link in {:?}", deck.printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ctrl_c_what_is_in_hand_is_finished_and_nothing_new_is_taken() {
    let deck = Deck::start(Shape::OneProcess).await;
    let user = deck.sign_in(ANA).await;
    let events = user.get("/api/v1/events").send().await.unwrap();
    let id = user.upload_media("bbb_480p_30s.mp4").await;
    user.wait_for(&id, &["converting", "converted"]).await;
    deck.signal(libc::SIGINT);
    let statuses = deck.wait(Duration::from_secs(60));
    assert!(statuses.iter().all(std::process::ExitStatus::success), "{statuses:?}\n{}", deck.log());
    drop(events);
    assert_eq!(deck.log().matches("\"to\":\"converted\"").count(), 1, "{}", deck.log());
    assert!(!deck.dir().join("tapedeck.db-wal").exists(), "the database is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_hands_back_and_the_next_start_goes_on() {
    let deck = Deck::start_with(Shape::OneProcess, &[("TAPEDECK_CONVERTER_SLOTS", "1")]).await;
    let user = deck.sign_in(ANA).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(user.upload_media("bbb_480p_30s.mp4").await);
    }
    user.wait_for(&ids[0], &["converting", "converted"]).await;
    let asked = Instant::now();
    deck.signal(libc::SIGTERM);
    deck.signal(libc::SIGTERM);
    tokio::time::sleep(Duration::from_millis(50)).await;
    deck.signal(libc::SIGTERM);
    deck.wait(Duration::from_secs(20));
    assert!(asked.elapsed() < Duration::from_secs(10));
    let deck = Deck::on(deck.kill(), Shape::OneProcess, &[]).await;
    let user = deck.sign_in(ANA).await;
    for id in ids {
        let job = user.ended(&id).await;
        assert_eq!(
            (job["state"].as_str(), job["attempt"].as_u64()),
            (Some("converted"), Some(1)),
            "a handed back job lost no attempt"
        );
    }
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_had_its_time_goes() {
    let times = [
        ("TAPEDECK_RETENTION_MP3", "1s"),
        ("TAPEDECK_RETENTION_FAILED_VIDEO", "1s"),
        ("TAPEDECK_RETENTION_RECORD", "2s"),
    ];
    let deck = Deck::start_with(Shape::OneProcess, &times).await;
    let user = deck.sign_in(ANA).await;
    let good = user.upload_media("wav__sample.wav").await;
    let bad = user.upload_media("vp9__bear-vp9.webm").await;
    let job = user.wait_for(&good, &["expired"]).await;
    assert_eq!(
        (job["mp3_fid"].clone(), job["actions"].clone()),
        (Value::Null, serde_json::json!(["delete"]))
    );
    let gone = user.get(&format!("/download?fid={good}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::GONE);
    user.wait_for(&bad, &["failed"]).await;
    let end = Instant::now() + Duration::from_secs(20);
    while !user.jobs().await.is_empty() {
        assert!(Instant::now() < end, "records stay: {:#?}", user.jobs().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for folder in ["videos", "mp3s"] {
        assert_eq!(fs::read_dir(deck.dir().join(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mp3_from_before_there_were_peaks_is_told_from_one_that_is_not_there() {
    let deck = Deck::start(Shape::OneProcess).await;
    let user = deck.sign_in(ANA).await;
    let id = user.upload_media("wav__sample.wav").await;
    let fid = user.ended(&id).await["mp3_fid"].as_str().unwrap().to_owned();
    fs::remove_file(deck.dir().join(format!("mp3s/{fid}.peaks"))).unwrap();
    let none = user.get(&format!("/api/v1/jobs/{id}/peaks")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    assert_eq!(none.json::<Value>().await.unwrap()["code"], "no-peaks");
    user.download(&id).await;
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_has_one_tenant() {
    for shape in [Shape::OneProcess, Shape::FourProcesses] {
        let deck = Deck::start(shape).await;
        let second = tapedeck(deck.dir(), &["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another Tapedeck") && said.contains("--data"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_health_are_told() {
    let deck = Deck::start(Shape::OneProcess).await;
    for path in ["/livez", "/readyz"] {
        let response = deck.client.get(format!("{}{path}", deck.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let address = deck.url.strip_prefix("http://").unwrap();
    let healthy = tapedeck(deck.dir(), &["healthcheck", "--listen", address]).output().unwrap();
    assert!(healthy.status.success());
    deck.signal(libc::SIGKILL);
    deck.wait(Duration::from_secs(10));
    let dead = tapedeck(deck.dir(), &["healthcheck", "--listen", address]).output().unwrap();
    assert_eq!(dead.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&dead.stderr).contains("tapedeck serve"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_sent_header_does_not_hold_the_end_up() {
    use std::io::Write;
    let deck = Deck::start(Shape::OneProcess).await;
    let mut stream = std::net::TcpStream::connect(deck.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let _idle = deck.client.get(format!("{}/livez", deck.url)).send().await.unwrap();
    deck.signal(libc::SIGTERM);
    let statuses = deck.wait(Duration::from_secs(29));
    assert!(statuses.iter().all(std::process::ExitStatus::success));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_engine_is_tried_again_and_then_told() {
    let deck = Deck::start(Shape::OneProcess).await;
    let user = deck.sign_in(ANA).await;
    let killer = async {
        loop {
            // Only what has begun to convert: a process that dies before is one that could not be started.
            let begun = deck.engine_processes();
            tokio::time::sleep(Duration::from_millis(500)).await;
            for pid in deck.engine_processes().into_iter().filter(|pid| begun.contains(pid)) {
                // SAFETY: kill has no memory effects; at worst the process has ended by itself.
                unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGSEGV) };
            }
        }
    };
    let ended = async {
        let video = crate::convert::long_video(deck.dir(), 300);
        let id = user.upload("talk.wav", fs::read(video).unwrap()).await;
        user.ended(&id).await
    };
    let job = tokio::select! {
        job = ended => job,
        () = killer => unreachable!("the killer never ends"),
    };
    assert_eq!(
        (job["state"].as_str(), job["error"]["code"].as_str(), job["attempt"].as_u64()),
        (Some("failed"), Some("engine-crashed"), Some(2)),
        "{job:#}"
    );
    let retried =
        user.post(&format!("/api/v1/jobs/{}/retry", job["id"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(retried.status(), StatusCode::OK);
    assert_eq!(user.ended(job["id"].as_str().unwrap()).await["state"], "converted");
}
