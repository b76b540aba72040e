//! The contract suites: what every adapter of a port must do, written once and run on each of them.
//!
//! Each function panics with a sentence when the adapter breaks the contract. Adapters are given empty.

#![expect(clippy::unwrap_used, reason = "these are tests, compiled into other crates' test binaries")]

use super::*;
use crate::{
    clock::SystemClock,
    job::{Event, Policy, Video},
};
use futures_util::{StreamExt, TryStreamExt, future};
use std::{sync::Arc, time::Duration};

fn mint() -> Id {
    Id::mint(&SystemClock)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number of seconds is a time")
}

fn receiving(owner: &str) -> Job {
    Job::receiving(mint(), owner.into(), "talk.mp4".into(), "w".into(), "r".into(), at(1000))
}

/// All that an upload may ask for.
fn every_option() -> engine::Options {
    let mut options = engine::Options::default();
    for (name, value) in [
        ("preset", "voice"),
        ("abr", "48"),
        ("mono", "true"),
        ("track", "2"),
        ("trim", "0:01-1:30.25"),
        ("loudness", "-16"),
        ("tag.artist", "Ana"),
    ] {
        assert!(options.set(name, value).expect("the suite asks for what there is"), "{name}");
    }
    options
}

fn after(job: &Job, event: Event, second: i64) -> Job {
    job.apply(event, at(second), &Policy::default()).expect("the suite applies only what is allowed")
}

fn queued(owner: &str, second: i64) -> Job {
    let video = Video { size: 1, sha256: "00".into(), kept: true };
    let job = after(&receiving(owner), Event::Accept { video }, second);
    Job { version: 1, ..job }
}

/// Jobs: what goes in comes out, and of many who change one version exactly one wins.
pub async fn jobs(jobs: Arc<dyn Jobs>) {
    let job = Job { options: every_option(), ..receiving("ana@example.com") };
    assert_eq!(jobs.get(job.id).await.unwrap(), None, "an empty store is empty");
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Won);
    assert_eq!(
        jobs.insert(&Job { owner: "bob@example.com".into(), ..job.clone() }).await.unwrap(),
        Swap::Lost,
        "an id is taken once"
    );
    assert_eq!(jobs.get(job.id).await.unwrap().as_ref(), Some(&job), "what goes in comes out");
    one_of_many_wins(&jobs, &job).await;
    removal_compares(&jobs, job.id).await;
    owners_are_apart(&*jobs).await;
    work_is_found_when_it_is_due(&*jobs).await;
    mp3s_are_found_and_unique(&*jobs).await;
}

async fn one_of_many_wins(jobs: &Arc<dyn Jobs>, job: &Job) {
    let racers = (0..20).map(|racer| {
        let jobs = Arc::clone(jobs);
        let next = Job { version: job.version + 1, request_id: racer.to_string(), ..job.clone() };
        tokio::spawn(async move { (jobs.replace(&next).await.unwrap(), next) })
    });
    let outcomes: Vec<_> =
        future::join_all(racers).await.into_iter().map(|outcome| outcome.unwrap()).collect();
    let winners: Vec<_> = outcomes.iter().filter(|(swap, _)| *swap == Swap::Won).collect();
    assert_eq!(winners.len(), 1, "of twenty swaps on one version exactly one wins");
    assert_eq!(
        jobs.get(job.id).await.unwrap().as_ref(),
        Some(&winners[0].1),
        "and it is the winner's record that stands"
    );
    let unknown = receiving("x@example.com");
    assert_eq!(
        jobs.replace(&Job { version: 2, ..unknown }).await.unwrap(),
        Swap::Lost,
        "what is not there cannot be replaced"
    );
}

async fn removal_compares(jobs: &Arc<dyn Jobs>, id: Id) {
    assert_eq!(jobs.remove(id, 1).await.unwrap(), Swap::Lost, "an old version does not remove");
    assert_eq!(jobs.remove(id, 2).await.unwrap(), Swap::Won);
    assert_eq!(jobs.get(id).await.unwrap(), None);
    assert_eq!(jobs.remove(id, 2).await.unwrap(), Swap::Won, "removing what is not there is fine");
}

