//! What is published: a message of our own, or one of somebody's on its way to another queue.

use super::{connection::text, queues::Place};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};
use services::{
    clock::{Clock, SystemClock},
    id::Id,
    message::Message,
};
use std::{collections::BTreeMap, time::Duration};

/// How often a message was put off.
const LATER: &str = "x-tapedeck-later";
/// Why a message is dead.
const REASON: &str = "x-tapedeck-reason";
/// The W3C trace context.
const TRACE: &str = "traceparent";
/// Longer reasons are cut: headers must fit into one frame.
const LONGEST_REASON: usize = 1000;
/// AMQP's word for "survives a restart".
const PERSISTENT: u8 = 2;
/// The longest wait, in multiples of the first.
const LONGEST_WAIT: u32 = 12;

/// A message on its way to a queue.
#[derive(Clone)]
pub(super) struct Letter {
    pub to: Place,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

impl Letter {
    /// A message of ours. The body is the wire contract's, byte for byte; all that is ours travels beside it.
    pub fn wake_up(to: Place, message: &Message, trace: Option<&str>) -> Letter {
        let now = SystemClock.now().as_second();
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_app_id("tapedeck".into())
            .with_message_id(Id::mint(&SystemClock).to_string().into())
            .with_timestamp(u64::try_from(now).unwrap_or_default())
            .with_delivery_mode(PERSISTENT);
        if let Some(trace) = trace {
            let mut headers = FieldTable::default();
            headers.insert(TRACE.into(), AMQPValue::LongString(trace.into()));
            properties = properties.with_headers(headers);
        }
        Letter { to, body: message.body(), properties }
    }

    /// Somebody's message, to be tried again after a while; the first time after `pause`.
    pub fn later(queue: &str, delivery: &Delivery, pause: Duration) -> Letter {
        let mut headers = headers(&delivery.properties);
        let count = times_put_off(&headers);
        // How it came from the retry queue the last time.
        let deaths = ["x-death", "x-first-death-", "x-last-death-"];
        headers.retain(|name, _| !deaths.iter().any(|death| name.as_str().starts_with(death)));
        headers.insert(LATER.into(), AMQPValue::LongInt(count.saturating_add(1)));
        let factor = (1 << count.clamp(0, 10)).min(LONGEST_WAIT);
        let wait = pause.saturating_mul(factor).as_millis().to_string();
        let properties = carried(&delivery.properties, headers).with_expiration(wait.into());
        Letter { to: Place::Retry(queue.into()), body: delivery.data.clone(), properties }
    }

    /// Somebody's message, to the dead letters with the reason.
    pub fn dead(queue: &str, delivery: &Delivery, reason: &str) -> Letter {
        let mut headers = headers(&delivery.properties);
        headers.insert(REASON.into(), AMQPValue::LongString(cut(reason).into()));
        let properties = carried(&delivery.properties, headers);
        Letter { to: Place::Dead(queue.into()), body: delivery.data.clone(), properties }
    }

    /// The same without anything of others but the body: what the broker takes for certain.
    pub fn bare(self) -> Letter {
        let mut headers = headers(&self.properties);
        headers.retain(|name, _| [LATER, REASON].contains(&name.as_str()));
        let mut properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers.into());
        if let Some(wait) = self.properties.expiration() {
            properties = properties.with_expiration(wait.clone());
        }
        Letter { properties, ..self }
    }
}

/// The sender's trace context, if it is one by its looks.
pub(super) fn trace(delivery: &Delivery) -> Option<String> {
    let trace = text(delivery.properties.headers().as_ref()?, TRACE)?;
    (trace.len() <= 64 && trace.is_ascii()).then_some(trace)
}

type Headers = BTreeMap<ShortString, AMQPValue>;

fn headers(properties: &BasicProperties) -> Headers {
    properties.headers().as_ref().map(|table| table.inner().clone()).unwrap_or_default()
}

fn times_put_off(headers: &Headers) -> i32 {
    let count = match headers.get(LATER) {
        Some(AMQPValue::LongInt(count)) => *count,
        Some(AMQPValue::LongLongInt(count)) => i32::try_from(*count).unwrap_or_default(),
        _ => 0,
    };
    count.max(0)
}

