//! For tests alone: real servers on private ports, and a place of its own on each for every test.
//!
//! `cargo xtask test` starts one RabbitMQ, one MariaDB and one MongoDB-compatible server and names them in the environment; a
//! test takes a virtual host or a database of its own there. A test whose server is missing fails and says so.

pub mod certificates;
pub mod mariadb;
pub mod mongodb;
mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod smtp;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

/// The URI of the MongoDB server, without a database.
pub fn mongodb_uri() -> String {
    from_environment("TAPEDECK_TEST_MONGODB")
}

/// The URL of the MariaDB server, with a user who may make databases, without a database: `mysql://user:password@host:port`.
pub fn mysql_url() -> String {
    from_environment("TAPEDECK_TEST_MYSQL")
}

/// The URL of RabbitMQ without a virtual host: `amqp://user:password@host:port`.
pub fn amqp_url() -> String {
    from_environment("TAPEDECK_TEST_AMQP")
}

/// The URL of RabbitMQ's management API with the same user: `http://user:password@host:port`.
pub fn amqp_api_url() -> String {
    from_environment("TAPEDECK_TEST_AMQP_API")
}

fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests by `cargo xtask test`, which starts the servers")
    })
}

/// A name that no other test of any process has: for a database, a virtual host.
pub fn unique_name() -> String {
    // The standard library's own seed of hash maps: random for each.
    let random = RandomState::new().build_hasher().finish();
    format!("t{random:016x}x{:x}", std::process::id())
}

/// Makes a virtual host of its own; the answer is the URL to connect to it.
pub async fn virtual_host() -> String {
    let name = unique_name();
    let api = amqp_api_url();
    let answer = reqwest::Client::new().put(format!("{api}/api/vhosts/{name}")).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => format!("{}/{name}", amqp_url()),
        Ok(answer) => panic!("RabbitMQ's API at {api} answers {}", answer.status()),
        Err(error) => panic!("RabbitMQ's API at {api} does not answer: {error}"),
    }
}
