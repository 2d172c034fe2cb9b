//! The HTTP door: the OpenAI API for chats and embeddings over the bus. It holds no state; any number may run.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat>.

mod chat;
mod embeddings;
mod events;
mod openai;
mod reading;

use std::{io, net::SocketAddr, time::Duration};

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

use crate::{decide::timers::Timers, metrics};

/// Binds an address.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// What answers requests.
#[derive(Debug, Clone)]
struct Door {
    bus: Bus,
    /// How long a job may be silent.
    patience: Duration,
    /// How often a silent stream says that it lives.
    keep_alive: Duration,
}

/// Serves until `stop` is cancelled. `metrics` writes those of this process, for Prometheus.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    bus: Bus,
    timers: &Timers,
    recorded: impl Fn() -> String + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    metrics::describe();
    info!(address = %listener.local_addr()?, "the HTTP gateway listens");
    let door = Door { bus, patience: timers.patience, keep_alive: timers.keep_alive };
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(move || std::future::ready(recorded())))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .fallback(not_found)
        // The reader of a job says what is too large; a little more than that is read so that it can.
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES + 1))
        .with_state(door);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 where the bus is there.
async fn health(State(Door { bus, .. }): State<Door>) -> (StatusCode, &'static str) {
    if *bus.online().borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the bus is away\n")
    }
}

async fn models(State(Door { bus, .. }): State<Door>) -> Response {
    match Registry::models(&bus).all().await {
        Ok(models) => openai::models(models.iter().map(|(name, _)| name.as_str())),
        Err(error) => openai::refuse(&Failure::new(FailureCode::TimedOut, error.to_string())),
    }
}

async fn not_found() -> Response {
    openai::no_such_path()
}
