//! The harness: a running Tapedeck with a home of its own, and what is left when a test is over.

use crate::cluster::Cluster;
use reqwest::{Client, RequestBuilder, Response, StatusCode, multipart};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub const ANA: &str = "ana@example.com";
pub const BOB: &str = "Bob@Example.com";
/// The seeds' own password.
pub const PASSWORD: &str = "Admin123";

/// How the four roles are spread, and what they work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    OneProcess,
    FourProcesses,
    /// On RabbitMQ, MongoDB, MariaDB and SMTP.
    OneDistributed,
    FourDistributed,
}

impl Shape {
    pub fn is_distributed(self) -> bool {
        matches!(self, Shape::OneDistributed | Shape::FourDistributed)
    }
}

/// Where a Tapedeck keeps what it has: a folder, and places of its own on the servers.
pub struct Home {
    pub dir: TempDir,
    pub cluster: Option<Cluster>,
}

impl Home {
    /// An empty one.
    pub async fn empty(shape: Shape) -> Home {
        let cluster = if shape.is_distributed() { Some(Cluster::new().await) } else { None };
        let home = Home { dir: tempfile::tempdir().unwrap(), cluster };
        if home.cluster.is_some() {
            let migrated = home.tapedeck(&["migrate"]).output().unwrap();
            assert!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        }
        home
    }

    /// One with the users Ana and Bob.
    pub async fn with_users(shape: Shape) -> Home {
        let home = Home::empty(shape).await;
        for email in [ANA, BOB] {
            home.add_user(email, PASSWORD);
        }
        home
    }

    /// `tapedeck` with these arguments at this home.
    pub fn tapedeck(&self, arguments: &[&str]) -> Command {
        let mut command = tapedeck(self.dir.path(), arguments);
        if let Some(cluster) = &self.cluster {
            command.envs(cluster.environment());
        }
        command
    }

    /// Adds a user by the command line, as an operator does.
    pub fn add_user(&self, email: &str, password: &str) {
        add_user_by(self.tapedeck(&["user", "add", email, "--password-stdin"]), password);
    }
}

/// A running Tapedeck.
pub struct Deck {
    pub home: Home,
    pub url: String,
    pub client: Client,
    /// What the processes printed.
    pub printed: Arc<Mutex<String>>,
    /// A process was killed between a mail server's yes and its record: the one window in which a mail is sent again.
    pub one_mail_may_have_come_twice: bool,
    processes: Processes,
    environment: BTreeMap<String, String>,
}

/// A file of `media/`.
pub fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media").join(name)
}

/// The program under test: the one built with these tests, or the one that TAPEDECK_TEST_BINARY names (`cargo xtask dist --test`).
pub fn program() -> PathBuf {
    let named = std::env::var_os("TAPEDECK_TEST_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_tapedeck").into(), PathBuf::from)
}

/// A tool that the tests need; `cargo xtask test` installs it and names it.
pub fn tool(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

/// `tapedeck` with these arguments on this data folder, and nothing of our own environment that it would read.
pub fn tapedeck(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TAPEDECK_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).arg("--data").arg(data);
    // Quick to notice a death, so that tests are quick.
    for (name, value) in
        [("POLL", "50ms"), ("BEAT", "200ms"), ("PATIENCE", "1500ms"), ("RETRY_WAIT", "100ms")]
    {
        command.env(format!("TAPEDECK_TIMING_{name}"), value);
    }
    command
}

/// Adds a user to a data folder by the command line, as an operator does.
pub fn add_user(data: &Path, email: &str, password: &str) {
    add_user_by(tapedeck(data, &["user", "add", email, "--password-stdin"]), password);
}

fn add_user_by(mut command: Command, password: &str) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success(), "tapedeck user add");
}

