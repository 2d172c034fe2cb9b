//! The key-value pairs of a GGUF header, read by type, with failures that name the key.
//!
//! Keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::HashMap;

use rbee_schema::Failure;

use crate::model_file::error::invalid;

/// Value of a key, in the types that the format defines. A list is never a list of lists.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of the format")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
}

/// A typed view of the metadata of one file.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a>(pub &'a HashMap<String, Value>);

impl<'a> Metadata<'a> {
    /// Text of a key.
    ///
    /// # Errors
    /// `model-invalid` if the key is missing or has another type. The other functions fail in the same way, except that
    /// those named `optional_` return `None` for a missing key.
    pub fn text(self, key: &str) -> Result<&'a str, Failure> {
        self.optional_text(key)?.ok_or_else(|| missing(key))
    }

    /// Text of a key that may be missing.
    pub fn optional_text(self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(key, other, "a text")),
        }
    }

    /// Count (a whole number from 0 to 2^32 - 1) of a key.
    pub fn count(self, key: &str) -> Result<u32, Failure> {
        self.optional_count(key)?.ok_or_else(|| missing(key))
    }

    /// Count of a key that may be missing.
    pub fn optional_count(self, key: &str) -> Result<Option<u32>, Failure> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        whole_number(value).map(Some).ok_or_else(|| wrong_type(key, value, "a count"))
    }

    /// Finite 32-bit float of a key that may be missing.
    pub fn optional_number(self, key: &str) -> Result<Option<f32>, Failure> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::F32(number)) if number.is_finite() => Ok(Some(*number)),
            Some(other) => Err(wrong_type(key, other, "a finite F32")),
        }
    }

    /// Boolean of a key that may be missing.
    pub fn optional_flag(self, key: &str) -> Result<Option<bool>, Failure> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong_type(key, other, "true or false")),
        }
    }

    /// List of texts.
    pub fn texts(self, key: &str) -> Result<Vec<&'a str>, Failure> {
        self.list(key, "a list of texts", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// List of counts.
    pub fn counts(self, key: &str) -> Result<Vec<u32>, Failure> {
        self.list(key, "a list of counts", whole_number)
    }

    /// List of 32-bit floats or integers that may be missing.
    pub fn optional_numbers(self, key: &str) -> Result<Option<Vec<f32>>, Failure> {
        let number = |value: &Value| match value {
            Value::F32(number) => Some(*number),
            Value::I32(number) => Some(*number as f32),
            _ => None,
        };
        self.0.contains_key(key).then(|| self.list(key, "a list of numbers", number)).transpose()
    }

    fn list<T>(self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Vec<T>, Failure> {
        match self.0.get(key) {
            None => Err(missing(key)),
            Some(Value::Array(values)) => {
                values.iter().map(|value| read(value).ok_or_else(|| wrong_type(key, value, expected))).collect()
            }
            Some(other) => Err(wrong_type(key, other, expected)),
        }
    }
}

fn whole_number(value: &Value) -> Option<u32> {
    match value {
        Value::U8(number) => Some(u32::from(*number)),
        Value::U16(number) => Some(u32::from(*number)),
        Value::U32(number) => Some(*number),
        Value::U64(number) => u32::try_from(*number).ok(),
        Value::I8(number) => u32::try_from(*number).ok(),
        Value::I16(number) => u32::try_from(*number).ok(),
        Value::I32(number) => u32::try_from(*number).ok(),
        Value::I64(number) => u32::try_from(*number).ok(),
        Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
    }
}

fn missing(key: &str) -> Failure {
    invalid(format!("the header has no {key}: convert the model again with a recent tool"))
}

fn wrong_type(key: &str, value: &Value, expected: &str) -> Failure {
    let found = match value {
        Value::String(_) => "a text".to_owned(),
        Value::Array(values) => format!("a list of {}", values.len()),
        number => format!("{number:?}"),
    };
    invalid(format!("{key} in the header is {found}: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_mistyped_keys_are_named() {
        let map = HashMap::from([
            ("n".to_owned(), Value::I32(-1)),
            ("t".to_owned(), Value::String("x".into())),
            ("l".to_owned(), Value::Array(vec![Value::String("a".into()), Value::U8(1)])),
        ]);
        let metadata = Metadata(&map);
        for (failure, words) in [
            (metadata.text("a.b").err(), "no a.b"),
            (metadata.text("n").err(), "n in the header is I32(-1): expected a text"),
            (metadata.count("n").err(), "expected a count"),
            (metadata.count("t").err(), "t in the header is a text"),
            (metadata.optional_number("n").err(), "a finite F32"),
            (metadata.optional_flag("t").err(), "true or false"),
            (metadata.texts("l").err(), "expected a list of texts"),
            (metadata.counts("t").err(), "a list of counts"),
        ] {
            let failure = failure.expect(words);
            assert!(failure.message.contains(words), "{failure}");
        }
        assert_eq!(metadata.text("t"), Ok("x"));
        assert_eq!(metadata.optional_count("x"), Ok(None));
    }
}
