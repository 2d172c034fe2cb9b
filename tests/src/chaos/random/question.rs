//! The requests of a random run, and the answers of an undisturbed one.

use rbee_nats::Submission;
use rbee_schema::{Chunk, JobClass, JobId, ModelReference, Tenant};
use serde_json::json;

use crate::{
    fleet::{Fleet, text, tokens, whole},
    tools,
};

/// Longest answer of the mock engine, in characters.
const LONGEST_ANSWER: usize = 200;

/// Tokens of an answer of the real model.
const REAL_TOKENS: u32 = 40;

/// Model that answers the jobs of a random run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomModel {
    /// The mock engine repeats what it is told.
    Mock,
    /// The real model of the tests, at temperature 0 and with seeds.
    Real,
}

/// A request whose answer is known.
#[derive(Debug, Clone)]
pub(super) struct Question {
    body: serde_json::Value,
    /// Text of the answer.
    pub(super) text: String,
    /// Number of tokens of the answer.
    pub(super) tokens: u32,
}

/// Requests of a run.
pub(super) enum Questions {
    /// The mock engine: each job has an answer of its own.
    Echo,
    /// The real model: jobs draw one of these.
    Known(Vec<Question>),
}

impl RandomModel {
    pub(super) fn reference(self) -> ModelReference {
        match self {
            Self::Mock => ModelReference::Mock("interval=10ms".to_owned()),
            Self::Real => ModelReference::File(tools::model()),
        }
    }
}

impl Questions {
    /// The questions of a model, answered once by a fleet that nothing disturbs.
    pub(super) async fn prepare(model: RandomModel, fleet: &Fleet) -> Self {
        if model == RandomModel::Mock {
            return Self::Echo;
        }
        let mut known = Vec::new();
        for (subject, temperature) in [("a bee", 0.0), ("the sea", 0.8), ("an old map", 0.0), ("rain", 1.2)] {
            let content = format!("Write a story about {subject}.");
            let body = json!({
                "messages": [{ "role": "user", "content": content }],
                "temperature": temperature, "seed": 7, "max_tokens": REAL_TOKENS,
            });
            let (_, mut output) = fleet.submit("m", body.clone()).await;
            let chunks = whole(&mut output).await;
            assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "an undisturbed answer: {chunks:?}");
            let count = u32::try_from(tokens(&chunks).len()).expect("few");
            known.push(Question { body, text: text(&chunks), tokens: count });
        }
        Self::Known(known)
    }

    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Question {
        match self {
            Self::Echo => {
                let length = random.usize(1..LONGEST_ANSWER);
                let text: String = (0..length).map(|_| char::from(random.u8(b'a'..=b'z'))).collect();
                let body = json!({ "messages": [{ "role": "user", "content": format!("mock: echo\n{text}") }] });
                Question { body, tokens: u32::try_from(length).expect("short"), text }
            }
            Self::Known(known) => known[random.usize(..known.len())].clone(),
        }
    }
}

impl Question {
    pub(super) fn submission(&self, tenant: &Tenant, job: &JobId, class: JobClass) -> Submission {
        Submission {
            model: "m".parse().expect("a name"),
            class,
            tenant: tenant.clone(),
            job: job.clone(),
            body: self.body.to_string().into(),
        }
    }
}
