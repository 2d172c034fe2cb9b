//! A chat completion request: a job and what the gateway itself needs, read in one pass.

use bytes::Bytes;
use rbee_schema::{Failure, FailureCode, JobRequest, MAX_BODY_BYTES};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::inference::Request;

/// Choices that one request may ask for. Each is a job of its own.
const MAX_CHOICES: u32 = 8;

/// A chat completion request, read and checked.
#[derive(Debug)]
pub(crate) struct ChatCompletionRequest {
    is_streamed: bool,
    includes_usage: bool,
    choices: Vec<Request>,
}

/// Body of the request.
#[derive(Debug)]
struct Body {
    job: JobRequest,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl ChatCompletionRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// `invalid-json`, or `invalid-request` with the path of the field that is wrong.
    pub(crate) fn read(body: &Bytes) -> Result<Self, Failure> {
        let Body { job, stream_options } = JobRequest::read_as(body)?;
        Ok(Self {
            is_streamed: job.stream == Some(true),
            includes_usage: stream_options.is_some_and(|options| options.include_usage == Some(true)),
            choices: choices(job, body)?,
        })
    }

    /// True if the answer is a stream of events.
    pub(crate) fn is_streamed(&self) -> bool {
        self.is_streamed
    }

    /// True if a stream ends with an event that holds the usage.
    pub(crate) fn includes_usage(&self) -> bool {
        self.includes_usage
    }

    /// Takes one request for each choice.
    pub(crate) fn take_choices(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.choices)
    }

    /// One request for each choice.
    #[cfg(test)]
    fn choices(&self) -> &[Request] {
        &self.choices
    }
}

/// One request for each choice. A single choice passes the body on as it is. Several choices differ in their seeds.
fn choices(job: JobRequest, body: &Bytes) -> Result<Vec<Request>, Failure> {
    let count = match job.n {
        None | Some(0 | 1) => {
            job.check()?;
            return Ok(vec![Request::chat(&job, body.clone())]);
        }
        Some(count @ ..=MAX_CHOICES) if body.len() > MAX_BODY_BYTES => {
            let message = format!(
                "n is {count}, and the body has more than {MAX_BODY_BYTES} bytes: send it once for each choice, with another seed"
            );
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
        Some(count @ ..=MAX_CHOICES) => count,
        Some(count) => {
            let message = format!("n is {count}: at most {MAX_CHOICES} choices are possible");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
    };
    let single = JobRequest { n: Some(1), ..job };
    single.check()?;
    let choice = |index: u32| {
        let seed = single.seed.map(|seed| seed.wrapping_add(u64::from(index)));
        let job = JobRequest { seed, ..single.clone() };
        let written =
            serde_json::to_vec(&job).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        Ok(Request::chat(&job, written.into()))
    };
    (0..count).map(choice).collect()
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;

        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = Body;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a chat completion request")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Body, A::Error> {
                let mut stream_options = None;
                let fields = JobFields { map, stream_options: &mut stream_options };
                let job = JobRequest::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(Body { job, stream_options })
            }
        }

        deserializer.deserialize_map(BodyVisitor)
    }
}

/// Fields of a body without `stream_options`, which are taken out.
struct JobFields<'a, A> {
    map: A,
    stream_options: &'a mut Option<StreamOptions>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for JobFields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "stream_options" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.stream_options = self.map.next_value()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(fields: &Value) -> Bytes {
        let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        for (name, value) in fields.as_object().expect("fields") {
            body[name] = value.clone();
        }
        body.to_string().into()
    }

    fn read(fields: &Value) -> Result<ChatCompletionRequest, Failure> {
        ChatCompletionRequest::read(&body(fields))
    }

    #[test]
    fn stream_and_usage_are_requested_by_their_fields() {
        let usage = json!({ "include_usage": true });
        for (fields, expected) in [
            (json!({}), (false, false)),
            (json!({ "stream": true }), (true, false)),
            (json!({ "stream": true, "stream_options": null }), (true, false)),
            (json!({ "stream": true, "stream_options": {} }), (true, false)),
            (json!({ "stream": true, "stream_options": { "include_usage": false } }), (true, false)),
            (json!({ "stream_options": usage, "stream": true }), (true, true)),
            (json!({ "stream": false, "stream_options": usage }), (false, true)),
        ] {
            let request = read(&fields).expect("a request");
            assert_eq!((request.is_streamed(), request.includes_usage()), expected, "{fields}");
        }
    }

    #[test]
    fn body_of_a_single_choice_is_passed_on_as_it_is() {
        for fields in
            [json!({ "unknown": [1, { "a": null }] }), json!({ "n": 1, "stream": true }), json!({ "n": null })]
        {
            let request = read(&fields).expect("a request");
            assert_eq!(request.choices().iter().map(Request::body).collect::<Vec<_>>(), [&body(&fields)]);
        }
    }

    #[test]
    fn several_choices_are_jobs_with_seeds_in_a_row() {
        let fields = json!({ "n": 3, "seed": 7, "logit_bias": { "5": -1.5 }, "stop": "x", "unknown": 1 });
        let request = read(&fields).expect("a request");
        let bodies: Vec<JobRequest> =
            request.choices().iter().map(|choice| JobRequest::from_json(choice.body()).expect("a job")).collect();
        let expected = JobRequest::read_as::<JobRequest>(&body(&fields)).expect("a job");
        let expected: Vec<JobRequest> =
            (7..10).map(|seed| JobRequest { n: Some(1), seed: Some(seed), ..expected.clone() }).collect();
        assert_eq!(bodies, expected);
        let request = read(&json!({ "n": 2 })).expect("a request");
        let seeds = request.choices().iter().map(|choice| JobRequest::from_json(choice.body()).expect("a job").seed);
        assert_eq!(seeds.collect::<Vec<_>>(), [None, None], "without a seed each job draws its own");
    }

    #[test]
    fn mistakes_are_reported_with_the_path_of_the_field() {
        for (fields, words) in [
            (json!({ "n": 9 }), "n is 9: at most 8 choices are possible"),
            (json!({ "n": 0 }), "n must be 1"),
            (json!({ "n": 3, "messages": [] }), "messages is empty"),
            (json!({ "messages": [] }), "messages is empty"),
            (json!({ "temperature": "hot" }), "temperature: invalid type"),
            (
                json!({ "messages": [{ "role": "user", "content": "Hi" }, { "role": "queen" }] }),
                "messages[1].role: unknown variant",
            ),
            (json!({ "stream_options": { "include_usage": 1 } }), "stream_options.include_usage: invalid type"),
        ] {
            let failure = read(&fields).expect_err("a mistake");
            assert_eq!(failure.code, FailureCode::InvalidRequest, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
        let failure = ChatCompletionRequest::read(&"{\"messages\":".into()).expect_err("a mistake");
        assert_eq!(failure.code, FailureCode::InvalidJson, "{failure}");
    }
}
