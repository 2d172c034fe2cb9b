//! One inference for somebody who asked by request and reply or by HTTP: a job is submitted and its output followed.

use bytes::Bytes;
use rbee_nats::{Bus, Follow, Registry, Submission};
use rbee_schema::{Failure, FailureCode, JobClass, JobId, JobRequest, ModelName, ModelSpec, Tenant};
use rbee_trace::{STEPS, TraceContext};
use tracing::{Span, debug, info_span};

/// A job that was submitted, and its output.
pub(crate) struct Inference {
    pub(crate) job: JobId,
    pub(crate) model: ModelName,
    pub(crate) request: JobRequest,
    pub(crate) output: Follow,
}

/// Checks a request, submits it as a job of `tenant`, in the trace of who asks, and begins to follow its output.
///
/// # Errors
/// What is wrong with the request, or why it was not accepted. That is told in the trace too.
pub(crate) async fn start(
    bus: &Bus,
    tenant: &Tenant,
    job: JobId,
    body: &Bytes,
    trace: Option<TraceContext>,
) -> Result<Inference, Failure> {
    let started = begin(bus, tenant, job.clone(), body, trace.clone()).await;
    started.inspect_err(|failure| {
        let trace = trace.unwrap_or_else(|| bus.trace_of(tenant, &job));
        refusal(tenant, &job, &trace).in_scope(|| debug!(target: STEPS, "refused: {failure}"));
    })
}

/// The span of a job that is answered without a worker, in the trace that it belongs to.
pub(crate) fn refusal(tenant: &Tenant, job: &JobId, trace: &TraceContext) -> Span {
    let span = info_span!(parent: None, "refuse", %job, %tenant, trace = trace.id());
    rbee_trace::join(&span, trace);
    span
}

async fn begin(
    bus: &Bus,
    tenant: &Tenant,
    job: JobId,
    body: &Bytes,
    trace: Option<TraceContext>,
) -> Result<Inference, Failure> {
    let request = JobRequest::from_json(body)?;
    let Some(model) = &request.model else {
        return Err(Failure::new(FailureCode::InvalidRequest, "model is missing: name one of the declared models"));
    };
    let model = declared(bus, model).await?;
    let output = bus.follow(tenant, &job).await.map_err(unreachable)?;
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

async fn declared(bus: &Bus, name: &str) -> Result<ModelName, Failure> {
    let models = Registry::models(bus);
    if let Ok(model) = name.parse::<ModelName>() {
        let found = models.get(model.as_str()).await;
        if matches!(found, Ok(Some(_))) {
            return Ok(model);
        }
    }
    let known = models.all().await.map_err(unreachable)?;
    Err(unknown_model(name, known.iter().map(|(name, _): &(String, ModelSpec)| name.as_str())))
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