async fn owners_are_apart(jobs: &dyn Jobs) {
    let mine: Vec<Job> = (0..5).map(|_| queued("cai@example.com", 1000)).collect();
    for job in mine.iter().chain([&queued("CAI@example.com.evil", 1000), &queued("", 1000)]) {
        assert_eq!(jobs.insert(job).await.unwrap(), Swap::Won);
    }
    let ids = |jobs: Vec<Job>| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    let newest_first: Vec<Id> = mine.iter().rev().map(|job| job.id).collect();
    assert_eq!(ids(jobs.by_owner("cai@example.com", None, 10).await.unwrap()), newest_first);
    let page = jobs.by_owner("cai@example.com", Some(newest_first[1]), 2).await.unwrap();
    assert_eq!(ids(page), newest_first[2..4], "a page begins after the job it is asked to");
    assert_eq!(jobs.count_active("cai@example.com").await.unwrap(), 5);
    let shouted = jobs.by_owner("Cai@EXAMPLE.com", None, 10).await.unwrap();
    assert_eq!(ids(shouted), newest_first, "an owner is the same in any case");
    assert_eq!(jobs.count_active("CAI@example.com").await.unwrap(), 5);
    let stamp = jobs.stamp("cai@example.com").await.unwrap();
    assert_eq!(jobs.stamp("Cai@example.com").await.unwrap(), stamp);
    assert_eq!(
        jobs.stamp("cai@example.com").await.unwrap(),
        stamp,
        "what has not changed has the same stamp"
    );
    let deleted = after(&mine[0], Event::Delete, 1001);
    assert_eq!(jobs.replace(&deleted).await.unwrap(), Swap::Won);
    let listed = jobs.by_owner("cai@example.com", None, 10).await.unwrap().len();
    assert_eq!(listed, 4, "deleted jobs are not listed");
    let without = jobs.stamp("cai@example.com").await.unwrap();
    assert_ne!(without, stamp, "what has changed has another stamp");
    assert_eq!(jobs.replace(&after(&mine[1], Event::Cancel, 1002)).await.unwrap(), Swap::Won);
    assert_ne!(jobs.stamp("cai@example.com").await.unwrap(), without);
    assert_eq!(jobs.count_active("cai@example.com").await.unwrap(), 3, "ended jobs are not active");
    assert!(jobs.get(mine[0].id).await.unwrap().is_some(), "but the record still is there");
}

