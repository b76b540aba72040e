//! The kill suite: SIGKILL at every named point, ten times each, and after the restart nothing accepted is lost.
//!
//! The process kills itself at the point (`services::failpoints`), and leaves a witness; the suite checks signal and
//! witness, so that a point that is never reached is a failure and not a pass.

use crate::deck::{ANA, Deck, Home, Shape, media};
use serde_json::Value;
use services::failpoints::POINTS;
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

const ROUNDS: usize = 10;
/// A death is noticed soon, so that rounds are short.
const PATIENCE: (&str, &str) = ("TAPEDECK_TIMING_PATIENCE", "1500ms");
/// So many rounds at once: most of a round is waiting.
const AT_ONCE: usize = 5;

macro_rules! killed_at {
    ($($name:ident = $point:literal),* $(,)?) => {
        const WALKED: &[&str] = &[$($point),*];
        mod embedded {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                every_round_holds($point, Shape::OneProcess).await;
            })*
        }
        mod distributed {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                every_round_holds($point, Shape::OneDistributed).await;
            })*
        }
    };
}

killed_at! {
    killed_when_the_upload_is_recorded = "upload.recorded",
    killed_when_its_first_bytes_are_written = "upload.first_bytes_written",
    killed_when_it_is_written = "upload.written",
    killed_when_the_video_is_durable = "video.durable",
    killed_when_the_video_is_visible = "video.visible",
    killed_when_the_upload_is_committed = "upload.committed",
    killed_when_it_is_queued_and_not_yet_answered = "upload.queued",
    killed_when_the_wake_up_is_published = "relay.published",
    killed_when_the_converter_is_told = "conversion.told",
    killed_when_the_conversion_is_claimed = "conversion.claimed",
    killed_when_the_mp3_is_intended = "conversion.intended",
    killed_when_the_mp3s_first_bytes_are_written = "conversion.first_bytes_written",
    killed_when_the_conversion_has_shown_a_beat = "conversion.beaten",
    killed_when_the_mp3_is_written = "conversion.written",
    killed_when_the_mp3_is_durable = "mp3.durable",
    killed_when_the_mp3_is_visible = "mp3.visible",
    killed_when_the_mp3_is_committed = "conversion.committed",
    killed_when_the_mp3_is_verified = "conversion.verified",
    killed_when_the_job_is_converted = "conversion.converted",
    killed_when_the_conversion_has_ended = "conversion.ended",
    killed_when_the_video_is_deleted = "sweeper.deleted",
    killed_when_the_notifier_is_told = "mail.told",
    killed_when_the_mail_is_claimed = "mail.claimed",
    killed_when_the_mail_is_delivered = "mail.delivered",
    killed_when_the_mail_is_sent = "mail.sent",
}

#[test]
fn every_point_is_walked() {
    assert_eq!(WALKED, POINTS);
}

async fn every_round_holds(point: &'static str, shape: Shape) {
    for begin in (0..ROUNDS).step_by(AT_ONCE) {
        let rounds = (begin..(begin + AT_ONCE).min(ROUNDS)).map(|round| async move {
            let faults = kill_and_restart(point, shape, &[]).await;
            assert!(faults.is_empty(), "{point}, round {round}: {faults:#?}");
        });
        futures_util::future::join_all(rounds).await;
    }
}

/// The same with four processes, of which whichever comes to the point dies, and all are started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_in_four_processes() {
    killed_anywhere(Shape::FourProcesses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_in_four_processes_distributed() {
    killed_anywhere(Shape::FourDistributed).await;
}

async fn killed_anywhere(shape: Shape) {
    // Wake-ups of one machine do not cross from process to process: nobody is told.
    let told = |point: &&str| shape.is_distributed() || !point.ends_with(".told");
    let points: Vec<&str> = POINTS.into_iter().filter(told).collect();
    for points in points.chunks(4) {
        let rounds = points.iter().map(|point| async move {
            let faults = kill_and_restart(point, shape, &[]).await;
            assert!(faults.is_empty(), "{point}: {faults:#?}");
        });
        futures_util::future::join_all(rounds).await;
    }
}

/// A suite that cannot fail proves nothing: this build answers before it commits, and is caught.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_answers_before_it_commits_is_caught() {
    let sabotage = [("TAPEDECK_SABOTAGE", "answer-before-commit")];
    for shape in [Shape::OneProcess, Shape::OneDistributed] {
        let faults = kill_and_restart("upload.written", shape, &sabotage).await;
        assert!(
            faults.iter().any(|fault| fault.contains("was accepted and is lost")),
            "{shape:?}: {faults:#?}"
        );
    }
}

