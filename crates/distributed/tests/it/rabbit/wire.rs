//! What is on the wire: our messages, those of others, and those that are none.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn the_contract() {
    let wake = wake(&testkit::virtual_host().await);
    services::ports::contract::wake(std::sync::Arc::new(wake)).await;
}

#[tokio::test]
async fn our_messages_are_the_wire_contracts_byte_for_byte() {
    let url = testkit::virtual_host().await;
    let wake = wake(&url);
    let mut message = Message {
        video_fid: "65f0c2a91b7e4d0012ab34cd".parse().unwrap(),
        mp3_fid: None,
        username: "georgio@email.com".into(),
        others: serde_json::Map::new(),
    };
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    wake.publish(Queue::Video, &message, Some(trace)).await.unwrap();
    message.mp3_fid = Some("65f0c2a91b7e4d0012ab34ce".parse().unwrap());
    wake.publish(Queue::Mp3, &message, None).await.unwrap();

    let stranger = Stranger::at(&url).await;
    let video = stranger.take("video").await;
    let golden =
        br#"{"video_fid": "65f0c2a91b7e4d0012ab34cd", "mp3_fid": null, "username": "georgio@email.com"}"#;
    assert_eq!(video.data, golden);
    assert_eq!((video.exchange.as_str(), video.routing_key.as_str()), ("", "video"));
    let properties = &video.properties;
    let string = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(string(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(string(properties.app_id()).as_deref(), Some("tapedeck"));
    assert_eq!(string(properties.message_id()).unwrap().len(), 24);
    assert!(properties.timestamp().unwrap() > 1_700_000_000);
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
    assert_eq!(properties.headers(), &Some(headers));

    let mp3 = stranger.take("mp3").await;
    let golden = br#"{"video_fid": "65f0c2a91b7e4d0012ab34cd", "mp3_fid": "65f0c2a91b7e4d0012ab34ce", "username": "georgio@email.com"}"#;
    assert_eq!(mp3.data, golden);
    assert_eq!(mp3.properties.headers(), &None);
}

#[tokio::test]
async fn messages_of_others_arrive_whatever_is_written_beside_them() {
    let url = testkit::virtual_host().await;
    let (wake, stranger) = (wake(&url), Stranger::at(&url).await);
    stranger.declare("video", &[]).await;
    let mut expected = message("ana@example.com");
    // As the originals publish: nothing but the delivery mode.
    stranger.publish("video", &expected.body(), BasicProperties::default().with_delivery_mode(2)).await;
    let delivery = next(&wake).await;
    assert_eq!((&delivery.message, &delivery.trace), (&expected, &None));
    settle(delivery, Settled::Done).await;

    // Not persistent, with another key, and a header of every type there is.
    expected.others.insert("z".into(), serde_json::json!([1, "é"]));
    let mut table = FieldTable::default();
    let values = [
        AMQPValue::Boolean(true),
        AMQPValue::ShortShortInt(-1),
        AMQPValue::ShortShortUInt(1),
        AMQPValue::ShortInt(-1),
        AMQPValue::ShortUInt(1),
        AMQPValue::LongInt(-1),
        AMQPValue::LongUInt(1),
        AMQPValue::LongLongInt(-1),
        AMQPValue::Float(0.5),
        AMQPValue::Double(0.5),
        AMQPValue::DecimalValue(lapin::types::DecimalValue { scale: 2, value: 3 }),
        AMQPValue::LongString("\u{e9}".into()),
        AMQPValue::LongString(vec![0xff, 0].into()),
        AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Boolean(false)].into()),
        AMQPValue::Timestamp(1),
        AMQPValue::ByteArray(vec![0xff].into()),
        AMQPValue::Void,
    ];
    for (index, value) in values.into_iter().enumerate() {
        table.insert(format!("h{index}").into(), value);
    }
    let nested = AMQPValue::FieldTable(table.clone());
    table.insert("table".into(), nested);
    table.insert("traceparent".into(), AMQPValue::LongString("00-1-2-01".into()));
    let properties = BasicProperties::default().with_headers(table).with_content_type("text/x".into());
    stranger.publish("video", &expected.body(), properties.clone()).await;
    let delivery = next(&wake).await;
    assert_eq!((&delivery.message, delivery.trace.as_deref()), (&expected, Some("00-1-2-01")));

    // And all of it goes with the message where it goes.
    settle(delivery, Settled::Dead("because".into())).await;
    let dead = stranger.take("video.dead").await;
    assert_eq!(dead.data, expected.body());
    assert_eq!(dead.properties.content_type(), properties.content_type());
    let headers = dead.properties.headers().clone().unwrap();
    for (name, value) in properties.headers().as_ref().unwrap() {
        assert_eq!(headers.inner().get(name.as_str()), Some(value), "{name}");
    }
}