async fn work_is_found_when_it_is_due(jobs: &dyn Jobs) {
    let (late, early) = (queued("due@example.com", 2000), queued("due@example.com", 1500));
    for job in [&late, &early] {
        assert_eq!(jobs.insert(job).await.unwrap(), Swap::Won);
    }
    let due = async |task, second| {
        let found = jobs.due(task, at(second), 100).await.unwrap();
        found.into_iter().filter(|job| job.owner == "due@example.com").map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(due(Task::Convert, 1499).await, [], "what is not due is not found");
    assert_eq!(due(Task::Convert, 1500).await, [early.id]);
    assert_eq!(due(Task::Convert, 9999).await, [early.id, late.id], "the longest due comes first");
    assert_eq!(due(Task::Publish, 1).await.len(), 2, "a wake-up is due at once");
    let claimed = after(&early, Event::Claim { worker: "w".into(), by_message: false }, 3000);
    assert_eq!(jobs.replace(&claimed).await.unwrap(), Swap::Won);
    assert_eq!(due(Task::Convert, 9999).await, [late.id], "claimed work is due no more");
    assert_eq!(due(Task::Publish, 9999).await, [late.id]);
    assert_eq!(due(Task::Sweep, 1).await, [early.id], "a lease is to be watched");
    assert_eq!(due(Task::Mail, 9999).await, []);
    let census = jobs.census(at(9999)).await.unwrap();
    assert_eq!(census.states.get(&State::Converting), Some(&1), "{census:?}");
    assert!(census.states.get(&State::Queued).is_some_and(|count| *count >= 1), "{census:?}");
    assert_eq!(census.oldest_due.map(Timestamp::as_second), Some(1000), "since when the oldest has waited");
    assert_eq!(jobs.census(at(999)).await.unwrap().oldest_due, None, "what is not due does not wait");
    assert!(census.unpublished >= 1 && census.mails_due == 0, "{census:?}");
    jobs.ping().await.unwrap();
}

async fn mp3s_are_found_and_unique(jobs: &dyn Jobs) {
    let mp3_fid = mint();
    let with_mp3 = |owner| Job { mp3_fid: Some(mp3_fid), ..queued(owner, 1000) };
    let job = with_mp3("mp3@example.com");
    assert_eq!(jobs.by_mp3(mp3_fid).await.unwrap(), None);
    assert_eq!(jobs.insert(&job).await.unwrap(), Swap::Won);
    assert_eq!(jobs.by_mp3(mp3_fid).await.unwrap().as_ref(), Some(&job));
    assert!(
        !matches!(jobs.insert(&with_mp3("other@example.com")).await, Ok(Swap::Won)),
        "no two jobs have one MP3"
    );
    assert_eq!(jobs.by_mp3(job.id).await.unwrap(), None, "a video's id is no MP3's");
}

/// Blobs: whole or not at all, readable by range, deletable at any time.
pub async fn blobs(blobs: Arc<dyn Blobs>) {
    let body: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for bucket in [Bucket::Videos, Bucket::Mp3s] {
        let blob = Blob { bucket, id: mint() };
        unseen_until_committed(&*blobs, blob, &body).await;
        read_by_range(&*blobs, blob, &body).await;
        gone_when_deleted(&*blobs, blob).await;
    }
    peaks_come_and_go_with_their_mp3(&*blobs).await;
    a_deleted_draft_cannot_be_committed(&*blobs).await;
    an_empty_file_is_a_file(&*blobs).await;
}

async fn write(blobs: &dyn Blobs, blob: Blob, body: &[u8]) -> Box<dyn BlobWriter> {
    let mut writer = blobs.create(blob).await.unwrap();
    for piece in body.chunks(70_001) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer
}

async fn read(blobs: &dyn Blobs, blob: Blob, range: Range<u64>) -> PortResult<Vec<u8>> {
    let pieces: Vec<Bytes> = blobs.read(blob, range).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn unseen_until_committed(blobs: &dyn Blobs, blob: Blob, body: &[u8]) {
    assert_eq!(blobs.size(blob).await.unwrap(), None);
    assert!(blobs.engine_input(blob).await.unwrap().is_none());
    // A writer that was dropped half-way leaves nothing to be seen, and the next begins anew.
    drop(write(blobs, blob, &body[..200_000]).await);
    assert_eq!(blobs.size(blob).await.unwrap(), None, "an uncommitted file cannot be seen");
    let mut writer = write(blobs, blob, body).await;
    assert_eq!(blobs.size(blob).await.unwrap(), None, "an uncommitted file cannot be seen");
    writer.rewrite_head(3, Bytes::from_static(b"HEAD")).await.unwrap();
    let beyond = writer.rewrite_head(HEAD - 1, Bytes::from_static(b"XX")).await;
    assert!(beyond.is_err(), "a head reaches no further than HEAD");
    writer.commit().await.unwrap();
    assert_eq!(blobs.size(blob).await.unwrap(), Some(body.len() as u64));
    assert!(blobs.engine_input(blob).await.unwrap().is_some());
}

async fn read_by_range(blobs: &dyn Blobs, blob: Blob, body: &[u8]) {
    let mut expected = body.to_vec();
    expected[3..7].copy_from_slice(b"HEAD");
    let end = expected.len() as u64;
    for range in [0..end, 0..1, 2..9, end - 1..end, 261_119..261_121, 500_000..800_000, 5..5] {
        let slice = &expected[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert!(
            read(blobs, blob, range.clone()).await.unwrap() == slice,
            "bytes {range:?} are others than were written"
        );
    }
    assert!(
        read(blobs, blob, end - 5..end + 5).await.is_err(),
        "a file that ends early is an error, not a shorter read"
    );
}

async fn gone_when_deleted(blobs: &dyn Blobs, blob: Blob) {
    assert!(blobs.list(blob.bucket).await.unwrap().contains(&blob.id));
    let other = Blob {
        bucket: if blob.bucket == Bucket::Videos { Bucket::Mp3s } else { Bucket::Videos },
        id: blob.id,
    };
    assert_eq!(blobs.size(other).await.unwrap(), None, "buckets are apart");
    blobs.delete(other).await.unwrap();
    assert!(blobs.size(blob).await.unwrap().is_some(), "deleting in one bucket leaves the other");
    blobs.delete(blob).await.unwrap();
    assert_eq!(blobs.size(blob).await.unwrap(), None);
    assert!(read(blobs, blob, 0..1).await.is_err());
    blobs.delete(blob).await.unwrap();
    assert!(!blobs.list(blob.bucket).await.unwrap().contains(&blob.id), "nothing is left of it");
}

async fn peaks_come_and_go_with_their_mp3(blobs: &dyn Blobs) {
    let (with, without) = (Blob::mp3(mint()), Blob::mp3(mint()));
    let mut writer = write(blobs, with, b"sound").await;
    let peaks = Bytes::from(vec![7; 9000]);
    writer.set_peaks(Bytes::from(vec![1; 9999])).await.unwrap();
    writer.set_peaks(peaks.clone()).await.unwrap();
    assert_eq!(blobs.peaks(with).await.unwrap(), None, "nobody sees them before the MP3");
    writer.commit().await.unwrap();
    write(blobs, without, b"sound").await.commit().await.unwrap();
    assert_eq!(blobs.peaks(with).await.unwrap(), Some(peaks));
    assert_eq!(blobs.peaks(without).await.unwrap(), None);
    assert_eq!(blobs.size(with).await.unwrap(), Some(5), "they are no part of the MP3");
    for blob in [with, without] {
        blobs.delete(blob).await.unwrap();
        assert_eq!(blobs.peaks(blob).await.unwrap(), None, "they go with it");
        assert!(!blobs.list(Bucket::Mp3s).await.unwrap().contains(&blob.id), "nothing is left of it");
    }
    // Begun and left, with its peaks; then deleted under the writer's hands.
    let mut writer = write(blobs, with, b"late").await;
    writer.set_peaks(Bytes::from_static(b"late")).await.unwrap();
    drop(writer);
    let mut writer = write(blobs, with, b"late").await;
    writer.set_peaks(Bytes::from_static(b"late")).await.unwrap();
    blobs.delete(with).await.unwrap();
    assert!(writer.commit().await.is_err(), "a writer whose file was deleted must not bring it back");
    assert_eq!(blobs.peaks(with).await.unwrap(), None);
    assert!(!blobs.list(Bucket::Mp3s).await.unwrap().contains(&with.id), "nothing is left of it");
}

async fn a_deleted_draft_cannot_be_committed(blobs: &dyn Blobs) {
    let blob = Blob::mp3(mint());
    let writer = write(blobs, blob, b"late").await;
    assert!(
        blobs.list(Bucket::Mp3s).await.unwrap().contains(&blob.id),
        "an audit sees what is uncommitted, too"
    );
    blobs.delete(blob).await.unwrap();
    assert!(writer.commit().await.is_err(), "a writer whose file was deleted must not bring it back");
    assert_eq!(blobs.size(blob).await.unwrap(), None);
    assert!(!blobs.list(Bucket::Mp3s).await.unwrap().contains(&blob.id));
}

async fn an_empty_file_is_a_file(blobs: &dyn Blobs) {
    let blob = Blob::video(mint());
    blobs.create(blob).await.unwrap().commit().await.unwrap();
    assert_eq!(blobs.size(blob).await.unwrap(), Some(0));
    assert_eq!(read(blobs, blob, 0..0).await.unwrap(), b"");
    blobs.delete(blob).await.unwrap();
}

/// Wake: what is published arrives, on its own queue.
pub async fn wake(wake: Arc<dyn Wake>) {
    let message = |name: &str| Message {
        video_fid: mint(),
        mp3_fid: None,
        username: name.into(),
        others: serde_json::Map::new(),
    };
    let (first, other) = (message("ana@example.com"), message("bob@example.com"));
    wake.publish(Queue::Mp3, &other, None).await.unwrap();
    wake.publish(Queue::Video, &first, None).await.unwrap();
    let delivery = tokio::time::timeout(Duration::from_secs(10), wake.next(Queue::Video))
        .await
        .expect("a message arrives");
    assert_eq!(delivery.message, first);
    (delivery.settle)(Settled::Done);
    let delivery = tokio::time::timeout(Duration::from_secs(10), wake.next(Queue::Mp3))
        .await
        .expect("a message arrives");
    assert_eq!(delivery.message, other);
    (delivery.settle)(Settled::Done);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), wake.next(Queue::Video)).await.is_err(),
        "an acknowledged message is gone"
    );
    for _ in 0..1000 {
        // More than anyone takes must not block whoever publishes.
        tokio::time::timeout(Duration::from_secs(10), wake.publish(Queue::Video, &first, None))
            .await
            .expect("publishing goes on")
            .unwrap();
    }
}

