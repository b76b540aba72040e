//! Beside the original services: queue by queue, document by document.

use crate::{
    deck::{ANA, BOB, Deck, Home, Shape, User, media},
    originals::{Originals, message, original_mp3},
};
use mongodb::bson::doc;
use reqwest::StatusCode;
use serde_json::Value;
use std::time::{Duration, Instant};

const ALL: &[&str] = &["auth", "converter", "notification", "gateway"];
const MOMENT: Duration = Duration::from_secs(30);

async fn deck(processes: &[&str], environment: &[(&str, &str)]) -> Deck {
    Deck::of(Home::with_users(Shape::FourDistributed).await, processes, environment).await
}

fn video() -> Vec<u8> {
    std::fs::read(media("mp4__sample.mp4")).unwrap()
}

/// The job, once its record is there, and has ended.
async fn ended(user: &User<'_>, id: &str) -> Value {
    let end = Instant::now() + MOMENT;
    while user.get(&format!("/api/v1/jobs/{id}")).send().await.unwrap().status() != StatusCode::OK {
        assert!(Instant::now() < end, "job {id} does not appear; log:\n{}", user.deck.log());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    user.ended(id).await
}

async fn one_mail(deck: &Deck, id: &str) -> String {
    let end = Instant::now() + MOMENT;
    while deck.mails_about(id).is_empty() {
        assert!(Instant::now() < end, "no mail about {id}; log:\n{}", deck.log());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(deck.mails_about(id).len(), 1);
    deck.mails_about(id).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_of_an_original_gateway_is_adopted_whoever_typed_the_address_how() {
    let deck = deck(ALL, &[]).await;
    let originals = Originals::beside(deck.cluster()).await;
    // The originals put into the message what was typed at the sign-in.
    let id = originals.upload(&video(), "Ana@EXAMPLE.com").await;
    let user = deck.sign_in(ANA).await;
    let job = ended(&user, &id).await;
    assert_eq!(job["state"], "converted", "{job:#}");
    let fid = job["mp3_fid"].as_str().unwrap();
    let mp3 = user.download(fid).await;
    let facts = engine::mp3::check(&mp3[..]).unwrap();
    assert_eq!((facts.sample_rate, facts.channels), (44_100, 2), "as the originals convert");
    let kilobits = facts.bytes as f64 * 8.0 / (facts.frames as f64 * 1152.0 / 44_100.0) / 1000.0;
    assert!((120.0..140.0).contains(&kilobits), "a constant 128 kbit/s, and not {kilobits}");
    assert!(one_mail(&deck, &id).await.contains(&format!("mp3 file_id: {fid} is now ready!")));
    assert_eq!(originals.get("mp3s", fid).await.unwrap(), mp3, "an original reads what we wrote");
    assert_eq!(
        deck.sign_in(BOB).await.get(&format!("/download?fid={fid}")).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_messages_are_theirs_byte_for_byte_and_what_we_do_not_know_passes_through() {
    // No notifier: the test is the notifier.
    let deck =
        deck(&["auth", "converter", "gateway"], &[("TAPEDECK_NEIGHBOURS_NOTIFICATION", "original")]).await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let id = user.upload("talk.mp4", video()).await;
    let fid = user.ended(&id).await["mp3_fid"].as_str().unwrap().to_owned();
    let body = originals.take("mp3", MOMENT).await.expect("a message for the notifier");
    assert_eq!(String::from_utf8(body).unwrap(), message(&id, Some(&fid), ANA));
    let foreign = originals.put("videos", &video()).await.to_hex();
    let body = message(&foreign, None, ANA).replace('}', ", \"n\": [1, {\"k\": null}], \"\\u00e9\": true}");
    originals.publish("video", &body).await;
    let fid = ended(&user, &foreign).await["mp3_fid"].as_str().unwrap().to_owned();
    let expected = body.replace("\"mp3_fid\": null", &format!("\"mp3_fid\": \"{fid}\""));
    let body = originals.take("mp3", MOMENT).await.expect("a message for the notifier");
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    assert!(deck.mails().is_empty(), "the mail is the original's to send");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mp3_of_an_original_converter_is_found_owned_mailed_and_downloadable() {
    let theirs = [("TAPEDECK_NEIGHBOURS_CONVERTER", "original")];
    let deck = deck(&["auth", "notification", "gateway"], &theirs).await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let id = user.upload("talk.mp4", video()).await;
    // Byte for byte what their gateway would have sent.
    let body = originals.take("video", MOMENT).await.expect("a message for the converter");
    assert_eq!(String::from_utf8(body).unwrap(), message(&id, None, ANA));
    let job = user.get(&format!("/api/v1/jobs/{id}")).send().await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(job["state"], "queued");
    let mp3 =
        original_mp3(&originals.get("videos", &id).await.expect("our video is theirs to read")).unwrap();
    let fid = originals.put("mp3s", &mp3).await.to_hex();
    originals.publish("mp3", &message(&id, Some(&fid), ANA)).await;
    let job = user.ended(&id).await;
    assert_eq!(
        (job["state"].as_str(), job["mp3_fid"].as_str()),
        (Some("converted"), Some(fid.as_str())),
        "{job:#}"
    );
    assert_eq!(user.download(&fid).await, mp3);
    assert_eq!(job["mp3"]["peaks"], false, "{job:#}");
    let peaks = user.get(&format!("/api/v1/jobs/{id}/peaks")).send().await.unwrap();
    assert_eq!(peaks.status(), StatusCode::NOT_FOUND);
    assert_eq!(peaks.json::<Value>().await.unwrap()["code"], "no-peaks", "an original makes none");
    assert!(one_mail(&deck, &id).await.contains(&format!("mp3 file_id: {fid} is now ready!")));
    // The same message again changes nothing, and tells nobody.
    originals.publish("mp3", &message(&id, Some(&fid), ANA)).await;
    // Another MP3 for the same job is deleted, and nobody is told.
    let second = originals.put("mp3s", &mp3).await.to_hex();
    originals.publish("mp3", &message(&id, Some(&second), ANA)).await;
    let end = Instant::now() + MOMENT;
    while originals.get("mp3s", &second).await.is_some() {
        assert!(Instant::now() < end, "the second MP3 stays; log:\n{}", deck.log());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(deck.mails_about(&id).len(), 1);
    assert_eq!(user.download(&fid).await, mp3);
    assert!(
        originals.get("videos", &id).await.is_some(),
        "an original converter may still look for the video"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn original_and_own_converters_share_a_queue_and_every_job_ends_once() {
    let deck = deck(
        ALL,
        &[("TAPEDECK_NEIGHBOURS_CONVERTER", "mixed"), ("TAPEDECK_NEIGHBOURS_HANDOVER_TIMEOUT", "15s")],
    )
    .await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let work = async {
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(user.upload("talk.mp4", video()).await);
            ids.push(originals.upload(&video(), ANA).await);
        }
        for id in &ids {
            let job = ended(&user, id).await;
            assert_eq!(job["state"], "converted", "{job:#}");
            engine::mp3::measure(&user.download(job["mp3_fid"].as_str().unwrap()).await[..]).unwrap();
            one_mail(&deck, id).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = originals.convert() => panic!("the original converter ended"),
    }
    // Once nobody can look for the videos any more, they are gone.
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_original_swallowed_is_converted_by_us_when_its_time_is_up() {
    let mixed = [("TAPEDECK_NEIGHBOURS_CONVERTER", "mixed"), ("TAPEDECK_NEIGHBOURS_HANDOVER_TIMEOUT", "3s")];
    // Without our converter at first: the message is the original's alone.
    let deck = deck(&["auth", "notification", "gateway"], &mixed).await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let began = Instant::now();
    let id = user.upload("talk.mp4", video()).await;
    originals.take("video", MOMENT).await.expect("the original takes the message, and does nothing");
    deck.spawn(&["serve", "--roles", "converter"], &[]);
    assert_eq!(user.ended(&id).await["state"], "converted");
    assert!(began.elapsed() > Duration::from_secs(3), "not before its time was up");
    deck.assert_empty_house().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forged_or_makes_no_sense_goes_to_the_dead_letters_and_nobody_is_told() {
    let deck = deck(ALL, &[]).await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let id = user.upload("talk.mp4", video()).await;
    let fid = user.ended(&id).await["mp3_fid"].as_str().unwrap().to_owned();
    one_mail(&deck, &id).await;
    let foreign = originals.put("mp3s", &original_mp3(&video()).unwrap()).await.to_hex();
    let nothing = "65f0c2a91b7e4d0012ab34cd";
    for (queue, body, word) in [
        ("video", "no JSON".to_owned(), "not a message"),
        ("video", message(&id, None, BOB), "owner"),
        ("video", message(nothing, None, ANA), "no video"),
        ("mp3", message(&id, Some(&fid), BOB), "owner"),
        ("mp3", message(&id, Some(&foreign), ANA), "has not made"),
        ("mp3", message(nothing, Some(nothing), ANA), "not there"),
        ("mp3", message(nothing, Some(&fid), ANA), "another job"),
        ("mp3", message(&id, None, ANA), "null"),
    ] {
        originals.publish(queue, &body).await;
        let (dead, reason) = originals.dead_letter(&format!("{queue}.dead")).await;
        assert_eq!(dead, body, "the dead letter is the letter");
        assert!(reason.contains(word), "{body}: {reason}");
    }
    // What is true, but late, is simply over.
    originals.publish("video", &message(&id, None, ANA)).await;
    originals.publish("mp3", &message(&id, Some(&fid), ANA)).await;
    let next = user.upload("next.mp4", video()).await;
    assert_eq!(user.ended(&next).await["state"], "converted", "the queues go on");
    one_mail(&deck, &next).await;
    assert_eq!(deck.mails().len(), 2);
    assert!(originals.get("mp3s", &foreign).await.is_some(), "a forger deletes nothing");
    assert_eq!(user.jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_converters_with_one_message_each_make_one_mp3() {
    let deck = deck(&["auth", "converter", "converter", "notification", "gateway"], &[]).await;
    let originals = Originals::beside(deck.cluster()).await;
    let user = deck.sign_in(ANA).await;
    let video = std::fs::read(media("bbb_480p_30s.mp4")).unwrap();
    let id = originals.put("videos", &video).await.to_hex();
    for _ in 0..6 {
        originals.publish("video", &message(&id, None, ANA)).await;
    }
    let job = ended(&user, &id).await;
    assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("converted"), Some(1)), "{job:#}");
    one_mail(&deck, &id).await;
    deck.assert_empty_house().await;
    assert_eq!(deck.cluster().gridfs("mp3s", "files").count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mp3_that_no_record_names_is_nobodys_until_it_is_adopted_or_allowed() {
    let home = Home::with_users(Shape::FourDistributed).await;
    let deck = Deck::of(home, ALL, &[]).await;
    let originals = Originals::beside(deck.cluster()).await;
    let mp3 = original_mp3(&video()).unwrap();
    let fid = originals.put("mp3s", &mp3).await.to_hex();
    let user = deck.sign_in(ANA).await;
    let path = format!("/download?fid={fid}");
    assert_eq!(user.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let second = {
        let allowed = deck.spawn(
            &["serve", "--roles", "auth,gateway"],
            &[("TAPEDECK_NEIGHBOURS_LEGACY_DOWNLOADS", "any-user")],
        );
        let answer =
            deck.client.get(format!("{allowed}{path}")).bearer_auth(&user.token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.unwrap()
    };
    assert_eq!(second, mp3);
    let adopted = deck.home.tapedeck(&["adopt", "--owner", "ANA@example.com", &fid]).output().unwrap();
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    assert_eq!(user.download(&fid).await, mp3);
    assert_eq!(deck.sign_in(BOB).await.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let again = deck.home.tapedeck(&["adopt", "--owner", BOB, &fid]).output().unwrap();
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("has an owner already")
    );
    assert!(deck.mails().is_empty());
}