#[tokio::test]
async fn what_is_no_message_goes_to_the_dead_letters_with_the_reason_and_the_next_one_comes() {
    let url = testkit::virtual_host().await;
    let (wake, stranger) = (wake(&url), Stranger::at(&url).await);
    stranger.declare("video", &[]).await;
    let bodies: [&[u8]; 4] = [b"\xff\x00", b"", b"{}", br#"{"video_fid": "zz", "username": "a"}"#];
    for body in bodies {
        // What would have the broker refuse it, delete it or copy it does not go with it.
        let mut headers = FieldTable::default();
        headers
            .insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("copies".into())].into()));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_user_id("guest".into())
            .with_expiration("3600000".into())
            .with_reply_to("theirs".into())
            .with_correlation_id("7".into());
        stranger.publish("video", body, properties).await;
    }
    let good = message("ana@example.com");
    stranger.publish("video", &good.body(), BasicProperties::default()).await;
    let delivery = next(&wake).await;
    assert_eq!(delivery.message, good);
    settle(delivery, Settled::Done).await;
    let mut found = Vec::new();
    for _ in bodies {
        let dead = stranger.take("video.dead").await;
        let headers = dead.properties.headers().clone().unwrap();
        let Some(AMQPValue::LongString(reason)) = headers.inner().get("x-tapedeck-reason") else {
            panic!("no reason: {headers:?}")
        };
        assert!(reason.to_string().contains("not a message of this queue"), "{reason}");
        assert_eq!(dead.properties.correlation_id().as_ref().unwrap().as_str(), "7");
        assert_eq!(dead.properties.delivery_mode(), &Some(2));
        assert_eq!((dead.properties.expiration(), dead.properties.user_id()), (&None, &None));
        found.push(dead.data);
    }
    found.sort();
    let mut expected = bodies.map(<[u8]>::to_vec);
    expected.sort();
    assert_eq!(found, expected);
    assert!(stranger.look("video").await.is_none(), "none of them is left");
}

