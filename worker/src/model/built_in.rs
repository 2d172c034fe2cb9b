//! Templates for files that bring none, chosen by the control tokens in their vocabulary.
//!
//! Files of models that were made for chats sometimes lack their template, and then it is known by the tokens that it
//! writes. A model without such tokens was not made for chats: it continues the text of the messages, which are joined
//! by empty lines, whoever says them. A single message is continued as it stands.

use super::special::FixedTokens;

/// Gemma: <https://ai.google.dev/gemma/docs/core/prompt-structure>. There is no system's turn: what it says stands at
/// the beginning of the first one.
const GEMMA: &str = concat!(
    "{{ bos_token }}",
    "{% set led = messages|length > 1 and messages[0].role == 'system' %}",
    "{% for message in (messages[1:] if led else messages) %}",
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' }}",
    "{{ messages[0].content|trim + '\\n\\n' if led and loop.first }}",
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
/// No turns at all.
const PLAIN: &str = "{{ messages|map(attribute='content')|join('\\n\\n') }}";

/// The template of a model with these control tokens.
pub(super) fn template(control: &FixedTokens) -> &'static str {
    let knows = |tokens: [&str; 2]| tokens.iter().all(|token| control.contains(token));
    if knows(["<start_of_turn>", "<end_of_turn>"]) {
        GEMMA
    } else if knows(["<|im_start|>", "<|im_end|>"]) {
        CHATML
    } else {
        tracing::warn!("the model has no chat template and no turns: it continues the text of the messages");
        PLAIN
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::Role;

    use super::{
        super::template::{Bounds, Template, Turn},
        *,
    };

    fn check(tokens: &[&str], turns: &[(Role, &str)], expected: &str) {
        let control = FixedTokens::new(tokens.iter().map(|token| (*token).to_owned()).zip(0..));
        let turn = |&(role, content): &(Role, &str)| Turn { role, content: content.into() };
        let turns: Vec<Turn> = turns.iter().map(turn).collect();
        let rendered = Template::new(template(&control), "<bos>", "", Bounds::default())
            .and_then(|template| template.render(&turns));
        assert_eq!(rendered.as_deref(), Ok(expected));
    }

    #[test]
    fn a_template_is_known_by_its_tokens() {
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
    }

    #[test]
    fn a_model_that_knows_no_turns_continues_the_text() {
        check(&["<s>"], &[(Role::User, "Once upon a time ")], "Once upon a time ");
        check(&["<|im_start|>"], &[(Role::User, "One"), (Role::Assistant, "Two")], "One\n\nTwo");
    }
}
