//! How a model writes what is not meant as text: its thoughts, and its calls of tools.
//!
//! A model was trained on one way of writing them, and its chat template shows which: it writes the same marks when an
//! earlier answer is part of the chat. See <https://huggingface.co/docs/transformers/chat_extras> and, for the families,
//! the constants here.

/// How a model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerFormat {
    /// The marks around its thoughts; `None` for a model that has none.
    pub thoughts: Option<Marks>,
    /// How it calls tools; `None` for a model that calls none.
    pub calls: Option<CallFormat>,
}

/// What stands before and behind something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// Before it.
    pub open: &'static str,
    /// Behind it.
    pub close: &'static str,
}

/// How a call of a tool is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallFormat {
    /// What stands before a call and behind it. Behind may be nothing.
    pub marks: Marks,
    /// White space within the marks, as the model writes it.
    pub space: &'static str,
    /// What is between the marks.
    pub body: Body,
    /// Whether an answer may be a call without the mark before it.
    pub is_bare: bool,
}

/// What is between the marks of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `{"name": ..., "arguments": {...}}`, where the arguments may have another name.
    Object {
        /// The name of the arguments.
        arguments: &'static str,
    },
    /// A list of such objects.
    List,
    /// The name, this mark, and the arguments.
    Named(&'static str),
}

/// Qwen 3, SmolLM 3, and what DeepSeek R1 has taught.
pub const THINK: Marks = Marks { open: "<think>", close: "</think>" };
/// Magistral: <https://huggingface.co/mistralai/Magistral-Small-2507>.
const BRACKETED_THINK: Marks = Marks { open: "[THINK]", close: "[/THINK]" };

/// Qwen 2.5 and 3, SmolLM 3, and what Nous Research has trained:
/// <https://github.com/NousResearch/Hermes-Function-Calling>.
pub const HERMES: CallFormat = CallFormat {
    marks: Marks { open: "<tool_call>", close: "</tool_call>" },
    space: "\n",
    body: Body::Object { arguments: "arguments" },
    is_bare: false,
};
/// Llama 3.1 and later: <https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1>. The answer is the call.
pub const LLAMA: CallFormat = CallFormat {
    marks: Marks { open: "<|python_tag|>", close: ";" },
    space: "",
    body: Body::Object { arguments: "parameters" },
    is_bare: true,
};
/// Mistral up to its third tokenizer: <https://docs.mistral.ai/guides/tokenization>.
pub const MISTRAL: CallFormat =
    CallFormat { marks: Marks { open: "[TOOL_CALLS]", close: "" }, space: "", body: Body::List, is_bare: false };
/// Mistral since then.
pub const MISTRAL_NAMED: CallFormat = CallFormat { body: Body::Named("[ARGS]"), ..MISTRAL };
/// Phi 4 mini: <https://huggingface.co/microsoft/Phi-4-mini-instruct#tool-enabled-function-calling-format>.
pub const PHI: CallFormat = CallFormat {
    marks: Marks { open: "<|tool_call|>", close: "<|/tool_call|>" },
    space: "",
    body: Body::List,
    is_bare: false,
};

impl AnswerFormat {
    /// That of the model with this chat template.
    pub fn of(template: &str) -> Self {
        let has = |mark: &str| template.contains(mark);
        let thoughts = [THINK, BRACKETED_THINK].into_iter().find(|marks| has(marks.close));
        // Some write a function's arguments as tags of their own: other languages, which are not read here.
        let is_tagged = has("<function=") || has("<arg_key>");
        let known = [
            (has("<tool_call>") && !is_tagged, HERMES),
            (has("[TOOL_CALLS]") && has("[ARGS]"), MISTRAL_NAMED),
            (has("[TOOL_CALLS]"), MISTRAL),
            (has("<|tool|>"), PHI),
            (has("<|start_header_id|>") && has("parameters") && !is_tagged, LLAMA),
        ];
        let calls = known.into_iter().find(|(is_meant, _)| *is_meant && offers_tools(template));
        Self { thoughts, calls: calls.map(|(_, format)| format) }
    }

    /// Every mark that it may write.
    pub fn marks(&self) -> impl Iterator<Item = &'static str> {
        let within = self.calls.and_then(|calls| match calls.body {
            Body::Named(mark) => Some(mark),
            Body::Object { .. } | Body::List => None,
        });
        let around = [self.thoughts, self.calls.map(|calls| calls.marks)].into_iter().flatten();
        around.flat_map(|marks| [marks.open, marks.close]).chain(within).filter(|mark| !mark.is_empty())
    }

    /// Whether an answer to a prompt that ends with this text begins within a thought.
    pub fn begins_in_thought(&self, prompt: &str) -> bool {
        self.thoughts.is_some_and(|marks| prompt.trim_end().ends_with(marks.open))
    }
}

/// Whether a template says to the model which tools there are: a word of it is `tools`.
fn offers_tools(template: &str) -> bool {
    let words = template.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.into_iter().any(|word| word == "tools" || word == "xml_tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_shows_how_its_model_writes() {
        for (template, thoughts, calls) in [
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
            assert_eq!(AnswerFormat::of(template), AnswerFormat { thoughts, calls }, "{template}");
        }
    }

    #[test]
    fn an_answer_begins_within_the_thought_that_the_prompt_has_opened() {
        let format = AnswerFormat { thoughts: Some(THINK), calls: None };
        assert!(format.begins_in_thought("<|assistant|>\n<think>\n"));
        for prompt in ["<|assistant|>\n", "<think>\n\n</think>\n\n", "<think>Hm"] {
            assert!(!format.begins_in_thought(prompt), "{prompt}");
        }
        assert!(!AnswerFormat::default().begins_in_thought("<think>"));
    }
}
