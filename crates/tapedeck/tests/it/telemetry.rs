//! One trace from the request to the mail, over four processes; and what Prometheus reads.

use crate::deck::{ANA, Deck, Home, Shape, media};
use axum::{Router, body::Bytes, extract::State, routing::post};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

type Exports = Arc<Mutex<Vec<Bytes>>>;

/// An OpenTelemetry collector that keeps what it is sent.
async fn collector() -> (String, Exports) {
    let exports = Exports::default();
    let keep =
        |State(exports): State<Exports>, body: Bytes| async move { exports.lock().unwrap().push(body) };
    let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&exports));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, exports)
}

/// Is there an export of this service with a span of this name in this trace? (Protobuf keeps names and ids as they are.)
fn has(exports: &Exports, service: &str, span: &str, trace: &[u8]) -> bool {
    let within = |body: &[u8], part: &[u8]| body.windows(part.len()).any(|window| window == part);
    let service = format!("tapedeck-{service}");
    exports
        .lock()
        .unwrap()
        .iter()
        .any(|body| within(body, trace) && within(body, span.as_bytes()) && within(body, service.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_holds_an_upload_together_from_request_to_mail() {
    let (url, exports) = collector().await;
    let home = Home::with_users(Shape::FourDistributed).await;
    let environment = [("TAPEDECK_TRACES_OTLP", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "200")];
    let deck = Deck::of(home, &["auth", "converter", "notification", "gateway"], &environment).await;
    let user = deck.sign_in(ANA).await;
    let trace: [u8; 16] = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    let form = reqwest::multipart::Form::new().part(
        "file",
        reqwest::multipart::Part::bytes(std::fs::read(media("mp4__sample.mp4")).unwrap()).file_name("a.mp4"),
    );
    let answer = user
        .post("/upload")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("accept", "application/json")
        .multipart(form)
        .send()
        .await
        .unwrap();
    let job: serde_json::Value = answer.json().await.unwrap();
    user.ended(job["id"].as_str().unwrap()).await;
    let end = Instant::now() + Duration::from_secs(30);
    for (service, span) in [
        ("gateway", "request"),
        ("auth", "request"),
        ("gateway", "publish"),
        ("converter", "conversion"),
        ("notification", "mail"),
    ] {
        while !has(&exports, service, span, &trace) {
            assert!(Instant::now() < end, "no span “{span}” of {service} in the trace; log:\n{}", deck.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(!has(&exports, "gateway", "request", &[0xab; 16]), "another trace is not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_say_what_happened() {
    for shape in [Shape::OneProcess, Shape::OneDistributed] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let deck = Deck::start_with(shape, &[("TAPEDECK_METRICS_LISTEN", &free)]).await;
        let user = deck.sign_in(ANA).await;
        let id = user.upload_media("mp4__sample.mp4").await;
        user.ended(&id).await;
        let failed = user.upload_media("vp9__bear-vp9.webm").await;
        user.ended(&failed).await;
        let end = Instant::now() + Duration::from_secs(30);
        let expected = [
            "tapedeck_jobs{state=\"converted\"} 1",
            "tapedeck_jobs{state=\"failed\"} 1",
            "tapedeck_jobs{state=\"queued\"} 0",
            "tapedeck_oldest_queued_seconds 0",
            "tapedeck_mails_total{result=\"sent\"} 2",
            "tapedeck_mails_due 0",
            "tapedeck_jobs_ended_total{state=\"failed\",code=\"no-audio\"} 1",
            "tapedeck_jobs_ended_total{state=\"converted\",code=\"\"} 1",
            "tapedeck_http_requests_total{route=\"/upload\",method=\"POST\",status=\"200\"} 2",
            "tapedeck_retries_total{kind=\"transient\"} 0",
            "tapedeck_stage_seconds_count{stage=\"convert\"} 1",
            "tapedeck_stage_seconds_count{stage=\"upload\"} 2",
            "tapedeck_stage_seconds_count{stage=\"verify\"} 1",
            "tapedeck_stage_seconds_bucket{stage=\"mail\",le=\"+Inf\"} 2",
        ];
        loop {
            let text =
                deck.client.get(format!("http://{free}/metrics")).send().await.unwrap().text().await.unwrap();
            let missing: Vec<_> =
                expected.iter().filter(|line| !text.lines().any(|is| is == **line)).collect();
            let broker = !shape.is_distributed() || text.contains("tapedeck_broker_connected 1");
            if missing.is_empty() && broker {
                break;
            }
            assert!(Instant::now() < end, "missing: {missing:#?} in\n{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let public = deck.client.get(format!("{}/metrics", deck.url)).send().await.unwrap();
        assert_eq!(public.status(), reqwest::StatusCode::NOT_FOUND, "metrics are not for the public");
    }
}
