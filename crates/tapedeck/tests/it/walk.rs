//! The curl walks of the five original READMEs, with host and port replaced; and the way of one video to its MP3.

use crate::{
    deck::{ANA, BOB, Deck, PASSWORD, media, tool},
    on_every_deck,
};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use std::process::Command;

on_every_deck!(
    the_curl_walks_of_the_seeds,
    a_video_becomes_an_mp3_and_its_owner_is_told,
    an_mp3_is_served_by_range,
    the_peaks_of_an_mp3_are_served_with_it,
    ten_uploads_at_once_by_two_users,
    live_events_begin_with_a_snapshot_and_tell_the_truth,
    jobs_are_cancelled_retried_and_deleted,
    a_request_id_goes_from_upload_to_log,
    mp3s_are_listed_by_page,
    an_upload_says_what_its_mp3_is_to_be,
);

fn curl(arguments: &[&str]) -> String {
    let output = Command::new(tool("CURL", "curl"))
        .args(["-sS", "--max-time", "60"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn the_curl_walks_of_the_seeds(deck: &Deck) {
    let (url, video) = (&deck.url, media("mp4__sample.mp4").display().to_string());
    // The five differ in the order of their options, in quoting, and in `?fid=` or `?id=`.
    let token = curl(&["-X", "POST", &format!("{url}/login"), "-u", &format!("{ANA}:{PASSWORD}")]);
    assert_eq!(token.split('.').count(), 3, "a bare JWT: {token:?}");
    assert!(!token.contains(['"', '\n']));
    let bearer = format!("Authorization: Bearer {token}");
    let answer =
        curl(&["-X", "POST", "-F", &format!("file=@{video}"), "-H", &bearer, &format!("{url}/upload")]);
    assert!(answer.starts_with("success!"), "{answer}");
    let headers =
        curl(&["-i", "-X", "POST", "-F", &format!("file=@{video}"), "-H", &bearer, &format!("{url}/upload")]);
    let location = headers
        .lines()
        .find_map(|line| line.strip_prefix("location: /api/v1/jobs/"))
        .expect("a Location header");
    let user = deck.sign_in(ANA).await;
    let job = user.ended(location.trim()).await;
    let fid = job["mp3_fid"].as_str().unwrap();
    let saved = deck.dir().join("output.mp3");
    let saved_as = saved.to_str().unwrap();
    for query in [format!("fid={fid}"), format!("id={fid}"), format!("fid={}", location.trim())] {
        curl(&["-X", "GET", "-H", &bearer, &format!("{url}/download?{query}"), "-o", saved_as]);
        engine::mp3::check(std::fs::File::open(&saved).unwrap()).unwrap();
    }
    let status = |arguments: &[&str]| curl(&[arguments, &["-o", "/dev/null", "-w", "%{http_code}"]].concat());
    assert_eq!(status(&["-X", "GET", &format!("{url}/download?id={fid}")]), "401", "without a token");
    assert_eq!(curl(&["-X", "POST", &format!("{url}/login")]), "missing credentials");
    assert_eq!(
        curl(&["-X", "POST", &format!("{url}/login"), "-u", "kevin@email.com:Qwerty123"]),
        "invalid credentials"
    );
}

async fn a_video_becomes_an_mp3_and_its_owner_is_told(deck: &Deck) {
    let user = deck.sign_in("BOB@example.com").await;
    let id =
        user.upload("../../Vorträge/Über alles.MP4", std::fs::read(media("bbb_480p_30s.mp4")).unwrap()).await;
    let job = user.ended(&id).await;
    assert_eq!(job["state"], "converted", "{job:#}");
    assert_eq!(
        (job["file_name"].as_str(), job["mp3_name"].as_str()),
        (Some("Über alles.MP4"), Some("Über alles.mp3"))
    );
    assert!((job["mp3"]["duration"].as_f64().unwrap() - 30.0).abs() < 0.1);
    assert_eq!(job["error"], Value::Null);
    assert_eq!(job["progress"], 1.0);
    let fid = job["mp3_fid"].as_str().unwrap();
    let mp3 = user.download(fid).await;
    assert_eq!(mp3.len() as u64, job["mp3"]["size"].as_u64().unwrap());
    engine::mp3::check(&mp3[..]).unwrap();
    let mail = wait_for_mail(deck, &id).await;
    for expected in [
        format!("To: {BOB}\r\n"),
        "Subject: MP3 Download\r\n".into(),
        format!("mp3 file_id: {fid} is now ready!"),
        "/download?fid=".into(),
    ] {
        assert!(mail.replace("=3D", "=").contains(&expected), "{expected} is missing from\n{mail}");
    }
    // That the video is gone is for the empty house to say: it goes soon after the end.
}

async fn wait_for_mail(deck: &Deck, id: &str) -> String {
    for _ in 0..400 {
        if let Some(mail) = deck.mails_about(id).pop() {
            return mail;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("no mail about {id}; log:\n{}", deck.log());
}

async fn an_mp3_is_served_by_range(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let id = user.upload_media("mp4__midroll-5s.mp4").await;
    let size = user.ended(&id).await["mp3"]["size"].as_u64().unwrap();
    let whole = user.download(&id).await;
    for path in [format!("/download?fid={id}"), format!("/api/v1/jobs/{id}/file")] {
        let response = user.get(&path).header(header::RANGE, "bytes=100-199").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()["content-range"], format!("bytes 100-199/{size}"));
        assert_eq!(response.headers()["accept-ranges"], "bytes");
        assert_eq!(response.bytes().await.unwrap(), whole[100..200]);
        let beyond = user.get(&path).header(header::RANGE, format!("bytes={size}-")).send().await.unwrap();
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        let head =
            deck.client.head(format!("{}{path}", deck.url)).bearer_auth(&user.token).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], size.to_string());
        let etag = head.headers()["etag"].clone();
        let known = user.get(&path).header(header::IF_NONE_MATCH, etag.clone()).send().await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        let stale = user
            .get(&path)
            .header(header::RANGE, "bytes=0-0")
            .header(header::IF_RANGE, "\"old\"")
            .send()
            .await
            .unwrap();
        assert_eq!(stale.status(), StatusCode::OK, "a part of another file is of no use");
    }
    let saved = user.get(&format!("/api/v1/jobs/{id}/file?download=1")).send().await.unwrap();
    assert!(
        saved.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment; filename=\"mp4__midroll-5s.mp3\"")
    );
}

async fn the_peaks_of_an_mp3_are_served_with_it(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let id = user.upload_media("bbb_480p_30s.mp4").await;
    let job = user.ended(&id).await;
    assert_eq!((&job["state"], &job["mp3"]["peaks"]), (&"converted".into(), &true.into()));
    let path = format!("/api/v1/jobs/{id}/peaks");
    let answer = user.get(&path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers().clone();
    assert_eq!((&headers["content-type"], &headers["cache-control"]), (&json_type(), &private()));
    let peaks: Value = answer.json().await.unwrap();
    let facts = engine::mp3::check(&user.download(&id).await[..]).unwrap();
    let number = |key: &str| peaks[key].as_u64().unwrap();
    assert_eq!((number("version"), number("channels"), number("bits")), (2, 1, 8));
    assert_eq!(number("sample_rate"), u64::from(facts.sample_rate));
    assert_eq!(number("length"), facts.samples.div_ceil(number("samples_per_pixel")));
    assert!((512..=1024).contains(&number("length")));
    let levels: Vec<i64> =
        peaks["data"].as_array().unwrap().iter().map(|level| level.as_i64().unwrap()).collect();
    assert_eq!(levels.len() as u64, number("length") * 2);
    assert!(levels.iter().any(|level| *level > 20) && levels.iter().any(|level| *level < -20), "it is loud");

    let known = user.get(&path).header(header::IF_NONE_MATCH, &headers["etag"]).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(known.headers()["etag"], headers["etag"]);
    let anonymous = deck.client.get(format!("{}{path}", deck.url)).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    user.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
    assert_eq!(user.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let copied = user.upload_media("mp3__bear-id3.mp3").await;
    assert_eq!(user.ended(&copied).await["mp3"]["peaks"], false, "its sound was not decoded");
    let none = user.get(&format!("/api/v1/jobs/{copied}/peaks")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    assert_eq!(none.json::<Value>().await.unwrap()["code"], "no-peaks");

    let silent = user.upload_media("vp9__bear-vp9.webm").await;
    user.ended(&silent).await;
    let none = user.get(&format!("/api/v1/jobs/{silent}/peaks")).send().await.unwrap();
    assert_eq!(none.status(), StatusCode::CONFLICT);
    assert_eq!(none.json::<Value>().await.unwrap()["code"], "failed");
}

fn json_type() -> header::HeaderValue {
    header::HeaderValue::from_static("application/json")
}

fn private() -> header::HeaderValue {
    header::HeaderValue::from_static("private, no-cache")
}

async fn ten_uploads_at_once_by_two_users(deck: &Deck) {
    let users = [deck.sign_in(ANA).await, deck.sign_in(BOB).await];
    let video = std::fs::read(media("mp4__sample.mp4")).unwrap();
    let uploads = (0..10).map(|number| {
        let (user, video) = (users[number % 2].clone(), video.clone());
        async move { (number % 2, user.upload("same.mp4", video).await) }
    });
    let uploads = futures_util::future::join_all(uploads).await;
    for (owner, id) in &uploads {
        let job = users[*owner].ended(id).await;
        assert_eq!(job["state"], "converted");
        let fid = job["mp3_fid"].as_str().unwrap();
        engine::mp3::check(&users[*owner].download(fid).await[..]).unwrap();
        let stranger = &users[1 - owner];
        for path in [
            format!("/download?fid={fid}"),
            format!("/download?fid={id}"),
            format!("/api/v1/jobs/{id}"),
            format!("/api/v1/jobs/{id}/file"),
            format!("/api/v1/jobs/{id}/peaks"),
        ] {
            assert_eq!(stranger.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
        }
        for request in [
            stranger.post(&format!("/api/v1/jobs/{id}/cancel")),
            stranger.post(&format!("/api/v1/jobs/{id}/retry")),
            stranger.delete(&format!("/api/v1/jobs/{id}")),
        ] {
            assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);
        }
    }
    for (owner, user) in users.iter().enumerate() {
        let mine: Vec<String> =
            user.jobs().await.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
        let mut expected: Vec<_> =
            uploads.iter().filter(|(of, _)| *of == owner).map(|(_, id)| id.clone()).collect();
        expected.sort_by(|a, b| b.cmp(a));
        assert_eq!(mine, expected, "each sees their own, newest first");
    }
}

/// Reads events until one satisfies `enough`.
async fn events(
    mut stream: reqwest::Response,
    enough: impl Fn(&str, &Value) -> bool,
) -> Vec<(String, Value)> {
    let mut text = String::new();
    let mut events = Vec::new();
    while let Some(bytes) = stream.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
            };
            if let (Some(name), Some(body)) = (field("event:"), field("data:")) {
                events.push((name, serde_json::from_str(&body).unwrap()));
            }
            text = rest.to_owned();
            if events.last().is_some_and(|(name, body)| enough(name, body)) {
                return events;
            }
        }
    }
    panic!("the stream ended after {events:#?}");
}

async fn live_events_begin_with_a_snapshot_and_tell_the_truth(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let first = user.upload_media("mp4__sample.mp4").await;
    user.ended(&first).await;
    let stream = user.get("/api/v1/events").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let bob = deck.sign_in(BOB).await;
    let foreign = bob.upload_media("mp4__sample.mp4").await;
    let id = user.upload_media("bbb_480p_30s.mp4").await;
    let watched = id.clone();
    let seen = events(stream, move |name, job| {
        name == "job" && job["id"] == watched.as_str() && job["state"] == "converted"
    })
    .await;
    assert_eq!(seen[0].0, "snapshot");
    assert_eq!(seen[0].1["jobs"][0]["id"], first.as_str());
    assert!(
        !seen.iter().any(|(_, body)| body.to_string().contains(&foreign)),
        "another's job is none of ours"
    );
    let mut progress = 0.0;
    for (_, job) in seen.iter().filter(|(_, job)| job["id"] == id.as_str() && job["state"] == "converting") {
        let now = job["progress"].as_f64().unwrap();
        assert!(now >= progress && now <= 1.0, "progress went from {progress} to {now}");
        progress = now;
    }
    // Two pages that open at once both stay live.
    let (stream, other) = tokio::join!(user.get("/api/v1/events").send(), user.get("/api/v1/events").send());
    let (stream, other) = (stream.unwrap(), other.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    user.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
    events(other, |name, _| name == "removed").await;
    let seen = events(stream, |name, _| name == "removed").await;
    assert_eq!(seen.last().unwrap().1, json!({ "id": id }));
    bob.ended(&foreign).await;
}

async fn jobs_are_cancelled_retried_and_deleted(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    // Enough to keep every slot busy while the last one waits.
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(user.upload_media("bbb_480p_30s.mp4").await);
    }
    let last = ids.pop().unwrap();
    let cancelled = user.post(&format!("/api/v1/jobs/{last}/cancel")).send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::OK);
    assert_eq!(cancelled.json::<Value>().await.unwrap()["actions"], json!(["retry", "delete"]));
    assert_eq!(
        user.post(&format!("/api/v1/jobs/{last}/cancel")).send().await.unwrap().status(),
        StatusCode::CONFLICT
    );
    let early = user.get(&format!("/download?fid={last}")).send().await.unwrap();
    assert_eq!(early.status(), StatusCode::CONFLICT);
    let retried = user.post(&format!("/api/v1/jobs/{last}/retry")).send().await.unwrap();
    assert_eq!(retried.status(), StatusCode::OK);
    assert_eq!(user.ended(&last).await["state"], "converted");
    let deleted = user.delete(&format!("/api/v1/jobs/{last}")).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    for path in [format!("/api/v1/jobs/{last}"), format!("/download?fid={last}")] {
        assert_eq!(user.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    for id in ids {
        user.ended(&id).await;
    }
    // The mail about it was sent before it was deleted, or is not sent at all; the house only counts jobs that are there.
}

async fn a_request_id_goes_from_upload_to_log(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let form = reqwest::multipart::Form::new().part(
        "f",
        reqwest::multipart::Part::bytes(std::fs::read(media("mp4__sample.mp4")).unwrap()).file_name("a.mp4"),
    );
    let response =
        user.post("/upload").header("x-request-id", "walk-42").multipart(form).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "walk-42");
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let id = location.rsplit_once('/').unwrap().1;
    user.ended(id).await;
    wait_for_mail(deck, id).await;
    for _ in 0..100 {
        let log = deck.log();
        let about: Vec<&str> = log.lines().filter(|line| line.contains("walk-42")).collect();
        if ["\"to\":\"queued\"", "\"to\":\"converting\"", "\"to\":\"converted\"", "mail sent"]
            .iter()
            .all(|step| about.iter().any(|line| line.contains(step)))
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the request id is not in all of the log:\n{}", deck.log());
}

async fn mp3s_are_listed_by_page(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(user.upload_media("wav__sample.wav").await);
    }
    ids.reverse();
    let page = async |query: &str| {
        let list: Value =
            user.get(&format!("/api/v1/jobs?{query}")).send().await.unwrap().json().await.unwrap();
        list["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(page("limit=2").await, ids[..2]);
    assert_eq!(page(&format!("limit=2&before={}", ids[1])).await, ids[2..4]);
    let wrong = user.get("/api/v1/jobs?before=nonsense").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

async fn an_upload_says_what_its_mp3_is_to_be(deck: &Deck) {
    let user = deck.sign_in(ANA).await;
    let video = std::fs::read(media("bbb_480p_30s.mp4")).unwrap();
    let upload = async |query: &str| {
        let answer = user.try_upload_with(query, "bbb.mp4", video.clone()).await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let (status, job) =
        upload("?preset=voice&cbr=64&trim=0:10-0:12.5&loudness=-16&tag.artist=Ana&utm_source=mail").await;
    assert_eq!(status, StatusCode::OK, "{job}");
    let id = job["id"].as_str().unwrap();
    assert_eq!(user.ended(id).await["state"], "converted");
    let mp3 = user.download(id).await;
    let facts = engine::mp3::check(&mp3[..]).unwrap();
    assert_eq!((facts.channels, facts.samples * 2), (1, u64::from(facts.sample_rate) * 5));
    assert!((20_000..24_000).contains(&mp3.len()), "64 kbit/s: {}", mp3.len());
    assert!(mp3[..200].windows(3).any(|window| window == b"Ana"));

    for (query, word) in [
        ("?vbr=12", "0 (best) to 9"),
        ("?preset=loud", "music, voice, small, original"),
        ("?vbr=2&cbr=128", "Only one"),
        ("?trim=5-2", "end"),
        ("?tag.encoder=x", "artist"),
    ] {
        let (status, problem) = upload(query).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("bad-options")), "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }

    let (_, job) = upload("?track=7").await;
    let ended = user.ended(job["id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["state"], &ended["error"]["code"]),
        (&json!("failed"), &json!("no-such-track")),
        "{ended}"
    );
}
