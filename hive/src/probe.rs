//! Health checks of workers over HTTP, each on the worker's own port: a second channel beside the heartbeats.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

/// True if the worker on this port answers within `limit` that it is ready, or that something else keeps it from taking jobs
/// (status 424), which a restart would not change.
pub(crate) async fn is_healthy(port: u16, limit: Duration) -> bool {
    // Timer: a worker that does not answer is unhealthy.
    match timeout(limit, get_health(port)).await {
        Ok(Ok(healthy)) => healthy,
        Ok(Err(error)) => {
            debug!(port, %error, "a health check failed");
            false
        }
        Err(_) => {
            debug!(port, "a health check timed out");
            false
        }
    }
}

/// Sends the request and reads the status line, which is all that is needed of HTTP (RFC 9112).
async fn get_health(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(matches!(&status, b"HTTP/1.1 200" | b"HTTP/1.1 424"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn worker_that_answers_too_late_is_unhealthy() {
        let unresponsive = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = unresponsive.local_addr().expect("an address").port();
        let (asked, limit) = (Instant::now(), Duration::from_millis(20));
        assert!(!is_healthy(port, limit).await);
        assert!(asked.elapsed() >= limit);
    }

    #[tokio::test]
    async fn only_status_200_and_a_missing_dependency_are_healthy() {
        for (status, expected) in
            [("200 OK", true), ("424 Failed Dependency", true), ("503 Service Unavailable", false)]
        {
            let worker = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = worker.local_addr().expect("an address").port();
            let answering = tokio::spawn(async move {
                let (mut stream, _) = worker.accept().await.expect("a connection");
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.expect("a request");
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("written");
                request
            });
            assert_eq!(is_healthy(port, Duration::from_secs(20)).await, expected, "{status}");
            assert_eq!(&answering.await.expect("it has answered"), b"GET /healthz HTT");
        }
    }
}
