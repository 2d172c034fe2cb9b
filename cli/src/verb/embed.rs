//! `rbee embed`: vectors of texts. Step 1 of a job's path.

use clap::Args;
use rbee_nats::Submission;
use rbee_nats::trace::TraceContext;
use rbee_schema::{Chunk, EmbeddingInput, EmbeddingsRequest, EncodingFormat, ModelName, Usage};
use serde_json::{Value, json};
use tokio::signal::ctrl_c;

use super::attach::{Waiting, next};
use crate::{
    Setting,
    outcome::Outcome,
    show,
    submission::{SubmissionOptions, text},
};

/// Options of `rbee embed`.
#[derive(Debug, Args)]
pub struct Embed {
    /// The model's name.
    #[arg(value_name = "NAME")]
    model: ModelName,
    /// The texts; `-` reads one from standard input.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// How many numbers of each vector are wanted, for models that were made to be cut.
    #[arg(long, value_name = "N")]
    dimensions: Option<u32>,
    /// Write vectors as 32-bit floats, little-endian, in base64.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    how: SubmissionOptions,
}

impl Embed {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let model = self.model.clone();
        let submission = self.submission()?;
        let bus = setting.bus("cli/embed").await?;
        let (tenant, job) = (submission.tenant.clone(), submission.job.clone());
        let mut output = bus.read_output(&tenant, &job).await?;
        bus.submit_in(submission, TraceContext::from_env()).await?;
        let mut waiting = Waiting::of(&setting);
        let mut vectors: Vec<Value> = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = next(&mut output, &mut waiting) => chunk?,
                _ = ctrl_c() => {
                    bus.cancel(&tenant, &job).await?;
                    return Err(Outcome::interrupted(format!("job {job} is cancelled")));
                }
            };
            match chunk {
                Some(Chunk::Embeddings { vectors: some, base64, .. }) => {
                    vectors.extend(some.into_iter().map(Value::from).chain(base64.into_iter().map(Value::from)));
                }
                Some(Chunk::Done { usage, .. }) => {
                    show::json(&answer(model.as_str(), vectors, usage));
                    return Ok(());
                }
                Some(Chunk::Error { error }) => return Err(Outcome::job(&error)),
                Some(_) => {}
                None => return Err(Outcome::failed("the output has ended without a last chunk")),
            }
        }
    }

    fn submission(self) -> Result<Submission, Outcome> {
        let input = self
            .texts
            .into_iter()
            .map(|argument| text(argument).map(EmbeddingInput::Text))
            .collect::<Result<_, Outcome>>()?;
        let request = EmbeddingsRequest {
            model: None,
            input,
            dimensions: self.dimensions,
            encoding_format: self.base64.then_some(EncodingFormat::Base64),
        };
        let body = serde_json::to_vec(&request).map_err(Outcome::failed)?;
        EmbeddingsRequest::from_json(&body).map_err(Outcome::usage)?;
        self.how.submission(self.model, &request)
    }
}

/// The shape of the OpenAI API.
fn answer(model: &str, vectors: Vec<Value>, usage: Usage) -> Value {
    let data = vectors.into_iter().enumerate();
    let data: Vec<Value> =
        data.map(|(index, vector)| json!({ "object": "embedding", "index": index, "embedding": vector })).collect();
    let usage = json!({ "prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens });
    json!({ "object": "list", "data": data, "model": model, "usage": usage })
}
