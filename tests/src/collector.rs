//! A collector of spans: the part of OTLP over HTTP that tests need.

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

/// A collector. It listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    /// Address of the collector, as `--otlp` takes it.
    pub url: String,
    received: Vec<Span>,
    coming: mpsc::UnboundedReceiver<Span>,
    _serving: AbortOnDropHandle<()>,
}

/// A received span. Ids are hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Name of the program that sent the span.
    pub service: String,
    /// Name of the span: the operation.
    pub name: String,
    /// Id of the trace.
    pub trace: String,
    /// Id of the span.
    pub id: String,
    /// Id of the parent span; empty for the first span of a trace.
    pub parent: String,
    /// Attributes with text values.
    pub attributes: BTreeMap<String, String>,
    /// Names of the events in the span.
    pub events: Vec<String>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, coming) = mpsc::unbounded_channel();
        let take = move |body: Bytes| {
            let sender = sender.clone();
            async move {
                let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
                // Sending fails when the test is over.
                request.resource_spans.into_iter().flat_map(spans).for_each(|span| drop(sender.send(span)));
                StatusCode::OK
            }
        };
        let router = Router::new().route("/v1/traces", post(take));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("the collector runs") });
        Self { url, received: Vec::new(), coming, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Waits for a span that `matches` accepts; spans that arrived before count as well.
    ///
    /// # Panics
    /// When none arrives in time.
    pub async fn span(&mut self, what: &str, matches: impl Fn(&Span) -> bool) -> Span {
        if let Some(span) = self.received.iter().find(|span| matches(span)) {
            return span.clone();
        }
        loop {
            let span = soon(what, self.coming.recv()).await.expect("the collector runs");
            self.received.push(span.clone());
            if matches(&span) {
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
            attributes: texts(span.attributes),
            events: span.events.into_iter().map(|event| event.name).collect(),
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
