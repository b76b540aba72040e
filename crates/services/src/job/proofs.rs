//! Property tests of the job's life: whatever happens in whatever order, what was promised holds.

use super::{
    Event, Failure, Job, MailState, Mp3, Neighbour, Neighbours, Policy, Refused, State, Task, Verdict, Video,
};
use crate::{id::Id, message::Queue, ports::Blob};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn id(number: u8) -> Id {
    Id::from_bytes([number; 12])
}

fn failure() -> Failure {
    Failure { code: "no-audio".into(), text: "There is no sound.".into() }
}

fn video() -> Video {
    Video { size: 7, sha256: "00".into(), kept: true }
}

fn mp3() -> Mp3 {
    Mp3 { size: 3, sha256: "11".into(), duration: 1.0, peaks: true }
}

fn start() -> Job {
    Job::receiving(id(1), "a@b.c".into(), "talk.mp4".into(), "w".into(), "r".into(), Timestamp::UNIX_EPOCH)
}

type Maker = fn(&Job, bool, u8) -> Event;

/// An event, with a fence, beat or attempt that is the current one or a stale one.
fn events() -> impl Strategy<Value = (Maker, bool, u8)> {
    let makers: Vec<Maker> = vec![
        |_, _, _| Event::Accept { video: video() },
        |_, _, _| Event::Abandon,
        |job, stale, n| Event::Beat { fence: fence(job, stale), progress: f64::from(n) / 200.0 },
        |_, _, n| Event::Claim { worker: "w".into(), by_message: n % 2 == 0 },
        |_, _, n| Event::ConvertedElsewhere { mp3_fid: id(n.saturating_add(2)), mp3: mp3() },
        |_, _, n| Event::Stray { mp3_fid: id(n.saturating_add(2)) },
        |_, _, _| Event::PublishAgain,
        |job, stale, n| Event::Intend { fence: fence(job, stale), mp3_fid: id(n.saturating_add(2)) },
        |job, stale, n| Event::Converted {
            fence: fence(job, stale),
            mp3_fid: job.lease.as_ref().and_then(|lease| lease.writing).unwrap_or(id(n.saturating_add(2))),
            mp3: mp3(),
        },
        |job, stale, n| Event::Fail {
            fence: fence(job, stale),
            failure: failure(),
            verdict: [Verdict::Permanent, Verdict::Transient, Verdict::Suspect][usize::from(n) % 3],
        },
        |job, stale, _| Event::HandBack { fence: fence(job, stale) },
        |job, stale, _| Event::LeaseLost {
            fence: fence(job, stale),
            beat: job.lease.as_ref().map_or(0, |lease| lease.beat),
        },
        |_, _, _| Event::Cancel,
        |_, _, _| Event::Retry,
        |_, _, _| Event::Delete,
        |_, _, _| Event::TimeUp,
        |_, _, n| Event::Published { queue: if n % 2 == 0 { Queue::Video } else { Queue::Mp3 } },
        |job, _, n| Event::Deleted {
            blob: job.garbage(Timestamp::MAX).get(usize::from(n)).copied().unwrap_or(Blob::mp3(id(255))),
        },
        |_, _, n| Event::ClaimMail { worker: "n".into(), by_message: n % 2 == 0 },
        |job, _, _| Event::BeatMail { fence: job.mail.fence },
        |job, stale, _| Event::MailSent { fence: job.mail.fence.saturating_sub(stale.into()) },
        |job, _, n| Event::MailFailed { fence: job.mail.fence, text: "no".into(), permanent: n % 2 == 0 },
        |job, _, _| Event::MailLeaseLost {
            fence: job.mail.fence,
            beat: job.mail.lease.as_ref().map_or(0, |lease| lease.beat),
        },
    ];
    (prop::sample::select(makers), prop::bool::weighted(0.2), 0..200_u8)
}

/// Every mixture of neighbours.
fn policies() -> impl Strategy<Value = Policy> {
    let who = prop::sample::select(vec![Neighbour::Ours, Neighbour::Original, Neighbour::Mixed]);
    (who.clone(), who).prop_map(|(converter, notification)| Policy {
        neighbours: Neighbours { converter, notification, ..Neighbours::default() },
        ..Policy::default()
    })
}

