//! A collector of spans: OTLP over HTTP, as far as a test needs it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::ResourceSpans,
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::wait::soon;

/// A collector that listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Its address, as `--otlp` takes it.
    pub url: String,
    seen: Vec<Span>,
    coming: mpsc::UnboundedReceiver<Span>,
    _serving: AbortOnDropHandle<()>,
}

/// A span as it was sent; ids are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which program sent it.
    pub service: String,
    /// What was done.
    pub name: String,
    /// Its trace.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span that it belongs to; empty for the first of a trace.
    pub parent: String,
    /// What it says besides, where that is text.
    pub says: BTreeMap<String, String>,
    /// What happened in it.
    pub steps: Vec<String>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, coming) = mpsc::unbounded_channel();
        let take = move |body: Bytes| {
            let sender = sender.clone();
            async move {
                let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
                // Nobody reads any more where the test is over.
                request.resource_spans.into_iter().flat_map(spans).for_each(|span| drop(sender.send(span)));
                StatusCode::OK
            }
        };
        let router = Router::new().route("/v1/traces", post(take));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("the collector runs") });
        Self { url, seen: Vec::new(), coming, _serving: AbortOnDropHandle::new(serving) }
    }

    /// The span for which `is_meant` says so, as soon as it has come.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn span(&mut self, what: &str, is_meant: impl Fn(&Span) -> bool) -> Span {
        if let Some(span) = self.seen.iter().find(|span| is_meant(span)) {
            return span.clone();
        }
        loop {
            let span = soon(what, self.coming.recv()).await.expect("the collector runs");
            self.seen.push(span.clone());
            if is_meant(&span) {
                return span;
            }
        }
    }
}

fn spans(sent: ResourceSpans) -> Vec<Span> {
    let resource = texts(sent.resource.map(|resource| resource.attributes).unwrap_or_default());
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans
        .map(|span| Span {
            service: service.clone(),
            name: span.name,
            trace: hexadecimal(&span.trace_id),
            id: hexadecimal(&span.span_id),
            parent: hexadecimal(&span.parent_span_id),
            says: texts(span.attributes),
            steps: span.events.into_iter().map(|event| event.name).collect(),
        })
        .collect()
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |KeyValue { key, value, .. }| match value?.value? {
        Value::StringValue(text) => Some((key, text)),
        _ => None,
    };
    pairs.into_iter().filter_map(text).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