/// Publishes `{}` on `video` with a content type that is no UTF-8, as no client library does.
async fn publish_unreadable(url: &str) {
    let (server, vhost) = url.split('@').next_back().unwrap().split_once('/').unwrap();
    let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    let frame = |kind: u8, channel: u16, payload: Vec<u8>| {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind], &channel.to_be_bytes()[..], &size, &payload, &[0xce]].concat()
    };
    let method = |class: u8, method: u8, rest: Vec<u8>| [vec![0, class, 0, method], rest].concat();
    let start = [vec![0; 4], short(b"PLAIN"), vec![0, 0, 0, 12], b"\0guest\0guest".into(), short(b"en_US")];
    let open = [short(vhost.as_bytes()), short(b""), vec![0]];
    let publish = [vec![0, 0], short(b""), short(b"video"), vec![0]];
    let header = [vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x80, 0], short(b"\xff\xfe")];
    let bytes = [
        b"AMQP\0\0\x09\x01".to_vec(),
        frame(1, 0, method(10, 11, start.concat())),
        frame(1, 0, method(10, 31, vec![0x07, 0xff, 0, 2, 0, 0, 0, 0])),
        frame(1, 0, method(10, 40, open.concat())),
        frame(1, 1, method(20, 10, short(b""))),
        frame(1, 1, method(60, 40, publish.concat())),
        frame(2, 1, header.concat()),
        frame(3, 1, b"{}".to_vec()),
        frame(1, 0, method(10, 50, [vec![0, 200], short(b""), vec![0; 4]].concat())),
    ];
    let mut stream = tokio::net::TcpStream::connect(server).await.unwrap();
    stream.write_all(&bytes.concat()).await.unwrap();
    // The broker says connection.close-ok when it has done all of it.
    let mut said = Vec::new();
    while !said.windows(4).any(|method| method == [0, 10, 0, 51]) {
        let read = timeout(LONG, stream.read_buf(&mut said)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the broker broke off: {}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_stops_its_queue_alone_until_it_is_removed() {
    let url = testkit::virtual_host().await;
    let (wake, stranger) = (wake(&url), Stranger::at(&url).await);
    stranger.declare("video", &[]).await;
    publish_unreadable(&url).await;
    let expected = publish(&wake, "ana@example.com").await;
    nothing_comes(&wake).await;
    wake.publish(Queue::Mp3, &expected, None).await.unwrap();
    let mp3 = timeout(LONG, wake.next(Queue::Mp3)).await.expect("the other queue is read");
    settle(mp3, Settled::Done).await;
    // As the management page does it. What a reader holds just then is not purged: perhaps again.
    let vhost = url.rsplit('/').next().unwrap();
    let contents = format!("{}/api/queues/{vhost}/video/contents", testkit::amqp_api_url());
    let delivery = eventually("the queue is read again", async || {
        let purged = reqwest::Client::new().delete(&contents).send().await.ok()?;
        assert!(purged.status().is_success());
        wake.publish(Queue::Video, &expected, None).await.unwrap();
        timeout(Duration::from_secs(2), wake.next(Queue::Video)).await.ok()
    });
    assert_eq!(delivery.await.message, expected);
}

#[tokio::test]
async fn later_comes_again_after_its_time_and_ever_later() {
    let url = testkit::virtual_host().await;
    let wake = wake(&url);
    let expected = publish(&wake, "ana@example.com").await;
    for pause in [1.0, 2.0] {
        let delivery = next(&wake).await;
        assert_eq!(delivery.message, expected);
        let start = Instant::now();
        settle(delivery, Settled::Later).await;
        let again = next(&wake).await;
        let waited = start.elapsed().as_secs_f64();
        assert!(waited >= pause * 0.95, "after {waited} s instead of {pause}");
        nothing_comes(&wake).await;
        // Dropped, it comes again after the pause, too.
        let start = Instant::now();
        drop(again);
        let delivery = next(&wake).await;
        assert!(start.elapsed() >= Duration::from_millis(950), "dropped");
        drop(delivery);
    }
    settle(next(&wake).await, Settled::Done).await;
    nothing_comes(&wake).await;
    for depth in wake.inspect().await.unwrap() {
        assert_eq!(depth.messages, 0, "{depth:?}");
    }
}

#[tokio::test]
async fn consumers_share_a_queue_and_hold_no_more_than_they_have_workers_for() {
    let url = testkit::virtual_host().await;
    let two = || RabbitWake::new(RabbitOptions { video_prefetch: 2, ..options(&url) }).unwrap();
    let (one, other) = (two(), two());
    for _ in 0..6 {
        publish(&one, "ana@example.com").await;
    }
    let held = [next(&one).await, next(&one).await, next(&other).await, next(&other).await];
    nothing_comes(&one).await;
    nothing_comes(&other).await;
    let stranger = Stranger::at(&url).await;
    assert!(stranger.look("video").await.is_some(), "the rest waits at the broker");
    for delivery in held {
        settle(delivery, Settled::Done).await;
    }
    let last = tokio::select! {
        delivery = next(&one) => delivery,
        delivery = next(&other) => delivery,
    };
    settle(last, Settled::Done).await;
    nothing_comes(&one).await;
    nothing_comes(&other).await;
}

#[tokio::test]
async fn a_closed_wake_has_settled_all_and_taken_leave() {
    let url = testkit::virtual_host().await;
    let wake = wake(&url);
    publish(&wake, "ana@example.com").await;
    publish(&wake, "bob@example.com").await;
    settle(next(&wake).await, Settled::Done).await;
    let held = next(&wake).await;
    drop(held);
    wake.close().await;
    let error = wake.publish(Queue::Video, &message("ana@example.com"), None).await.unwrap_err();
    assert!(text(&error).contains("ending"), "{}", text(&error));
    let stranger = Stranger::at(&url).await;
    let left = stranger.take("video").await;
    assert!(
        Message::parse(&left.data).unwrap().username.starts_with("bob"),
        "only what was not settled is left"
    );
    assert!(stranger.look("video").await.is_none());
}