/// Users: found without regard to case, spelled as they were written.
pub async fn users(users: Arc<dyn Users>) {
    let user = |email: &str, role| User { email: email.into(), password: "$argon2id$x".into(), role };
    assert_eq!(users.find("Ana@Example.com").await.unwrap(), None);
    let (ana, bob) = (user("Ana@Example.com", Role::Admin), user("bob@example.com", Role::User));
    let firsts = (0..8).map(|_| users.add_first(&ana));
    let won = future::join_all(firsts)
        .await
        .into_iter()
        .filter(|swap| *swap.as_ref().unwrap() == Swap::Won)
        .count();
    assert_eq!(won, 1, "there is one first user, however many try");
    assert_eq!(users.add_first(&bob).await.unwrap(), Swap::Lost);
    assert_eq!(users.add(&bob).await.unwrap(), Swap::Won);
    assert_eq!(
        users.add(&user("BOB@example.com", Role::Admin)).await.unwrap(),
        Swap::Lost,
        "an e-mail is taken whatever its case"
    );
    assert_eq!(
        users.find("ana@example.COM").await.unwrap(),
        Some(ana.clone()),
        "found by any case, spelled as written"
    );
    assert_eq!(users.set_password("ANA@example.com", "$argon2id$y").await.unwrap(), Swap::Won);
    assert_eq!(users.set_password("nobody@example.com", "z").await.unwrap(), Swap::Lost);
    assert_eq!(users.replace_password("bob@example.com", "other", "z").await.unwrap(), Swap::Lost);
    assert_eq!(
        users.replace_password("bob@example.com", "$argon2id$X", "z").await.unwrap(),
        Swap::Lost,
        "case counts"
    );
    assert_eq!(
        users.replace_password("BOB@example.com", "$argon2id$x", "$argon2id$z").await.unwrap(),
        Swap::Won
    );
    assert_eq!(users.replace_password("nobody@example.com", "z", "z").await.unwrap(), Swap::Lost);
    users.ping().await.unwrap();
    let bob = User { password: "$argon2id$z".into(), ..bob };
    let changed = User { password: "$argon2id$y".into(), ..ana };
    assert_eq!(users.list().await.unwrap(), [changed, bob]);
    users.remove("ana@example.com").await.unwrap();
    users.remove("ana@example.com").await.unwrap();
    assert_eq!(users.find("ana@example.com").await.unwrap(), None);
    for odd in ["' OR 1=1 --", "", "a\0b"] {
        assert_eq!(users.find(odd).await.unwrap(), None);
    }
}

