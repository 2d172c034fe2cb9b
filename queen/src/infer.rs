//! One inference for somebody who asked by request and reply or by HTTP: a job is submitted and its output followed.

use bytes::Bytes;
use rbee_nats::trace::{STEPS, TraceContext};
use rbee_nats::{Bus, OutputReader, Registry, Submission};
use rbee_schema::{
    EmbeddingsRequest, Failure, FailureCode, JobClass, JobId, JobRequest, ModelKind, ModelName, ModelSpec, Tenant,
};
use tracing::{Span, debug, info_span};

/// A job that was submitted, and its output.
pub(crate) struct Inference<Q> {
    pub(crate) job: JobId,
    pub(crate) model: ModelName,
    pub(crate) request: Q,
    pub(crate) output: OutputReader,
}

/// What can be asked of a model.
pub(crate) trait Request: Sized {
    /// What a model has to do to answer it.
    const KIND: ModelKind;

    /// Reads and checks a body.
    fn read(body: &[u8]) -> Result<Self, Failure>;

    /// The model that it names.
    fn model(&self) -> Option<&str>;
}

impl Request for JobRequest {
    const KIND: ModelKind = ModelKind::Text;

    fn read(body: &[u8]) -> Result<Self, Failure> {
        Self::from_json(body)
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

impl Request for EmbeddingsRequest {
    const KIND: ModelKind = ModelKind::Embeddings;

    fn read(body: &[u8]) -> Result<Self, Failure> {
        Self::from_json(body)
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }
}

/// Checks a request, submits it as a job of `tenant`, in the trace of who asks, and begins to follow its output.
///
/// # Errors
/// What is wrong with the request, or why it was not accepted. That is told in the trace too.
pub(crate) async fn start<Q: Request>(
    bus: &Bus,
    tenant: &Tenant,
    job: JobId,
    body: &Bytes,
    trace: Option<TraceContext>,
) -> Result<Inference<Q>, Failure> {
    let started = begin(bus, tenant, job.clone(), body, trace.clone()).await;
    started.inspect_err(|failure| {
        let trace = trace.unwrap_or_else(|| bus.trace_of(tenant, &job));
        refusal(tenant, &job, &trace).in_scope(|| debug!(target: STEPS, "refused: {failure}"));
    })
}

/// The span of a job that is answered without a worker, in the trace that it belongs to.
pub(crate) fn refusal(tenant: &Tenant, job: &JobId, trace: &TraceContext) -> Span {
    let span = info_span!(parent: None, "refuse", %job, %tenant, trace = trace.id());
    rbee_nats::trace::continue_trace(&span, trace);
    span
}

async fn begin<Q: Request>(
    bus: &Bus,
    tenant: &Tenant,
    job: JobId,
    body: &Bytes,
    trace: Option<TraceContext>,
) -> Result<Inference<Q>, Failure> {
    let request = Q::read(body)?;
    let Some(model) = request.model() else {
        return Err(Failure::new(FailureCode::InvalidRequest, "model is missing: name one of the declared models"));
    };
    let model = declared(bus, model, Q::KIND).await?;
    let output = bus.read_output(tenant, &job).await.map_err(unreachable)?;
    let submission = Submission {
        model: model.clone(),
        class: JobClass::Interactive,
        tenant: tenant.clone(),
        job: job.clone(),
        body: body.clone(),
    };
    bus.submit_in(submission, trace).await?;
    Ok(Inference { job, model, request, output })
}

/// The model of this name, which does what is asked for.
async fn declared(bus: &Bus, name: &str, wanted: ModelKind) -> Result<ModelName, Failure> {
    let models = Registry::models(bus);
    if let Ok(model) = name.parse::<ModelName>() {
        match models.get(model.as_str()).await {
            Ok(Some(spec)) if spec.kind != wanted => return Err(of_another_kind(name, spec.kind)),
            Ok(Some(_)) => return Ok(model),
            // The list tells more.
            Ok(None) | Err(_) => {}
        }
    }
    let known = models.all().await.map_err(unreachable)?;
    Err(unknown_model(name, known.iter().map(|(name, _): &(String, ModelSpec)| name.as_str())))
}

fn of_another_kind(name: &str, kind: ModelKind) -> Failure {
    let message = match kind {
        ModelKind::Text => format!("{name} continues chats and computes no embeddings: name a model of embeddings"),
        ModelKind::Embeddings => format!("{name} computes embeddings and continues no chat: name a model of text"),
    };
    Failure::new(FailureCode::InvalidRequest, message)
}

/// The failure that lists the models which are declared.
pub(crate) fn unknown_model<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(
        FailureCode::UnknownModel,
        format!(
            "no model `{name}` is declared; known: {known}. Declare it with `rbee serve {name} file:/path/to/model.gguf`"
        ),
    )
}

fn unreachable(cause: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::TimedOut, cause.to_string())
}
