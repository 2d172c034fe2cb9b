//! Tells an answer's text from its thoughts and its calls of tools.
//!
//! What is released is never taken back: text that could become a mark is held until it cannot, and so is white space
//! that a mark would swallow. What looks like a call and is none is text again, marks and all: nothing is lost.
//!
//! Everything depends on the text alone and not on how it is cut. A worker that resumes a job sends the text so far
//! through a new [`Parts`]; what that releases is what was released before.

use super::{
    call::{self, Call, Reading},
    format::{AnswerFormat, CallFormat, Marks},
    text::overlap,
};

/// What there is to tell from text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// How the model writes it. Calls are `None` where no tools are offered.
    pub format: AnswerFormat,
    /// Whether the answer begins within a thought.
    pub in_thought: bool,
    /// The names of the tools that are offered.
    pub tools: Vec<String>,
    /// Whether the answer ends with its first call.
    pub one_call: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// For whoever asked.
    Text(String),
    /// What the model thought.
    Thought(String),
    /// A call of a tool.
    Call(Call),
}

/// An answer's parts, as its text comes.
#[derive(Debug, Clone)]
pub struct Parts {
    expected: Expected,
    state: State,
    /// Text that is not released.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning, where a thought may begin.
    Start,
    /// In a thought; `true` until it has something but white space.
    Thought(bool),
    /// Behind a thought or a call: white space is nobody's.
    Between,
    /// In a text; `true` at its beginning, where a call may need no mark.
    Text(bool),
    /// In what may be a call, which stands behind so many held bytes; `true` if they end with its mark.
    Call(usize, bool),
    /// Behind a call, where its second mark may follow.
    AfterCall,
    /// Nothing more is part of the answer.
    Over,
}

impl Parts {
    /// Nothing yet.
    pub fn new(expected: Expected) -> Self {
        let state = match expected.format.thoughts {
            Some(_) if expected.in_thought => State::Thought(true),
            Some(_) => State::Start,
            None => State::Text(true),
        };
        Self { expected, state, held: String::new() }
    }