fn fence(job: &Job, stale: bool) -> u64 {
    job.fence - u64::from(stale)
}

/// What holds for every record that can come about.
fn check(job: &Job) {
    let leased = matches!(job.state, State::Receiving | State::Converting);
    assert_eq!(job.lease.is_some(), leased, "a lease is held exactly while somebody receives or converts");
    assert_eq!(
        job.mp3.is_some(),
        job.state == State::Converted,
        "an MP3 is there exactly when the job is converted"
    );
    assert_eq!(job.mail.lease.is_some(), job.mail.state == MailState::Sending);
    if !job.state.is_ended() {
        let looked_at = job.due(Task::Convert).or(job.due(Task::Sweep));
        assert!(looked_at.is_some(), "{:?}: nobody would look at this job again", job.state);
        assert!(
            job.state == State::Receiving || job.video_is_kept(),
            "a job that shall be converted needs its video"
        );
    }
    if job.state.is_ended() {
        assert!(job.due(Task::Sweep).is_some(), "{:?}: this record would stay for ever", job.state);
        assert!(job.due(Task::Convert).is_none());
    }
    if job.state == State::Failed && !job.deleted {
        assert!(job.error.is_some() && job.mail.state != MailState::None, "a failure is told");
    }
    if job.state == State::Converted {
        assert_ne!(job.mail.state, MailState::None, "a finished MP3 is told");
        assert!(
            !job.garbage(Timestamp::MAX).contains(&Blob::mp3(job.mp3_fid.unwrap())),
            "the MP3 in use is no garbage"
        );
    }
    if job.video_is_kept() {
        assert!(
            !job.garbage(Timestamp::MAX).contains(&Blob::video(job.id)),
            "the video in use is no garbage"
        );
    }
    assert!((0.0..=1.0).contains(&job.progress));
    let written: Job = serde_json::from_str(&serde_json::to_string(job).unwrap()).unwrap();
    assert_eq!(&written, job, "a record survives being stored");
}

