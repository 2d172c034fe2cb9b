//! One inference for a client of the API or of the HTTP gateway: its job is submitted, and its output is followed.

use bytes::Bytes;
use rbee_nats::trace::{STEPS, TraceContext};
use rbee_nats::{Bus, OutputReader, Registry, StoredBody, Submission};
use rbee_schema::{
    Deadlines, EmbeddingsRequest, Failure, FailureCode, JobClass, JobId, JobRequest, ModelKind, ModelName, ModelSpec,
    Tenant,
};
use tracing::{Span, debug, info_span, warn};

/// A submitted job and its output.
pub(crate) struct Inference {
    pub(crate) model: ModelName,
    pub(crate) output: OutputReader,
}

/// A request, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Kind of model that can answer it.
    kind: ModelKind,
    /// Model that the request names.
    model: Option<String>,
    /// Body of the job. Empty if it is stored apart.
    body: Bytes,
    /// Body that the client has stored.
    stored_body: Option<StoredBody>,
}

impl Request {
    /// A chat with the body of its job.
    pub(crate) fn chat(chat: &JobRequest, body: Bytes) -> Self {
        Self { kind: ModelKind::Text, model: chat.model.clone(), body, stored_body: None }
    }

    /// Reads the body of a chat.
    ///
    /// # Errors
    /// The mistake in the body.
    pub(crate) fn read_chat(body: &Bytes) -> Result<Self, Failure> {
        Ok(Self::chat(&JobRequest::from_json(body)?, body.clone()))
    }

    /// Reads the body of a request for embeddings.
    ///
    /// # Errors
    /// The mistake in the body.
    pub(crate) fn read_embeddings(body: &Bytes) -> Result<Self, Failure> {
        let model = EmbeddingsRequest::from_json(body)?.model;
        Ok(Self { kind: ModelKind::Embeddings, model, body: body.clone(), stored_body: None })
    }

    /// Model that the request names.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The same request, for `model` if it names none.
    pub(crate) fn with_default_model(self, model: Option<&ModelName>) -> Self {
        Self { model: self.model.or_else(|| model.map(ToString::to_string)), ..self }
    }

    /// Body of the job.
    pub(crate) fn into_body(self) -> Bytes {
        self.body
    }

    /// The same request, whose body is stored already.
    pub(crate) fn with_stored_body(self, stored_body: StoredBody) -> Self {
        Self { body: Bytes::new(), stored_body: Some(stored_body), ..self }
    }

    /// Body of the job.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// A job to be submitted for a client.
#[derive(Debug, Clone)]
pub(crate) struct ClientJob {
    pub(crate) tenant: Tenant,
    pub(crate) job: JobId,
    /// Trace of the client; `None` where the client has none.
    pub(crate) trace: Option<TraceContext>,
    /// Deadlines of the job.
    pub(crate) deadlines: Deadlines,
}

impl ClientJob {
    /// Submits a request as this job and follows its output. A refusal is recorded in the job's trace.
    ///
    /// # Errors
    /// The reason why the job was not accepted.
    pub(crate) async fn submit(&self, bus: &Bus, request: Request) -> Result<Inference, Failure> {
        self.follow(bus, request).await.inspect_err(|failure| self.record_refusal(bus, failure))
    }

    /// Records in the job's trace that the job was refused.
    pub(crate) fn record_refusal(&self, bus: &Bus, failure: &Failure) {
        let trace = self.trace.clone().unwrap_or_else(|| bus.trace_of(&self.tenant, &self.job));
        refusal(&self.tenant, &self.job, &trace).in_scope(|| debug!(target: STEPS, "refused: {failure}"));
    }

    async fn follow(
        &self,
        bus: &Bus,
        Request { kind, model, body, stored_body }: Request,
    ) -> Result<Inference, Failure> {
        let Some(model) = model else {
            return Err(Failure::new(FailureCode::InvalidRequest, "model is missing: name one of the declared models"));
        };
        let model = declared(bus, &model, kind).await?;
        let output = bus.read_output(&self.tenant, &self.job).await.map_err(unreachable)?;
        let submission = Submission {
            model: model.clone(),
            class: JobClass::Interactive,
            tenant: self.tenant.clone(),
            job: self.job.clone(),
            body,
        };
        match &stored_body {
            Some(body) => bus.submit_with_stored_body(submission, body, self.deadlines, self.trace.clone()).await?,
            None => bus.submit_until(submission, self.deadlines, self.trace.clone()).await?,
        }
        Ok(Inference { model, output })
    }
}

/// Cancels a job whose client receives its answer no longer.
pub(crate) async fn cancel(bus: &Bus, tenant: &Tenant, job: &JobId) {
    if let Err(error) = bus.cancel(tenant, job).await {
        warn!(%job, %error, "a job that nobody waits for could not be cancelled; it runs to its end");
    }
}

/// The failure of an answer that ends because its process does.
pub(crate) fn shutting_down() -> Failure {
    let message = "the queen that relayed this answer was stopped, and the job is cancelled: send the request again";
    Failure::new(FailureCode::ShuttingDown, message)
}

/// Span of a job that is answered without a worker, in the trace of the job.
pub(crate) fn refusal(tenant: &Tenant, job: &JobId, trace: &TraceContext) -> Span {
    let span = info_span!(parent: None, "refuse", %job, %tenant, trace = trace.id());
    rbee_nats::trace::continue_trace(&span, trace);
    span
}

/// The declared model of this name.
///
/// # Errors
/// There is no such model, or it is of another kind than `wanted`. The failure says which models there are.
pub async fn declared(bus: &Bus, name: &str, wanted: ModelKind) -> Result<ModelName, Failure> {
    let models = Registry::models(bus);
    if let Ok(model) = name.parse::<ModelName>() {
        match models.get(model.as_str()).await {
            Ok(Some(spec)) if spec.kind != wanted => return Err(of_another_kind(name, spec.kind)),
            Ok(Some(_)) => return Ok(model),
            // The failure below lists the models.
            Ok(None) | Err(_) => {}
        }
    }
    let known = models.all().await.map_err(unreachable)?;
    Err(unknown_model(name, known.iter().map(|(name, _): &(String, ModelSpec)| name.as_str())))
}

fn of_another_kind(name: &str, kind: ModelKind) -> Failure {
    let message = match kind {
        ModelKind::Text => format!("{name} is a chat model and computes no embeddings: name an embedding model"),
        ModelKind::Embeddings => format!("{name} is an embedding model and answers no chats: name a chat model"),
    };
    Failure::new(FailureCode::InvalidRequest, message)
}

/// The failure for a model that is not declared. It lists the declared ones.
pub(crate) fn unknown_model<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(
        FailureCode::UnknownModel,
        format!(
            "no model `{name}` is declared; declared models: {known}. Declare it with `rbee serve {name} file:/path/to/model.gguf`"
        ),
    )
}

fn unreachable(cause: impl std::fmt::Display) -> Failure {
    Failure::new(FailureCode::TimedOut, cause.to_string())
}