impl Deck {
    /// A deck with the users Ana and Bob.
    pub async fn start(shape: Shape) -> Deck {
        Deck::start_with(shape, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_with(shape: Shape, environment: &[(&str, &str)]) -> Deck {
        Deck::on(Home::with_users(shape).await, shape, environment).await
    }

    /// A deck at a home that there is.
    pub async fn on(home: Home, shape: Shape, environment: &[(&str, &str)]) -> Deck {
        match shape {
            Shape::OneProcess | Shape::OneDistributed => {
                Deck::of(home, &["gateway,auth,converter,notification"], environment).await
            }
            Shape::FourProcesses | Shape::FourDistributed => {
                Deck::of(home, &["auth", "converter", "notification", "gateway"], environment).await
            }
        }
    }

    /// A deck on real servers with these processes, each with its roles; one with the gateway comes last.
    pub async fn of(home: Home, processes: &[&str], environment: &[(&str, &str)]) -> Deck {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client =
            Client::builder().timeout(Duration::from_secs(120)).tcp_user_timeout(None).build().unwrap();
        let mut deck = Deck {
            home,
            url: String::new(),
            client,
            printed: Arc::default(),
            one_mail_may_have_come_twice: false,
            processes: Processes::default(),
            environment,
        };
        deck.run(processes);
        deck
    }

    /// Starts these processes; the gateway's is told where the auth service's is.
    fn run(&mut self, processes: &[&str]) {
        let mut auth: Option<String> = None;
        for roles in processes {
            let arguments = ["serve", "--roles", roles];
            let url = match &auth {
                Some(auth) => self.spawn(&arguments, &[("TAPEDECK_BACKENDS_AUTH", auth)]),
                None => self.spawn(&arguments, &[]),
            };
            match *roles {
                "auth" => auth = Some(url),
                _ => self.url = url,
            }
        }
    }

    /// The cluster of a distributed deck.
    pub fn cluster(&self) -> &Cluster {
        self.home.cluster.as_ref().expect("this deck is a distributed one")
    }

    /// Starts one more process and waits until it says where it is.
    pub fn spawn(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.dir.path().join("test.log"))
            .unwrap();
        let mut child = self
            .home
            .tapedeck(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .envs(&self.environment)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.processes.lock().push(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line
            .trim()
            .rsplit_once("http://")
            .unwrap_or_else(|| panic!("no address in {line:?}; log:\n{}", self.log()));
        let url = format!("http://{}", url.1);
        let printed = Arc::clone(&self.printed);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| *printed.lock().unwrap() += &(line + "\n"))
        });
        url
    }

