//! The harness: a running Tapedeck with its own data folder, and what is left when a test is over.

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

pub const TAPEDECK: &str = env!("CARGO_BIN_EXE_tapedeck");
pub const ANA: &str = "ana@example.com";
pub const BOB: &str = "Bob@Example.com";
/// The seeds' own password.
pub const PASSWORD: &str = "Admin123";

/// How the four roles are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    OneProcess,
    FourProcesses,
}

/// A running Tapedeck.
pub struct Deck {
    pub dir: TempDir,
    pub url: String,
    pub client: Client,
    /// What the processes printed.
    pub printed: Arc<Mutex<String>>,
    processes: Processes,
    shape: Shape,
    environment: BTreeMap<String, String>,
}

/// A file of `media/`.
pub fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../media").join(name)
}

/// A tool that the tests need; `cargo xtask test` installs it and names it.
pub fn tool(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

/// `tapedeck` with these arguments on this data folder, and nothing of our own environment that it would read.
pub fn tapedeck(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(TAPEDECK);
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

/// Adds a user by the command line, as an operator does.
pub fn add_user(data: &Path, email: &str, password: &str) {
    let mut child = tapedeck(data, &["user", "add", email, "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success(), "tapedeck user add {email}");
}

impl Deck {
    /// A deck with the users Ana and Bob.
    pub async fn start(shape: Shape) -> Deck {
        Deck::start_with(shape, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_with(shape: Shape, environment: &[(&str, &str)]) -> Deck {
        let dir = tempfile::tempdir().unwrap();
        add_user(dir.path(), ANA, PASSWORD);
        add_user(dir.path(), BOB, PASSWORD);
        Deck::on(dir, shape, environment).await
    }

    /// A deck on a data folder that there is.
    pub async fn on(dir: TempDir, shape: Shape, environment: &[(&str, &str)]) -> Deck {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let mut deck = Deck {
            dir,
            url: String::new(),
            client,
            printed: Arc::default(),
            processes: Processes::default(),
            shape,
            environment,
        };
        deck.run();
        deck
    }

    /// Starts the processes of this shape.
    fn run(&mut self) {
        match self.shape {
            Shape::OneProcess => self.url = self.spawn(&["serve"], &[]),
            Shape::FourProcesses => {
                let auth = self.spawn(&["serve", "--roles", "auth"], &[]);
                for role in ["converter", "notification"] {
                    self.spawn(&["serve", "--roles", role], &[]);
                }
                self.url = self.spawn(&["serve", "--roles", "gateway"], &[("TAPEDECK_BACKENDS_AUTH", &auth)]);
            }
        }
    }

    /// Starts one process and waits until it says where it is.
    fn spawn(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let log =
            fs::File::options().create(true).append(true).open(self.dir.path().join("test.log")).unwrap();
        let mut child = tapedeck(self.dir.path(), arguments)
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
        fs::read_to_string(self.dir.path().join("test.log")).unwrap_or_default()
    }

    /// The data folder, after everything was killed with SIGKILL: for the next start.
    pub fn kill(self) -> TempDir {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10));
        let Deck { dir, .. } = self;
        dir
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
    pub fn first_ended(&self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let ended = self.processes.lock().iter_mut().find_map(|child| child.try_wait().unwrap());
            if ended.is_some() {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
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
            .unwrap();
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
            let faults = self.house_faults(&jobs);
            if faults.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "the house is not empty: {faults:#?}\nlog:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that is out of order, given all settled jobs.
    pub fn house_faults(&self, jobs: &[Value]) -> Vec<String> {
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
            let mails = self.mails_about(id).len();
            if mails != usize::from(state != "cancelled") {
                faults.push(format!("job {id} is {state} and has {mails} mails"));
            }
        }
        for folder in ["videos", "mp3s"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
                if expected.remove(&name).is_none() {
                    faults.push(format!("{name} belongs to nobody"));
                }
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

    /// The mails in the outbox, whole ones only.
    pub fn mails(&self) -> Vec<String> {
        let outbox = fs::read_dir(self.dir.path().join("outbox")).unwrap();
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
        let part = multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = multipart::Form::new().part("file", part);
        self.post("/upload").header("accept", "application/json").multipart(form).send().await
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
        let response = self.get("/api/v1/jobs").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut list: Value = response.json().await.unwrap();
        serde_json::from_value(list["jobs"].take()).unwrap()
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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
