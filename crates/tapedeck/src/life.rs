//! The life of a process: two-stage shutdown, and the question whether it is ready.

use crate::{
    cli::{Healthcheck, Place},
    config, serve,
};
use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The stages of an end, each a token that its listeners wait for.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// Say that no more requests are to be sent here; serve those that come all the same.
    pub draining: CancellationToken,
    /// Take nothing new; finish what is in hand.
    pub stopping: CancellationToken,
    /// Hand back what is still in hand.
    pub handing_back: CancellationToken,
    /// All others are done: upkeep may end.
    pub done: CancellationToken,
}

/// Ctrl-C and SIGTERM.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// `tapedeck healthcheck`
pub fn healthcheck(place: &Place, wish: &Healthcheck) -> Result<()> {
    let config = config::load(place, false)?;
    let mut address = match wish.listen {
        Some(address) => address,
        None => serve::configured_address(&config, &[])?,
    };
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("http://{address}/readyz");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, text) = runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
        let response = client
            .get(&url)
            .send()
            .await
            .with_context(|| format!("nothing answers at {url}; is `tapedeck serve` running?"))?;
        anyhow::Ok((response.status(), response.text().await?))
    })?;
    if !status.is_success() {
        bail!("not ready: {}", text.trim());
    }
    say!("ready: {url}");
    Ok(())
}
