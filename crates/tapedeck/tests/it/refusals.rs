//! Bad input: each a clear, stable error; nothing lost, no panic, nothing left behind on the disk.

use crate::{
    deck::{ANA, BOB, Deck, Shape, User, media, tool},
    on_every_deck,
};
use reqwest::{
    Response, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

on_every_deck!(
    a_form_has_exactly_one_file,
    an_empty_file_is_refused_at_once,
    a_video_that_cannot_be_converted_fails_with_a_sentence,
    thirty_hours_of_silence_are_too_long_and_that_is_known_soon,
    a_token_that_is_not_ours_opens_nothing,
    an_id_that_is_none_or_not_mine_is_not_found,
    an_upload_that_breaks_off_leaves_nothing,
    a_form_that_is_no_file_is_not_collected,
    an_upload_deleted_on_its_way_is_told_so,
    a_session_is_not_for_other_sites,
);

fn part(name: &str, bytes: &[u8]) -> Part {
    Part::bytes(bytes.to_vec()).file_name(name.to_owned())
}

async fn problem(response: Response, status: StatusCode, code: &str) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], code, "{problem:#}");
    assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    problem["detail"].as_str().unwrap().to_owned()
}

async fn assert_nothing_stored(deck: &Deck) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let stored = deck.stored().await;
        if stored.is_empty() && deck.sign_in(ANA).await.jobs().await.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left behind: {stored:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_form_has_exactly_one_file(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let video = fs::read(media("mp4__sample.mp4")).unwrap();
    let two = || Form::new().part("file", part("a.mp4", &video)).part("file2", part("b.mp4", &video));
    for form in [two(), Form::new(), Form::new().text("file", "no file")] {
        let response = user.post("/upload").multipart(form).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.text().await.unwrap(), "exactly 1 file required");
    }
    let response = user.post("/upload").body("no form at all").send().await.unwrap();
    assert_eq!(
        (response.status(), response.text().await.unwrap().as_str()),
        (StatusCode::BAD_REQUEST, "exactly 1 file required")
    );
    let response =
        user.post("/upload").header("accept", "application/json").multipart(two()).send().await.unwrap();
    problem(response, StatusCode::BAD_REQUEST, "one-file-required").await;
    assert_nothing_stored(deck).await;
}

async fn an_empty_file_is_refused_at_once(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let response = user.try_upload("empty.mp4", Vec::new()).await.unwrap();
    let detail = problem(response, StatusCode::BAD_REQUEST, "empty-file").await;
    assert!(detail.contains("empty"), "{detail}");
    assert_nothing_stored(deck).await;
}