/// Somebody's properties, with these headers, as we may publish them: without those that would have the broker refuse the message
/// (`user_id`, a direct `reply_to`), delete it (`expiration`) or send copies of it elsewhere (`CC`, `BCC`).
fn carried(from: &BasicProperties, mut headers: Headers) -> BasicProperties {
    headers.retain(|name, _| !matches!(name.as_str(), "CC" | "BCC"));
    let to = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers.into());
    type Copy = fn(BasicProperties, ShortString) -> BasicProperties;
    let direct = |reply_to: &ShortString| reply_to.as_str().starts_with("amq.rabbitmq.reply-to");
    let texts: [(Option<ShortString>, Copy); 8] = [
        (from.content_type().clone(), BasicProperties::with_content_type),
        (from.content_encoding().clone(), BasicProperties::with_content_encoding),
        (from.correlation_id().clone(), BasicProperties::with_correlation_id),
        (from.reply_to().clone().filter(|reply_to| !direct(reply_to)), BasicProperties::with_reply_to),
        (from.message_id().clone(), BasicProperties::with_message_id),
        (from.kind().clone(), BasicProperties::with_type),
        (from.app_id().clone(), BasicProperties::with_app_id),
        (from.cluster_id().clone(), BasicProperties::with_cluster_id),
    ];
    let set = |to, (text, copy): (Option<ShortString>, Copy)| match text {
        Some(text) => copy(to, text),
        None => to,
    };
    let mut to = texts.into_iter().fold(to, set);
    if let Some(priority) = from.priority() {
        to = to.with_priority(*priority);
    }
    if let Some(timestamp) = from.timestamp() {
        to = to.with_timestamp(*timestamp);
    }
    to
}

/// At most [`LONGEST_REASON`] bytes of it.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(LONGEST_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(headers: &[(&str, AMQPValue)]) -> Delivery {
        let mut delivery = Delivery::mock(1, "".into(), "video".into(), false, b"{}".to_vec());
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        delivery.properties = BasicProperties::default().with_headers(table);
        delivery
    }

    #[test]
    fn waits_double_up_to_twelve_times_the_first() {
        let wait = |count: i64| {
            let delivery = delivery(&[(LATER, AMQPValue::LongLongInt(count))]);
            let letter = Letter::later("video", &delivery, Duration::from_secs(5));
            let next = times_put_off(&headers(&letter.properties));
            (letter.properties.expiration().clone().map(|wait| wait.to_string()), next)
        };
        assert_eq!(wait(0), (Some("5000".into()), 1));
        assert_eq!(wait(1), (Some("10000".into()), 2));
        assert_eq!(wait(4), (Some("60000".into()), 5));
        assert_eq!(wait(2_000_000_000), (Some("60000".into()), 2_000_000_001));
        assert_eq!(wait(-3), (Some("5000".into()), 1));
        assert_eq!(wait(i64::MAX), (Some("5000".into()), 1));
    }

    #[test]
    fn what_would_harm_a_dead_letter_stays_behind_and_the_rest_is_kept() {
        let mut delivery = delivery(&[
            ("CC", AMQPValue::LongInt(1)),
            ("BCC", AMQPValue::LongInt(1)),
            ("theirs", AMQPValue::Boolean(true)),
        ]);
        delivery.properties = delivery
            .properties
            .with_user_id("eve".into())
            .with_expiration("1".into())
            .with_delivery_mode(1)
            .with_reply_to("amq.rabbitmq.reply-to.g1".into())
            .with_type("theirs".into())
            .with_priority(3);
        let dead = Letter::dead("video", &delivery, &"é".repeat(1000)).properties;
        let names: Vec<_> = headers(&dead).keys().map(ToString::to_string).collect();
        assert_eq!(names, ["theirs", REASON]);
        assert_eq!((dead.user_id(), dead.expiration(), dead.reply_to()), (&None, &None, &None));
        assert_eq!((dead.delivery_mode(), dead.priority()), (&Some(2), &Some(3)));
        assert_eq!(dead.kind().as_ref().map(ShortString::as_str), Some("theirs"));
        assert_eq!(text(&headers(&dead).into(), REASON).map(|reason| reason.len()), Some(1000));
    }

    #[test]
    fn a_trace_is_taken_only_where_it_looks_like_one() {
        let trace = |value| trace(&delivery(&[(TRACE, value)]));
        let long_string = |text: &str| AMQPValue::LongString(text.into());
        assert_eq!(trace(long_string("00-1-2-01")).as_deref(), Some("00-1-2-01"));
        assert_eq!(trace(long_string(&"0".repeat(65))), None);
        assert_eq!(trace(long_string("é")), None);
        assert_eq!(trace(AMQPValue::LongInt(1)), None);
    }
}
