//! Prompt and sampling options that `run` and `submit` share.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use rbee_nats::Submission;
use rbee_schema::{Deadlines, JobRequest, Message, ModelName, Role, StructuredOutputs};

use crate::{
    error::CliError,
    submission::{SubmissionOptions, text},
};

/// A prompt, its sampling options, and the output format.
#[derive(Debug, Clone, Args)]
pub(crate) struct PromptOptions {
    /// Name of the model.
    #[arg(value_name = "NAME")]
    model: ModelName,
    /// Prompt text; `-` reads it from standard input.
    prompt: String,
    /// System prompt: instructions that come before the prompt.
    #[arg(long)]
    system: Option<String>,
    /// Stop after this many tokens.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2. 0 always takes the likeliest token.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Sample from the smallest set of tokens whose probabilities sum to this.
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Sample from this many of the likeliest tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Sample only from tokens with at least this probability, relative to the likeliest token.
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Penalize tokens that occur in the prompt or the answer; 1 disables it.
    #[arg(long, value_name = "R")]
    repetition_penalty: Option<f32>,
    /// Penalize each token that the answer contains already, -2 to 2.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Penalize each token by the number of times that the answer contains it, -2 to 2.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    /// Seed of the sampler. The same seed gives the same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End the answer before this text. May be given up to four times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// End the answer at this token id. May be given several times.
    #[arg(long, value_name = "ID")]
    stop_token: Vec<u32>,
    /// Do not end the answer before this many tokens.
    #[arg(long, value_name = "N")]
    min_tokens: Option<u32>,
    /// Continue past the end-of-sequence token of the model.
    #[arg(long)]
    ignore_eos: bool,
    /// Constrain the answer to the JSON Schema in this file.
    #[arg(long, value_name = "FILE", group = "output_format")]
    schema: Option<PathBuf>,
    /// Constrain the whole answer to this regular expression.
    #[arg(long, value_name = "EXPRESSION", group = "output_format")]
    regex: Option<String>,
    /// Constrain the answer to one of these texts. Give the option once for each text.
    #[arg(long, value_name = "TEXT", group = "output_format")]
    choice: Vec<String>,
    /// Constrain the answer to the Lark grammar in this file.
    #[arg(long, value_name = "FILE", group = "output_format")]
    grammar: Option<PathBuf>,
    #[command(flatten)]
    submission: SubmissionOptions,
}

impl PromptOptions {
    /// Deadlines of the job.
    pub(crate) fn deadlines(&self) -> Deadlines {
        self.submission.deadlines()
    }

    /// The job that these options describe.
    pub(crate) fn submission(self) -> Result<Submission, CliError> {
        let structured_outputs = self.output_format()?;
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
        request.check().map_err(CliError::usage)?;
        self.submission.build(self.model, &request)
    }

    /// Output format of the answer; none if it is free text.
    fn output_format(&self) -> Result<Option<StructuredOutputs>, CliError> {
        let schema = self.schema.as_deref().map(read_schema).transpose()?;
        let grammar = self.grammar.as_deref().map(read).transpose()?;
        let format =
            StructuredOutputs { json: schema, regex: self.regex.clone(), choice: self.choice.clone(), grammar };
        Ok((format != StructuredOutputs::default()).then_some(format))
    }
}

fn read(file: &Path) -> Result<String, CliError> {
    fs::read_to_string(file).map_err(|error| CliError::usage(format!("failed to read {}: {error}", file.display())))
}

fn read_schema(file: &Path) -> Result<serde_json::Value, CliError> {
    serde_json::from_str(&read(file)?)
        .map_err(|error| CliError::usage(format!("{} is not JSON: {error}", file.display())))
}