    /// Takes the text that follows.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// What is left when no more text comes.
    pub fn finish(mut self) -> Vec<Part> {
        let mut parts = self.push("");
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Start | State::Text(_) | State::Call(..) => release(held, Part::Text, &mut parts),
            State::Thought(_) => release(held.trim_end(), Part::Thought, &mut parts),
            State::Between | State::AfterCall | State::Over => {}
        }
        parts
    }

    /// Whether nothing that comes is part of the answer.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Goes on by a state, if that is certain.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match (self.state, self.expected.format.thoughts, self.expected.format.calls) {
            (State::Start, Some(marks), _) => self.start(marks),
            (State::Thought(is_empty), Some(marks), _) => self.think(is_empty, marks, parts),
            (State::Between, _, _) => self.skip(),
            (State::Text(at_start), _, Some(calls)) => self.tell(at_start, &calls, parts),
            (State::Call(behind, is_marked), _, Some(calls)) => self.call(behind, is_marked, &calls, parts),
            (State::AfterCall, _, Some(calls)) => self.close(calls.marks.close),
            (State::Over, _, _) => {
                self.held.clear();
                false
            }
            (State::Start | State::Thought(_) | State::Text(_) | State::Call(..) | State::AfterCall, _, _) => {
                release(std::mem::take(&mut self.held), Part::Text, parts);
                false
            }
        }
    }

    fn start(&mut self, marks: Marks) -> bool {
        let rest = self.held.trim_start();
        if let Some(behind) = rest.strip_prefix(marks.open) {
            self.held = behind.to_owned();
            self.state = State::Thought(true);
        } else if marks.open.starts_with(rest) {
            return false;
        } else {
            self.state = State::Text(true);
        }
        true
    }

    fn think(&mut self, is_empty: bool, marks: Marks, parts: &mut Vec<Part>) -> bool {
        if is_empty {
            self.held = self.held.trim_start().to_owned();
        }
        if let Some((before, behind)) = self.held.split_once(marks.close) {
            release(before.trim_end(), Part::Thought, parts);
            self.held = behind.to_owned();
            self.state = State::Between;
            return true;
        }
        let certain = before_white_space(&self.held, overlap(&self.held, marks.close));
        release(&self.held[..certain], Part::Thought, parts);
        self.state = State::Thought(is_empty && certain == 0);
        self.held.drain(..certain);
        false
    }

    fn skip(&mut self) -> bool {
        self.held = self.held.trim_start().to_owned();
        if !self.held.is_empty() {
            self.state = State::Text(true);
        }
        !self.held.is_empty()
    }

    fn tell(&mut self, at_start: bool, calls: &CallFormat, parts: &mut Vec<Part>) -> bool {
        let mark = calls.marks.open;
        let space = self.held.len() - self.held.trim_start().len();
        if at_start && calls.is_bare && self.held[space..].starts_with('{') {
            self.state = State::Call(space, false);
            return true;
        }
        let found = self.held.find(mark);
        let certain = match found {
            Some(start) => before_white_space(&self.held[..start], 0),
            None => before_white_space(&self.held, overlap(&self.held, mark)),
        };
        release(&self.held[..certain], Part::Text, parts);
        self.held.drain(..certain);
        self.state = match found {
            Some(start) => State::Call(start - certain + mark.len(), true),
            None => State::Text(at_start && certain == 0),
        };
        found.is_some()
    }

    fn call(&mut self, behind: usize, is_marked: bool, calls: &CallFormat, parts: &mut Vec<Part>) -> bool {
        match call::read(&self.held[behind..], calls) {
            Reading::Unfinished => return false,
            // Without a mark any JSON looks like a call. One of these tools is meant, or none.
            Reading::Calls(made, length)
                if is_marked || made.iter().all(|call| self.expected.tools.contains(&call.name)) =>
            {
                let most = if self.expected.one_call { 1 } else { usize::MAX };
                parts.extend(made.into_iter().take(most).map(Part::Call));
                self.held.drain(..behind + length);
                self.state = if self.expected.one_call { State::Over } else { State::AfterCall };
            }
            Reading::Calls(..) | Reading::NoCall => {
                release(&self.held[..behind], Part::Text, parts);
                self.held.drain(..behind);
                self.state = State::Text(false);
            }
        }
        true
    }

    fn close(&mut self, mark: &str) -> bool {
        let rest = self.held.trim_start();
        if !mark.is_empty() && mark.starts_with(rest) && rest != mark {
            return false;
        }
        self.held = rest.strip_prefix(mark).unwrap_or(rest).to_owned();
        self.state = State::Between;
        true
    }
}

fn release(text: impl Into<String>, kind: fn(String) -> Part, parts: &mut Vec<Part>) {
    let text = text.into();
    if !text.is_empty() {
        parts.push(kind(text));
    }
}

