//! Logs on standard error; metrics for Prometheus on a listener of their own; traces to an OpenTelemetry collector.

use crate::{
    config::{Config, LogFormat},
    ports::Records,
};
use anyhow::{Context, Result};
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use services::measures;
use std::{
    io::{IsTerminal, stderr},
    net::SocketAddr,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How often the records are counted, and old samples of histograms dropped.
const COUNTING: Duration = Duration::from_secs(5);
/// Bounds of the histograms: from a page's request to an hour's conversion.
const SECONDS: [f64; 14] =
    [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 1800.0, 7200.0];

/// What is logged, as `log.level` says it.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Logging and tracing, for the life of the process. To be started outside of any async runtime.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<PrometheusHandle>,
}

/// Starts what is configured; `roles` names this process in traces.
pub fn start(config: &Config, roles: &str) -> Result<Telemetry> {
    let json = match config.log.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        lines.with_ansi(stderr().is_terminal()).with_target(false).boxed()
    };
    let traces = match config.traces.otlp.as_str() {
        "" => None,
        collector => Some(tracer(collector, roles)?),
    };
    let spans = traces.as_ref().map(|provider| {
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("tapedeck"));
        // What is told of a job, not what the libraries do for it.
        spans.with_filter(
            tracing_subscriber::filter::Targets::new().with_target("services", tracing::Level::INFO),
        )
    });
    tracing_subscriber::registry().with(lines.with_filter(filter(&config.log.level)?)).with(spans).init();
    let metrics = match config.metrics.listen.as_str() {
        "" => None,
        _ => {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .context("the metrics' bounds are wrong")?;
            let handle = builder.install_recorder().context("metrics cannot be recorded")?;
            measures::describe();
            Some(handle)
        }
    };
    Ok(Telemetry { traces, metrics })
}

fn tracer(collector: &str, roles: &str) -> Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .with_context(|| format!("traces.otlp: {collector} cannot be used"))?;
    let resource = Resource::builder()
        .with_service_name(format!("tapedeck-{roles}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Serves /metrics until `done`, with all records counted now and then. Without `metrics.listen` it does nothing.
    pub fn metrics(
        &self,
        config: &Config,
        records: Option<Records>,
        done: CancellationToken,
    ) -> Result<Option<impl Future<Output = ()> + use<>>> {
        let Some(handle) = self.metrics.clone() else { return Ok(None) };
        let address: SocketAddr = config.metrics.listen.parse()?;
        let listener = std::net::TcpListener::bind(address).with_context(|| {
            format!(
                "metrics.listen: {address} cannot be listened on; stop what listens there, or choose another"
            )
        })?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shown = handle.clone();
        let router = Router::new().route("/metrics", get(move || std::future::ready(shown.render())));
        Ok(Some(async move {
            let counting = async {
                loop {
                    if let Some(records) = &records {
                        count(records).await;
                    }
                    // Histograms grow for ever without it.
                    handle.run_upkeep();
                    tokio::time::sleep(COUNTING).await;
                }
            };
            tokio::select! {
                served = axum::serve(listener, router).into_future() => {
                    tracing::error!(error = ?served.err(), "metrics are no longer served");
                    done.cancelled().await;
                }
                () = counting => {}
                () = done.cancelled() => {}
            }
        }))
    }

    /// Hands over the last spans.
    pub fn end(&self) {
        if let Some(traces) = &self.traces {
            // A collector that is away shall not hold the end up.
            let _ = traces.shutdown_with_timeout(Duration::from_secs(3));
        }
    }
}

async fn count(records: &Records) {
    if let Some(broker) = &records.broker {
        measures::broker(broker.ping().await.is_ok());
    }
    let now = records.ledger.clock.now();
    match records.ledger.jobs.census(now).await {
        Ok(census) => measures::census(&census, now),
        Err(error) => tracing::warn!(error = %error.source, "the records could not be counted"),
    }
}