/// One round: an upload into a process that dies at `point`; then a restart, and all that is wrong after it.
async fn kill_and_restart(point: &str, shape: Shape, sabotage: &[(&str, &str)]) -> Vec<String> {
    let home = Home::with_users(shape).await;
    let witness = home.dir.path().join("witness");
    let witness_path = witness.to_str().unwrap().to_owned();
    let mut environment = vec![
        ("TAPEDECK_KILL_AT", point),
        ("TAPEDECK_KILL_WITNESS", witness_path.as_str()),
        ("TAPEDECK_TIMING_BEAT", if shape.is_distributed() { "100ms" } else { "50ms" }),
        PATIENCE,
    ];
    if point == "conversion.told" {
        // The message shall be faster than a look at the records, on any machine.
        environment.push(("TAPEDECK_TIMING_POLL", "5s"));
    }
    environment.extend(sabotage);
    let deck = Deck::on(home, shape, &environment).await;
    let video = fs::read(media("bbb_480p_30s.mp4")).unwrap();
    let user = deck.sign_in(ANA).await;
    // A connection that dies with the process is no answer.
    let accepted = match user.try_upload("talk.mp4", video).await {
        Ok(response) if response.status().is_success() => {
            response.json::<Value>().await.ok().map(|job| job["id"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    let mut faults = Vec::new();
    match deck.first_ended(Duration::from_secs(60)).await {
        Some(status) if status.signal() == Some(libc::SIGKILL) => {}
        other => faults
            .push(format!("the process did not die by SIGKILL at {point}, but: {other:?}\n{}", deck.log())),
    }
    if fs::read_to_string(&witness).ok().as_deref() != Some(point) {
        faults.push(format!("no witness says that the process died at {point}"));
    }
    if matches!(shape, Shape::FourProcesses | Shape::FourDistributed) {
        // One process is killed; the others end in order. Killed at whatever they do just then, a notifier would now and then be between
        // a delivery and its record, and its mail come twice: that is a round of its own.
        deck.signal(libc::SIGTERM);
        deck.wait(Duration::from_secs(30));
    }
    let mut deck = Deck::on(deck.kill(), shape, &[PATIENCE]).await;
    deck.one_mail_may_have_come_twice = shape.is_distributed() && point == "mail.delivered";
    faults.extend(after_restart(&deck, accepted.as_deref()).await);
    faults
}

/// Every accepted job ends with one complete MP3 and one mail, and no file belongs to nobody.
async fn after_restart(deck: &Deck, accepted: Option<&str>) -> Vec<String> {
    let user = deck.sign_in(ANA).await;
    let mut faults = Vec::new();
    let jobs = user.all_settled().await;
    if let Some(id) = accepted
        && !jobs.iter().any(|job| job["id"] == id)
    {
        faults.push(format!("job {id} was accepted and is lost"));
    }
    for job in &jobs {
        if job["state"] != "converted" {
            faults.push(format!("a job did not become an MP3: {job:#}"));
            continue;
        }
        let mp3 = user.download(job["mp3_fid"].as_str().unwrap()).await;
        match engine::mp3::check(&mp3[..]) {
            Ok(facts) if facts.samples == 1_440_768 => {}
            Ok(facts) => faults.push(format!("the MP3 has {} samples", facts.samples)),
            Err(defect) => faults.push(format!("the MP3 is not sound: {defect}")),
        }
    }
    // Mails and deletions follow the end; they have a while, and then all must be in order.
    let end = Instant::now() + Duration::from_secs(20);
    while !deck.house_faults(&jobs).await.is_empty() && Instant::now() < end {
        tokio::time::sleep(deck.pause()).await;
    }
    faults.extend(deck.house_faults(&jobs).await);
    faults
}
