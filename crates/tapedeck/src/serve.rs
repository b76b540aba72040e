//! `tapedeck serve`: from the configuration to a running process, and to its end.

use crate::{
    cli::{Place, Role, Serve},
    config::{self, Config, Mode},
    life::{Life, Signals},
    ports::{Local, Ports},
    roles::Process,
    telemetry::{self, Telemetry},
};
use anyhow::{Context, Result, bail};
use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};
use tokio::task::JoinSet;

/// A request's header must arrive within so long.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// After the grace period, handing back takes no longer.
const HAND_BACK_TIME: Duration = Duration::from_secs(5);

/// Serves until the end.
pub fn run(place: &Place, wish: &Serve) -> Result<()> {
    keep_private();
    let config = config::load(place, wish.allow_weak_secret)?;
    let names: Vec<String> = wish.roles.iter().map(ToString::to_string).collect();
    let telemetry = telemetry::start(&config, &names.join("-"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads can be started")?;
    let ended = runtime.block_on(serve(place, wish, &config, &telemetry));
    telemetry.end();
    // Whatever still blocks a thread shall not hold the end up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn serve(place: &Place, wish: &Serve, config: &Config, telemetry: &Telemetry) -> Result<()> {
    let roles = &wish.roles;
    let mut signals = Signals::listen()?;
    let ports = Ports::open(place, config, roles).await?;
    let alone = [Role::Gateway, Role::Auth, Role::Converter, Role::Notification]
        .iter()
        .all(|role| roles.contains(role));
    let mut _tenancy = None;
    if let Some(Local { folder, .. }) = &ports.local {
        _tenancy = folder.move_in(alone).context("the data folder cannot be locked")?;
        if _tenancy.is_none() {
            bail!(
                "another Tapedeck serves from the data folder {} already; stop it, or choose another folder with --data DIR",
                folder.path().display()
            );
        }
    }
    let address = wish.listen.map_or_else(|| configured_address(config, roles), Ok)?;
    let listener = listen(address)?;
    let address = listener.local_addr()?;
    let life = Life::default();
    let process = Process {
        config,
        ports: &ports,
        life: &life,
        roles,
        public_url: public_url(config, address),
        set_up_token: set_up_token(config, &ports, roles).await?,
    };
    let metrics = telemetry.metrics(config, ports.records_if_any().cloned(), life.done.clone())?;
    let mut tasks = start(&process, listener, metrics)?;
    announce(&process, place, address);
    let ended = live(&mut tasks, &mut signals, &life, &config.server).await;
    ports.close().await;
    ended
}

/// What this process makes, only its user may read: password hashes, videos, mails.
pub fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Where to listen when the command line does not say it.
pub fn configured_address(config: &Config, roles: &[Role]) -> Result<SocketAddr> {
    let port = match (config.server.listen.as_str(), roles) {
        ("", roles) if roles.is_empty() || roles.contains(&Role::Gateway) => 8080,
        ("", roles) if roles.contains(&Role::Auth) => 5000,
        ("", roles) if roles.contains(&Role::Converter) => 8081,
        ("", _) => 8082,
        (configured, _) => return Ok(configured.parse()?),
    };
    let address = if config.mode == Mode::Distributed { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    Ok((address, port).into())
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("{address} cannot be listened on; stop what listens there, or choose another with --listen ADDR:PORT")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn public_url(config: &Config, address: SocketAddr) -> String {
    match config.server.public_url.trim_end_matches('/') {
        "" if address.ip().is_unspecified() => format!("http://localhost:{}", address.port()),
        "" => format!("http://{address}"),
        url => url.to_owned(),
    }
}

/// A new token for the set-up page, if there is no user yet and this process is the one to ask.
async fn set_up_token(config: &Config, ports: &Ports, roles: &[Role]) -> Result<Option<String>> {
    // Where users are shared between machines, an operator makes the first: each auth process would print another link.
    let shared = !config.backends.users.is("sqlite");
    if !roles.contains(&Role::Auth) || shared || !ports.users()?.list().await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(services::random_hex::<16>()))
}

/// Starts every role, each as a task with a name.
fn start(
    process: &Process<'_>,
    listener: TcpListener,
    metrics: Option<impl Future<Output = ()> + Send + 'static>,
) -> Result<JoinSet<(&'static str, Result<()>)>> {
    let mut tasks = JoinSet::new();
    let (router, gateway) = process.router()?;
    let served = serve_http(listener, router, process.life.clone());
    tasks.spawn(async move {
        let served = served.await;
        if let Some(gateway) = gateway {
            gateway.idle().await;
        }
        ("http", served)
    });
    if process.has(Role::Converter) {
        tasks.spawn(named("converter", process.converter()?));
    }
    if process.has(Role::Notification) {
        tasks.spawn(named("notification", process.notification()?));
    }
    let upkeep = process.upkeep();
    tasks.spawn(named("upkeep", async move {
        match metrics {
            Some(metrics) => {
                tokio::join!(upkeep, metrics);
            }
            None => upkeep.await,
        }
    }));
    Ok(tasks)
}

async fn named(name: &'static str, role: impl Future<Output = ()>) -> (&'static str, Result<()>) {
    role.await;
    (name, Ok(()))
}

async fn serve_http(listener: TcpListener, router: Router, life: Life) -> Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)?.http1_only().handle(handle.clone());
    // A header that never ends would hold its connection for ever.
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    let serving = server.serve(router.into_make_service_with_connect_info::<SocketAddr>());
    let ending = async {
        life.stopping.cancelled().await;
        handle.graceful_shutdown(None);
        life.handing_back.cancelled().await;
        handle.shutdown();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = serving => served.context("the HTTP server failed"),
        () = ending => Ok(()),
    }
}

/// Lives until a signal, then ends in two stages. A task that ends before is an error.
async fn live(
    tasks: &mut JoinSet<(&'static str, Result<()>)>,
    signals: &mut Signals,
    life: &Life,
    times: &config::Server,
) -> Result<()> {
    let grace = times.grace.0;
    let early = tokio::select! {
        ended = tasks.join_next() => ended,
        () = signals.next() => None,
    };
    life.draining.cancel();
    if early.is_none() && !times.drain.0.is_zero() {
        tracing::info!(
            seconds = times.drain.0.as_secs(),
            "no longer ready; serving on until whoever sends requests has noticed"
        );
        tokio::select! {
            () = tokio::time::sleep(times.drain.0) => {}
            () = signals.next() => {}
        }
    }
    life.stopping.cancel();
    if early.is_none() {
        tracing::info!(
            grace_seconds = grace.as_secs(),
            "stopping: finishing what is in hand; a second signal stops at once"
        );
    }
    tokio::select! {
        () = all_but_upkeep(tasks) => {}
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: handing back what is in hand"),
        () = signals.next() => tracing::warn!("second signal: handing back what is in hand"),
    }
    life.handing_back.cancel();
    let handed_back = tokio::time::timeout(HAND_BACK_TIME, all_but_upkeep(tasks)).await;
    life.done.cancel();
    let _ = tokio::time::timeout(HAND_BACK_TIME, async { while tasks.join_next().await.is_some() {} }).await;
    match early {
        None if handed_back.is_err() => {
            bail!("stopped before all was handed back; the next start takes it up")
        }
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(Ok((name, Ok(())))) => bail!("the {name} ended too early"),
        Some(Ok((name, Err(error)))) => Err(error.context(format!("the {name} failed"))),
        Some(Err(panic)) => bail!("a service panicked: {panic}"),
    }
}

/// Upkeep is the last: it ends when it is told that all others have.
async fn all_but_upkeep(tasks: &mut JoinSet<(&'static str, Result<()>)>) {
    while tasks.len() > 1 {
        tasks.join_next().await;
    }
}

/// Says on standard output where the page is, and how to sign in the first time.
fn announce(process: &Process<'_>, place: &Place, address: SocketAddr) {
    if !process.has(Role::Gateway) {
        let names: Vec<String> = process.roles.iter().map(ToString::to_string).collect();
        say!("Tapedeck {} is ready at http://{address}", names.join(", "));
    } else {
        say!("Tapedeck is ready: {}", process.public_url);
    }
    if let Some(token) = &process.set_up_token {
        say!("\nThere is no account yet. Make the first one here (the link works once):");
        // In four processes the page is the gateway's, wherever that one listens.
        let page = if process.has(Role::Gateway) || !process.config.server.public_url.is_empty() {
            &process.public_url
        } else {
            "http://127.0.0.1:8080"
        };
        say!("  {page}/setup?token={token}");
        say!(
            "or on a command line:\n  tapedeck user add you@example.com --admin --data {}\n",
            place.data.display()
        );
    }
}