    /// What the processes logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.dir.path().join("test.log")).unwrap_or_default()
    }

    /// The home, after everything was killed with SIGKILL: for the next start.
    pub fn kill(self) -> Home {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10));
        let Deck { home, .. } = self;
        home
    }

    /// The data folder of an embedded deck; of any, the place of its log.
    pub fn dir(&self) -> &Path {
        self.home.dir.path()
    }

    /// Between two looks: servers that many tests share are asked less often than a disk.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(if self.home.cluster.is_some() { 200 } else { 20 })
    }

    /// The secret that signs its tokens.
    pub fn jwt_secret(&self) -> String {
        match &self.home.cluster {
            Some(cluster) => cluster.jwt_secret().to_owned(),
            None => fs::read_to_string(self.dir().join("jwt-secret")).unwrap(),
        }
    }

    /// All files that are stored, in the making or finished: `videos/…`, `mp3s/…`.
    pub async fn stored(&self) -> Vec<String> {
        if let Some(cluster) = &self.home.cluster {
            return cluster.stored().await;
        }
        let names = |folder: &'static str| {
            let entries = fs::read_dir(self.dir().join(folder)).unwrap();
            let names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            // An MP3 and its peaks are one file in two.
            let belongs = |name: &String| {
                name.strip_suffix(".peaks").is_some_and(|mp3| names.iter().any(|name| name == mp3))
            };
            let apart = names.iter().filter(|name| !belongs(name));
            apart.map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
        };
        [names("videos"), names("mp3s")].concat()
    }

    /// Sends a signal to every process.
    pub fn signal(&self, signal: i32) {
        for child in self.processes.lock().iter() {
            let pid = i32::try_from(child.id()).unwrap();
            // SAFETY: kill has no memory effects; the child is not reaped before the deck is, so the id is its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits until every process has ended; panics when one has not by then.
    pub fn wait(&self, patience: Duration) -> Vec<ExitStatus> {
        let end = Instant::now() + patience;
        let mut processes = self.processes.lock();
        let ended = processes.drain(..).map(|mut child| {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    return status;
                }
                if Instant::now() > end {
                    let _ = child.kill();
                    panic!("a process did not end within {patience:?}");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        ended.collect()
    }

    /// The first process that has ended by itself, within `patience`.
    pub async fn first_ended(&self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let ended = self.processes.lock().iter_mut().find_map(|child| child.try_wait().unwrap());
            if ended.is_some() {
                return ended;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Signs in over the original's `/login`.
    pub async fn sign_in(&self, email: &str) -> User<'_> {
        let response = self
            .client
            .post(format!("{}/login", self.url))
            .basic_auth(email, Some(PASSWORD))
            .send()
            .await
            .unwrap_or_else(|error| panic!("{email} cannot sign in: {error}; log:\n{}", self.log()));
        assert_eq!(response.status(), StatusCode::OK);
        User { deck: self, token: response.text().await.unwrap() }
    }

    /// What must hold when a test is over: no unsettled job, one mail for each end, no orphan file, no engine process.
    pub async fn assert_empty_house(&self) {
        let mut jobs = Vec::new();
        for email in [ANA, BOB] {
            jobs.extend(self.sign_in(email).await.all_settled().await);
        }
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            let faults = self.house_faults(&jobs).await;
            if faults.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "the house is not empty: {faults:#?}\nlog:\n{}", self.log());
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// All that is out of order, given all settled jobs.
    pub async fn house_faults(&self, jobs: &[Value]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expected: BTreeMap<String, usize> = BTreeMap::new();
        for job in jobs {
            let (id, state) = (job["id"].as_str().unwrap(), job["state"].as_str().unwrap());
            match state {
                "converted" => {
                    *expected.entry(format!("mp3s/{}", job["mp3_fid"].as_str().unwrap())).or_default() += 1
                }
                "failed" | "cancelled" => *expected.entry(format!("videos/{id}")).or_default() += 1,
                _ => faults.push(format!("job {id} is {state}")),
            }
            let mut mails = self.mails_about(id);
            if self.one_mail_may_have_come_twice {
                mails.sort_unstable_by_key(|mail| message_id(mail));
                mails.dedup_by_key(|mail| message_id(mail));
            }
            let mails = mails.len();
            if mails != usize::from(state != "cancelled") {
                faults.push(format!("job {id} is {state} and has {mails} mails"));
            }
        }
        for name in self.stored().await {
            if expected.remove(&name).is_none() {
                faults.push(format!("{name} belongs to nobody"));
            }
        }
        faults.extend(expected.keys().map(|name| format!("{name} is missing")));
        faults.extend(self.engine_processes().iter().map(|pid| format!("engine process {pid} still runs")));
        faults
    }

    /// Engine processes of this deck's processes.
    pub fn engine_processes(&self) -> Vec<u32> {
        let parents: Vec<u32> = self.processes.lock().iter().map(Child::id).collect();
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let of_ours = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            after_name
                .split_whitespace()
                .nth(1)
                .and_then(|parent| parent.parse().ok())
                .is_some_and(|parent| parents.contains(&parent))
        };
        processes.filter(of_ours).collect()
    }

    /// Resident memory of all this deck's processes, bytes.
    pub fn memory(&self) -> u64 {
        let resident = |child: &Child| {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        self.processes.lock().iter().map(resident).sum()
    }

    /// The mails that have arrived.
    pub fn mails(&self) -> Vec<String> {
        if let Some(cluster) = &self.home.cluster {
            return cluster.mails();
        }
        let outbox = fs::read_dir(self.home.dir.path().join("outbox")).unwrap();
        let mails = outbox
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "eml"));
        mails.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// The mails whose Message-ID begins with this job's id.
    pub fn mails_about(&self, id: &str) -> Vec<String> {
        self.mails().into_iter().filter(|mail| mail.contains(&format!("Message-ID: <{id}."))).collect()
    }
}

/// By what a receiver tells a mail that came twice.
fn message_id(mail: &str) -> Option<String> {
    mail.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned)
}

/// Processes that do not outlive their test.
#[derive(Default)]
struct Processes(Mutex<Vec<Child>>);

impl Processes {
    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.0.lock().unwrap()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.lock().iter_mut() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Somebody who is signed in.
#[derive(Clone)]
pub struct User<'a> {
    pub deck: &'a Deck,
    pub token: String,
}

impl User<'_> {
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.deck.client.get(format!("{}{path}", self.deck.url)).bearer_auth(&self.token)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.deck.client.post(format!("{}{path}", self.deck.url)).bearer_auth(&self.token)
    }

    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.deck.client.delete(format!("{}{path}", self.deck.url)).bearer_auth(&self.token)
    }

    /// Sends bytes as a file with this name.
    pub async fn try_upload(&self, name: &str, bytes: Vec<u8>) -> reqwest::Result<Response> {
        self.try_upload_with("", name, bytes).await
    }

    /// The same, with a query.
    pub async fn try_upload_with(
        &self,
        query: &str,
        name: &str,
        bytes: Vec<u8>,
    ) -> reqwest::Result<Response> {
        let part = multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = multipart::Form::new().part("file", part);
        let upload = self.post(&format!("/upload{query}")).header("accept", "application/json");
        upload.multipart(form).send().await
    }

    /// Uploads bytes; the accepted job's id.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>) -> String {
        let response = self.try_upload(name, bytes).await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Uploads a file of `media/`.
    pub async fn upload_media(&self, name: &str) -> String {
        self.upload(name, fs::read(media(name)).unwrap()).await
    }

    pub async fn job(&self, id: &str) -> Value {
        let response = self.get(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "job {id}");
        response.json().await.unwrap()
    }

    pub async fn jobs(&self) -> Vec<Value> {
        let mut jobs: Vec<Value> = Vec::new();
        loop {
            let before = jobs.last().map(|job| format!("?before={}", job["id"].as_str().unwrap()));
            let path = format!("/api/v1/jobs{}", before.unwrap_or_default());
            let response = self.get(&path).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let mut list: Value = response.json().await.unwrap();
            let page: Vec<Value> = serde_json::from_value(list["jobs"].take()).unwrap();
            if page.is_empty() {
                return jobs;
            }
            jobs.extend(page);
        }
    }

    /// Waits until the job is in one of these states.
    pub async fn wait_for(&self, id: &str, states: &[&str]) -> Value {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let job = self.job(id).await;
            if states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(
                Instant::now() < end,
                "waited for {states:?}, and it is {job:#}\nlog:\n{}",
                self.deck.log()
            );
            tokio::time::sleep(self.deck.pause()).await;
        }
    }

    /// Waits until the job has ended.
    pub async fn ended(&self, id: &str) -> Value {
        self.wait_for(id, &["converted", "failed", "cancelled", "expired"]).await
    }

    /// All jobs, once each has ended.
    pub async fn all_settled(&self) -> Vec<Value> {
        for job in self.jobs().await {
            self.ended_or_gone(job["id"].as_str().unwrap()).await;
        }
        self.jobs().await
    }

    /// A job whose upload was never accepted vanishes instead of ending.
    async fn ended_or_gone(&self, id: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let response = self.get(&format!("/api/v1/jobs/{id}")).send().await.unwrap();
            if response.status() == StatusCode::NOT_FOUND {
                return;
            }
            let job: Value = response.json().await.unwrap();
            if ["converted", "failed", "cancelled", "expired"].contains(&job["state"].as_str().unwrap()) {
                return;
            }
            assert!(Instant::now() < end, "job {id} does not end: {job:#}\nlog:\n{}", self.deck.log());
            tokio::time::sleep(self.deck.pause()).await;
        }
    }

    /// The MP3 over the original's route, whole.
    pub async fn download(&self, fid: &str) -> Vec<u8> {
        let response = self.get(&format!("/download?fid={fid}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "audio/mpeg");
        response.bytes().await.unwrap().to_vec()
    }
}
