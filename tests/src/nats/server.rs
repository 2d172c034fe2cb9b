//! The server of a test: started, killed, started again, and connected to.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use rbee_nats::{Bus, Plan, Topology};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{
    child::ChildServer,
    cluster::Cluster,
    connect::connect,
    container::ContainerServer,
    kind::{Kind, kind},
    store::Store,
};
use crate::{
    network::Network,
    port::Port,
    wait::{PATIENCE, eventually},
};

const LOOPBACK: &str = "127.0.0.1";

/// Time limit for the greeting of a server that has accepted a connection.
const GREETING: Duration = Duration::from_secs(2);

/// A nats-server with its own data. It ends, and its data is deleted, when it is dropped.
#[derive(Debug)]
pub struct NatsServer {
    url: String,
    running: Running,
    _port: Port,
}

#[derive(Debug)]
enum Running {
    Child(ChildServer),
    Container(Box<ContainerServer>),
    Cluster(Cluster),
}

impl NatsServer {
    /// Starts a server with JetStream and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub async fn start() -> Self {
        Self::start_with(Store::JetStream).await
    }

    /// Starts a server without JetStream.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub async fn start_without_jetstream() -> Self {
        Self::start_with(Store::Nothing).await
    }

    /// Starts a server as a child process that listens on this address.
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

    /// Starts three servers as child processes, one on each machine, and waits until they have a leader. Streams that
    /// [`NatsServer::bus`] creates on them have three replicas.
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
        let running = match kind(port.number(), store).await {
            (_, Some(container)) => Running::Container(Box::new(container)),
            (Kind::Child, None) => Running::Child(ChildServer::start(LOOPBACK, port.number(), store)),
            (Kind::Container, None) => {
                let started = ContainerServer::start(port.number(), store).await;
                Running::Container(Box::new(started.unwrap_or_else(|why| panic!("failed to start a container: {why}"))))
            }
        };
        let host = match &running {
            Running::Child(_) => LOOPBACK.to_owned(),
            Running::Container(container) => container.host().await,
            Running::Cluster(_) => unreachable!("`NatsServer::cluster` starts clusters"),
        };
        let url = format!("nats://{host}:{}", port.number());
        let mut server = Self { url, running, _port: port };
        server.wait_until_it_answers().await;
        server
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process number of the server; `None` where it is no child of this process.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Child(child) => Some(child.pid()),
            Running::Container(_) | Running::Cluster(_) => None,
        }
    }

    /// Kills the server, as a power failure would: it closes no connection and writes nothing more.
    ///
    /// # Panics
    /// When the server has exited, or is a cluster.
    pub async fn kill(&mut self) {
        match &mut self.running {
            Running::Child(child) => child.kill(),
            Running::Container(container) => container.kill().await,
            Running::Cluster(_) => panic!("a cluster has three servers: disconnect a machine instead"),
        }
    }

    /// Starts the server again after [`NatsServer::kill`], with the same data on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        match &mut self.running {
            Running::Child(child) => child.restart(),
            Running::Container(container) => container.restart().await,
            Running::Cluster(_) => panic!("a cluster has three servers: disconnect a machine instead"),
        }
        self.wait_until_it_answers().await;
    }

    /// Connects to the server, and creates all streams and buckets of `namespace`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn bus(&self, namespace: &str) -> Bus {
        let bus = self.connect(namespace).await;
        let plan = Plan::compute(&bus).await.expect("the server is inspected");
        plan.apply(&bus).await.expect("the server is prepared");
        if matches!(self.running, Running::Cluster(_)) {
            replicate(&bus).await;
        }
        bus
    }

    /// Connects to the server, and creates nothing.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn connect(&self, namespace: &str) -> Bus {
        connect(&self.url, namespace).await.expect("the server answers")
    }

    /// A container engine opens the port before the server runs: only the greeting of the server says that it is ready.
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
            let read = timeout(GREETING, BufReader::new(stream).read_line(&mut greeting)).await;
            matches!(read, Ok(Ok(_))) && greeting.starts_with("INFO ")
        })
        .await;
    }
}

/// Gives every stream three replicas, as an operator does once.
async fn replicate(bus: &Bus) {
    for spec in Topology::new(bus.namespace()).streams {
        let stream = bus.jetstream().get_stream(&spec.name).await.expect("the stream was created");
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
