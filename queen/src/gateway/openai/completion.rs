//! Chat completions: whole ones, and chunks of a stream.

use rbee_schema::{FinishReason, JobId, ModelName, TokenLogprob, ToolCall, Usage};
use serde::Serialize;

use super::logprobs::ChoiceLogprobs;

/// Fields that all objects for one request share.
#[derive(Debug, Clone)]
pub(crate) struct CompletionId {
    /// Job of the first choice.
    pub(crate) job: JobId,
    pub(crate) model: ModelName,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// A whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct ChatCompletion {
    id: String,
    object: &'static str,
    created: u64,
    model: ModelName,
    choices: Vec<Choice>,
    usage: Usage,
}

/// One choice of a whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct Choice {
    index: usize,
    message: Message,
    logprobs: Option<ChoiceLogprobs>,
    finish_reason: FinishReason,
}

/// Message of the assistant.
#[derive(Debug, Default)]
pub(crate) struct Message {
    text: String,
    reasoning: String,
    tool_calls: Vec<ToolCall>,
}

/// Part of an answer that is streamed.
#[derive(Debug, Serialize)]
pub(crate) struct ChatCompletionChunk {
    id: String,
    object: &'static str,
    created: u64,
    model: ModelName,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChoiceLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// Part of a message.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallDelta>,
}

/// A whole tool call in a stream.
#[derive(Debug, PartialEq, Serialize)]
struct ToolCallDelta {
    id: String,
    r#type: rbee_schema::ToolKind,
    function: rbee_schema::CalledFunction,
    /// Number of the call within the answer, from 0.
    index: usize,
}

impl CompletionId {
    /// The whole answer.
    pub(crate) fn completion(&self, choices: Vec<Choice>, usage: Usage) -> ChatCompletion {
        let Self { model, created, .. } = self.clone();
        ChatCompletion { id: self.id(), object: "chat.completion", created, model, choices, usage }
    }

    /// One event for the choice of this index.
    pub(crate) fn chunk(
        &self,
        index: usize,
        delta: Delta,
        scored: &[TokenLogprob],
        finish_reason: Option<FinishReason>,
    ) -> ChatCompletionChunk {
        let finish_reason = finish_reason.map(known_reason);
        let choice = ChunkChoice { index, delta, logprobs: ChoiceLogprobs::new(scored), finish_reason };
        self.chunk_with(vec![choice], None)
    }

    /// The last event of a stream whose client requested the usage.
    pub(crate) fn usage_chunk(&self, usage: Usage) -> ChatCompletionChunk {
        self.chunk_with(Vec::new(), Some(usage))
    }

    fn chunk_with(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> ChatCompletionChunk {
        let Self { model, created, .. } = self.clone();
        ChatCompletionChunk { id: self.id(), object: "chat.completion.chunk", created, model, choices, usage }
    }

    fn id(&self) -> String {
        format!("chatcmpl-{}", self.job)
    }
}

impl Choice {
    pub(crate) fn new(index: usize, message: Message, scored: &[TokenLogprob], finish_reason: FinishReason) -> Self {
        Self { index, message, logprobs: ChoiceLogprobs::new(scored), finish_reason: known_reason(finish_reason) }
    }
}

impl Message {
    /// Appends the content of one chunk.
    pub(crate) fn add(&mut self, text: &str, reasoning: &str, tool_calls: Vec<ToolCall>) {
        self.text.push_str(text);
        self.reasoning.push_str(reasoning);
        self.tool_calls.extend(tool_calls);
    }
}

impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            role: &'static str,
            /// `null` if the assistant only calls tools.
            content: Option<&'a str>,
            /// Always `null`: models of rbee refuse in their content.
            refusal: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reasoning_content: Option<&'a str>,
            #[serde(skip_serializing_if = "<[ToolCall]>::is_empty")]
            tool_calls: &'a [ToolCall],
        }

        let Self { text, reasoning, tool_calls } = self;
        let has_content = !text.is_empty() || tool_calls.is_empty();
        Fields {
            role: "assistant",
            content: has_content.then_some(text.as_str()),
            refusal: None,
            reasoning_content: (!reasoning.is_empty()).then_some(reasoning.as_str()),
            tool_calls,
        }
        .serialize(serializer)
    }
}

impl Delta {
    /// The first part of a message.
    pub(crate) fn role() -> Self {
        Self { role: Some("assistant"), content: Some(String::new()), ..Self::default() }
    }

