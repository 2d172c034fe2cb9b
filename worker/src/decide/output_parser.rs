//! Separates an answer into text, reasoning and tool calls.
//!
//! A released part is never taken back. Text that could become a mark is held back until it cannot, and so is white space
//! that a mark would remove. Text that looks like a call and is none is released as text, marks included: nothing is lost.
//!
//! The parts depend on the text alone and not on how it is split. A worker that resumes a job sends the text so far through
//! a new [`OutputParser`], which releases exactly the parts that were released before.

use super::{
    assembler::overlap,
    markup::{AnswerMarkup, CallMarkup, Marks},
    tool_call::{self, CallParse, ParsedCall},
};

/// The parts that an answer may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpectedOutput {
    /// Markup of the model. Its `calls` are `None` if no tools are offered.
    pub markup: AnswerMarkup,
    /// True if the answer begins inside reasoning.
    pub in_reasoning: bool,
    /// Names of the offered tools.
    pub tools: Vec<String>,
    /// True if the answer ends with its first call.
    pub one_call: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPart {
    /// Text of the answer.
    Text(String),
    /// Text of the model's reasoning.
    Reasoning(String),
    /// A tool call.
    Call(ParsedCall),
}

/// Separates an answer into its parts while its text arrives.
#[derive(Debug, Clone)]
pub struct OutputParser {
    expected: ExpectedOutput,
    state: State,
    /// Text that is not released.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning, where reasoning may begin.
    Start,
    /// Inside reasoning; `true` while it has nothing but white space.
    Reasoning(bool),
    /// Behind reasoning or a call: white space belongs to no part.
    Between,
    /// Inside text; `true` at its beginning, where a call may need no mark.
    Text(bool),
    /// Inside a possible call that begins behind this number of held bytes; `true` if these bytes end with its opening mark.
    Call(usize, bool),
    /// Behind a call, where its closing mark may follow.
    AfterCall,
    /// The answer is over: further text is ignored.
    Over,
}

impl OutputParser {
    /// A parser at the beginning of an answer.
    pub fn new(expected: ExpectedOutput) -> Self {
        let state = match expected.markup.reasoning {
            Some(_) if expected.in_reasoning => State::Reasoning(true),
            Some(_) => State::Start,
            None => State::Text(true),
        };
        Self { expected, state, held: String::new() }
    }

    /// Adds text, and returns the parts that became final.
    pub fn push(&mut self, text: &str) -> Vec<OutputPart> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// The rest of the parts after the last text.
    pub fn finish(mut self) -> Vec<OutputPart> {
        let mut parts = self.push("");
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Start | State::Text(_) | State::Call(..) => release(held, OutputPart::Text, &mut parts),
            State::Reasoning(_) => release(held.trim_end(), OutputPart::Reasoning, &mut parts),
            State::Between | State::AfterCall | State::Over => {}
        }
        parts
    }

    /// True if further text is not part of the answer.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes one transition. Returns false if the held text does not decide which one.
    fn step(&mut self, parts: &mut Vec<OutputPart>) -> bool {
        match (self.state, self.expected.markup.reasoning, self.expected.markup.calls) {
            (State::Start, Some(marks), _) => self.start(marks),
            (State::Reasoning(is_empty), Some(marks), _) => self.reason(is_empty, marks, parts),
            (State::Between, _, _) => self.skip_white_space(),
            (State::Text(at_start), _, Some(calls)) => self.find_call(at_start, &calls, parts),
            (State::Call(behind, is_marked), _, Some(calls)) => self.parse_call(behind, is_marked, &calls, parts),
            (State::AfterCall, _, Some(calls)) => self.skip_closing_mark(calls.marks.close),
            (State::Over, _, _) => {
                self.held.clear();
                false
            }
            (State::Start | State::Reasoning(_) | State::Text(_) | State::Call(..) | State::AfterCall, _, _) => {
                release(std::mem::take(&mut self.held), OutputPart::Text, parts);
                false
            }
        }
    }

    fn start(&mut self, marks: Marks) -> bool {
        let rest = self.held.trim_start();
        if let Some(behind) = rest.strip_prefix(marks.open) {
            self.held = behind.to_owned();
            self.state = State::Reasoning(true);
        } else if marks.open.starts_with(rest) {
            return false;
        } else {
            self.state = State::Text(true);
        }
        true
    }

    fn reason(&mut self, is_empty: bool, marks: Marks, parts: &mut Vec<OutputPart>) -> bool {
        if is_empty {
            self.held = self.held.trim_start().to_owned();
        }
        if let Some((before, behind)) = self.held.split_once(marks.close) {
            release(before.trim_end(), OutputPart::Reasoning, parts);
            self.held = behind.to_owned();
            self.state = State::Between;
            return true;
        }
        let released = before_white_space(&self.held, overlap(&self.held, marks.close));
        release(&self.held[..released], OutputPart::Reasoning, parts);
        self.state = State::Reasoning(is_empty && released == 0);
        self.held.drain(..released);
        false
    }

    fn skip_white_space(&mut self) -> bool {
        self.held = self.held.trim_start().to_owned();
        if !self.held.is_empty() {
            self.state = State::Text(true);
        }
        !self.held.is_empty()
    }

    fn find_call(&mut self, at_start: bool, calls: &CallMarkup, parts: &mut Vec<OutputPart>) -> bool {
        let mark = calls.marks.open;
        let space = self.held.len() - self.held.trim_start().len();
        if at_start && calls.is_bare && self.held[space..].starts_with('{') {
            self.state = State::Call(space, false);
            return true;
        }
        let found = self.held.find(mark);
        let released = match found {
            Some(start) => before_white_space(&self.held[..start], 0),
            None => before_white_space(&self.held, overlap(&self.held, mark)),
        };
        release(&self.held[..released], OutputPart::Text, parts);
        self.held.drain(..released);
        self.state = match found {
            Some(start) => State::Call(start - released + mark.len(), true),
            None => State::Text(at_start && released == 0),
        };
        found.is_some()
    }

    fn parse_call(&mut self, behind: usize, is_marked: bool, calls: &CallMarkup, parts: &mut Vec<OutputPart>) -> bool {
        match tool_call::parse(&self.held[behind..], calls) {
            CallParse::Incomplete => return false,
            // Without a mark any JSON object looks like a call. It is one only if it names an offered tool.
            CallParse::Calls(made, length)
                if is_marked || made.iter().all(|call| self.expected.tools.contains(&call.name)) =>
            {
                let most = if self.expected.one_call { 1 } else { usize::MAX };
                parts.extend(made.into_iter().take(most).map(OutputPart::Call));
                self.held.drain(..behind + length);
                self.state = if self.expected.one_call { State::Over } else { State::AfterCall };
            }
            CallParse::Calls(..) | CallParse::NoCall => {
                release(&self.held[..behind], OutputPart::Text, parts);
                self.held.drain(..behind);
                self.state = State::Text(false);
            }
        }
        true
    }

    fn skip_closing_mark(&mut self, mark: &str) -> bool {
        let rest = self.held.trim_start();
        if !mark.is_empty() && mark.starts_with(rest) && rest != mark {
            return false;
        }
        self.held = rest.strip_prefix(mark).unwrap_or(rest).to_owned();
        self.state = State::Between;
        true
    }
}

