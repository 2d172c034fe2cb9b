//! A TCP relay between a client and a server. A test cuts it to lose connections, or lets it drop what the server sends.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A relay on a port of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    url: String,
    state: watch::Sender<State>,
    /// Number of cuts so far. A connection ends with the next cut, however soon the relay is restored.
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Both directions pass.
    Open,
    /// The server receives what the client sends; the client receives nothing.
    DropsReplies,
    /// Every connection ends, and new ones are refused.
    Cut,
}

impl Relay {
    /// Starts a relay to the server at `url`.
    ///
    /// # Panics
    /// When this machine has no free port.
    pub async fn start(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the relay");
        let port = listener.local_addr().expect("the relay's port").port();
        let (state, states) = watch::channel(State::Open);
        let (cuts, next_cuts) = watch::channel(0);
        let task = tokio::spawn(accept(listener, server, states, next_cuts));
        Self { url: format!("nats://127.0.0.1:{port}"), state, cuts, task }
    }

    /// The address at which clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Drops everything that the server sends from now on. The client would miss the middle of a conversation, so cut the
    /// relay before you restore it.
    pub fn drop_replies(&self) {
        self.state.send_replace(State::DropsReplies);
    }

    /// Lets both directions pass again.
    pub fn restore(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, state: watch::Receiver<State>, cuts: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut cut = cuts.clone();
        cut.mark_unchanged();
        if *state.borrow() != State::Cut {
            connections.spawn(relay(client, server.clone(), state.clone(), cut));
        }
    }
}

async fn relay(
    client: TcpStream,
    server: String,
    state: watch::Receiver<State>,
    mut cut: watch::Receiver<u64>,
) -> io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::select! {
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
        ended = relay_replies(&mut from_server, &mut to_client, &state) => ended,
        _ = cut.changed() => Ok(()),
    }
}

async fn relay_replies(
    server: &mut OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    state: &watch::Receiver<State>,
) -> io::Result<()> {
    let mut reply = vec![0; 64 * 1024];
    loop {
        let length = server.read(&mut reply).await?;
        if length == 0 {
            return Ok(());
        }
        if *state.borrow() == State::Open {
            client.write_all(&reply[..length]).await?;
        }
    }
}
