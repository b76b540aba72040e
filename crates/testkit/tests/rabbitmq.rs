//! A private broker starts, dies in every way and comes back, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

use std::{net::TcpStream, time::Duration};
use testkit::rabbitmq::Broker;

/// Does the management API answer, and with what?
fn answer(broker: &Broker, method: reqwest::Method, path: &str) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build().unwrap();
        let request = client.request(method, format!("{}{path}", broker.api_url()));
        let answer = request.send().await.ok()?.error_for_status().ok()?;
        answer.text().await.ok()
    })
}

#[test]
fn it_dies_in_every_way_comes_back_and_leaves_nothing() {
    let mut broker = Broker::start().unwrap();
    let put = |broker: &Broker| answer(broker, reqwest::Method::PUT, "/api/vhosts/mine").is_some();
    let kept = |broker: &Broker| answer(broker, reqwest::Method::GET, "/api/vhosts/mine").is_some();
    assert!(put(&broker));
    broker.kill9();
    assert!(TcpStream::connect(broker.amqp_address()).is_err(), "killed");
    broker.restart().unwrap();
    assert!(kept(&broker), "its disk survives kill -9");
    broker.stop();
    assert!(TcpStream::connect(broker.amqp_address()).is_err(), "stopped");
    broker.restart().unwrap();
    assert!(kept(&broker));
    broker.pause().unwrap();
    assert!(!kept(&broker), "paused");
    broker.resume();
    assert!(kept(&broker), "resumed");
    broker.wipe().unwrap();
    assert!(!kept(&broker), "its disk is wiped");
    let marker = broker.amqp_address().replace("127.0.0.1:", "");
    assert!(!processes_naming(&marker).is_empty(), "this looks at the right processes");
    drop(broker);
    assert_eq!(processes_naming(&marker), Vec::<String>::new(), "no process is left");
}

/// The command lines of processes whose environment or arguments name this port.
fn processes_naming(port: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).ok()?;
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let named = format!("RABBITMQ_NODE_PORT={port}");
        let names = String::from_utf8_lossy(&environment).contains(&named);
        names.then(|| String::from_utf8_lossy(&arguments).into_owned())
    });
    lines.collect()
}
