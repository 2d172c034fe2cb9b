//! A real nats-server for one test: in a container where a Docker engine can run it, else as a child process.
//!
//! `RBEE_TEST_NATS=container` or `RBEE_TEST_NATS=child` forces one of them; which was chosen, and why, is printed once.

mod child;
mod cluster;
mod container;

use std::{env, time::Duration};

use async_nats::jetstream::stream::Config;
use rbee_nats::{Bus, ConnectError, Connection, Plan, Topology};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    sync::OnceCell,
    time::timeout,
};

use crate::{
    network::Network,
    port::Port,
    wait::{PATIENCE, eventually},
};
use child::ChildServer;
use cluster::Cluster;
use container::ContainerServer;

/// The variable that forces one kind of server.
const VARIABLE: &str = "RBEE_TEST_NATS";

const LOOPBACK: &str = "127.0.0.1";

/// A nats-server with its own data. It ends, and its data goes, when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    url: String,
    running: Running,
    _port: Port,
}

/// Whether a server keeps data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    JetStream,
    Nothing,
}

#[derive(Debug)]
enum Running {
    Child(ChildServer),
    Container(Box<ContainerServer>),
    Cluster(Cluster),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Child,
    Container,
}

/// Which kind of server this process uses.
static KIND: OnceCell<Kind> = OnceCell::const_new();

impl NatsServer {
    /// Starts a server with JetStream and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub async fn start() -> Self {
        Self::start_with(Store::JetStream).await
    }

    /// Starts a server that keeps nothing.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub async fn start_without_jetstream() -> Self {
        Self::start_with(Store::Nothing).await
    }

    /// Starts a server as a child process that listens on this address of the machine.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub async fn start_at(address: &str) -> Self {
        let port = Port::take();
        let running = Running::Child(ChildServer::start(address, port.number(), Store::JetStream));
        let mut server = Self { url: format!("nats://{address}:{}", port.number()), running, _port: port };
        server.wait_until_it_answers().await;
        server
    }

    /// Starts three servers as child processes, one on each machine, and waits until they have a leader. What is made on
    /// them later has three replicas.
    ///
    /// # Panics
    /// When they cannot be started.
    pub async fn cluster(network: &Network) -> Self {
        let (cluster, url) = Cluster::start(network);
        let mut server = Self { url, running: Running::Cluster(cluster), _port: Port::take() };
        eventually("three servers have a leader", PATIENCE, async || {
            if let Running::Cluster(cluster) = &mut server.running {
                cluster.check();
            }
            let Ok(bus) = connect(&server.url, "rbee").await else { return false };
            Plan::compute(&bus).await.is_ok()
        })
        .await;
        server
    }

    async fn start_with(store: Store) -> Self {
        let port = Port::take();
        let mut tried = None;
        let kind = KIND.get_or_init(async || choose(port.number(), store, &mut tried).await).await;
        let running = match (tried, kind) {
            (Some(container), _) => Running::Container(Box::new(container)),
            (None, Kind::Child) => Running::Child(ChildServer::start(LOOPBACK, port.number(), store)),
            (None, Kind::Container) => {
                let started = ContainerServer::start(port.number(), store).await;
                Running::Container(Box::new(started.unwrap_or_else(|why| panic!("no container: {why}"))))
            }
        };
        let host = match &running {
            Running::Child(_) => LOOPBACK.to_owned(),
            Running::Container(container) => container.host().await,
            Running::Cluster(_) => unreachable!("it is started otherwise"),
        };
        let url = format!("nats://{host}:{}", port.number());
        let mut server = Self { url, running, _port: port };
        server.wait_until_it_answers().await;
        server
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process, where that is a child of this one.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Child(child) => Some(child.pid()),
            Running::Container(_) | Running::Cluster(_) => None,
        }
    }

    /// Kills it as a power cut would kill its process: no goodbye to anybody, no last write.
    ///
    /// # Panics
    /// When it runs no more.
    pub async fn kill(&mut self) {
        match &mut self.running {
            Running::Child(child) => child.kill(),
            Running::Container(container) => container.kill().await,
            Running::Cluster(_) => panic!("which of the three?"),
        }
    }

    /// Starts it again after [`NatsServer::kill`], with the same data on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        match &mut self.running {
            Running::Child(child) => child.restart(),
            Running::Container(container) => container.restart().await,
            Running::Cluster(_) => panic!("which of the three?"),
        }
        self.wait_until_it_answers().await;
    }

    /// A connection to it, with all streams and buckets of `namespace` made.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn bus(&self, namespace: &str) -> Bus {
        let bus = self.connect(namespace).await;
        let plan = Plan::compute(&bus).await.expect("the server is looked at");
        plan.apply(&bus).await.expect("the server is prepared");
        if matches!(self.running, Running::Cluster(_)) {
            replicate(&bus).await;
        }
        bus
    }

    /// A connection to it, with nothing made.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn connect(&self, namespace: &str) -> Bus {
        connect(&self.url, namespace).await.expect("the server is there")
    }

    /// A port may be open before anybody stands behind it: only the server's greeting says that it is ready.
    async fn wait_until_it_answers(&mut self) {
        let address = self.url.trim_start_matches("nats://");
        eventually(&format!("a nats-server answers at {}", self.url), PATIENCE, async || {
            match &mut self.running {
                Running::Child(child) => child.check(),
                Running::Container(container) => container.check().await,
                Running::Cluster(cluster) => cluster.check(),
            }
            let Ok(stream) = TcpStream::connect(address).await else { return false };
            let mut greeting = String::new();
            let read = timeout(Duration::from_secs(2), BufReader::new(stream).read_line(&mut greeting)).await;
            matches!(read, Ok(Ok(_))) && greeting.starts_with("INFO ")
        })
        .await;
    }
}

