//! `/healthz` and `/metrics`, on the socket that the hive has bound and passed to this process.

use std::{io, net::TcpListener, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

/// Upper bounds of the buckets of every histogram, in seconds. They cover tokens (5 ms) to long waits in the queue (30 s).
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Clone)]
struct Shared {
    metrics: PrometheusHandle,
    ready: Arc<watch::Receiver<bool>>,
}

/// The socket that the hive has passed (sd_listen_fds(3)), if there is one.
pub(crate) fn passed_socket() -> io::Result<Option<TcpListener>> {
    listenfd::ListenFd::from_env().take_tcp_listener(0)
}

/// Serves HTTP until the process ends. `/healthz` answers 503 until `ready` is true.
pub(crate) fn serve(listener: TcpListener, ready: watch::Receiver<bool>) -> io::Result<()> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    let metrics = builder.and_then(PrometheusBuilder::install_recorder).map_err(io::Error::other)?;
    crate::metrics::describe();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(|State(shared): State<Shared>| async move { shared.metrics.render() }))
        .with_state(Shared { metrics, ready: Arc::new(ready) });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn health(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if *shared.ready.borrow() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "loading\n") }
}
