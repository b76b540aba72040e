//! The servers of one test run: starts them all at once, names them on standard output, and ends them when standard input ends.
//!
//! `cargo xtask test` runs it. It is a process of its own so that the servers end with the run, however that ends: the
//! kernel closes the pipe of a run that was killed, too, and kills the servers of a process that was killed itself.
//!
//! A server that the environment names already is taken as it is. Standard output is `NAME=value` lines and, last, `ready`.

use std::{
    any::Any,
    env,
    io::{self, Read, Write},
    net::TcpStream,
    process::{Command, ExitCode},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use testkit::{mariadb, mongodb, rabbitmq};

const AMQP: &str = "TAPEDECK_TEST_AMQP";
const AMQP_API: &str = "TAPEDECK_TEST_AMQP_API";
const MYSQL: &str = "TAPEDECK_TEST_MYSQL";
const MONGODB: &str = "TAPEDECK_TEST_MONGODB";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A server that answers.
struct Ready {
    variables: Vec<(&'static str, String)>,
    /// Which one it is, and of which version.
    is: String,
    /// Ends the server when it is dropped, where it is ours.
    server: Option<Box<dyn Any>>,
}

fn run() -> Result<()> {
    let starts: [fn() -> Result<Ready>; 3] = [rabbitmq, mariadb, mongodb];
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        // Dropped at the end of this closure, on every path.
        let mut stays = Vec::new();
        for start in starts {
            let (stay, stayed) = mpsc::channel::<()>();
            let tell = tell.clone();
            stays.push(stay);
            // The kernel ends a server together with the thread that started it, so that one waits here.
            scope.spawn(move || {
                let (answer, server) = match start() {
                    Ok(Ready { variables, is, server }) => (Ok((variables, is)), server),
                    Err(error) => (Err(error), None),
                };
                let _ = tell.send(answer);
                let _ = stayed.recv();
                drop(server);
            });
        }
        drop(tell);
        announce(starts.len(), &told)?;
        io::copy(&mut io::stdin(), &mut io::sink()).context("standard input cannot be read")?;
        Ok(())
    })
}

type Answer = Result<(Vec<(&'static str, String)>, String)>;

/// Names each server as soon as it answers; an error names all that do not.
fn announce(count: usize, told: &mpsc::Receiver<Answer>) -> Result<()> {
    let mut failures = Vec::new();
    for answer in told.iter().take(count) {
        match answer {
            Ok((variables, is)) => {
                eprintln!("server: {is}");
                for (name, value) in variables {
                    println!("{name}={value}");
                }
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(
        failures.is_empty(),
        "{}\n    mend: `cargo xtask setup --tests` installs what is missing; where a server is here and does not start, its own \
         words above say why (memory, disk in {}); or name one that runs, by TAPEDECK_TEST_AMQP and TAPEDECK_TEST_AMQP_API, \
         TAPEDECK_TEST_MYSQL or MONGODB_URI",
        failures.join("\n"),
        env::temp_dir().display()
    );
    println!("ready");
    io::stdout().flush().context("standard output is closed")
}

fn given(name: &'static str) -> Option<(&'static str, String)> {
    env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value))
}

// RabbitMQ

fn rabbitmq() -> Result<Ready> {
    let (variables, broker): (_, Option<Box<dyn Any>>) = match (given(AMQP), given(AMQP_API)) {
        (Some(amqp), Some(api)) => (vec![amqp, api], None),
        _ => {
            let broker = rabbitmq::Broker::start()?;
            (vec![(AMQP, broker.amqp_url()), (AMQP_API, broker.api_url())], Some(Box::new(broker)))
        }
    };
    let version = rabbitmq_version(&variables[1].1)?;
    Ok(Ready { is: format!("RabbitMQ {version}{}", whose(&broker)), variables, server: broker })
}

fn rabbitmq_version(api: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let overview: serde_json::Value = runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        client.get(format!("{api}/api/overview")).send().await?.error_for_status()?.json().await
    })?;
    let version = overview["rabbitmq_version"].as_str();
    Ok(version.context("RabbitMQ's management API tells no version")?.to_owned())
}

// MariaDB

fn mariadb() -> Result<Ready> {
    let (url, server): (_, Option<Box<dyn Any>>) = match given(MYSQL) {
        Some((_, url)) => (url, None),
        None => {
            let server = mariadb::Server::start()?;
            (server.url(), Some(Box::new(server)))
        }
    };
    let address = url.rsplit('@').next().unwrap_or_default().trim_end_matches('/');
    let version =
        mysql_version(address).with_context(|| format!("the server at {address} does not answer"))?;
    Ok(Ready {
        is: format!("MySQL's protocol by {version}{}", whose(&server)),
        variables: vec![(MYSQL, url)],
        server,
    })
}

/// From the server's greeting: a header of four bytes, the protocol's version 10, the server's version with a zero at its end
/// (<https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection>).
fn mysql_version(address: &str) -> Result<String> {
    let mut server = TcpStream::connect(address)?;
    server.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut greeting = [0; 128];
    let read = server.read(&mut greeting)?;
    let [_, _, _, _, 10, text @ ..] = &greeting[..read] else { bail!("its greeting is not MySQL's") };
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    // MariaDB puts this before its own, for old clients.
    let version = String::from_utf8_lossy(text);
    Ok(version.strip_prefix("5.5.5-").unwrap_or(&version).to_owned())
}

// MongoDB

fn mongodb() -> Result<Ready> {
    let named = given(MONGODB).or_else(|| given("MONGODB_URI"));
    let (uri, server): (_, Option<Box<dyn Any>>) = match named {
        Some((_, uri)) => (uri, None),
        None => {
            let server = mongodb::Server::start()?;
            (server.uri(), Some(Box::new(server)))
        }
    };
    let is = match mongodb_version(&uri)? {
        (_, Some(secantus)) => format!(
            "SecantusDB {secantus}{}. It speaks MongoDB's protocol, but it is NOT mongod: nothing in this run is tested on MongoDB. \
             For that, put mongod on the PATH, or set MONGODB_URI",
            whose(&server)
        ),
        (version, None) => format!("MongoDB {version}{}", whose(&server)),
    };
    Ok(Ready { is, variables: vec![(MONGODB, uri)], server })
}

/// MongoDB's version, and SecantusDB's where it is that: what `buildInfo` says to the official Python driver.
fn mongodb_version(uri: &str) -> Result<(String, Option<String>)> {
    const ASK: &str = "import json, os, pymongo\n\
                       client = pymongo.MongoClient(os.environ['URI'], serverSelectionTimeoutMS=30000)\n\
                       print(json.dumps({key: value for key, value in client.server_info().items() if 'ersion' in key}))";
    let python = env::var("TAPEDECK_TEST_PYTHON")
        .context("TAPEDECK_TEST_PYTHON is not set: run the tests by `cargo xtask test`")?;
    // Not as an argument: those can be read by everybody on this machine.
    let output = Command::new(&python).args(["-c", ASK]).env("URI", uri).output();
    let output = output.with_context(|| format!("{python} cannot be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "MongoDB does not answer: {}", said.lines().last().unwrap_or_default());
    let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |key: &str| info[key].as_str().map(str::to_owned);
    Ok((text("version").unwrap_or_default(), text("secantusVersion")))
}

fn whose(server: &Option<Box<dyn Any>>) -> &'static str {
    if server.is_some() { "" } else { " (not ours: the environment names it)" }
}