/// Where white space begins that stands before the last `held` bytes of a text.
fn before_white_space(text: &str, held: usize) -> usize {
    text[..text.len() - held].trim_end().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::format::{HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI},
        *,
    };

    fn expected(thinks: bool, calls: CallFormat) -> Expected {
        let thoughts = thinks.then_some(Marks { open: "<think>", close: "</think>" });
        let format = AnswerFormat { thoughts, calls: Some(calls) };
        Expected { format, tools: vec!["sun".into()], ..Expected::default() }
    }

    /// The parts of a text that comes in these pieces; those that belong together are joined.
    fn parts<'a>(expected: &Expected, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
        let mut parts = Parts::new(expected.clone());
        let mut found: Vec<Part> = pieces.into_iter().flat_map(|piece| parts.push(piece)).collect();
        found.extend(parts.finish());
        let mut joined: Vec<Part> = Vec::new();
        for part in found {
            match (joined.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(text)) | (Some(Part::Thought(before)), Part::Thought(text)) => {
                    before.push_str(&text);
                }
                (_, part) => joined.push(part),
            }
        }
        joined
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn thought(text: &str) -> Part {
        Part::Thought(text.into())
    }

    fn call(arguments: &str) -> Part {
        Part::Call(Call { name: "sun".into(), arguments: arguments.into() })
    }

    #[test]
    fn a_thought_is_told_from_the_answer() {
        let closed = expected(true, HERMES);
        let open = Expected { in_thought: true, ..closed.clone() };
        for (answer, expected, found) in [
            ("<think>\nHm.\n</think>\n\nYes.", &closed, vec![thought("Hm."), text("Yes.")]),
            ("Hm.\n\nSo.\n</think>\n\nYes.", &open, vec![thought("Hm.\n\nSo."), text("Yes.")]),
            ("<think>\n\n</think>\n\nYes.", &closed, vec![text("Yes.")]),
            ("<think>Hm. </thin", &closed, vec![thought("Hm. </thin")]),
            (" Yes, <think> is a tag.\n", &closed, vec![text(" Yes, <think> is a tag.\n")]),
            ("<thin", &closed, vec![text("<thin")]),
            ("", &open, vec![]),
        ] {
            assert_eq!(parts(expected, [answer]), found, "{answer}");
        }
    }

    #[test]
    fn calls_are_told_from_text_in_each_family() {
        let one = r#"{"name": "sun", "arguments": {"at": 1}}"#;
        let bare = one.replace("arguments", "parameters");
        for (answer, format, found) in [
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
                vec![thought("Hm"), call(r#"{"at": 1}"#)],
            ),
            (format!("<tool_call>{one}</tool_call>\n\nDone."), HERMES, vec![call(r#"{"at": 1}"#), text("Done.")]),
        ] {
            assert_eq!(parts(&expected(true, format), [answer.as_str()]), found, "{answer}");
        }
    }

    #[test]
    fn what_is_no_call_stays_text_as_it_was_written() {
        for (answer, format) in [
            ("a \n<tool_call>\nnone</tool_call> b", HERMES),
            ("<tool_call>{\"name\": \"sun\", \"argum", HERMES),
            ("<tool_call>", HERMES),
            ("a <tool_ca", HERMES),
            ("{\"name\": \"moon\", \"parameters\": {}} ", LLAMA),
            (" {\"a\": 1}", LLAMA),
            (" {\"a\": ", LLAMA),
            ("See {\"name\": \"sun\", \"parameters\": {}}", LLAMA),
        ] {
            assert_eq!(parts(&expected(false, format), [answer]), [text(answer)], "{answer}");
        }
    }

    #[test]
    fn an_answer_of_one_call_ends_with_it() {
        let one = Expected { one_call: true, ..expected(false, MISTRAL) };
        let answer = r#"[TOOL_CALLS][{"name": "sun"}, {"name": "sun"}] and more"#;
        assert_eq!(parts(&one, [answer]), [call("{}")]);
        let mut read = Parts::new(one);
        assert!(!read.is_over());
        read.push(answer);
        assert!(read.is_over());
    }

    proptest! {
        #[test]
        fn the_parts_do_not_depend_on_how_the_text_is_cut(
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
            format in prop::sample::select(vec![HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI]),
            (thinks, in_thought, one_call) in any::<(bool, bool, bool)>(),
        ) {
            let expected = Expected { in_thought, one_call, ..expected(thinks, format) };
            let whole = pieces.concat();
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let found = parts(&expected, [whole.as_str()]);
            prop_assert_eq!(&parts(&expected, pieces.iter().map(String::as_str)), &found);
            prop_assert_eq!(&parts(&expected, characters.iter().map(String::as_str)), &found);
        }

        #[test]
        fn a_text_without_marks_is_released_as_it_is(text in "[a-z .,\n]{0,40}") {
            let found = parts(&expected(true, HERMES), [text.as_str()]);
            prop_assert_eq!(found, if text.is_empty() { vec![] } else { vec![Part::Text(text)] });
        }
    }
}
