//! A fleet of real processes for one test: a nats-server, queens, hives, and the workers that the hives start.

mod hive;
mod metrics;
pub(crate) mod processes;
mod sshd;

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rbee_nats::{Bus, OutputReader, Registry, Submission};
use rbee_schema::{
    Chunk, JobClass, JobId, ModelName, ModelReference, ModelSpec, Replicas, Tenant,
    api::{Hives, Models, Status, Worker, Workers},
};
use tempfile::TempDir;

pub use self::{
    hive::HiveSetup,
    metrics::counted,
    processes::{Run, RunningProcess},
    sshd::Sshd,
};
use crate::{
    nats::NatsServer,
    network::Network,
    port::PortBlock,
    wait::{PATIENCE, eventually},
};

/// Marks every process of a test's fleet, so that exactly those can be ended: workers outlive their hive.
const MARK: &str = "RBEE_TEST_FLEET";

/// A fleet. Every process of it ends when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// Its server.
    pub server: NatsServer,
    /// A connection to it.
    pub bus: Bus,
    /// The ports that its first hive may lease.
    pub ports: PortBlock,
    folder: TempDir,
    mark: String,
    /// What its processes are told besides.
    variables: Vec<(&'static str, String)>,
    roles: Vec<Role>,
    /// The machines of its hives, where they have their own. They go last.
    network: Option<Network>,
}

/// One `rbee` process.
#[derive(Debug)]
struct Role {
    name: String,
    process: Child,
}

/// A program of this repository, built in the same folder as the test that runs.
///
/// # Panics
/// When it is not built.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own program");
    let folder =
        test.ancestors().find(|folder| folder.join("deps").is_dir()).expect("tests are built in a target folder");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is not there: run `cargo build --bins`", program.display());
    program
}

/// Keeps the configuration of whoever runs the tests out of a command: it reads a file that says nothing.
pub fn without_configuration(command: &mut Command) -> &mut Command {
    command.env("RBEE_CONFIG", "/dev/null").env_remove("RBEE_ENV")
}

