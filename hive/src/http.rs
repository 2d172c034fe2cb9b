//! `/healthz` and `/metrics` of a hive, on an address of its own.

use std::{io, net::TcpListener};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

/// Health of a hive, as `/healthz` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// The hive recovers what its earlier runs left.
    Recovering,
    /// The hive takes commands.
    Online,
    /// The hive has no connection to the bus and receives no commands. Its workers continue.
    BusAway,
    /// The hive is connected, and the bus stores nothing of what it publishes: the disk of the server is full, or a stream was
    /// deleted.
    BusStoresNothing,
    /// The hive takes no further workers, or stops.
    Draining,
}

impl Health {
    /// Name of the health in `/healthz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Online => "online",
            Self::BusAway => "bus-away",
            Self::BusStoresNothing => "bus-stores-nothing",
            Self::Draining => "draining",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Online => StatusCode::OK,
            Self::Recovering | Self::BusAway | Self::BusStoresNothing | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

#[derive(Clone)]
struct Shared {
    health: watch::Receiver<Health>,
    metrics: PrometheusHandle,
}

/// Serves `/healthz` and `/metrics` until the future is dropped.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    health: watch::Receiver<Health>,
    metrics: PrometheusHandle,
) -> io::Result<()> {
    crate::metrics::describe();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/healthz", get(report_health))
        .route("/metrics", get(|State(shared): State<Shared>| async move { shared.metrics.render() }))
        .with_state(Shared { health, metrics });
    axum::serve(listener, router).await
}

async fn report_health(State(shared): State<Shared>) -> (StatusCode, String) {
    let health = *shared.health.borrow();
    (health.status(), format!("{}\n", health.as_str()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: hive\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it is answered");
        answer
    }

    #[tokio::test]
    async fn only_an_online_hive_is_healthy_and_each_state_has_a_word() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (health, seen) = watch::channel(Health::Recovering);
        let recorder = PrometheusBuilder::new().build_recorder();
        let _serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, seen, recorder.handle())));
        for (now, code, name) in [
            (Health::Recovering, "503 Service Unavailable", "recovering"),
            (Health::Online, "200 OK", "online"),
            (Health::BusAway, "503 Service Unavailable", "bus-away"),
            (Health::BusStoresNothing, "503 Service Unavailable", "bus-stores-nothing"),
            (Health::Draining, "503 Service Unavailable", "draining"),
        ] {
            health.send_replace(now);
            let answer = get(address, "/healthz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{name}\n")), "{answer}");
        }
        metrics::with_local_recorder(&recorder, || crate::metrics::bus_online(true));
        let answer = get(address, "/metrics").await;
        assert!(answer.contains("\nrbee_hive_bus_online 1\n"), "{answer}");
        assert!(get(address, "/elsewhere").await.starts_with("HTTP/1.1 404"));
    }
}
