//! Queues that are missing, vanish, or were made otherwise; and the look at a broker for operators.

use super::*;
use distributed::{QueueDepth, QueueReport, probe_rabbit};
use services::ports::PortErrorKind;
use testkit::proxy::{Fault, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn address(url: &str) -> String {
    let url = url.split('@').next_back().unwrap();
    url.split('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn queues_that_were_made_otherwise_are_used_as_they_are() {
    let url = testkit::virtual_host().await;
    let stranger = Stranger::at(&url).await;
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    stranger.declare("video", &[("x-max-length", AMQPValue::LongInt(1000))]).await;
    stranger.declare("mp3", &[quorum]).await;
    stranger.declare("video.dead", &[("x-max-length", AMQPValue::LongInt(5))]).await;
    let wake = wake(&url);
    for queue in [Queue::Video, Queue::Mp3] {
        let expected = message("ana@example.com");
        wake.publish(queue, &expected, None).await.unwrap();
        let delivery = timeout(LONG, wake.next(queue)).await.expect("a message arrives");
        assert_eq!(delivery.message, expected);
        settle(delivery, Settled::Dead("for a test".into())).await;
        stranger.take(&format!("{queue}.dead")).await;
    }
    let report = probe_rabbit(&options(&url)).await.unwrap();
    let otherwise: Vec<_> = report
        .queues
        .iter()
        .filter_map(|queue| match queue {
            QueueReport::Otherwise(depth, why) => {
                assert!(why.contains("inequivalent arg"), "{why}");
                Some(depth.name.as_str())
            }
            _ => None,
        })
        .collect();
    assert_eq!(otherwise, ["video", "mp3", "video.dead"]);
}

#[tokio::test]
async fn a_queue_that_vanishes_is_made_again_for_publishers_and_for_readers() {
    let url = testkit::virtual_host().await;
    let (wake, stranger) = (wake(&url), Stranger::at(&url).await);
    publish(&wake, "ana@example.com").await;
    stranger.delete("video").await;
    // At once, by the same call: the broker returns it, and it is published again.
    let expected = message("ana@example.com");
    wake.publish(Queue::Video, &expected, None).await.unwrap();
    assert_eq!(stranger.take("video").await.data, expected.body());
    // Whoever reads is told by the broker, and subscribes again.
    for _ in 0..2 {
        let expected = publish(&wake, "ana@example.com").await;
        let delivery = next(&wake).await;
        assert_eq!(delivery.message, expected);
        stranger.delete("video").await;
        // That message is gone with its queue: nothing comes of it.
        settle(delivery, Settled::Later).await;
    }
    nothing_comes(&wake).await;
}

#[tokio::test]
async fn a_queue_that_may_not_be_made_is_an_error_and_one_that_exists_is_enough() {
    let url = testkit::virtual_host().await;
    let vhost = url.rsplit('/').next().unwrap();
    let (api, user) = (testkit::amqp_api_url(), testkit::unique_name());
    let put = async |path: String, body: serde_json::Value| {
        let request = reqwest::Client::new().put(format!("{api}/api/{path}")).json(&body);
        assert!(request.send().await.unwrap().status().is_success(), "{path}");
    };
    put(format!("users/{user}"), serde_json::json!({"password": "p", "tags": ""})).await;
    let rights = serde_json::json!({"configure": "^$", "write": ".*", "read": ".*"});
    put(format!("permissions/{vhost}/{user}"), rights).await;
    let stranger = Stranger::at(&url).await;
    stranger.declare("video", &[]).await;
    stranger.declare("mp3", &[]).await;
    let wake = wake(&url.replace("guest:guest", &format!("{user}:p")));
    let expected = publish(&wake, "ana@example.com").await;
    let delivery = next(&wake).await;
    assert_eq!(delivery.message, expected);
    settle(delivery, Settled::Done).await;
    stranger.delete("video").await;
    let error = wake.publish(Queue::Video, &expected, None).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable);
    assert!(
        text(&error).contains("ACCESS_REFUSED") || text(&error).contains("access to queue"),
        "{}",
        text(&error)
    );
    stranger.declare("video", &[]).await;
    let expected = publish(&wake, "ana@example.com").await;
    assert_eq!(next(&wake).await.message, expected);
}

#[tokio::test]
async fn depths_are_counted() {
    let url = testkit::virtual_host().await;
    let wake = wake(&url);
    let missing = probe_rabbit(&options(&url)).await.unwrap();
    publish(&wake, "ana@example.com").await;
    publish(&wake, "ana@example.com").await;
    settle(next(&wake).await, Settled::Dead("for a test".into())).await;
    // Message counts of the management kind lag behind; these do not.
    let depth = |name: &str, messages, consumers| QueueDepth { name: name.into(), messages, consumers };
    let expected =
        [depth("video", 0, 1), depth("mp3", 0, 0), depth("video.retry", 0, 0), depth("video.dead", 1, 0)];
    let held = next(&wake).await;
    eventually("the dead letter is counted", async || {
        (wake.inspect().await.unwrap() == expected).then_some(())
    })
    .await;
    drop(held);
    let report = probe_rabbit(&options(&url)).await.unwrap();
    assert!(report.version.starts_with("RabbitMQ "), "{}", report.version);
    assert!(url.ends_with(&format!("/{}", report.virtual_host)));
    assert_eq!(report.queues.len(), 6);
    assert_eq!(report.queues[0], QueueReport::Fine(depth("video", 0, 1)));
    assert_eq!(report.queues[3], QueueReport::Missing("mp3.retry".into()));
    assert_eq!(missing.virtual_host, report.virtual_host);
}

#[tokio::test]
async fn a_probe_changes_nothing() {
    let url = testkit::virtual_host().await;
    for _ in 0..2 {
        let report = probe_rabbit(&options(&url)).await.unwrap();
        let missing = report.queues.iter().filter(|queue| matches!(queue, QueueReport::Missing(_)));
        assert_eq!(missing.count(), 6);
    }
}

/// A server that answers whatever it is told as HTTP does.
async fn web_server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // It reads first: a socket that is closed before is reset, and the answer with it.
            let _ = client.read_exact(&mut [0; 8]).await;
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn a_probe_says_in_words_what_to_mend() {
    use PortErrorKind::{Refused, Unavailable};
    let url = testkit::virtual_host().await;
    let at = address(&url);
    let hole = Proxy::to(&at).await;
    hole.set(Fault::BlackHole);
    let unused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let vhost = url.rsplit('/').next().unwrap();
    let web = web_server().await;
    for (url, kind, word) in [
        (
            "amqp://guest:sesame@no-such-host.invalid".to_owned(),
            Unavailable,
            "no-such-host.invalid` is not known",
        ),
        (url.replace(&at, &unused), Unavailable, "nothing listens at"),
        (url.replace("guest:guest", "guest:sesame"), Refused, "refuses the user `guest`"),
        (url.replace(vhost, "elsewhere"), Refused, "virtual host `elsewhere`"),
        (url.replace(&at, &web), Refused, "does not speak AMQP"),
        (hole.url_for(&url, &at), Unavailable, "does not answer within 5 s"),
        (url.replace("amqp:", "amqps:"), Unavailable, "no encrypted connection"),
        (url.replace("amqp:", "http:"), Refused, "scheme"),
    ] {
        let start = Instant::now();
        let error = probe_rabbit(&options(&url)).await.unwrap_err();
        assert!(text(&error).contains(word) && !text(&error).contains("sesame"), "{url}: {}", text(&error));
        assert_eq!(error.kind, kind, "{}", text(&error));
        assert!(start.elapsed() < Duration::from_secs(8), "{url}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn an_encrypted_connection_trusts_the_certificate_it_was_given_and_no_other() {
    let url = testkit::virtual_host().await;
    let (front, certificate) = testkit::proxy::encrypted(&address(&url)).await;
    let url = url.replace("amqp:", "amqps:").replace(&address(&url), &format!("localhost:{}", front.port()));
    let trusting = RabbitOptions { certificates: Some(certificate), ..options(&url) };
    assert!(probe_rabbit(&trusting).await.unwrap().version.starts_with("RabbitMQ "));
    let wake = RabbitWake::new(trusting).unwrap();
    let expected = publish(&wake, "ana@example.com").await;
    assert_eq!(next(&wake).await.message, expected);
    let error = probe_rabbit(&options(&url)).await.unwrap_err();
    assert!(text(&error).contains("no encrypted connection"), "{}", text(&error));
}
