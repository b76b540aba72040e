//! A private RabbitMQ (Debian's package `rabbitmq-server`): own node, ports, cookie and folder, and nothing left of it afterwards.
//!
//! The process whose id it knows is the broker itself, so that `kill -9` and SIGSTOP are real. Broker and port mapper die
//! with this process, whatever becomes of it.

use crate::process::{free_ports, what_it_said};
use anyhow::{Context, bail, ensure};
use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a start may take on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a broker is like beyond its defaults; each is a line of its configuration.
#[derive(Debug, Clone, Default)]
pub struct BrokerSettings {
    /// Lines for `rabbitmq.conf`, for instance `consumer_timeout = 2000`.
    pub config: Vec<String>,
    /// How often a channel looks whether `consumer_timeout` is over; RabbitMQ's own is a minute.
    pub channel_tick: Option<Duration>,
}

/// A broker of one's own, with the user `guest` (password `guest`) and the management API. Its calls block.
pub struct Broker {
    folder: TempDir,
    ports: Ports,
    programs: Programs,
    settings: BrokerSettings,
    mapper: Option<Child>,
    broker: Option<Child>,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    api: u16,
    distribution: u16,
    control: u16,
    mapper: u16,
}

#[derive(Clone)]
struct Programs {
    server: PathBuf,
    mapper: PathBuf,
}

impl Broker {
    /// Starts one. It is ready to take connections when this returns.
    pub fn start() -> anyhow::Result<Broker> {
        Broker::start_with(BrokerSettings::default())
    }

    /// Starts one with these settings.
    pub fn start_with(settings: BrokerSettings) -> anyhow::Result<Broker> {
        let mut broker = Broker {
            folder: tempfile::Builder::new().prefix("tapedeck-rabbitmq-").tempdir()?,
            ports: Ports::free()?,
            programs: Programs::find()?,
            settings,
            mapper: None,
            broker: None,
        };
        broker.configure()?;
        broker.restart()?;
        Ok(broker)
    }

