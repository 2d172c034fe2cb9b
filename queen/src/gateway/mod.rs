//! The HTTP door: the OpenAI chat API over the bus. It holds no state; any number may run.
//!
//! Shapes: <https://platform.openai.com/docs/api-reference/chat>.

mod chat;
mod openai;

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

use crate::metrics;

/// Binds an address.
///
/// # Errors
/// When it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` is cancelled. `metrics` writes those of this process, for Prometheus.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    bus: Bus,
    recorded: impl Fn() -> String + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    metrics::describe();
    info!(address = %listener.local_addr()?, "the HTTP gateway listens");
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(move || std::future::ready(recorded())))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat::complete))
        .fallback(not_found)
        // The reader of a job says what is too large; a little more than that is read so that it can.
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES + 1))
        .with_state(bus);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 where the bus is there.
async fn health(State(bus): State<Bus>) -> (StatusCode, &'static str) {
    if *bus.online().borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the bus is away\n")
    }
}

async fn models(State(bus): State<Bus>) -> Response {
    match Registry::models(&bus).all().await {
        Ok(models) => openai::models(models.iter().map(|(name, _)| name.as_str())),
        Err(error) => openai::refuse(&Failure::new(FailureCode::TimedOut, error.to_string())),
    }
}

async fn not_found() -> Response {
    openai::no_such_path()
}
