//! A network cable between a client and a server, to be cut and mended: how a test loses messages on purpose.

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

/// A relay on a port of its own.
#[derive(Debug)]
pub struct Cable {
    url: String,
    state: watch::Sender<State>,
    /// How often it was cut: a connection ends with the next cut, however soon it is mended.
    cuts: watch::Sender<u64>,
    relay: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything comes through.
    Whole,
    /// The server hears the client; the client hears nothing.
    OneWay,
    /// Every connection ends, and none is made.
    Cut,
}

impl Cable {
    /// A whole cable to the server at `url`.
    ///
    /// # Panics
    /// When this machine has no port for it.
    pub async fn to(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the cable");
        let port = listener.local_addr().expect("the cable's port").port();
        let (state, states) = watch::channel(State::Whole);
        let (cuts, next_cuts) = watch::channel(0);
        let relay = tokio::spawn(relay(listener, server, states, next_cuts));
        Self { url: format!("nats://127.0.0.1:{port}"), state, cuts, relay }
    }

    /// Where the client connects.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection and refuses new ones.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Loses from now on what the server says. What is lost is missing in the middle of a conversation, so that the cable
    /// has to be cut before it is mended.
    pub fn lose_answers(&self) {
        self.state.send_replace(State::OneWay);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, server: String, state: watch::Receiver<State>, cuts: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let mut cut = cuts.clone();
        cut.mark_unchanged();
        if *state.borrow() != State::Cut {
            connections.spawn(carry(client, server.clone(), state.clone(), cut));
        }
    }
}

async fn carry(
    client: TcpStream,
    server: String,
    state: watch::Receiver<State>,
    mut cut: watch::Receiver<u64>,
) -> io::Result<()> {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    tokio::select! {
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
        ended = carry_answers(&mut from_server, &mut to_client, &state) => ended,
        _ = cut.changed() => Ok(()),
    }
}

async fn carry_answers(
    server: &mut OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    state: &watch::Receiver<State>,
) -> io::Result<()> {
    let mut answer = vec![0; 64 * 1024];
    loop {
        let length = server.read(&mut answer).await?;
        if length == 0 {
            return Ok(());
        }
        if *state.borrow() == State::Whole {
            client.write_all(&answer[..length]).await?;
        }
    }
}