    /// `amqp://guest:guest@127.0.0.1:PORT`: the URL of the broker without a virtual host.
    pub fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@{}", self.amqp_address())
    }

    /// `127.0.0.1:PORT`, for a proxy.
    pub fn amqp_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.amqp)
    }

    /// `http://guest:guest@127.0.0.1:PORT`: the URL of the management API.
    pub fn api_url(&self) -> String {
        format!("http://guest:guest@127.0.0.1:{}", self.ports.api)
    }

    /// Ends it as an operator does, and waits for its end.
    pub fn stop(&mut self) {
        self.end(libc::SIGTERM);
    }

    /// Kills it, and waits for its end. What it has on its disk stays.
    pub fn kill9(&mut self) {
        self.end(libc::SIGKILL);
    }

    /// Ends it, if it runs, and starts it on the same disk and the same ports.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop();
        self.start_mapper()?;
        let mut command = Command::new(&self.programs.server);
        command.arg("-noinput").envs(self.environment());
        self.broker = Some(Child::spawn(command, &self.path("console"))?);
        self.wait_until_ready()
    }

    /// Kills it, deletes its disk, and starts it empty on the same ports.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.kill9();
        fs::remove_dir_all(self.path("mnesia")).context("delete the broker's disk")?;
        self.restart()
    }

    /// Stops it where it stands (SIGSTOP): its connections stay open and nothing is answered. All of it stands when this returns.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(libc::SIGSTOP);
        match &self.broker {
            Some(broker) => wait_for("RabbitMQ's standstill", || broker.stands_still()),
            None => Ok(()),
        }
    }

    /// Lets a paused one go on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Runs `rabbitmqctl` with these arguments on it.
    pub fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.server.with_file_name("rabbitmqctl"));
        command.env("RABBITMQ_CTL_DIST_PORT_MIN", self.ports.control.to_string());
        command.env("RABBITMQ_CTL_DIST_PORT_MAX", self.ports.control.to_string());
        command.envs(self.environment()).arg("--node").arg(self.node()).args(arguments);
        let done = command.output().context("start rabbitmqctl")?;
        let said = [done.stdout, done.stderr].concat();
        ensure!(done.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&said));
        Ok(())
    }

    fn node(&self) -> String {
        format!("tapedeck{}@localhost", self.ports.amqp)
    }

    fn end(&mut self, signal: i32) {
        if let Some(broker) = self.broker.take() {
            broker.end(signal);
        }
    }

    fn signal(&self, signal: i32) {
        if let Some(broker) = &self.broker {
            broker.signal(signal);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) -> anyhow::Result<()> {
        for folder in ["mnesia", "log", "generated"] {
            fs::create_dir(self.path(folder))?;
        }
        fs::write(self.path("enabled_plugins"), "[rabbitmq_management].")?;
        let mut lines = vec![
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", self.ports.api),
            "vm_memory_high_watermark.absolute = 512MB".to_owned(),
            "disk_free_limit.absolute = 50MB".to_owned(),
            "log.file.level = warning".to_owned(),
            "log.console = false".to_owned(),
            "collect_statistics_interval = 1000".to_owned(),
        ];
        lines.extend(self.settings.config.clone());
        lines.push(String::new());
        fs::write(self.path("rabbitmq.conf"), lines.join("\n"))?;
        let tick = self.settings.channel_tick.unwrap_or(Duration::from_secs(60)).as_millis();
        let advanced = format!(
            "[{{rabbit,[{{channel_tick_interval,{tick}}}]}},{{ra,[{{wal_max_size_bytes,16000000}}]}}]."
        );
        Ok(fs::write(self.path("advanced.config"), advanced)?)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let Ports { amqp, distribution, mapper, .. } = self.ports;
        vec![
            // The cookie is made there.
            ("HOME", path("")),
            ("RABBITMQ_NODENAME", self.node()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", amqp.to_string()),
            ("RABBITMQ_DIST_PORT", distribution.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", path("generated")),
            ("RABBITMQ_FEATURE_FLAGS_FILE", path("feature_flags")),
            // With it the script becomes the broker instead of waiting for it.
            ("RABBITMQ_ALLOW_INPUT", "1".into()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2".into(),
            ),
            ("ERL_EPMD_PORT", mapper.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ]
    }

    /// Starts Erlang's port mapper ourselves: the broker would start one that outlives it.
    fn start_mapper(&mut self) -> anyhow::Result<()> {
        if self.mapper.is_none() {
            let port = self.ports.mapper;
            let mut command = Command::new(&self.programs.mapper);
            command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
            self.mapper = Some(Child::spawn(command, &self.path("mapper"))?);
            wait_for("Erlang's port mapper", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let (console, amqp) = (self.path("console"), self.ports.amqp);
        let broker = self.broker.as_mut().context("the broker was started")?;
        let ready = wait_for("RabbitMQ", || broker.has_ended().is_some() || greets(amqp));
        if let (Ok(()), None) = (&ready, broker.has_ended()) {
            return Ok(());
        }
        let said = fs::read_to_string(&console).unwrap_or_default();
        bail!(
            "RabbitMQ did not start ({}). It said:\n{}",
            match broker.has_ended() {
                Some(status) => status.to_string(),
                None => format!("not ready after {} s", PATIENCE.as_secs()),
            },
            what_it_said(&said)
        );
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
        if let Some(mapper) = self.mapper.take() {
            mapper.end(libc::SIGKILL);
        }
    }
}

impl Ports {
    fn free() -> anyhow::Result<Ports> {
        let [amqp, api, distribution, control, mapper] = free_ports()?;
        Ok(Ports { amqp, api, distribution, control, mapper })
    }
}

impl Programs {
    fn find() -> anyhow::Result<Programs> {
        let missing = "RabbitMQ is not installed; run `cargo xtask setup --tests` (Debian: apt-get install rabbitmq-server)";
        let library = Path::new("/usr/lib/rabbitmq/lib");
        let mut releases: Vec<PathBuf> =
            fs::read_dir(library).context(missing)?.flatten().map(|entry| entry.path()).collect();
        releases.sort();
        // Not /usr/sbin/rabbitmq-server: that is a wrapper which wants to be root.
        let server = releases.pop().context(missing)?.join("sbin/rabbitmq-server");
        ensure!(server.exists(), missing);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mapper = std::env::split_paths(&paths)
            .chain(["/usr/bin".into()])
            .map(|folder| folder.join("epmd"))
            .find(|file| file.exists())
            .context("Erlang's `epmd` is not installed; run `cargo xtask setup --tests`")?;
        Ok(Programs { server, mapper })
    }
}

/// Does a broker answer there?
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut [0; 8]).is_ok()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < PATIENCE, "{what} is not ready after {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// A child process that dies with this one.
struct Child {
    pid: i32,
    keeper: JoinHandle<Option<ExitStatus>>,
    ended: mpsc::Receiver<ExitStatus>,
    status: Option<ExitStatus>,
}

impl Child {
    /// Spawns it from a thread that lives as long as the child does: the kernel kills the child when the thread that
    /// spawned it ends, not when the process does.
    fn spawn(mut command: Command, console: &Path) -> anyhow::Result<Child> {
        let program = PathBuf::from(command.get_program());
        let output = fs::File::create(console)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let (started, start) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let keeper = std::thread::spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return None;
                }
            };
            let _ = started.send(Ok(child.id()));
            let status = child.wait().ok()?;
            let _ = end.send(status);
            Some(status)
        });
        let name = program.file_name().unwrap_or(OsStr::new("a program")).to_owned();
        let pid = start.recv()?.with_context(|| format!("start {}", name.display()))?;
        Ok(Child { pid: i32::try_from(pid)?, keeper, ended, status: None })
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.status = self.status.or_else(|| self.ended.try_recv().ok());
        self.status
    }

    /// Is each of its threads stopped? The signal reaches them one by one.
    fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // "id (name) state …"; the name may hold anything.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn signal(&self, signal: i32) {
        if !self.keeper.is_finished() {
            // SAFETY: kill touches no memory. The keeper has not reaped the child, or is about to within this instant.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn end(self, signal: i32) {
        self.signal(libc::SIGCONT);
        self.signal(signal);
        let _ = self.keeper.join();
    }
}
