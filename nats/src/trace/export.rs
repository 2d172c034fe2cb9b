//! Export of spans to a collector: OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).

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

/// Interval between exports. Spans are sent in batches; a killed process loses the spans of at most one interval.
const EVERY: Duration = Duration::from_secs(1);

/// Time limit for a collector to accept a batch. A slower collector loses spans, and the process must not wait for it.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for which the last spans may delay the end of a process. Losing spans is better than a process that does not stop.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Prefix of the targets of all rbee crates.
const OURS: &str = "rbee";

/// Failure to start the export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The address of the collector is invalid.
    #[error(
        "`{url}` is not the address of a collector: {why}; expected http://HOST:PORT, such as http://127.0.0.1:4318 (--otlp)"
    )]
    NoUrl {
        /// Address that was given.
        url: String,
        /// Error in the address.
        why: String,
    },
    /// The HTTP client could not be created.
    #[error("failed to export spans to {url}: {cause}; leave out --otlp to run without export")]
    NoClient {
        /// Address of the collector.
        url: String,
        /// Error of the library.
        cause: String,
    },
}

/// Exporter of this process's spans to a collector.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts the export to the collector at `url` under the service name `service`. Must be called within a tokio runtime. An
    /// unreachable collector loses spans and has no other effect.
    ///
    /// # Errors
    /// `url` is not a valid address of a collector.
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

    /// Layer that passes the spans of this process to the exporter.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = Targets::new().with_target(OURS, LevelFilter::INFO).with_target(STEPS, LevelFilter::DEBUG);
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(OURS)).with_filter(ours)
    }

    /// Exports the remaining spans.
    pub async fn finish(self) {
        // It blocks its thread until the collector has answered. The runtime sends the request.
        let finished = spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_SPANS));
        if !matches!(finished.await, Ok(Ok(()))) {
            warn!("the last spans were not exported");
        }
    }
}

/// URL for traces below the collector's address.
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

/// HTTP client that sends on the tokio runtime, because the exporter runs on a thread of its own.
#[derive(Debug)]
struct OnRuntime {
    client: Client,
    runtime: Handle,
    /// True if the last batch was lost. Only changes are logged, not every failure.
    fails: AtomicBool,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await.map_err(HttpError::from).flatten();
        let wrong = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        match (wrong, self.fails.load(Ordering::Relaxed)) {
            (Some(why), false) => {
                self.fails.store(true, Ordering::Relaxed);
                warn!(why, "the collector does not accept spans; they are lost until it does");
            }
            (None, true) => {
                self.fails.store(false, Ordering::Relaxed);
                info!("the collector accepts spans again");
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
    fn spans_are_sent_below_the_address_of_the_collector() {
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