impl Fleet {
    /// A server, a queen and a hive named `one`, ready.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn start() -> Self {
        let mut fleet = Self::bare().await;
        fleet.queen().await;
        let ports = fleet.ports.range();
        fleet.hive("one", &ports).await;
        fleet
    }

    /// A server that is prepared, and nothing else.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn bare() -> Self {
        Self::with_ports(10).await
    }

    /// A server that is prepared, and as many ports for workers.
    ///
    /// # Panics
    /// When it does not come up, or there are not so many ports side by side.
    pub async fn with_ports(count: u16) -> Self {
        Self::around(NatsServer::start().await, None, count).await
    }

    /// A server that is prepared, so many machines on a network with it, and as many ports for workers.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn on_machines(machines: usize, ports: u16) -> Self {
        let network = Network::new(machines);
        Self::around(NatsServer::start_at(&network.address()).await, Some(network), ports).await
    }

    /// Three servers in a cluster, each on a machine of its own, everything with three replicas, and so many ports.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn on_cluster(ports: u16) -> Self {
        let network = Network::new(3);
        Self::around(NatsServer::cluster(&network).await, Some(network), ports).await
    }

    async fn around(server: NatsServer, network: Option<Network>, ports: u16) -> Self {
        let bus = server.bus("rbee").await;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mark = folder.path().display().to_string();
        Self {
            server,
            bus,
            ports: PortBlock::take_of(ports),
            folder,
            mark,
            variables: Vec::new(),
            roles: Vec::new(),
            network,
        }
    }

    /// Starts a queen, and waits until one answers who leads.
    ///
    /// # Panics
    /// When none does.
    pub async fn queen(&mut self) {
        self.queen_named("queen", "").await;
        eventually("a queen leads", PATIENCE, async || self.status().await.is_some_and(|status| status.leads)).await;
    }

    /// Starts a queen of this name with these timers, and waits until she listens.
    ///
    /// # Panics
    /// When she does not.
    pub async fn queen_named(&mut self, name: &str, timers: &str) {
        self.role(name, &["queen", "--http", "127.0.0.1:0", "--queen-name", name, "--queen-timers", timers]);
        let log = self.log(name);
        let is_up = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("the queen listens"));
        eventually(&format!("queen {name} listens"), PATIENCE, async || is_up()).await;
    }

    /// Starts a hive, and waits until the queen knows it.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn hive(&mut self, name: &str, ports: &str) {
        let data = self.folder.path().join(name).display().to_string();
        self.role(name, &["hive", "--name", name, "--ports", ports, "--data", &data]);
        eventually(&format!("hive {name} is there"), PATIENCE, async || {
            let hives: Result<Hives, _> = self.bus.request("hives", &()).await;
            hives.is_ok_and(|reply| reply.hives.iter().any(|hive| hive.name.as_str() == name))
        })
        .await;
    }

    fn role(&mut self, name: &str, arguments: &[&str]) {
        let mut command = self.command();
        command.args(arguments);
        self.start_role(name, command);
    }

    /// Starts a command as a role, and returns its process. What an earlier one of this name wrote is kept before it.
    fn start_role(&mut self, name: &str, mut command: Command) -> u32 {
        let log = File::options().create(true).append(true).open(self.log(name)).expect("a log can be made");
        let shared = log.try_clone().expect("a file can be shared");
        let process = command.stdout(shared).stderr(log).spawn().expect("the program starts");
        let number = process.id();
        self.roles.push(Role { name: name.to_owned(), process });
        number
    }

    /// The command line, told of this fleet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program("rbee"));
        self.mark(&mut command);
        command
    }

    /// Marks a command as of this fleet: its processes end with it.
    pub fn mark<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        without_configuration(command);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("RBEE_NATS", self.server.url()).env(MARK, &self.mark).stdin(Stdio::null())
    }

    /// Tells every process that is started from now on a variable.
    pub fn tell(&mut self, name: &'static str, value: &str) {
        self.variables.push((name, value.to_owned()));
    }

    /// Where a role writes to.
    pub fn log(&self, role: &str) -> PathBuf {
        self.folder.path().join(format!("{role}.log"))
    }

    /// A folder of this test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the command line to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn rbee(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("the command does not panic").expect("rbee runs")
    }

    /// Where a queen's gateway listens, such as `http://127.0.0.1:41234`.
    ///
    /// # Panics
    /// When she does not say.
    pub async fn http(&self) -> String {
        let log = std::fs::read_to_string(self.log("queen")).expect("the queen writes");
        let address = log.rsplit_once(", HTTP ").and_then(|(_, rest)| rest.split_once("/v1"));
        address.expect("the queen says where HTTP is").0.to_owned()
    }

    /// Declares a model of the test engine.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn serve_mock(&self, name: &str, options: &str, min: u32, max: u32) {
        let replicas = Replicas { min, max };
        self.serve(name, ModelSpec { replicas, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) }).await;
    }

    /// Declares a model.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn serve(&self, name: &str, spec: ModelSpec) {
        Registry::models(&self.bus).put(name, &spec).await.expect("the server answers");
    }

    /// Submits a job and follows its output.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn submit(&self, model: &str, body: serde_json::Value) -> (JobId, OutputReader) {
        let job = JobId::generate();
        let output = self.bus.read_output(&Tenant::default(), &job).await.expect("the server answers");
        let submission = Submission {
            model: model.parse::<ModelName>().expect("a name of a test is valid"),
            class: JobClass::Interactive,
            tenant: Tenant::default(),
            job: job.clone(),
            body: body.to_string().into(),
        };
        self.bus.submit(submission).await.expect("accepted");
        (job, output)
    }

    /// The machines that its hives may have.
    ///
    /// # Panics
    /// When there are none.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("this fleet was started on machines")
    }

    /// What the queen says of the fleet; `None` where none answers.
    pub async fn status(&self) -> Option<Status> {
        self.bus.request("status", &()).await.ok()
    }

    /// All workers, as the queen knows them.
    ///
    /// # Panics
    /// When she does not answer.
    pub async fn workers(&self) -> Vec<Worker> {
        let reply: Workers = self.bus.request("workers", &()).await.expect("the queen answers");
        reply.workers
    }

    /// Waits until the queen knows that these models are declared.
    ///
    /// # Panics
    /// When she does not come to know it.
    pub async fn known(&self, models: &[&str]) {
        eventually(&format!("{models:?} are known"), PATIENCE, async || {
            let reply: Models = self.bus.request("models", &()).await.expect("the queen answers");
            models.iter().all(|model| reply.models.iter().any(|known| known.name.as_str() == *model))
        })
        .await;
    }

    /// Waits until `count` workers are ready, and returns them.
    ///
    /// # Panics
    /// When they do not become so.
    pub async fn ready(&self, count: usize) -> Vec<Worker> {
        let mut ready = Vec::new();
        eventually(&format!("{count} workers are ready"), PATIENCE, async || {
            ready = self.workers().await;
            ready.retain(|worker| worker.record.phase == rbee_schema::WorkerPhase::Ready);
            ready.len() == count
        })
        .await;
        ready
    }

    /// Kills a worker's process as a crash would.
    ///
    /// # Panics
    /// When it has none.
    pub fn kill(&self, worker: &Worker) {
        signal(worker.record.pid.expect("a worker that is killed has a process"), "KILL");
    }

    /// Kills a role's process as a crash would.
    ///
    /// # Panics
    /// When there is no such role.
    pub fn kill_role(&mut self, name: &str) {
        let mut role = self.take(name);
        role.process.kill().expect("the process is ours");
        role.process.wait().expect("the process is ours");
    }

    /// Tells a role to stop and waits until it has; returns whether it ended well.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop_role(&mut self, name: &str) -> bool {
        let role = self.take(name);
        signal(role.process.id(), "TERM");
        Self::end_of(role).await
    }

    /// Waits until a role has ended that was told to otherwise; returns whether it ended well.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end_of_role(&mut self, name: &str) -> bool {
        let role = self.take(name);
        Self::end_of(role).await
    }

    async fn end_of(mut role: Role) -> bool {
        let name = role.name.clone();
        let mut status = None;
        eventually(&format!("{name} has stopped"), PATIENCE, async || {
            status = role.process.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        status.is_some_and(|status| status.success())
    }

    fn take(&mut self, name: &str) -> Role {
        let at = self.roles.iter().position(|role| role.name == name).expect("the role runs");
        self.roles.remove(at)
    }

    /// The processes of this fleet that live, workers included, but not its server.
    pub fn processes(&self) -> Vec<u32> {
        marked(&self.mark)
    }
}

/// Sends a signal to a process that a test has started.
///
/// # Panics
/// When it cannot be sent.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(sent.expect("kill(1) is there").success(), "SIG{name} to {pid}");
}