/// What an operator does once: every stream gets three replicas.
async fn replicate(bus: &Bus) {
    for spec in Topology::new(bus.namespace()).streams {
        let stream = bus.jetstream().get_stream(&spec.name).await.expect("it was made");
        let config = Config { num_replicas: 3, ..stream.cached_info().config.clone() };
        bus.jetstream().update_stream(config).await.expect("the servers take it");
        eventually(&format!("{} has three replicas", spec.name), PATIENCE, async || {
            let Ok(mut stream) = bus.jetstream().get_stream(&spec.name).await else { return false };
            let Ok(info) = stream.info().await else { return false };
            info.cluster.as_ref().is_some_and(|cluster| {
                cluster.leader.is_some()
                    && cluster.replicas.len() == 2
                    && cluster.replicas.iter().all(|peer| peer.current)
            })
        })
        .await;
    }
}

/// A connection to the server at `url`.
///
/// # Errors
/// When the server cannot be reached or used.
pub async fn connect(url: &str, namespace: &str) -> Result<Bus, ConnectError> {
    connect_with(url, namespace, "").await
}

/// The same with these settings of the connection.
///
/// # Errors
/// When the server cannot be reached or used.
pub async fn connect_with(url: &str, namespace: &str, settings: &str) -> Result<Bus, ConnectError> {
    let namespace = namespace.parse().expect("a namespace of a test is valid");
    let settings = settings.parse().expect("settings of a test are valid");
    Bus::connect(&Connection { url: url.to_owned(), name: "test".to_owned(), namespace, settings }).await
}

/// Chooses the kind of server; a container that was started to find out is the first that is used.
async fn choose(port: u16, store: Store, tried: &mut Option<ContainerServer>) -> Kind {
    let forced = env::var(VARIABLE).ok();
    let (kind, why) = match forced.as_deref() {
        Some("child") => (Kind::Child, format!("{VARIABLE}=child")),
        Some("container") => match ContainerServer::start(port, store).await {
            Ok(container) => {
                *tried = Some(container);
                (Kind::Container, format!("{VARIABLE}=container"))
            }
            Err(why) => panic!(
                "{VARIABLE}=container, but no container can be started: {why}. Start a Docker engine that this user may \
                 use, or set {VARIABLE}=child"
            ),
        },
        Some(other) => panic!("{VARIABLE} is `{other}`: expected `container` or `child`"),
        None => match ContainerServer::start(port, store).await {
            Ok(container) => {
                *tried = Some(container);
                (Kind::Container, "a Docker engine answers".to_owned())
            }
            Err(why) => (Kind::Child, format!("no container can be started: {why}")),
        },
    };
    let what = match kind {
        Kind::Child => "child processes",
        Kind::Container => "containers",
    };
    eprintln!("these tests run nats-server in {what}: {why}");
    kind
}
