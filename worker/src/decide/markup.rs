//! The markup with which a model writes reasoning and tool calls in its answer.
//!
//! A model was trained on one markup, and its chat template shows which: the template writes the same marks when an earlier
//! answer is part of the chat. See <https://huggingface.co/docs/transformers/chat_extras> and, for the model families, the
//! constants here.

/// The markup of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerMarkup {
    /// Marks around reasoning; `None` for a model without reasoning.
    pub reasoning: Option<Marks>,
    /// Markup of tool calls; `None` for a model that cannot call tools.
    pub calls: Option<CallMarkup>,
}

/// A pair of marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Mark before the content.
    pub open: &'static str,
    /// Mark behind the content.
    pub close: &'static str,
}

/// Markup of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallMarkup {
    /// Marks around a call. The closing mark may be empty.
    pub marks: Marks,
    /// White space inside the marks, as the model writes it.
    pub space: &'static str,
    /// Syntax of the content between the marks.
    pub body: CallBody,
    /// True if an answer may be a call without the opening mark.
    pub is_bare: bool,
}

/// Syntax of the content between the marks of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallBody {
    /// `{"name": ..., "arguments": {...}}`. The key of the arguments may have another name.
    Object {
        /// Key of the arguments.
        arguments: &'static str,
    },
    /// A list of such objects.
    List,
    /// The name of the function, this mark, and the arguments.
    Named(&'static str),
}

/// Reasoning of Qwen 3, SmolLM 3, and models that were distilled from DeepSeek R1.
pub const THINK: Marks = Marks { open: "<think>", close: "</think>" };
/// Reasoning of Magistral: <https://huggingface.co/mistralai/Magistral-Small-2507>.
const BRACKETED_THINK: Marks = Marks { open: "[THINK]", close: "[/THINK]" };

/// Tool calls of Qwen 2.5 and 3, SmolLM 3, and the models of Nous Research:
/// <https://github.com/NousResearch/Hermes-Function-Calling>.
pub const HERMES: CallMarkup = CallMarkup {
    marks: Marks { open: "<tool_call>", close: "</tool_call>" },
    space: "\n",
    body: CallBody::Object { arguments: "arguments" },
    is_bare: false,
};
/// Tool calls of Llama 3.1 and later: <https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1>. The whole answer
/// is the call.
pub const LLAMA: CallMarkup = CallMarkup {
    marks: Marks { open: "<|python_tag|>", close: ";" },
    space: "",
    body: CallBody::Object { arguments: "parameters" },
    is_bare: true,
};
/// Tool calls of Mistral models up to their third tokenizer: <https://docs.mistral.ai/guides/tokenization>.
pub const MISTRAL: CallMarkup =
    CallMarkup { marks: Marks { open: "[TOOL_CALLS]", close: "" }, space: "", body: CallBody::List, is_bare: false };
/// Tool calls of Mistral models since then.
pub const MISTRAL_NAMED: CallMarkup = CallMarkup { body: CallBody::Named("[ARGS]"), ..MISTRAL };
/// Tool calls of Phi 4 mini: <https://huggingface.co/microsoft/Phi-4-mini-instruct#tool-enabled-function-calling-format>.
pub const PHI: CallMarkup = CallMarkup {
    marks: Marks { open: "<|tool_call|>", close: "<|/tool_call|>" },
    space: "",
    body: CallBody::List,
    is_bare: false,
};

impl AnswerMarkup {
    /// The markup of a model with this chat template.
    pub fn from_template(template: &str) -> Self {
        let has = |mark: &str| template.contains(mark);
        let reasoning = [THINK, BRACKETED_THINK].into_iter().find(|marks| has(marks.close));
        // Some models write each argument as a tag of its own. This markup is not supported.
        let is_tagged = has("<function=") || has("<arg_key>");
        let known = [
            (has("<tool_call>") && !is_tagged, HERMES),
            (has("[TOOL_CALLS]") && has("[ARGS]"), MISTRAL_NAMED),
            (has("[TOOL_CALLS]"), MISTRAL),
            (has("<|tool|>"), PHI),
            (has("<|start_header_id|>") && has("parameters") && !is_tagged, LLAMA),
        ];
        let calls = known.into_iter().find(|(is_used, _)| *is_used && offers_tools(template));
        Self { reasoning, calls: calls.map(|(_, markup)| markup) }
    }

    /// All marks that an answer may contain.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        let within = self.calls.and_then(|calls| match calls.body {
            CallBody::Named(mark) => Some(mark),
            CallBody::Object { .. } | CallBody::List => None,
        });
        let around = [self.reasoning, self.calls.map(|calls| calls.marks)].into_iter().flatten();
        around.flat_map(|marks| [marks.open, marks.close]).chain(within).filter(|mark| !mark.is_empty())
    }

    /// True if an answer to a prompt that ends with this text begins inside reasoning, because the prompt has opened it.
    pub fn begins_in_reasoning(&self, prompt: &str) -> bool {
        self.reasoning.is_some_and(|marks| prompt.trim_end().ends_with(marks.open))
    }
}

/// True if a template lists the tools for the model: one of its words is `tools` or `xml_tools`.
fn offers_tools(template: &str) -> bool {
    let words = template.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.into_iter().any(|word| word == "tools" || word == "xml_tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_shows_the_markup_of_its_model() {
        for (template, reasoning, calls) in [
            ("{% if tools %}<tool_call>{% endif %}{{ '</think>' in content }}", Some(THINK), Some(HERMES)),
            ("{% if xml_tools %}<tool_call>{% endif %}", None, Some(HERMES)),
            ("{% if tools %}<tool_call><function=name>{% endif %}", None, None),
            ("<|start_header_id|>{{ tools }}, parameters, <function=name>", None, None),
            ("{{ '[TOOL_CALLS]' + message.tool_calls }}", None, None),
            ("{{ tools }}[TOOL_CALLS]", None, Some(MISTRAL)),
            ("{{ tools }}[TOOL_CALLS]{{ name }}[ARGS][THINK][/THINK]", Some(BRACKETED_THINK), Some(MISTRAL_NAMED)),
            ("<|start_header_id|>{{ tools }}, \"parameters\"", None, Some(LLAMA)),
            ("{{ message['tools'] }}<|tool|>", None, Some(PHI)),
            ("{% for message in messages %}<|im_start|>{% endfor %}", None, None),
        ] {
            assert_eq!(AnswerMarkup::from_template(template), AnswerMarkup { reasoning, calls }, "{template}");
        }
    }

    #[test]
    fn answer_begins_in_reasoning_that_the_prompt_has_opened() {
        let markup = AnswerMarkup { reasoning: Some(THINK), calls: None };
        assert!(markup.begins_in_reasoning("<|assistant|>\n<think>\n"));
        for prompt in ["<|assistant|>\n", "<think>\n\n</think>\n\n", "<think>Hm"] {
            assert!(!markup.begins_in_reasoning(prompt), "{prompt}");
        }
        assert!(!AnswerMarkup::default().begins_in_reasoning("<think>"));
    }
}
