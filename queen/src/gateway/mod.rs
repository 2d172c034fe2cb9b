//! HTTP gateway: the OpenAI API for chats and embeddings on top of the bus. It holds no state, so any number may run.
//!
//! API: <https://platform.openai.com/docs/api-reference/chat>.

mod answer;
mod body;
mod chat;
mod embeddings;
pub(crate) mod openai;
mod reply;
mod service;
mod stream;

use std::{future::IntoFuture as _, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use rbee_nats::{Bus, Registry};
use rbee_schema::{Failure, FailureCode};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::reply::error_body;
use self::service::Service;
use crate::{decide::timers::Timers, large_bodies::LargeBodies, metrics, open_answers::OpenAnswers};

/// Time in which the failure that ends an answer reaches its client: many round trips.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Binds an address.
///
/// # Errors
/// If the address is taken or belongs to another machine.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves requests until `stop` is cancelled, and then the answers in progress: for the time `shutdown`, after which they end
/// with a failure. `prometheus` renders the metrics of this process for `/metrics`.
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
    let open = OpenAnswers::default();
    let service = Service {
        bus,
        output_timeout: timers.patience,
        keep_alive: timers.keep_alive,
        upload: timers.upload,
        large: LargeBodies::default(),
        open: open.clone(),
    };
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(move || std::future::ready(prometheus())))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .fallback(not_found)
        .with_state(service);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        // Timer: the answers in progress have this time to end.
        sleep(timers.shutdown).await;
        open.end(timers.final_flush).await;
        // Timer: the last bytes are written to clients that read them.
        sleep(LAST_BYTES).await;
    };
    let served = tokio::select! {
        served = served.into_future() => served,
        () = overdue => {
            warn!("some HTTP clients did not read the end of their answers; their connections are closed");
            Ok(())
        }
    };
    open.end(timers.final_flush).await;
    served
}

/// 200 while the bus is connected and stores what the queen publishes, else 503.
async fn health(State(Service { bus, .. }): State<Service>) -> (StatusCode, String) {
    let problem = if *bus.online().borrow() {
        bus.storage_problem().map(|problem| format!("the bus stores nothing: {problem}\n"))
    } else {
        Some("the bus is not connected\n".to_owned())
    };
    problem.map_or_else(|| (StatusCode::OK, "ok\n".to_owned()), |problem| (StatusCode::SERVICE_UNAVAILABLE, problem))
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