/// Mailer: the mail arrives, byte for byte; `inbox` reads what has arrived for an address.
pub async fn mailer<F: Future<Output = Vec<Vec<u8>>>>(mailer: Arc<dyn Mailer>, inbox: impl Fn(String) -> F) {
    let letter = |message_id: &str, to: &str| {
        Letter {
        message_id: message_id.into(),
        to: to.into(),
        text: format!("Message-ID: <{message_id}>\r\nFrom: tapedeck@example.com\r\nTo: {to}\r\nSubject: MP3 Download\r\n\r\nready\r\n").into_bytes(),
    }
    };
    let (first, second) = (
        letter("1.converted.1@example.com", "ana@example.com"),
        letter("2.failed.1@example.com", "bob@example.com"),
    );
    mailer.send(&first).await.unwrap();
    mailer.send(&second).await.unwrap();
    assert_eq!(inbox("ana@example.com".into()).await, vec![first.text]);
    assert_eq!(inbox("bob@example.com".into()).await, vec![second.text]);
}

/// Auth: the right password gives a token, the token an identity, and nothing else does. `users` is the table behind it,
/// empty, and `set_up_token` what it was made with.
pub async fn auth(auth: Arc<dyn Auth>, users: Arc<dyn Users>, set_up_token: &str) {
    set_up_makes_the_first_admin(&*auth, set_up_token).await;
    let password = crate::auth::hash_password("Qwerty123".into()).await.unwrap();
    let kevin = User { email: "Kevin@email.com".into(), password, role: Role::User };
    assert_eq!(users.add(&kevin).await.unwrap(), Swap::Won);
    let token =
        auth.login("kevin@email.com", "Qwerty123", "192.0.2.1").await.expect("the right password signs in");
    let identity = Identity { email: "Kevin@email.com".into(), role: Role::User };
    assert_eq!(
        auth.validate(&token).await.expect("a fresh token is valid"),
        identity,
        "the owner is spelled as the row spells it"
    );
    for (email, password) in
        [("kevin@email.com", "qwerty123"), ("nobody@email.com", "Qwerty123"), ("", ""), ("a@b\nc", "x")]
    {
        let refused = auth.login(email, password, "192.0.2.1").await;
        assert!(matches!(refused, Err(AuthError::InvalidCredentials)), "{email}: {refused:?}");
    }
    let (head, tail) = token.split_at(token.len() - 2);
    for forged in [format!("{head}{}", if tail == "AA" { "BB" } else { "AA" }), "x".into(), "a.b.c".into()] {
        assert!(matches!(auth.validate(&forged).await, Err(AuthError::NotAuthorized)), "{forged}");
    }
    users.remove("kevin@email.com").await.unwrap();
    assert!(
        matches!(auth.validate(&token).await, Err(AuthError::NotAuthorized)),
        "a removed user's token is void"
    );
    guessing_is_slowed(&*auth).await;
}

