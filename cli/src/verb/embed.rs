//! `rbee embed`: submits a job that turns texts into vectors. Step 1 of a job's path.

use clap::Args;
use rbee_nats::Submission;
use rbee_schema::{Chunk, EmbeddingInput, EmbeddingsRequest, EncodingFormat, ModelKind, ModelName, Usage};
use serde_json::{Value, json};

use crate::{
    Context,
    error::CliError,
    job_output::{Idle, next_chunk},
    output,
    signals::ClientSignals,
    submission::{SubmissionOptions, submit, text},
    waiting::Waiting,
};

/// Options of `rbee embed`.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// Name of the model.
    #[arg(value_name = "NAME")]
    model: ModelName,
    /// Texts to embed; `-` reads one from standard input.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// Truncate each vector to this many dimensions. Only for models that were trained for it.
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,
    /// Print vectors as little-endian 32-bit floats in base64.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    submission: SubmissionOptions,
}

impl Embed {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let model = self.model.clone();
        let deadlines = self.submission.deadlines();
        let submission = self.submission()?;
        let bus = context.bus("cli/embed").await?;
        let (tenant, job) = (submission.tenant.clone(), submission.job.clone());
        let mut output = bus.read_output(&tenant, &job).await?;
        let mut signals = ClientSignals::listen()?;
        submit(&bus, submission, deadlines, ModelKind::Embeddings).await?;
        let mut idle = Idle::new(&context, Waiting::new(&bus, &model, &tenant, false));
        let mut vectors: Vec<Value> = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = next_chunk(&mut output, &mut idle) => chunk?,
                () = signals.next() => {
                    bus.cancel(&tenant, &job).await?;
                    return Err(CliError::interrupted(format!("job {job} is cancelled")));
                }
            };
            match chunk {
                Some(Chunk::Embeddings { vectors: some, base64, .. }) => {
                    vectors.extend(some.into_iter().map(Value::from).chain(base64.into_iter().map(Value::from)));
                }
                Some(Chunk::Done { usage, .. }) => {
                    output::json(&response(model.as_str(), vectors, usage));
                    return Ok(());
                }
                Some(Chunk::Error { error }) => return Err(CliError::job(&error)),
                Some(_) => {}
                None => return Err(CliError::failed(format!("the output of job {job} ended without a last chunk"))),
            }
        }
    }

    fn submission(self) -> Result<Submission, CliError> {
        let input = self
            .texts
            .into_iter()
            .map(|argument| text(argument).map(EmbeddingInput::Text))
            .collect::<Result<_, CliError>>()?;
        let request = EmbeddingsRequest {
            model: None,
            input,
            dimensions: self.dimensions,
            encoding_format: self.base64.then_some(EncodingFormat::Base64),
        };
        let body = serde_json::to_vec(&request).map_err(CliError::failed)?;
        EmbeddingsRequest::from_json(&body).map_err(CliError::usage)?;
        self.submission.build(self.model, &request)
    }
}

/// Response in the format of the OpenAI API.
fn response(model: &str, vectors: Vec<Value>, usage: Usage) -> Value {
    let data = vectors.into_iter().enumerate();
    let data: Vec<Value> =
        data.map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": vector })).collect();
    let usage = json!({ "prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens });
    json!({ "object": "list", "data": data, "model": model, "usage": usage })
}
