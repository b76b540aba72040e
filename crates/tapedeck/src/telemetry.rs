//! Logs: text for people, JSON for machines, always on standard error.

use crate::config::{Log, LogFormat};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// What is logged, as `log.level` says it.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Starts logging for the life of the process.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let json = match log.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(&log.level)?).with_writer(stderr);
    if json {
        subscriber.json().flatten_event(true).with_current_span(false).init();
    } else {
        subscriber.with_ansi(stderr().is_terminal()).with_target(false).init();
    }
    Ok(())
}