fn release(text: impl Into<String>, kind: fn(String) -> OutputPart, parts: &mut Vec<OutputPart>) {
    let text = text.into();
    if !text.is_empty() {
        parts.push(kind(text));
    }
}

/// The start of the white space before the last `held` bytes of a text.
fn before_white_space(text: &str, held: usize) -> usize {
    text[..text.len() - held].trim_end().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::markup::{HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI},
        *,
    };

    fn expected(reasons: bool, calls: CallMarkup) -> ExpectedOutput {
        let reasoning = reasons.then_some(Marks { open: "<think>", close: "</think>" });
        let markup = AnswerMarkup { reasoning, calls: Some(calls) };
        ExpectedOutput { markup, tools: vec!["sun".into()], ..ExpectedOutput::default() }
    }

    /// The parts of a text that arrives in these pieces. Neighboring parts of one kind are joined.
    fn parts<'a>(expected: &ExpectedOutput, pieces: impl IntoIterator<Item = &'a str>) -> Vec<OutputPart> {
        let mut parser = OutputParser::new(expected.clone());
        let mut found: Vec<OutputPart> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
        found.extend(parser.finish());
        let mut joined: Vec<OutputPart> = Vec::new();
        for part in found {
            match (joined.last_mut(), part) {
                (Some(OutputPart::Text(before)), OutputPart::Text(text))
                | (Some(OutputPart::Reasoning(before)), OutputPart::Reasoning(text)) => {
                    before.push_str(&text);
                }
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn text(text: &str) -> OutputPart {
        OutputPart::Text(text.into())
    }

    fn reasoning(text: &str) -> OutputPart {
        OutputPart::Reasoning(text.into())
    }

    fn call(arguments: &str) -> OutputPart {
        OutputPart::Call(ParsedCall { name: "sun".into(), arguments: arguments.into() })
    }

    #[test]
    fn reasoning_is_separated_from_text() {
        let closed = expected(true, HERMES);
        let open = ExpectedOutput { in_reasoning: true, ..closed.clone() };
        for (answer, expected, found) in [
            ("<think>\nHm.\n</think>\n\nYes.", &closed, vec![reasoning("Hm."), text("Yes.")]),
            ("Hm.\n\nSo.\n</think>\n\nYes.", &open, vec![reasoning("Hm.\n\nSo."), text("Yes.")]),
            ("<think>\n\n</think>\n\nYes.", &closed, vec![text("Yes.")]),
            ("<think>Hm. </thin", &closed, vec![reasoning("Hm. </thin")]),
            (" Yes, <think> is a tag.\n", &closed, vec![text(" Yes, <think> is a tag.\n")]),
            ("<thin", &closed, vec![text("<thin")]),
            ("", &open, vec![]),
        ] {
            assert_eq!(parts(expected, [answer]), found, "{answer}");
        }
    }

    #[test]
    fn calls_are_separated_from_text_in_each_markup() {
        let one = r#"{"name": "sun", "arguments": {"at": 1}}"#;
        let bare = one.replace("arguments", "parameters");
        for (answer, markup, found) in [
            (format!("So:\n<tool_call>\n{one}\n</tool_call>"), HERMES, vec![text("So:"), call(r#"{"at": 1}"#)]),
            (format!("<tool_call>{one}</tool_call>\n<tool_call>{one}"), HERMES, vec![call(r#"{"at": 1}"#); 2]),
            (bare.clone(), LLAMA, vec![call(r#"{"at": 1}"#)]),
            (format!("<|python_tag|>{bare}; {bare}"), LLAMA, vec![call(r#"{"at": 1}"#); 2]),
            (format!("[TOOL_CALLS] [{one}, {one}]"), MISTRAL, vec![call(r#"{"at": 1}"#); 2]),
            (
                r#"[TOOL_CALLS]sun[ARGS]{"at": 1}[TOOL_CALLS]sun[ARGS]{}"#.into(),
                MISTRAL_NAMED,
                vec![call(r#"{"at": 1}"#), call("{}")],
            ),
            (format!("<|tool_call|>[{one}]<|/tool_call|>"), PHI, vec![call(r#"{"at": 1}"#)]),
            (
                format!("<think>Hm</think>\n<tool_call>{one}</tool_call>"),
                HERMES,
                vec![reasoning("Hm"), call(r#"{"at": 1}"#)],
            ),
            (format!("<tool_call>{one}</tool_call>\n\nDone."), HERMES, vec![call(r#"{"at": 1}"#), text("Done.")]),
        ] {
            assert_eq!(parts(&expected(true, markup), [answer.as_str()]), found, "{answer}");
        }
    }

    #[test]
    fn text_that_is_no_call_stays_unchanged() {
        for (answer, markup) in [
            ("a \n<tool_call>\nnone</tool_call> b", HERMES),
            ("<tool_call>{\"name\": \"sun\", \"argum", HERMES),
            ("<tool_call>", HERMES),
            ("a <tool_ca", HERMES),
            ("{\"name\": \"moon\", \"parameters\": {}} ", LLAMA),
            (" {\"a\": 1}", LLAMA),
            (" {\"a\": ", LLAMA),
            ("See {\"name\": \"sun\", \"parameters\": {}}", LLAMA),
        ] {
            assert_eq!(parts(&expected(false, markup), [answer]), [text(answer)], "{answer}");
        }
    }

    #[test]
    fn answer_with_one_allowed_call_ends_with_it() {
        let one = ExpectedOutput { one_call: true, ..expected(false, MISTRAL) };
        let answer = r#"[TOOL_CALLS][{"name": "sun"}, {"name": "sun"}] and more"#;
        assert_eq!(parts(&one, [answer]), [call("{}")]);
        let mut parser = OutputParser::new(one);
        assert!(!parser.is_over());
        parser.push(answer);
        assert!(parser.is_over());
    }

    proptest! {
        #[test]
        fn parts_do_not_depend_on_the_split_of_the_text(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[a <>\n{}]{0,3}",
                    prop::sample::select(vec![
                        "<think>", "</think>", "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]",
                        "{\"name\": \"sun\"}", "{\"name\": \"sun\", \"arguments\": {\"a\": \"}\"}}", "[", "]", ";", "sun",
                    ]).prop_map(str::to_owned),
                ],
                0..12,
            ),
            markup in prop::sample::select(vec![HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI]),
            (reasons, in_reasoning, one_call) in any::<(bool, bool, bool)>(),
        ) {
            let expected = ExpectedOutput { in_reasoning, one_call, ..expected(reasons, markup) };
            let whole = pieces.concat();
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let found = parts(&expected, [whole.as_str()]);
            prop_assert_eq!(&parts(&expected, pieces.iter().map(String::as_str)), &found);
            prop_assert_eq!(&parts(&expected, characters.iter().map(String::as_str)), &found);
        }

        #[test]
        fn text_without_marks_is_released_unchanged(text in "[a-z .,\n]{0,40}") {
            let found = parts(&expected(true, HERMES), [text.as_str()]);
            prop_assert_eq!(found, if text.is_empty() { vec![] } else { vec![OutputPart::Text(text)] });
        }
    }
}
