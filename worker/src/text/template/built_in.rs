//! Built-in chat templates for model files without one, chosen by the control tokens in the vocabulary.
//!
//! Files of chat models sometimes lack their template. Then the control tokens show which template the model was trained with.
//! A model without such tokens was not trained for chats: it continues the text of all messages, joined by empty lines,
//! whatever their roles. A single message is continued as it is.

use crate::text::token_matcher::TokenMatcher;

/// Gemma: <https://ai.google.dev/gemma/docs/core/prompt-structure>. There is no system turn: the system message stands at the
/// beginning of the first user message.
const GEMMA: &str = concat!(
    "{{ bos_token }}",
    "{% set has_system = messages|length > 1 and messages[0].role == 'system' %}",
    "{% for message in (messages[1:] if has_system else messages) %}",
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' }}",
    "{{ messages[0].content|trim + '\\n\\n' if has_system and loop.first }}",
    "{{ message.content|trim + '<end_of_turn>\\n' }}",
    "{% endfor %}",
    "{{ '<start_of_turn>model\\n' }}",
);
/// ChatML: <https://github.com/openai/openai-python/blob/v0.28.1/chatml.md>.
const CHATML: &str = concat!(
    "{% for message in messages %}",
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}",
    "{% endfor %}",
    "{{ '<|im_start|>assistant\\n' }}",
);
/// Llama 3: <https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1>.
const LLAMA_3: &str = concat!(
    "{{ bos_token }}",
    "{% for message in messages %}",
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content|trim + '<|eot_id|>' }}",
    "{% endfor %}",
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
);
/// Phi 3: <https://huggingface.co/microsoft/Phi-3-mini-4k-instruct#chat-format>.
const PHI_3: &str = concat!(
    "{% for message in messages %}",
    "{{ '<|' + ('user' if message.role == 'tool' else message.role) + '|>\\n' + message.content + '<|end|>\\n' }}",
    "{% endfor %}",
    "{{ '<|assistant|>\\n' }}",
);
/// Mistral: <https://docs.mistral.ai/guides/tokenization>. There is no system turn either. Vocabularies that need a space
/// after `[INST]` add it themselves.
const MISTRAL: &str = concat!(
    "{{ bos_token }}",
    "{% set has_system = messages|length > 1 and messages[0].role == 'system' %}",
    "{% for message in (messages[1:] if has_system else messages) %}",
    "{% if message.role == 'assistant' %}",
    "{{ message.content|trim + eos_token }}",
    "{% else %}",
    "{{ '[INST]' }}",
    "{{ messages[0].content|trim + '\\n\\n' if has_system and loop.first }}",
    "{{ message.content|trim + '[/INST]' }}",
    "{% endif %}",
    "{% endfor %}",
);
/// Pairs of control tokens, and the template of models that have both.
const BY_TOKENS: [([&str; 2], &str); 5] = [
    (["<start_of_turn>", "<end_of_turn>"], GEMMA),
    (["<|im_start|>", "<|im_end|>"], CHATML),
    (["<|start_header_id|>", "<|eot_id|>"], LLAMA_3),
    (["<|assistant|>", "<|end|>"], PHI_3),
    (["[INST]", "[/INST]"], MISTRAL),
];
/// Template of models that were not trained for chats.
const PLAIN: &str = "{{ messages|map(attribute='content')|join('\\n\\n') }}";

/// Chooses the template of a model with these control tokens.
pub(in crate::text) fn built_in_template(control: &TokenMatcher) -> &'static str {
    let found = BY_TOKENS.into_iter().find(|(tokens, _)| tokens.iter().all(|token| control.contains(token)));
    if found.is_none() {
        tracing::warn!(
            "the model has no chat template and no control tokens for turns: it continues the text of the messages"
        );
    }
    found.map_or(PLAIN, |(_, template)| template)
}

#[cfg(test)]
mod tests {
    use rbee_schema::{Message, Role};

    use super::*;
    use crate::{
        contract::{Chat, TemplateLimits},
        text::template::{Template, TemplateChat},
    };

    fn check(tokens: &[&str], turns: &[(Role, &str)], expected: &str) {
        let control = TokenMatcher::new(tokens.iter().map(|token| (*token).to_owned()).zip(0..));
        let messages: Vec<Message> = turns.iter().map(|&(role, content)| Message::new(role, content)).collect();
        let chat = TemplateChat::new(&Chat::new(&messages), &str::to_owned).expect("no calls");
        let rendered = Template::new(built_in_template(&control), "<bos>", "<eos>", TemplateLimits::default())
            .and_then(|template| template.render(chat));
        assert_eq!(rendered.as_deref(), Ok(expected));
    }

    #[test]
    fn template_is_chosen_by_control_tokens() {
        let gemma = ["<start_of_turn>", "<end_of_turn>", "<bos>"];
        check(&gemma, &[(Role::User, " Hi ")], "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
        check(
            &gemma,
            &[(Role::System, "Be brief."), (Role::User, "Hi"), (Role::Assistant, "Yes?"), (Role::User, "Why?")],
            "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n\
             <start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
        );
        check(&gemma, &[(Role::System, "Hm")], "<bos><start_of_turn>user\nHm<end_of_turn>\n<start_of_turn>model\n");
        check(
            &["<|im_start|>", "<|im_end|>"],
            &[(Role::System, "Be brief."), (Role::User, "Hi")],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        );
        check(
            &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            &[(Role::User, "Hi ")],
            "<bos><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        );
        check(
            &["<|user|>", "<|assistant|>", "<|end|>"],
            &[(Role::System, "Be brief."), (Role::Tool, "42")],
            "<|system|>\nBe brief.<|end|>\n<|user|>\n42<|end|>\n<|assistant|>\n",
        );
        check(
            &["[INST]", "[/INST]"],
            &[(Role::System, "Be brief."), (Role::User, "Hi"), (Role::Assistant, "Yes?"), (Role::User, "Why?")],
            "<bos>[INST]Be brief.\n\nHi[/INST]Yes?<eos>[INST]Why?[/INST]",
        );
    }

    #[test]
    fn model_without_turns_continues_the_text() {
        check(&["<s>"], &[(Role::User, "Once upon a time ")], "Once upon a time ");
        check(&["<|im_start|>"], &[(Role::User, "One"), (Role::Assistant, "Two")], "One\n\nTwo");
    }
}
