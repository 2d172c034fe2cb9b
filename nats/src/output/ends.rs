//! Beginning and end of a job's output, for the story of the job. The cost does not depend on the length of the answer.

use std::time::SystemTime;

use rbee_schema::{Chunk, JobId, Tenant};

use super::stored::read;
use crate::{Bus, BusError, Subject, batch::Position};

/// Number of chunks that are read from the beginning: the first tokens follow `started`, and `resumed` where workers ended
/// before them.
const FIRST: usize = 8;

/// Beginning and end of a job's output.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputEnds {
    /// Number of tokens of the prompt, or of all inputs.
    pub prompt_tokens: Option<u32>,
    /// Time at which the first tokens or vectors were stored.
    pub first: Option<SystemTime>,
    /// Number of tokens or inputs that are stored, and the time of the last chunk.
    pub last: Option<(u32, SystemTime)>,
    /// True if the output is complete.
    pub is_complete: bool,
}

impl Bus {
    /// Beginning and end of a job's output. `None` without output.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn output_ends(&self, tenant: &Tenant, job: &JobId) -> Result<Option<OutputEnds>, BusError> {
        let subject = self.subject(&Subject::Output(tenant.clone(), job.clone()));
        let first = self.read_batch("output", &subject, Position::Sequence(1), FIRST).await?;
        let Some(last) = self.last_chunk(tenant, job).await? else { return Ok(None) };
        let mut ends = OutputEnds { is_complete: last.is_last, ..OutputEnds::default() };
        for message in first {
            match read(message.sequence, &message.payload).map(|stored| stored.chunk) {
                Some(Chunk::Started { prompt_tokens, .. }) => ends.prompt_tokens = Some(prompt_tokens),
                Some(Chunk::Tokens { .. } | Chunk::Embeddings { .. }) => {
                    ends.first = ends.first.or(Some(message.stored));
                }
                _ => {}
            }
        }
        let last = self.read_batch("output", &subject, Position::Sequence(last.sequence), 1).await?;
        ends.last = last.first().and_then(|message| {
            let chunk = read(message.sequence, &message.payload)?.chunk;
            Some((chunk.index()? + chunk.count(), message.stored))
        });
        Ok(Some(ends))
    }
}