async fn a_video_that_cannot_be_converted_fails_with_a_sentence(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let bbb = fs::read(media("bbb_480p_30s.mp4")).unwrap();
    let cut = bbb[..bbb.len() / 2].to_vec();
    let read = |name: &str| fs::read(media(name)).unwrap();
    for (name, bytes, code, word) in [
        ("notes.mp4", b"Dear diary,\n".repeat(1000), "not-media", ""),
        ("list.mp4", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n".to_vec(), "not-media", ""),
        ("silent.webm", read("vp9__bear-vp9.webm"), "no-audio", "sound"),
        ("cut.mp4", cut, "truncated", ""),
        ("locked.mp4", read("drm__sample_fragmented_clearkey.mp4"), "encrypted", ""),
        ("ac4.mp4", read("mp4__sample_ac4.mp4"), "unsupported-codec", "AC-4"),
    ] {
        let id = user.upload(name, bytes).await;
        let job = user.ended(&id).await;
        assert_eq!(
            (job["state"].as_str(), job["error"]["code"].as_str()),
            (Some("failed"), Some(code)),
            "{name}: {job:#}"
        );
        let text = job["error"]["text"].as_str().unwrap();
        assert!(text.len() > 30 && text.ends_with('.') && text.contains(word), "{name}: {text}");
        assert_eq!(job["attempt"], 1, "what will fail again is not tried again");
        assert_eq!((job["mp3_fid"].clone(), job["mp3"].clone()), (Value::Null, Value::Null));
        failed_mail(deck, &id, name).await;
    }
}

async fn failed_mail(deck: &Deck, id: &str, name: &str) {
    for _ in 0..400 {
        if let Some(mail) = deck.mails_about(id).pop() {
            assert!(mail.contains(&format!("Subject: {name} could not be converted")), "{mail}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no mail about {id}");
}

/// Thirty hours of digital silence, as FLAC: about 200 KB. Made once for all tests of a run.
fn thirty_hours() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("thirty-hours.flac");
    if !path.exists() {
        let draft = path.with_extension(format!("{}.flac", std::process::id()));
        let made = Command::new(tool("FFMPEG", "ffmpeg"))
            .args([
                "-v",
                "error",
                "-y",
                "-f",
                "lavfi",
                "-i",
                "anullsrc=r=8000:cl=mono",
                "-t",
                "108000",
                "-frame_size",
                "65535",
            ])
            .arg(&draft)
            .status()
            .unwrap();
        assert!(made.success());
        fs::rename(draft, &path).unwrap();
    }
    path
}

async fn thirty_hours_of_silence_are_too_long_and_that_is_known_soon(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let id = user.upload("silence.flac", fs::read(thirty_hours()).unwrap()).await;
    let job = user.ended(&id).await;
    assert_eq!(
        (job["state"].as_str(), job["error"]["code"].as_str()),
        (Some("failed"), Some("too-long")),
        "{job:#}"
    );
    assert!(job["error"]["text"].as_str().unwrap().contains("24 hours"), "{job:#}");
}

async fn a_token_that_is_not_ours_opens_nothing(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let id = user.upload_media("wav__sample.wav").await;
    user.ended(&id).await;
    let secret = deck.jwt_secret();
    // As an original auth service with our secret would sign.
    let sign = |secret: &str, email: &str, second: i64| {
        let claims = json!({ "username": email, "exp": second + 86_400, "iat": second, "admin": true });
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key)
            .unwrap()
    };
    let now = 2_000_000_000;
    let parts: Vec<&str> = user.token.split('.').collect();
    for (what, token) in [
        ("expired", sign(secret.trim(), ANA, 1_000_000_000)),
        ("foreign", sign("0123456789abcdef0123456789abcdef", ANA, now)),
        ("of nobody", sign(secret.trim(), "nobody@example.com", now)),
        ("unsigned", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1])),
        ("changed", format!("{}.{}x.{}", parts[0], parts[1], parts[2])),
        ("nonsense", "nonsense".to_owned()),
    ] {
        let forger = User { deck, token };
        for path in [
            format!("/download?fid={id}"),
            "/api/v1/jobs".into(),
            format!("/api/v1/jobs/{id}"),
            format!("/api/v1/jobs/{id}/file"),
            "/api/v1/events".into(),
        ] {
            let response = forger.get(&path).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{what}: {path}");
        }
        let response = forger
            .post("/upload")
            .multipart(Form::new().part("file", part("a.mp4", b"x")))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (response.status(), response.text().await.unwrap().as_str()),
            (StatusCode::FORBIDDEN, "not authorized"),
            "{what}"
        );
        assert_eq!(
            forger.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap().status(),
            StatusCode::FORBIDDEN
        );
    }
    let good = User { deck, token: sign(secret.trim(), ANA, now) };
    assert_eq!(good.job(&id).await["state"], "converted", "the same claims with the right key are good");
    for path in ["/api/v1/jobs", "/upload", "/download?fid=1"] {
        let request = if path == "/upload" {
            deck.client.post(format!("{}{path}", deck.url))
        } else {
            deck.client.get(format!("{}{path}", deck.url))
        };
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::UNAUTHORIZED,
            "{path} without a token"
        );
    }
}

async fn an_id_that_is_none_or_not_mine_is_not_found(deck: &Deck) {
    let (ana, bob) = (deck.sign_in(ANA).await, deck.sign_in(BOB).await);
    let id = ana.upload_media("wav__sample.wav").await;
    let fid = ana.ended(&id).await["mp3_fid"].as_str().unwrap().to_owned();
    let missing = bob.get("/download?fid=65f0c2a91b7e4d0012ab34cd").send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let as_missing = missing.text().await.unwrap();
    for foreign in
        [id.as_str(), &fid, "nonsense", "../../jwt-secret", "65f0c2a91b7e4d0012ab34c%00", "%F0%9F%8E%A7"]
    {
        let response = bob.get(&format!("/download?fid={foreign}")).send().await.unwrap();
        assert_eq!(
            (response.status(), response.text().await.unwrap()),
            (StatusCode::NOT_FOUND, as_missing.clone()),
            "{foreign}"
        );
    }
    for foreign in [id.as_str(), &fid, "nonsense", "..%2Fjwt-secret"] {
        let response = bob.get(&format!("/api/v1/jobs/{foreign}")).send().await.unwrap();
        problem(response, StatusCode::NOT_FOUND, "not-found").await;
    }
    let none = bob.get("/download").send().await.unwrap();
    assert_eq!(
        (none.status(), none.text().await.unwrap().as_str()),
        (StatusCode::BAD_REQUEST, "fid is required")
    );
    let nowhere = bob.get("/api/v1/nowhere").send().await.unwrap();
    problem(nowhere, StatusCode::NOT_FOUND, "no-such-route").await;
}