async fn set_up_makes_the_first_admin(auth: &dyn Auth, set_up_token: &str) {
    let wrong = auth.set_up("wrong", "georgio@email.com", "Admin123").await;
    assert!(matches!(wrong, Err(AuthError::SetUpOver)), "{wrong:?}");
    for (email, password) in
        [("georgio@email.com", "short"), ("geor\ngio@email.com", "Admin123"), ("georgio", "Admin123")]
    {
        let unfit = auth.set_up(set_up_token, email, password).await;
        assert!(matches!(&unfit, Err(AuthError::Unfit(text)) if text.len() > 10), "{unfit:?}");
    }
    let token = auth
        .set_up(set_up_token, "georgio@email.com", "Admin123")
        .await
        .expect("the set-up link makes an admin");
    let admin = Identity { email: "georgio@email.com".into(), role: Role::Admin };
    assert_eq!(auth.validate(&token).await.expect("who is signed in at once"), admin);
    let again = auth.set_up(set_up_token, "eve@email.com", "Admin123").await;
    assert!(matches!(again, Err(AuthError::SetUpOver)), "{again:?}");
}

async fn guessing_is_slowed(auth: &dyn Auth) {
    let guesses: Vec<_> =
        futures_util::stream::iter(0..30)
            .then(|guess| async move {
                auth.login("georgio@email.com", &format!("guess{guess}"), "192.0.2.7").await
            })
            .collect()
            .await;
    assert!(
        guesses.iter().any(|guess| matches!(guess, Err(AuthError::TooManyAttempts { seconds: 1.. }))),
        "thirty guesses in a row"
    );
    assert!(
        auth.login("georgio@email.com", "Admin123", "192.0.2.8").await.is_ok(),
        "another client still may"
    );
}
