//! What the network does to connections, and that they are made again.

use super::*;
use testkit::proxy::{Fault, Proxy};

/// The URL of a virtual host by way of a proxy, and without it.
async fn proxied() -> (Proxy, String, String) {
    let url = testkit::virtual_host().await;
    let broker = testkit::amqp_url().split('@').next_back().unwrap().to_owned();
    let proxy = Proxy::to(&broker).await;
    let by_proxy = proxy.url_for(&url, &broker);
    assert_ne!(by_proxy, url);
    (proxy, by_proxy, url)
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_no_error_at_start_and_soon_one_to_a_publisher() {
    let (proxy, url, _) = proxied().await;
    proxy.set(Fault::Refuse);
    let wake = wake(&url);
    nothing_comes(&wake).await;
    let start = Instant::now();
    let error = wake.publish(Queue::Video, &message("ana@example.com"), None).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(text(&error).contains("there is no connection to RabbitMQ"), "{}", text(&error));
    assert!(wake.ping().await.is_err());
    proxy.set(Fault::None);
    let expected = publish(&wake, "ana@example.com").await;
    assert_eq!(next(&wake).await.message, expected);
    wake.ping().await.unwrap();
}

#[tokio::test]
async fn connections_that_are_reset_are_made_again_and_what_was_in_hand_comes_again() {
    let (proxy, url, _) = proxied().await;
    let wake = wake(&url);
    let expected = publish(&wake, "ana@example.com").await;
    for _ in 0..3 {
        let held = next(&wake).await;
        assert_eq!(held.message, expected);
        proxy.reset_all();
        let again = next(&wake).await;
        assert_eq!(again.message, expected);
        // Of the lost connection: neither acknowledges nor moves what somebody else may hold now.
        settle(held, Settled::Dead("must not happen".into())).await;
        drop(again);
    }
    settle(next(&wake).await, Settled::Done).await;
    nothing_comes(&wake).await;
    let depths = wake.inspect().await.unwrap();
    assert!(depths.iter().all(|depth| depth.messages == 0), "{depths:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_while_publishing_is_an_error_or_the_message_is_there() {
    let (proxy, url, direct) = proxied().await;
    let wake = wake(&url);
    publish(&wake, "warm-up@example.com").await;
    let stranger = Stranger::at(&direct).await;
    let warm_up = stranger.take("video").await;
    drop(warm_up);
    let mut confirmed = Vec::new();
    for bytes in (0..400).step_by(37) {
        wait_for_route(&wake).await;
        proxy.set(Fault::CutAfter(bytes));
        let message = message("ana@example.com");
        if wake.publish(Queue::Video, &message, None).await.is_ok() {
            confirmed.push(message.video_fid);
        }
        proxy.set(Fault::None);
    }
    let mut there = Vec::new();
    while let Some(found) = stranger.look("video").await {
        there.push(Message::parse(&found.data).unwrap().video_fid);
    }
    assert!(confirmed.len() < 11, "some cuts hit");
    for id in &confirmed {
        assert!(there.contains(id), "a confirmed message is missing");
    }
}

async fn wait_for_route(wake: &RabbitWake) {
    eventually("there is a connection", async || wake.ping().await.ok()).await;
}

#[tokio::test]
async fn heartbeats_notice_a_black_hole_and_no_attempt_leaves_a_connection_behind() {
    let (proxy, url, direct) = proxied().await;
    let wake = wake(&url);
    let first = publish(&wake, "ana@example.com").await;
    let delivery = next(&wake).await;
    assert_eq!(delivery.message, first);
    settle(delivery, Settled::Done).await;
    assert_eq!(proxy.connections(), 2, "one publishes, one reads");
    for hole in [Fault::BlackHole, Fault::LostAnswers] {
        wait_for_route(&wake).await;
        let before = proxy.accepted();
        proxy.set(hole);
        // Nothing is published, and still both notice.
        eventually("both begin anew", async || (proxy.accepted() >= before + 2).then_some(())).await;
        let start = Instant::now();
        let error = wake.publish(Queue::Video, &message("lost@example.com"), None).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}: {}", start.elapsed(), text(&error));
        // Several attempts to connect, each of which is swallowed.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) {
            assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
            sleep(Duration::from_millis(100)).await;
        }
        proxy.set(Fault::None);
        let stranger = Stranger::at(&direct).await;
        let expected = message("bob@example.com");
        stranger.publish("video", &expected.body(), BasicProperties::default()).await;
        loop {
            // What the broker took and could not confirm may come, too.
            let delivery = next(&wake).await;
            let found = delivery.message == expected;
            settle(delivery, Settled::Done).await;
            if found {
                break;
            }
        }
    }
    publish(&wake, "ana@example.com").await;
}

#[tokio::test]
async fn a_slow_network_is_none_of_these() {
    let (proxy, url, _) = proxied().await;
    proxy.set(Fault::Latency(Duration::from_millis(150)));
    let wake = wake(&url);
    let expected = publish(&wake, "ana@example.com").await;
    let delivery = next(&wake).await;
    assert_eq!(delivery.message, expected);
    settle(delivery, Settled::Done).await;
    // Longer than it takes to miss heartbeats.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(proxy.connections(), 2);
    wake.publish(Queue::Video, &expected, None).await.unwrap();
}