async fn an_upload_that_breaks_off_leaves_nothing(deck: &Deck) {
    use std::io::Write;
    let user = deck.sign_in(ANA).await;
    let address = deck.url.strip_prefix("http://").unwrap();
    for _ in 0..3 {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp4\"\r\n\r\n",
            user.token
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[7; 300_000]).unwrap();
        let begun = Instant::now();
        while user.jobs().await.is_empty() && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(user.jobs().await.first().map(|job| job["state"].clone()), Some("receiving".into()));
        drop(stream);
        assert_nothing_stored(deck).await;
    }
}

/// Sends a request's head and then `body` over and over, until the server answers or has taken `most` bytes; its answer's first line.
fn flood(deck: &Deck, token: &str, boundary: &str, opening: &str, most: usize) -> (String, usize) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(deck.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n{:x}\r\n{opening}\r\n",
        opening.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'a'; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < most && stream.write_all(&chunk).is_ok() {
        sent += 0x10000;
    }
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).unwrap_or(0);
    (String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned(), sent)
}

async fn a_form_that_is_no_file_is_not_collected(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let endless_header = "--b\r\nContent-Disposition: form-data; name=\"";
    let endless_text = "--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n";
    for opening in ["no boundary at all", endless_header, endless_text] {
        let before = deck.memory();
        let (answer, sent) = flood(deck, &user.token, "b", opening, 300 << 20);
        assert!(answer.is_empty() || answer.contains("400"), "{opening}: {answer}");
        assert!(sent < 120 << 20, "{opening}: {sent} bytes were taken");
        let (answer, sent) = flood(deck, "nobody", "b", opening, 300 << 20);
        assert!(answer.is_empty() || answer.contains("403"), "{opening}: {answer}");
        assert!(sent < 120 << 20, "{opening}: {sent} bytes were taken from nobody");
        let grown = deck.memory().saturating_sub(before);
        assert!(grown < 64 << 20, "{opening}: {grown} bytes of memory");
    }
    assert_nothing_stored(deck).await;
}

async fn an_upload_deleted_on_its_way_is_told_so(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    }));
    let form = Form::new().part("file", Part::stream(body).file_name("a.mp4"));
    let upload = user.post("/upload").header("accept", "application/json").multipart(form).send();
    let deletion = async {
        sender.send(Ok(vec![7; 100_000])).await.unwrap();
        let id = loop {
            match user.jobs().await.first() {
                Some(job) => break job["id"].as_str().unwrap().to_owned(),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let deleted = user.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        drop(sender);
    };
    let (answer, ()) = tokio::join!(upload, deletion);
    problem(answer.unwrap(), StatusCode::CONFLICT, "upload-cancelled").await;
    assert_nothing_stored(deck).await;
}

async fn a_session_is_not_for_other_sites(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let request = |site: &str| {
        let request = deck
            .client
            .get(format!("{}/api/v1/jobs", deck.url))
            .header("cookie", format!("tapedeck_session={}", user.token));
        request.header("sec-fetch-site", site.to_owned()).header("sec-fetch-mode", "cors")
    };
    assert_eq!(request("same-origin").send().await.unwrap().status(), StatusCode::OK);
    problem(request("cross-site").send().await.unwrap(), StatusCode::FORBIDDEN, "cross-site").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_beyond_the_limits_is_refused_and_the_answer_is_read() {
    let limits = [
        ("TAPEDECK_LIMITS_UPLOAD", "1MiB"),
        ("TAPEDECK_LIMITS_ACTIVE_JOBS", "2"),
        ("TAPEDECK_CONVERTER_SLOTS", "1"),
        ("TAPEDECK_LIMITS_DURATION", "2s"),
    ];
    let deck = Deck::start_with(Shape::OneProcess, &limits).await;
    let user = deck.sign_in(ANA).await;
    // Announced, and not announced (a stream has no Content-Length).
    let response = user.try_upload("big.mp4", vec![7; 8 << 20]).await.unwrap();
    assert!(problem(response, StatusCode::PAYLOAD_TOO_LARGE, "too-large").await.contains("1 MiB"));
    let pieces = (0..80).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 100_000]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let form = Form::new().part("file", Part::stream(body).file_name("big.mp4"));
    let response =
        user.post("/upload").header("accept", "application/json").multipart(form).send().await.unwrap();
    problem(response, StatusCode::PAYLOAD_TOO_LARGE, "too-large").await;
    assert_nothing_stored(&deck).await;
    let long = user.upload_media("mp4__midroll-5s.mp4").await;
    assert_eq!(user.ended(&long).await["error"]["code"], "too-long");
    let outcomes = futures_util::future::join_all(
        (0..8).map(|_| user.try_upload("a.wav", fs::read(media("wav__sample.wav")).unwrap())),
    )
    .await;
    let refused = outcomes
        .iter()
        .filter(|response| response.as_ref().unwrap().status() == StatusCode::TOO_MANY_REQUESTS)
        .count();
    assert!(refused >= 1, "two may wait, eight came at once");
    deck.assert_empty_house().await;
}