/// Every file that was ever begun, and whether its deletion was confirmed.
fn check_files(job: &Job, begun: &[Blob], deleted: &[Blob]) {
    for blob in begun {
        let kept = *blob == Blob::video(job.id) && job.video_is_kept();
        let used = job.mp3.is_some() && job.mp3_fid.map(Blob::mp3) == Some(*blob);
        let known = kept || used || job.intents.contains(blob) || deleted.contains(blob);
        assert!(known, "{blob} was begun, is not deleted, and no record knows of it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_record_stays_sound(
        policy in policies(),
        steps in prop::collection::vec((events(), 0..100_000_i64), 1..60),
    ) {
        let mut job = start();
        let mut now = Timestamp::UNIX_EPOCH;
        let mut begun = vec![Blob::video(job.id)];
        let mut deleted = Vec::new();
        for ((make, stale, number), seconds) in steps {
            now += SignedDuration::from_secs(seconds);
            let event = make(&job, stale, number);
            let Ok(next) = job.apply(event.clone(), now, &policy) else { continue };
            assert_eq!(next.version, job.version + 1);
            assert!(next.fence >= job.fence, "a fence never falls");
            match &event {
                Event::Intend { mp3_fid, .. }
                | Event::ConvertedElsewhere { mp3_fid, .. }
                | Event::Stray { mp3_fid } => begun.push(Blob::mp3(*mp3_fid)),
                Event::Deleted { blob } => deleted.push(*blob),
                Event::Beat { progress: _, .. } => assert!(next.progress >= job.progress, "progress never falls"),
                _ => {}
            }
            if next.state != job.state {
                assert_eq!(next.history.last().unwrap().to, next.state);
            }
            check(&next);
            check_files(&next, &begun, &deleted);
            job = next;
        }
    }

    #[test]
    fn an_old_fence_changes_nothing(steps in prop::collection::vec((events(), 0..100_000_i64), 1..40), age in 1..5_u64) {
        let mut job = start();
        let mut now = Timestamp::UNIX_EPOCH;
        for ((make, stale, number), seconds) in steps {
            now += SignedDuration::from_secs(seconds);
            if let Ok(next) = job.apply(make(&job, stale, number), now, &Policy::default()) {
                job = next;
            }
        }
        let fence = job.fence.saturating_sub(age);
        for event in [
            Event::Beat { fence, progress: 1.0 },
            Event::Intend { fence, mp3_fid: id(9) },
            Event::Converted { fence, mp3_fid: id(9), mp3: mp3() },
            Event::Fail { fence, failure: failure(), verdict: Verdict::Permanent },
            Event::HandBack { fence },
            Event::LeaseLost { fence, beat: 0 },
        ] {
            prop_assert!(job.apply(event.clone(), now, &Policy::default()).is_err(), "{event:?}");
        }
    }

    #[test]
    fn every_accepted_job_ends_when_its_workers_do_their_duty(steps in prop::collection::vec((events(), 0..1000_i64), 0..30)) {
        let mut job = start().apply(Event::Accept { video: video() }, Timestamp::UNIX_EPOCH, &Policy::default()).unwrap();
        let mut now = Timestamp::UNIX_EPOCH;
        for ((make, stale, number), seconds) in steps {
            now += SignedDuration::from_secs(seconds);
            if let Ok(next) = job.apply(make(&job, stale, number), now, &Policy::default()) {
                job = next;
            }
        }
        for _ in 0..50 {
            if job.state.is_ended() {
                return Ok(());
            }
            now = now.max(job.due(Task::Convert).unwrap_or(now));
            let fence = job.fence;
            let event = match job.state {
                State::Queued | State::RetryWait => Event::Claim { worker: "w".into(), by_message: false },
                _ => Event::Converted { fence, mp3_fid: id(77), mp3: mp3() },
            };
            job = job.apply(event, now, &Policy::default()).unwrap();
        }
        prop_assert!(false, "still {:?} after fifty steps", job.state);
    }
}

fn after(job: Job, events: impl IntoIterator<Item = Event>) -> Job {
    events
        .into_iter()
        .fold(job, |job, event| job.apply(event, Timestamp::UNIX_EPOCH, &Policy::default()).unwrap())
}

fn claimed() -> Job {
    after(start(), [Event::Accept { video: video() }, Event::Claim { worker: "w".into(), by_message: false }])
}

#[test]
fn a_permanent_failure_ends_the_job_at_once_and_a_passing_one_after_many_attempts() {
    let job = claimed();
    let fail = |fence, verdict| Event::Fail { fence, failure: failure(), verdict };
    assert_eq!(after(job.clone(), [fail(2, Verdict::Permanent)]).state, State::Failed);
    for (verdict, attempts) in [(Verdict::Transient, 16), (Verdict::Suspect, 2)] {
        let mut job = job.clone();
        let mut now = Timestamp::UNIX_EPOCH;
        while !job.state.is_ended() {
            job = job.apply(fail(job.fence, verdict), now, &Policy::default()).unwrap();
            if let Some(at) = job.due(Task::Convert) {
                now = at;
                job = job
                    .apply(Event::Claim { worker: "w".into(), by_message: false }, now, &Policy::default())
                    .unwrap();
            }
        }
        assert_eq!((job.state, job.attempt), (State::Failed, attempts));
    }
}

#[test]
fn a_retry_waits_longer_each_time_and_is_not_claimed_before() {
    let fail = |fence| Event::Fail { fence, failure: failure(), verdict: Verdict::Transient };
    let mut job = claimed();
    let mut waits = Vec::new();
    for _ in 0..4 {
        job = after(job.clone(), [fail(job.fence)]);
        let at = job.due(Task::Convert).unwrap();
        waits.push(at.duration_since(Timestamp::UNIX_EPOCH));
        let claim = Event::Claim { worker: "w".into(), by_message: false };
        assert_eq!(job.apply(claim.clone(), Timestamp::UNIX_EPOCH, &Policy::default()), Err(Refused::NotYet));
        job = job.apply(claim, at, &Policy::default()).unwrap();
    }
    assert!(waits.is_sorted_by(|shorter, longer| shorter < longer), "{waits:?}");
}

#[test]
fn a_worker_that_lost_its_lease_cannot_finish_and_its_mp3_is_garbage() {
    let job = after(claimed(), [Event::Intend { fence: 2, mp3_fid: id(5) }]);
    assert!(job.garbage(Timestamp::MAX).is_empty());
    let job = after(job, [Event::LeaseLost { fence: 2, beat: 0 }]);
    assert_eq!(job.garbage(Timestamp::MAX), [Blob::mp3(id(5))]);
    let late = Event::Converted { fence: 2, mp3_fid: id(5), mp3: mp3() };
    assert_eq!(
        job.apply(late, Timestamp::UNIX_EPOCH, &Policy::default()),
        Err(Refused::State(State::Queued))
    );
}

#[test]
fn a_lease_with_a_new_beat_is_not_lost() {
    let job = after(claimed(), [Event::Beat { fence: 2, progress: 0.5 }]);
    let lost = Event::LeaseLost { fence: 2, beat: 0 };
    assert_eq!(job.apply(lost, Timestamp::UNIX_EPOCH, &Policy::default()), Err(Refused::Fence));
}

#[test]
fn a_handed_back_job_has_lost_no_attempt() {
    let job = after(claimed(), [Event::HandBack { fence: 2 }]);
    assert_eq!((job.state, job.attempt), (State::Queued, 0));
}

#[test]
fn each_end_has_its_own_message_id_and_each_attempt_at_its_mail_the_same() {
    let fail = |fence| Event::Fail { fence, failure: failure(), verdict: Verdict::Permanent };
    let mail = |job| after(job, [Event::ClaimMail { worker: "n".into(), by_message: false }]);
    let first = mail(after(claimed(), [fail(2)]));
    let again = mail(after(first.clone(), [Event::MailLeaseLost { fence: 1, beat: 0 }]));
    assert_eq!(first.mail_id(), again.mail_id());
    let retried = after(again, [Event::Retry, Event::Claim { worker: "w".into(), by_message: false }]);
    let second = after(retried.clone(), [fail(retried.fence)]);
    assert_ne!(first.mail_id(), second.mail_id());
}

#[test]
fn a_late_notifier_cannot_end_another_rounds_mail() {
    let fail = |fence| Event::Fail { fence, failure: failure(), verdict: Verdict::Permanent };
    let claim = || Event::ClaimMail { worker: "n".into(), by_message: false };
    let first = after(claimed(), [fail(2), claim()]);
    let late = first.mail.fence;
    let retried = after(first, [Event::Retry, Event::Claim { worker: "w".into(), by_message: false }]);
    let second = after(retried.clone(), [fail(retried.fence), claim()]);
    for event in [
        Event::MailSent { fence: late },
        Event::BeatMail { fence: late },
        Event::MailLeaseLost { fence: late, beat: 0 },
    ] {
        assert_eq!(second.apply(event, Timestamp::UNIX_EPOCH, &Policy::default()), Err(Refused::Fence));
    }
}

#[test]
fn what_is_kept_for_ever_is_kept_until_the_end_of_time() {
    let policy = Policy { mp3_kept: SignedDuration::MAX, ..Policy::default() };
    let converted = Event::Converted { fence: 2, mp3_fid: id(5), mp3: mp3() };
    let job = claimed().apply(converted, Timestamp::UNIX_EPOCH, &policy).unwrap();
    assert_eq!(job.expires, Some(Timestamp::MAX));
}

#[test]
fn a_deleted_job_keeps_no_name_no_file_and_no_mail() {
    let job = after(claimed(), [Event::Converted { fence: 2, mp3_fid: id(5), mp3: mp3() }, Event::Delete]);
    assert_eq!((job.file_name.as_str(), job.mail.state, job.state), ("", MailState::None, State::Expired));
    assert_eq!(job.garbage(Timestamp::MAX), [Blob::video(id(1)), Blob::mp3(id(5))]);
}

fn beside(converter: Neighbour, notification: Neighbour) -> Policy {
    Policy {
        neighbours: Neighbours { converter, notification, ..Neighbours::default() },
        ..Policy::default()
    }
}

fn hours(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

#[test]
fn what_a_foreign_converter_may_hold_is_taken_by_whoever_has_the_message_and_by_others_hours_later() {
    let policy = beside(Neighbour::Mixed, Neighbour::Ours);
    let apply = |job: &Job, event, now| job.apply(event, now, &policy);
    let job = apply(&start(), Event::Accept { video: video() }, hours(0)).unwrap();
    let job = apply(&job, Event::Published { queue: Queue::Video }, hours(0)).unwrap();
    assert_eq!(job.due(Task::Convert), Some(hours(6)));
    let claim = |by_message| Event::Claim { worker: "w".into(), by_message };
    assert_eq!(apply(&job, claim(false), hours(5)), Err(Refused::NotYet));
    assert!(apply(&job, claim(true), hours(0)).is_ok());
    assert!(apply(&job, claim(false), hours(6)).is_ok());
    assert_eq!(apply(&job, Event::PublishAgain, hours(5)), Err(Refused::NotYet));
    assert!(apply(&job, Event::PublishAgain, hours(6)).unwrap().pending.contains(&Queue::Video));
}

#[test]
fn a_video_stays_for_as_long_as_a_foreign_converter_may_look_for_it() {
    let policy = beside(Neighbour::Original, Neighbour::Ours);
    let done = Event::ConvertedElsewhere { mp3_fid: id(5), mp3: mp3() };
    let events = [Event::Accept { video: video() }, Event::Published { queue: Queue::Video }, done];
    let job = events.into_iter().fold(start(), |job, event| job.apply(event, hours(0), &policy).unwrap());
    assert_eq!((job.state, job.mp3_fid, job.mail.state), (State::Converted, Some(id(5)), MailState::Pending));
    assert!(job.pending.is_empty(), "who brought the message has it in hand");
    assert_eq!(job.garbage(hours(5)), []);
    assert_eq!(job.due(Task::Sweep), Some(hours(6)));
    assert_eq!(job.garbage(hours(6)), [Blob::video(id(1))]);
}

#[test]
fn a_second_mp3_for_a_job_that_has_one_is_garbage_and_nobody_is_told() {
    let done = after(claimed(), [Event::Converted { fence: 2, mp3_fid: id(5), mp3: mp3() }]);
    let stray = after(done.clone(), [Event::Stray { mp3_fid: id(6) }]);
    assert_eq!(stray.garbage(hours(0)), [Blob::video(id(1)), Blob::mp3(id(6))]);
    assert_eq!((stray.mp3_fid, &stray.mail), (done.mp3_fid, &done.mail));
    let own = Event::Stray { mp3_fid: id(5) };
    assert!(done.apply(own, hours(0), &Policy::default()).is_err(), "its own MP3 is no stray");
}

#[test]
fn a_mail_that_a_foreign_notifier_may_send_is_ours_only_with_the_message() {
    let policy = beside(Neighbour::Ours, Neighbour::Mixed);
    let done = Event::Converted { fence: 2, mp3_fid: id(5), mp3: mp3() };
    let job = claimed().apply(done, hours(0), &policy).unwrap();
    assert_eq!((job.mail.state, job.due(Task::Mail)), (MailState::HandedOver, None));
    let claim = |by_message| Event::ClaimMail { worker: "n".into(), by_message };
    assert!(job.apply(claim(false), hours(99), &policy).is_err());
    let held = job.apply(claim(true), hours(0), &policy).unwrap();
    let lost = held.apply(Event::MailLeaseLost { fence: 1, beat: 0 }, hours(0), &policy).unwrap();
    assert_eq!(lost.mail.state, MailState::Pending, "once it was ours it stays ours");
}
