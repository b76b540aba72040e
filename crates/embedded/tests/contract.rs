//! The embedded adapters pass the ports' contract suites.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

use embedded::{DataFolder, FileBlobs, LocalWake, Outbox, SqliteJobs, SqliteUsers, Store};
use services::{
    auth::{LocalAuth, RemoteAuth, TokenKey},
    clock::SystemClock,
    ports::{Auth, contract},
};
use std::{net::SocketAddr, sync::Arc};
use tempfile::TempDir;

const SET_UP_TOKEN: &str = "set-up-token";

fn folder() -> (TempDir, DataFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    (dir, folder)
}

async fn store() -> (TempDir, Store) {
    let (dir, folder) = folder();
    let store = Store::open(&folder.database()).await.unwrap();
    (dir, store)
}

#[tokio::test]
async fn jobs_in_sqlite() {
    let (_dir, store) = store().await;
    contract::jobs(Arc::new(SqliteJobs::new(store))).await;
}

#[tokio::test]
async fn blobs_in_files() {
    let (_dir, folder) = folder();
    contract::blobs(Arc::new(FileBlobs::new(folder))).await;
}

#[tokio::test]
async fn wake_ups_in_process() {
    contract::wake(Arc::new(LocalWake::default())).await;
}

#[tokio::test]
async fn users_in_sqlite() {
    let (_dir, store) = store().await;
    contract::users(Arc::new(SqliteUsers::new(store))).await;
}

#[tokio::test]
async fn mails_in_the_outbox() {
    let (_dir, folder) = folder();
    let outbox = folder.outbox();
    let inbox = move |to: String| {
        let files =
            std::fs::read_dir(&outbox).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let mails =
            files.filter(|mail| String::from_utf8_lossy(mail).contains(&format!("To: {to}"))).collect();
        std::future::ready(mails)
    };
    contract::mailer(Arc::new(Outbox::new(&folder)), inbox).await;
}

async fn local_auth() -> (TempDir, Arc<SqliteUsers>, Arc<LocalAuth>) {
    let (dir, store) = store().await;
    let users = Arc::new(SqliteUsers::new(store));
    let key = TokenKey::new(&[7; 32], jiff::SignedDuration::from_hours(24)).unwrap();
    let auth = LocalAuth::new(users.clone(), key, Arc::new(SystemClock), 10, Some(SET_UP_TOKEN.into()));
    (dir, users, Arc::new(auth))
}

#[tokio::test]
async fn auth_as_a_call() {
    let (_dir, users, auth) = local_auth().await;
    contract::auth(auth, users, SET_UP_TOKEN).await;
}

#[tokio::test]
async fn auth_over_http() {
    let (_dir, users, auth) = local_auth().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let routes =
            services::auth::routes(auth, Vec::new()).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, routes).await.unwrap()
    });
    let remote: Arc<dyn Auth> = Arc::new(RemoteAuth::new(&url).unwrap());
    contract::auth(remote, users, SET_UP_TOKEN).await;
}

#[tokio::test]
async fn a_database_is_opened_by_many_processes_at_once_and_again() {
    let (_dir, folder) = folder();
    let opened = (0..8).map(|_| {
        let path = folder.database();
        tokio::spawn(async move { Store::open(&path).await })
    });
    for store in opened.collect::<Vec<_>>() {
        store.await.unwrap().unwrap().ping().await.unwrap();
    }
}
