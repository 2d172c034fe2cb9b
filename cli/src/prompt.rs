//! What to ask a model, and how: the options that `run` and `submit` share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use rbee_nats::Submission;
use rbee_schema::{JobRequest, Message, ModelName, Role, StructuredOutputs};

use crate::{
    outcome::Outcome,
    submission::{SubmissionOptions, text},
};

/// A prompt and its options.
#[derive(Debug, Clone, Args)]
pub(crate) struct PromptOptions {
    /// The model's name.
    #[arg(value_name = "NAME")]
    model: ModelName,
    /// What to say to it; `-` reads it from standard input.
    prompt: String,
    /// Instructions that stand before the prompt.
    #[arg(long)]
    system: Option<String>,
    /// The most tokens of the answer.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// How random the answer is: 0 for the likeliest, up to 2.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw from the fewest tokens whose probabilities reach this sum.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from this many of the likeliest tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Draw only from tokens at least this likely, relative to the likeliest.
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Makes recent tokens less likely; 1 does nothing.
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// Makes every token less likely that the answer has already; -2 to 2.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// The same, for each time that it has the token; -2 to 2.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// The same seed gives the same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A text that ends the answer; may be given up to four times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The id of a token that ends the answer; may be given more than once.
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// The fewest tokens of the answer.
    #[arg(long, value_name = "N")]
    min_tokens: Option<u32>,
    /// Go on when the model has ended its answer.
    #[arg(long)]
    ignore_eos: bool,
    /// A file with the JSON Schema that the answer is to fit.
    #[arg(long, value_name = "FILE", group = "form")]
    schema: Option<PathBuf>,
    /// A regular expression that the whole answer is to match.
    #[arg(long, value_name = "EXPRESSION", group = "form")]
    regex: Option<String>,
    /// A text that the answer may be; given once for each.
    #[arg(long, value_name = "TEXT", group = "form")]
    choice: Vec<String>,
    /// A file with a grammar in the syntax of Lark that the answer is to fit.
    #[arg(long, value_name = "FILE", group = "form")]
    grammar: Option<PathBuf>,
    #[command(flatten)]
    how: SubmissionOptions,
}

impl PromptOptions {
    /// The job that these options describe.
    pub(crate) fn submission(self) -> Result<Submission, Outcome> {
        let structured_outputs = self.form()?;
        let content = text(self.prompt)?;
        let system = self.system.map(|content| Message::new(Role::System, content));
        let request = JobRequest {
            messages: system.into_iter().chain([Message::new(Role::User, content)]).collect(),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            stop: self.stop,
            stop_token_ids: self.stop_token,
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos.then_some(true),
            structured_outputs,
            ..JobRequest::default()
        };
        request.check().map_err(Outcome::usage)?;
        self.how.submission(self.model, &request)
    }

    /// What form the answer is to have.
    fn form(&self) -> Result<Option<StructuredOutputs>, Outcome> {
        let schema = self.schema.as_deref().map(read_schema).transpose()?;
        let grammar = self.grammar.as_deref().map(read).transpose()?;
        let form = StructuredOutputs { json: schema, regex: self.regex.clone(), choice: self.choice.clone(), grammar };
        Ok((form != StructuredOutputs::default()).then_some(form))
    }
}

fn read(file: &Path) -> Result<String, Outcome> {
    fs::read_to_string(file).map_err(|error| Outcome::usage(format!("failed to read {}: {error}", file.display())))
}

fn read_schema(file: &Path) -> Result<serde_json::Value, Outcome> {
    serde_json::from_str(&read(file)?)
        .map_err(|error| Outcome::usage(format!("{} is not JSON: {error}", file.display())))
}
