//! The backup channel: a worker's health, asked over HTTP on its own port.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

/// Whether the worker on this port answers within `limit` that it is ready.
pub(crate) async fn is_healthy(port: u16, limit: Duration) -> bool {
    match timeout(limit, ask(port)).await {
        Ok(Ok(well)) => well,
        Ok(Err(error)) => {
            debug!(port, %error, "a health check failed");
            false
        }
        Err(_) => {
            debug!(port, "a health check was not answered in time");
            false
        }
    }
}

/// All that is needed of HTTP (RFC 9112) is the status line.
async fn ask(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_takes_longer_to_answer_than_it_may_is_not_well() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let (asked, limit) = (Instant::now(), Duration::from_millis(20));
        assert!(!is_healthy(port, limit).await);
        assert!(asked.elapsed() >= limit);
    }
}
