//! Faults between every service and its backend: nothing accepted is lost, nothing becomes two MP3s, no mail is sent twice.

use crate::{
    deck::{ANA, Deck, Home, PASSWORD, Shape, User, media},
    originals::Originals,
};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use testkit::{
    mariadb,
    proxy::{Fault, Proxy},
    rabbitmq::Broker,
    smtp::{self, Stage},
};

const ALL: &[&str] = &["auth", "converter", "notification", "gateway"];

fn video() -> Vec<u8> {
    std::fs::read(media("mp4__sample.mp4")).unwrap()
}

/// `host:port` of a URL.
fn server(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    let authority = rest.split(['/', '?']).next().unwrap();
    authority.rsplit('@').next().unwrap().to_owned()
}

/// A home whose backend at `url` is reached through a proxy.
async fn through(choose: impl Fn(&mut crate::cluster::Cluster) -> &mut String) -> (Home, Proxy) {
    let mut home = Home::with_users(Shape::FourDistributed).await;
    let url = choose(home.cluster.as_mut().unwrap());
    let proxy = Proxy::to(&server(url)).await;
    *url = proxy.url_for(url, &server(url));
    (home, proxy)
}

async fn converts(user: &User<'_>) -> String {
    let id = user.upload("talk.mp4", video()).await;
    assert_eq!(user.ended(&id).await["state"], "converted");
    id
}

async fn mails(deck: &Deck, id: &str, count: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while deck.mails_about(id).len() < count {
        assert!(
            Instant::now() < end,
            "{} mails about {id}; log:\n{}",
            deck.mails_about(id).len(),
            deck.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(deck.mails_about(id).len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_broker_that_is_away_slow_or_cut_cost_time_alone() {
    let (home, proxy) = through(|cluster| &mut cluster.amqp).await;
    let deck = Deck::of(home, ALL, &[]).await;
    let user = deck.sign_in(ANA).await;
    converts(&user).await;
    for fault in [
        Fault::Refuse,
        Fault::BlackHole,
        Fault::LostAnswers,
        Fault::LostRequests,
        Fault::Latency(Duration::from_millis(300)),
        Fault::CutAfter(2000),
    ] {
        proxy.set(fault);
        if fault == Fault::Refuse {
            proxy.reset_all();
        }
        let began = Instant::now();
        let id = user.upload("talk.mp4", video()).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{fault:?}: an upload never waits for the broker");
        let ready = deck.client.get(format!("{}/readyz", deck.url)).send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK, "{fault:?}: the gateway stays ready");
        assert_eq!(user.ended(&id).await["state"], "converted", "{fault:?}: records are polled");
        mails(&deck, &id, 1).await;
        proxy.set(Fault::None);
    }
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_broker_that_lost_its_disk_lose_no_job() {
    let mut broker = Broker::start().unwrap();
    let mut home = Home::with_users(Shape::FourDistributed).await;
    home.cluster.as_mut().unwrap().amqp = broker.amqp_url();
    // No converter yet: the jobs wait, their wake-ups are in the broker.
    let deck = Deck::of(home, &["auth", "notification", "gateway"], &[]).await;
    let user = deck.sign_in(ANA).await;
    let ids = join_all((0..5).map(|_| user.upload("talk.mp4", video()))).await;
    broker.wipe().unwrap();
    let later = user.upload("later.mp4", video()).await;
    deck.spawn(&["serve", "--roles", "converter"], &[]);
    for id in ids.iter().chain([&later]) {
        assert_eq!(user.ended(id).await["state"], "converted");
        mails(&deck, id, 1).await;
    }
    deck.assert_empty_house().await;
}

/// Twenty times SIGKILL for the broker, while videos come in without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_broker_killed_twenty_times_under_load() {
    let mut broker = Broker::start().unwrap();
    let mut home = Home::with_users(Shape::FourDistributed).await;
    home.cluster.as_mut().unwrap().amqp = broker.amqp_url();
    let deck = Deck::of(home, ALL, &[("TAPEDECK_LIMITS_ACTIVE_JOBS", "10000")]).await;
    let user = deck.sign_in(ANA).await;
    let over = AtomicBool::new(false);
    let load = join_all((0..2).map(|_| async {
        let mut accepted = Vec::new();
        let wav = std::fs::read(media("wav__sample.wav")).unwrap();
        while !over.load(Ordering::Relaxed) {
            accepted.push(user.upload("talk.wav", wav.clone()).await);
            tokio::time::sleep(Duration::from_millis(2500)).await;
        }
        accepted
    }));
    let kills = tokio::task::spawn_blocking(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(700));
            broker.kill9();
            std::thread::sleep(Duration::from_millis(300));
            broker.restart().unwrap();
        }
        broker
    });
    let kills = async {
        let broker = kills.await.unwrap();
        over.store(true, Ordering::Relaxed);
        broker
    };
    let (accepted, _broker) = tokio::join!(load, kills);
    let accepted = accepted.concat();
    let mut converted = 0;
    for id in &accepted {
        let job = user.ended(id).await;
        assert_eq!(job["state"], "converted", "{job:#}");
        mails(&deck, id, 1).await;
        converted += 1;
    }
    let stored = deck.cluster().gridfs("mp3s", "files").count_documents(Default::default()).await.unwrap();
    println!(
        "20 broker kills: {} accepted, {converted} converted, {} lost, {} doubled",
        accepted.len(),
        accepted.len() - converted,
        usize::try_from(stored).unwrap() - converted
    );
    assert_eq!(usize::try_from(stored).unwrap(), accepted.len(), "one MP3 for each");
    assert!(accepted.len() >= 40, "there was a load");
    deck.assert_empty_house().await;
}

