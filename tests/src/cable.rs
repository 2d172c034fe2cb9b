//! A network cable between a client and a server, to be cut and mended: how a test loses messages on purpose.

use std::io;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A relay on a port of its own. Cut, it ends every connection and takes no new one; what was under way is lost.
#[derive(Debug)]
pub struct Cable {
    url: String,
    whole: watch::Sender<bool>,
    relay: JoinHandle<()>,
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
        let (whole, state) = watch::channel(true);
        let relay = tokio::spawn(relay(listener, server, state));
        Self { url: format!("nats://127.0.0.1:{port}"), whole, relay }
    }

    /// Where the client connects.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection and refuses new ones.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, server: String, state: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *state.borrow() {
            connections.spawn(carry(client, server.clone(), state.clone()));
        }
    }
}

async fn carry(mut client: TcpStream, server: String, mut state: watch::Receiver<bool>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        _ = state.wait_for(|whole| !whole) => Ok(()),
    }
}
