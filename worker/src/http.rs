//! `/healthz` and `/metrics`, on the socket that the hive has bound and passed to this process.

use std::{io, net::TcpListener};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

/// Upper bounds of the buckets of every histogram, in seconds. They cover tokens (5 ms) to long waits in the queue (30 s).
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Health of a worker, as `/healthz` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It loads its model: status 503.
    Loading,
    /// It takes jobs: status 200.
    Ready,
    /// It could take jobs, but the stream of jobs does not exist: status 424. A restart would not help, so its hive leaves it
    /// alone.
    NoQueue,
}

#[derive(Clone)]
struct Shared {
    metrics: PrometheusHandle,
    health: watch::Receiver<Health>,
}

/// The socket that the hive has passed (sd_listen_fds(3)), if there is one.
pub(crate) fn passed_socket() -> io::Result<Option<TcpListener>> {
    listenfd::ListenFd::from_env().take_tcp_listener(0)
}

/// Serves HTTP until the process ends.
pub(crate) fn serve(listener: TcpListener, health: watch::Receiver<Health>) -> io::Result<()> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    let metrics = builder.and_then(PrometheusBuilder::install_recorder).map_err(io::Error::other)?;
    crate::metrics::describe();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/healthz", get(report_health))
        .route("/metrics", get(|State(shared): State<Shared>| async move { shared.metrics.render() }))
        .with_state(Shared { metrics, health });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn report_health(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    match *shared.health.borrow() {
        Health::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading\n"),
        Health::Ready => (StatusCode::OK, "ready\n"),
        Health::NoQueue => (StatusCode::FAILED_DEPENDENCY, "the stream of jobs does not exist\n"),
    }
}
