//! Spans to a collector: OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use hub_http::Client;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tokio::{runtime::Handle, task::spawn_blocking};
use tracing::{Subscriber, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use url::Url;

use super::STEPS;

/// Spans are sent together, this often: who is killed loses no more than those.
const EVERY: Duration = Duration::from_secs(1);

/// How long a collector may take for what it is sent.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the last spans may keep a process from ending.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Where every one of our programs' targets begins.
const OURS: &str = "rbee";

/// A collector that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It has no address that we understand.
    #[error("`{url}` is no collector: {why}; expected http://HOST:PORT, such as http://127.0.0.1:4318 (--otlp)")]
    NoUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no client to reach it with.
    #[error("failed to export spans to {url}: {cause}; leave out --otlp to go on without")]
    NoClient {
        /// The collector.
        url: String,
        /// What the library says.
        cause: String,
    },
}

/// Sends the spans of this process to a collector.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Sends to the collector at `url` from now on; `service` is what this process is called there. To be called within the
    /// runtime of tokio. A collector that is away costs its spans and nothing else.
    ///
    /// # Errors
    /// When `url` is none that a collector may have.
    pub fn start(url: &str, service: &'static str) -> Result<Self, ExportError> {
        let endpoint = endpoint(url)?;
        let failed = |cause: String| ExportError::NoClient { url: url.to_owned(), cause };
        let client = Client::builder().timeout(ANSWER).build().map_err(|error| failed(error.to_string()))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime { client, runtime: Handle::current(), fails: AtomicBool::new(false) })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(ANSWER)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let batches = BatchSpanProcessor::builder(exporter)
            .with_batch_config(BatchConfigBuilder::default().with_scheduled_delay(EVERY).build());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(batches.build())
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        Ok(Self { provider })
    }

    /// What hands it the spans of this process.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new().with_target(OURS, LevelFilter::INFO).with_target(STEPS, LevelFilter::DEBUG);
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(OURS)).with_filter(ours)
    }

    /// Sends what is left.
    pub async fn finish(self) {
        // It blocks its thread until the collector has answered; what it sends is sent by the runtime.
        let finished = spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS));
        if !matches!(finished.await, Ok(Ok(()))) {
            warn!("the last spans were not exported");
        }
    }
}

/// Where a collector takes spans: below its address.
fn endpoint(url: &str) -> Result<String, ExportError> {
    let wrong = |why: String| ExportError::NoUrl { url: url.to_owned(), why };
    let mut address = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(wrong(format!("its scheme is {}", address.scheme())));
    }
    let path = format!("{}/v1/traces", address.path().trim_end_matches('/'));
    address.set_path(&path);
    Ok(address.into())
}

/// The exporter has a thread of its own; what it sends is sent by the runtime.
#[derive(Debug)]
struct OnRuntime {
    client: Client,
    runtime: Handle,
    /// Whether the last batch was lost: that is said once, not every second.
    fails: AtomicBool,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await.map_err(HttpError::from).flatten();
        let wrong = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        match (wrong, self.fails.load(Ordering::Relaxed)) {
            (Some(why), false) => {
                self.fails.store(true, Ordering::Relaxed);
                warn!(why, "the collector does not take spans; they are lost until it does");
            }
            (None, true) => {
                self.fails.store(false, Ordering::Relaxed);
                info!("the collector takes spans again");
            }
            (Some(_), true) | (None, false) => {}
        }
        sent
    }
}

async fn send(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let answer = client.execute(request.try_into()?).await?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes().await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_address() {
        for (url, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://example.com/otlp", "https://example.com/otlp/v1/traces"),
        ] {
            assert_eq!(endpoint(url).expect(url), expected);
        }
        for wrong in ["", "127.0.0.1:4318", "localhost:4318", "ftp://example.com"] {
            let error = endpoint(wrong).expect_err(wrong).to_string();
            assert!(error.contains("--otlp"), "{error}");
        }
    }
}
