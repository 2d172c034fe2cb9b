//! Limits of grammars: what is too large or too deep is refused before it is compiled.
//!
//! The compiler calls itself for each level of nesting and for each rule that refers to another. Its thread has a stack that is
//! large enough for every grammar within these limits.

use std::time::Duration;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use rbee_schema::{Failure, FailureCode, WorkerSettings};

/// Limits of compiling a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Maximum size of a grammar in Lark syntax, of a regular expression, or of all texts to choose from, in bytes.
    pub bytes: usize,
    /// Maximum nesting depth of brackets.
    pub depth: usize,
    /// Maximum time to compile all grammars of an answer.
    pub time: Duration,
}

impl From<&WorkerSettings> for GrammarLimits {
    fn from(settings: &WorkerSettings) -> Self {
        Self {
            bytes: usize::try_from(settings.grammar_size.bytes()).unwrap_or(usize::MAX),
            depth: settings.grammar_depth as usize,
            time: settings.grammar_time,
        }
    }
}

impl Default for GrammarLimits {
    fn default() -> Self {
        Self::from(&WorkerSettings::default())
    }
}

impl GrammarLimits {
    /// Checks the size and the depth of all grammars of an answer. JSON Schemas are as large as a request and as deep as JSON at
    /// most.
    ///
    /// # Errors
    /// `invalid-request`, with what was found and the limit.
    pub fn check(&self, grammar: &TopLevelGrammar) -> Result<(), Failure> {
        let texts = grammar.grammars.iter().filter_map(|GrammarWithLexer { lark_grammar, .. }| lark_grammar.as_deref());
        for text in texts {
            let (bytes, depth) = (text.len(), depth(text));
            if bytes > self.bytes {
                return Err(refused(&format!("its grammar has {bytes} bytes, and at most {} are allowed", self.bytes)));
            }
            if depth > self.depth {
                let limit = self.depth;
                return Err(refused(&format!(
                    "its grammar is nested {depth} levels deep, and at most {limit} are allowed"
                )));
            }
        }
        Ok(())
    }
}

/// Refusal of an output format, with the reason.
pub fn refused(reason: &str) -> Failure {
    Failure::new(FailureCode::InvalidRequest, format!("the requested output format cannot be used: {reason}"))
}

/// Nesting depth of the brackets of a grammar in Lark syntax, outside of string literals. Brackets end with their line.
fn depth(text: &str) -> usize {
    text.lines().map(depth_of_line).max().unwrap_or(0)
}

fn depth_of_line(line: &str) -> usize {
    let (mut depth, mut deepest, mut in_string) = (0usize, 0, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => in_string = !in_string,
            '(' | '[' | '{' if !in_string => depth += 1,
            ')' | ']' | '}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_outside_of_strings_and_within_a_line() {
        for (text, expected) in [
            ("start: \"a\"", 0),
            ("start: (\"a\" | [\"b\"])", 2),
            ("start: \"(((\" /\\(\\(/", 0),
            ("start: \"\\\"((\"", 0),
            ("a: \"x\" %if not(not(true))\nb: ((c))\nc: (d", 2),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn grammar_over_a_limit_is_refused_with_the_limit() {
        let limits = GrammarLimits { bytes: 100, depth: 3, time: Duration::ZERO };
        let check = |text: String| {
            let grammars = vec![GrammarWithLexer::from_lark(text)];
            limits.check(&TopLevelGrammar { grammars, max_tokens: None })
        };
        assert_eq!(check("start: (((\"a\")))".into()), Ok(()));
        for (text, words) in [
            (format!("start: {}", "\"a\" ".repeat(50)), "207 bytes, and at most 100"),
            ("start: \"a\" %if not(not(not(not(true))))".to_owned(), "4 levels deep, and at most 3"),
        ] {
            let failure = check(text).expect_err("over a limit");
            assert!(failure.code == FailureCode::InvalidRequest && failure.message.contains(words), "{failure}");
        }
    }
}
