//! What happens to the broker itself: each test has one of its own, and kills it.

use super::*;
use testkit::rabbitmq::{Broker, BrokerSettings};

/// Runs what blocks beside what does not.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

async fn fails_soon(wake: &RabbitWake) -> String {
    let start = Instant::now();
    let error = wake.publish(Queue::Video, &message("lost@example.com"), None).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}: {}", start.elapsed(), text(&error));
    text(&error)
}

/// Takes messages until this one comes; those before it may be doubles.
async fn comes(wake: &RabbitWake, expected: &Message) {
    loop {
        let delivery = next(wake).await;
        let found = delivery.message == *expected;
        settle(delivery, Settled::Done).await;
        if found {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_restart_be_killed_hang_and_lose_its_disk() {
    let mut broker = blocking(Broker::start).unwrap();
    let wake = wake(&broker.amqp_url());
    comes(&wake, &publish(&wake, "first@example.com").await).await;

    type End = fn(&mut Broker);
    let ends: [(&str, End); 2] = [("stopped", Broker::stop), ("killed", Broker::kill9)];
    for (name, end) in ends {
        let kept = publish(&wake, "kept@example.com").await;
        let held = next(&wake).await;
        assert_eq!(held.message, kept);
        blocking(|| end(&mut broker));
        fails_soon(&wake).await;
        settle(held, Settled::Done).await;
        blocking(|| broker.restart()).unwrap();
        comes(&wake, &kept).await;
        comes(&wake, &publish(&wake, name).await).await;
    }

    // One that is not used to miss heartbeats so soon.
    let patient = RabbitOptions { heartbeat: Duration::from_secs(10), ..options(&broker.amqp_url()) };
    let patient = RabbitWake::new(patient).unwrap();
    comes(&wake, &publish(&patient, "patient@example.com").await).await;
    blocking(|| broker.pause()).unwrap();
    let (error, other) = tokio::join!(fails_soon(&patient), fails_soon(&wake));
    assert!(error.contains("did not confirm the message within 8 s"), "{error}");
    assert!(other.contains("no heartbeat") || other.contains("was lost before"), "{other}");
    broker.resume();
    comes(&wake, &publish(&patient, "resumed@example.com").await).await;
    comes(&wake, &publish(&wake, "resumed@example.com").await).await;

    blocking(|| broker.wipe()).unwrap();
    // Queues and all are gone, and are made again.
    comes(&wake, &publish(&wake, "wiped@example.com").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_be_held_for_longer_than_the_broker_allows() {
    let config = vec!["consumer_timeout = 2000".to_owned()];
    let settings = BrokerSettings { config, channel_tick: Some(Duration::from_millis(500)) };
    let broker = blocking(|| Broker::start_with(settings)).unwrap();
    let wake = RabbitWake::new(RabbitOptions { video_prefetch: 2, ..options(&broker.amqp_url()) }).unwrap();
    let expected = publish(&wake, "ana@example.com").await;
    let held = next(&wake).await;
    assert_eq!(held.message, expected);
    // It comes to somebody again, and the old hand moves nothing any more.
    let again = next(&wake).await;
    assert_eq!(again.message, expected);
    settle(held, Settled::Dead("must not happen".into())).await;
    settle(again, Settled::Done).await;
    comes(&wake, &publish(&wake, "bob@example.com").await).await;
    let depths = wake.inspect().await.unwrap();
    assert!(depths.iter().all(|depth| depth.messages == 0), "{depths:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_memory_takes_nothing_says_so_and_still_gives() {
    let broker = blocking(Broker::start).unwrap();
    let wake = wake(&broker.amqp_url());
    let kept = publish(&wake, "kept@example.com").await;
    blocking(|| broker.control(&["set_vm_memory_high_watermark", "0.000001"])).unwrap();
    let error = fails_soon(&wake).await;
    assert!(error.contains("takes no messages now"), "{error}");
    // Known by now: at once.
    let start = Instant::now();
    fails_soon(&wake).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let delivery = next(&wake).await;
    assert_eq!(delivery.message, kept);
    settle(delivery, Settled::Done).await;
    blocking(|| broker.control(&["set_vm_memory_high_watermark", "0.4"])).unwrap();
    comes(&wake, &publish(&wake, "bob@example.com").await).await;
}
