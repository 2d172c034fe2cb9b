//! HTTP gateway: the OpenAI API for chats and embeddings on top of the bus. It holds no state, so any number may run.
//!
//! API: <https://platform.openai.com/docs/api-reference/chat>.

mod answer;
mod chat;
mod embeddings;
mod openai;
mod reply;
mod service;
mod stream;

use std::{io, net::SocketAddr};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use rbee_nats::{Bus, Registry};
use rbee_schema::{Failure, FailureCode, MAX_BODY_BYTES};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::service::Service;
use crate::{decide::timers::Timers, metrics};

/// Binds an address.
///
/// # Errors
/// If the address is taken or belongs to another machine.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves requests until `stop` is cancelled. `prometheus` renders the metrics of this process for `/metrics`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    bus: Bus,
    timers: &Timers,
    prometheus: impl Fn() -> String + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    metrics::describe();
    info!(address = %listener.local_addr()?, "the HTTP gateway listens");
    let service = Service { bus, output_timeout: timers.patience, keep_alive: timers.keep_alive };
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(move || std::future::ready(prometheus())))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .fallback(not_found)
        // One byte more than a job may have: then reading the job fails with an error that names the limit.
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES + 1))
        .with_state(service);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 while the bus is connected, else 503.
async fn health(State(Service { bus, .. }): State<Service>) -> (StatusCode, &'static str) {
    if *bus.online().borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the bus is not connected\n")
    }
}

async fn models(State(Service { bus, .. }): State<Service>) -> Response {
    match Registry::models(&bus).all().await {
        Ok(models) => reply::models(models.into_iter().map(|(name, _)| name)),
        Err(error) => reply::refuse(&Failure::new(FailureCode::TimedOut, error.to_string())),
    }
}

async fn not_found() -> Response {
    reply::no_such_path()
}