/// The live processes whose environment holds our mark.
fn marked(mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    numbers.filter(has_mark).collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Hives first: they would start workers anew.
        for role in &mut self.roles {
            let _ = role.process.kill();
            let _ = role.process.wait();
        }
        for pid in marked(&self.mark) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        if std::thread::panicking() {
            for role in ["queen", "one", "two", "three", "again"] {
                if let Ok(log) = std::fs::read_to_string(self.log(role)) {
                    eprintln!("---- {role}\n{log}");
                }
            }
        }
    }
}

/// A chat of one message.
pub fn chat(content: &str) -> serde_json::Value {
    serde_json::json!({ "messages": [{ "role": "user", "content": content }] })
}

/// Everything that a job answers, to its end.
///
/// # Panics
/// When the end does not come.
pub async fn whole(output: &mut OutputReader) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while let Some(committed) = output.next(PATIENCE).await.expect("the answer goes on") {
        chunks.push(committed.chunk);
    }
    chunks
}

/// The token ids of an answer, each with its index.
pub fn tokens(chunks: &[Chunk]) -> Vec<(u32, u32)> {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { index, ids, .. } => (*index..).zip(ids.iter().copied()).collect(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => Vec::new(),
    };
    chunks.iter().flat_map(of).collect()
}

/// The text of an answer.
pub fn text(chunks: &[Chunk]) -> String {
    let of = |chunk: &Chunk| match chunk {
        Chunk::Tokens { text, .. } => text.clone(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Embeddings { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => String::new(),
    };
    chunks.iter().map(of).collect()
}