    /// The content of one chunk; `calls_before` is the number of tool calls in the chunks before it.
    pub(crate) fn new(text: String, reasoning: String, tool_calls: Vec<ToolCall>, calls_before: usize) -> Self {
        let numbered = |(index, call): (usize, ToolCall)| {
            let ToolCall { id, r#type, function } = call;
            ToolCallDelta { id, r#type, function, index }
        };
        Self {
            role: None,
            reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
            content: (!text.is_empty()).then_some(text),
            tool_calls: (calls_before..).zip(tool_calls).map(numbered).collect(),
        }
    }
}

/// The reason that clients of the OpenAI API know. Client libraries refuse others; an answer that a deadline has cut is incomplete
/// for them as one that a token limit has cut.
fn known_reason(reason: FinishReason) -> FinishReason {
    match reason {
        FinishReason::Deadline => FinishReason::Length,
        known @ (FinishReason::Stop | FinishReason::Length | FinishReason::ToolCalls) => known,
    }
}

/// Usage of several answers to one prompt: the prompt counts once.
pub(crate) fn several_answers(usages: impl IntoIterator<Item = Usage>) -> Usage {
    usages.into_iter().fold(Usage::default(), |sum, usage| {
        let prompt_tokens = sum.prompt_tokens.max(usage.prompt_tokens);
        Usage::new(prompt_tokens, sum.completion_tokens + usage.completion_tokens)
    })
}

#[cfg(test)]
mod tests {
    use rbee_schema::{CalledFunction, TokenScore};

    use super::*;

    fn id() -> CompletionId {
        CompletionId { job: "j".parse().expect("an id"), model: "m".parse().expect("a name"), created: 7 }
    }

    fn call() -> ToolCall {
        let function = CalledFunction { name: "sun".to_owned(), arguments: "{}".to_owned() };
        ToolCall { id: "c".to_owned(), r#type: rbee_schema::ToolKind::Function, function }
    }

    fn scored() -> [TokenLogprob; 1] {
        let top = vec![TokenScore::new(2, b"o", -0.5)];
        [TokenLogprob { token: TokenScore::new(1, b"\xE2", -0.1), top }]
    }

    /// Checks the exact text of an object behind the fields that all objects share.
    fn check(object: &impl Serialize, kind: &str, expected: &str) {
        let shared = format!(r#"{{"id":"chatcmpl-j","object":"{kind}","created":7,"model":"m","choices":"#);
        assert_eq!(serde_json::to_string(object).expect("JSON"), format!("{shared}{expected}}}"));
    }

    const LOGPROBS: &str = concat!(
        r#"{"content":[{"token":"�","logprob":-0.10000000149011612,"bytes":[226],"#,
        r#""top_logprobs":[{"token":"o","logprob":-0.5,"bytes":[111]}]}],"refusal":null}"#
    );

    #[test]
    fn completion_has_the_fields_of_the_api() {
        let mut message = Message::default();
        message.add("H", "", Vec::new());
        message.add("i", "", Vec::new());
        let said = Choice::new(0, message, &scored(), FinishReason::Stop);
        let mut message = Message::default();
        message.add("", "Why?", vec![call()]);
        let called = Choice::new(1, message, &[], FinishReason::ToolCalls);
        let empty = Choice::new(2, Message::default(), &[], FinishReason::Length);
        let expected = format!(
            "[{}{LOGPROBS}{},{},{}],{}",
            r#"{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":"#,
            r#","finish_reason":"stop"}"#,
            concat!(
                r#"{"index":1,"message":{"role":"assistant","content":null,"refusal":null,"reasoning_content":"Why?","#,
                r#""tool_calls":[{"id":"c","type":"function","function":{"name":"sun","arguments":"{}"}}]},"#,
                r#""logprobs":null,"finish_reason":"tool_calls"}"#
            ),
            concat!(
                r#"{"index":2,"message":{"role":"assistant","content":"","refusal":null},"#,
                r#""logprobs":null,"finish_reason":"length"}"#
            ),
            r#""usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}"#,
        );
        check(&id().completion(vec![said, called, empty], Usage::new(2, 3)), "chat.completion", &expected);
    }

    #[test]
    fn chunks_have_the_fields_of_the_api() {
        let tokens = Delta::new("Hi".to_owned(), "Why?".to_owned(), vec![call()], 1);
        for (chunk, expected) in [
            (
                id().chunk(1, Delta::role(), &[], None),
                r#"[{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#
                    .to_owned(),
            ),
            (
                id().chunk(0, tokens, &scored(), None),
                format!(
                    "{}{LOGPROBS}{}",
                    concat!(
                        r#"[{"index":0,"delta":{"reasoning_content":"Why?","content":"Hi","tool_calls":[{"id":"c","#,
                        r#""type":"function","function":{"name":"sun","arguments":"{}"},"index":1}]},"logprobs":"#
                    ),
                    r#","finish_reason":null}]"#
                ),
            ),
            (
                id().chunk(0, Delta::default(), &[], Some(FinishReason::Length)),
                r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]"#.to_owned(),
            ),
            (
                id().chunk(0, Delta::default(), &[], Some(FinishReason::Deadline)),
                r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]"#.to_owned(),
            ),
            (
                id().usage_chunk(several_answers([Usage::new(2, 3), Usage::new(2, 4)])),
                r#"[],"usage":{"prompt_tokens":2,"completion_tokens":7,"total_tokens":9}"#.to_owned(),
            ),
        ] {
            check(&chunk, "chat.completion.chunk", &expected);
        }
    }
}