/// Sends a video in pieces, and does something in the middle of it.
async fn upload_slowly(
    user: &User<'_>,
    bytes: Vec<u8>,
    middle: impl Future<Output = ()> + Send + 'static,
) -> reqwest::Response {
    let (sender, pieces) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let half = bytes.len() / 2;
    let sending = tokio::spawn(async move {
        for piece in bytes[..half].chunks(256 * 1024) {
            sender.send(Ok(piece.to_vec())).await.unwrap();
        }
        middle.await;
        for piece in bytes[half..].chunks(256 * 1024) {
            if sender.send(Ok(piece.to_vec())).await.is_err() {
                return;
            }
        }
    });
    let pieces =
        futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
    let part = reqwest::multipart::Part::stream(reqwest::Body::wrap_stream(pieces)).file_name("long.wav");
    let form = reqwest::multipart::Form::new().part("file", part);
    let answer =
        user.post("/upload").header("accept", "application/json").multipart(form).send().await.unwrap();
    sending.abort();
    answer
}

/// A WAV file with so many seconds of a tone, stereo, 44.1 kHz.
fn wav(seconds: u32) -> Vec<u8> {
    let frames = seconds * 44_100;
    let mut bytes = Vec::with_capacity(44 + frames as usize * 4);
    bytes.extend(b"RIFF");
    bytes.extend((36 + frames * 4).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    bytes.extend(44_100_u32.to_le_bytes());
    bytes.extend((44_100_u32 * 4).to_le_bytes());
    bytes.extend(b"\x04\0\x10\0data");
    bytes.extend((frames * 4).to_le_bytes());
    for frame in 0..frames {
        let sample = if frame / 50 % 2 == 0 { 3000_i16 } else { -3000 };
        bytes.extend([sample.to_le_bytes(), sample.to_le_bytes()].concat());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_mongodb_that_is_away_in_the_middle_of_an_upload() {
    let (home, proxy) = through(|cluster| &mut cluster.mongodb).await;
    let proxy = std::sync::Arc::new(proxy);
    let deck = Deck::of(home, ALL, &[]).await;
    let user = deck.sign_in(ANA).await;
    for seconds in [0, 3] {
        let fault = std::sync::Arc::clone(&proxy);
        let answer = upload_slowly(&user, wav(150), async move {
            fault.set(Fault::Refuse);
            fault.reset_all();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            fault.set(Fault::None);
        });
        let answer = answer.await;
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "away for {seconds} s: {body}");
        let job: Value = serde_json::from_str(&body).unwrap();
        let job = user.ended(job["id"].as_str().unwrap()).await;
        assert_eq!(job["state"], "converted", "{job:#}");
        assert_eq!(job["mp3"]["duration"], 150.0);
    }
    // In the middle of a conversion: away, and back.
    let id = user.upload("long.wav", wav(150)).await;
    user.wait_for(&id, &["converting", "converted"]).await;
    proxy.reset_all();
    assert_eq!(user.ended(&id).await["state"], "converted");
    // Away for good: told in words, and nothing is left behind.
    let fault = std::sync::Arc::clone(&proxy);
    let answer = upload_slowly(&user, wav(60), async move {
        fault.set(Fault::Refuse);
        fault.reset_all();
    });
    let answer = answer.await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = answer.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("Try again"), "{problem:#}");
    let ready = deck.client.get(format!("{}/readyz", deck.url)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    proxy.set(Fault::None);
    let end = Instant::now() + Duration::from_secs(30);
    while deck.client.get(format!("{}/readyz", deck.url)).send().await.unwrap().status() != StatusCode::OK {
        assert!(Instant::now() < end, "the gateway does not get ready again; log:\n{}", deck.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    converts(&user).await;
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_mysql_that_is_away_are_told_and_pass() {
    let (home, proxy) = through(|cluster| &mut cluster.mysql).await;
    let deck = Deck::of(home, ALL, &[]).await;
    let user = deck.sign_in(ANA).await;
    let id = user.upload("talk.mp4", video()).await;
    proxy.set(Fault::Refuse);
    proxy.reset_all();
    let login = || deck.client.post(format!("{}/login", deck.url)).basic_auth(ANA, Some(PASSWORD)).send();
    let away = login().await.unwrap();
    assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.text().await.unwrap().contains("Try again"));
    proxy.set(Fault::BlackHole);
    let began = Instant::now();
    let hanging = login().await.unwrap();
    assert_eq!(hanging.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(began.elapsed() < Duration::from_secs(25), "a hang has an end: {:?}", began.elapsed());
    proxy.set(Fault::None);
    proxy.reset_all();
    assert_eq!(login().await.unwrap().status(), StatusCode::OK);
    assert_eq!(user.ended(&id).await["state"], "converted", "the conversion went on");
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_mail_server_are_tried_again_or_kept_as_the_reason() {
    use smtp::Fault::{Drop, DropAfterAccept, Hang, Reply};
    let deck = Deck::of(Home::with_users(Shape::FourDistributed).await, ALL, &[]).await;
    let user = deck.sign_in(ANA).await;
    let mail = &deck.cluster().mail;
    let reply = |text: &str| Reply(text.to_owned());
    for (stage, fault) in [
        (Stage::Connect, reply("421 too busy")),
        (Stage::Rcpt, reply("450 mailbox busy")),
        (Stage::Data, reply("451 later")),
        (Stage::Mail, Drop),
        (Stage::Connect, Drop),
    ] {
        mail.inject(stage, fault.clone(), 1);
        let id = converts(&user).await;
        mails(&deck, &id, 1).await;
    }
    // A bounce: never again, and the reason stands in the job.
    mail.inject(Stage::Rcpt, reply("550 5.1.1 no such user here"), 1);
    let id = converts(&user).await;
    let end = Instant::now() + Duration::from_secs(30);
    let told = loop {
        let job: Value = user.get(&format!("/api/v1/jobs/{id}")).send().await.unwrap().json().await.unwrap();
        if job["mail"]["state"] == "undeliverable" {
            break job["mail"]["error"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < end, "{job:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(told.contains("550") && told.contains("no such user here"), "{told}");
    assert!(deck.mails_about(&id).is_empty());
    user.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
    // The one window: taken, and the answer lost. The same mail may come twice, with one Message-ID.
    mail.inject(Stage::Dot, DropAfterAccept, 1);
    let id = converts(&user).await;
    mails(&deck, &id, 2).await;
    let message_id =
        |mail: &String| mail.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned);
    let ids: Vec<_> = deck.mails_about(&id).iter().map(message_id).collect();
    assert_eq!(ids[0], ids[1]);
    user.delete(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
    // A server that hangs holds nobody but its own mail, and not for ever.
    mail.inject(Stage::Mail, Hang, 1);
    let id = converts(&user).await;
    mails(&deck, &id, 1).await;
    deck.assert_empty_house().await;
}

/// A redelivery after the end, and messages that nobody settles: the broker takes the channel away, and nothing happens twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_connections_that_are_reset_in_the_middle_of_conversions() {
    let (home, proxy) = through(|cluster| &mut cluster.amqp).await;
    let deck = Deck::of(home, ALL, &[]).await;
    let user = deck.sign_in(ANA).await;
    let video = std::fs::read(media("bbb_480p_30s.mp4")).unwrap();
    let ids = join_all((0..6).map(|_| user.upload("talk.mp4", video.clone()))).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        proxy.reset_all();
    }
    for id in &ids {
        let job = user.ended(id).await;
        assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("converted"), Some(1)), "{job:#}");
        mails(&deck, id, 1).await;
    }
    deck.assert_empty_house().await;
    let originals = Originals::beside(deck.cluster()).await;
    for queue in ["video", "mp3"] {
        assert!(originals.take(queue, Duration::from_secs(2)).await.is_none(), "{queue} is empty");
    }
}

/// A MariaDB of its own that is stopped like any server: the pool finds back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_a_mariadb_that_is_killed_and_started_again() {
    let mut own = mariadb::Server::start().unwrap();
    let mut home = Home::empty(Shape::FourDistributed).await;
    crate::cluster::create_database(&own.url(), "auth").await;
    home.cluster.as_mut().unwrap().mysql = format!("{}/auth", own.url());
    assert!(home.tapedeck(&["migrate"]).output().unwrap().status.success());
    home.add_user(ANA, PASSWORD);
    home.add_user(crate::deck::BOB, PASSWORD);
    let deck = Deck::of(home, &["auth,gateway,converter,notification"], &[]).await;
    deck.sign_in(ANA).await;
    own.kill9();
    let away =
        deck.client.post(format!("{}/login", deck.url)).basic_auth(ANA, Some(PASSWORD)).send().await.unwrap();
    assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
    own.restart().unwrap();
    converts(&deck.sign_in(ANA).await).await;
    deck.assert_empty_house().await;
}
