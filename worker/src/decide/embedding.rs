//! Embeddings: the inputs that are computed together, and the truncation of vectors.

use rbee_schema::{Failure, FailureCode};

/// Maximum tokens of a batch, unless one input alone has more. Some tenths of a second on two cores with a small model, so
/// that a job can be kept alive, cancelled or continued elsewhere soon.
const MAX_BATCH_TOKENS: usize = 1024;

/// Maximum inputs of a batch.
const MAX_BATCH_INPUTS: usize = 32;

/// Maximum numbers in a chunk of vectors, unless one vector alone has more. Each takes up to 16 bytes of JSON, and a message
/// may have 516 KiB.
const MAX_CHUNK_NUMBERS: usize = 16 * 1024;

/// The next inputs of a job that are computed together: at least one, if there is one.
pub fn next_batch(inputs: &[Vec<u32>]) -> &[Vec<u32>] {
    let mut tokens = 0;
    let fits = |input: &&Vec<u32>| {
        tokens += input.len();
        tokens <= MAX_BATCH_TOKENS
    };
    let count = inputs.iter().take(MAX_BATCH_INPUTS).take_while(fits).count();
    &inputs[..count.max(1).min(inputs.len())]
}

/// Number of vectors that are stored as one chunk: at least one.
pub fn vectors_per_chunk(vectors: &[Vec<f32>]) -> usize {
    let length = vectors.first().map_or(1, Vec::len);
    (MAX_CHUNK_NUMBERS / length.max(1)).max(1)
}

/// Number of waiting requests that are computed together, given the number of tokens of each: at least one, if there is one.
pub fn requests_per_batch(tokens_of_requests: impl ExactSizeIterator<Item = usize>) -> usize {
    let (mut tokens, waiting) = (0, tokens_of_requests.len());
    let fits = |request: &usize| {
        tokens += request;
        tokens <= MAX_BATCH_TOKENS
    };
    tokens_of_requests.take_while(fits).count().max(1).min(waiting)
}

/// Truncates a vector to its first `dimensions` numbers and normalizes it to length 1 again. Meant for models that were
/// trained for it (Kusupati and others: Matryoshka Representation Learning, 2022). `None` leaves the vector as it is.
///
/// # Errors
/// `invalid-request` if the vector has fewer numbers.
pub fn truncate(mut vector: Vec<f32>, dimensions: Option<u32>) -> Result<Vec<f32>, Failure> {
    let Some(dimensions) = dimensions.map(|dimensions| dimensions as usize) else { return Ok(vector) };
    if dimensions > vector.len() {
        let available = vector.len();
        let message =
            format!("dimensions is {dimensions}, but the model's vectors have {available}: request at most that");
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    if dimensions < vector.len() {
        vector.truncate(dimensions);
        let square: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
        let length = (square.sqrt() as f32).max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|number| *number /= length);
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_of_inputs_is_limited_in_tokens_and_inputs() {
        let count = |lengths: &[usize]| {
            let inputs: Vec<Vec<u32>> = lengths.iter().map(|length| vec![0; *length]).collect();
            next_batch(&inputs).len()
        };
        for (lengths, expected) in
            [(&[][..], 0), (&[5000], 1), (&[1000, 24, 1], 2), (&[1000, 25], 1), (&[1; 100], MAX_BATCH_INPUTS)]
        {
            assert_eq!(count(lengths), expected, "{lengths:?}");
        }
    }

    #[test]
    fn chunk_of_vectors_is_limited_in_numbers() {
        for (length, expected) in [(384, 42), (4096, 4), (16 * 1024, 1), (100_000, 1)] {
            assert_eq!(vectors_per_chunk(&[vec![0.0; length]]), expected, "{length}");
        }
        assert_eq!(vectors_per_chunk(&[]), MAX_CHUNK_NUMBERS);
    }

    #[test]
    fn batch_of_requests_is_limited_in_tokens() {
        for (tokens, expected) in [(&[][..], 0), (&[2000, 1], 1), (&[500, 500, 24, 1], 3), (&[1024, 0], 2)] {
            assert_eq!(requests_per_batch(tokens.iter().copied()), expected, "{tokens:?}");
        }
    }

    #[test]
    fn truncated_vector_is_normalized_again() {
        let vector = vec![3.0, 4.0, 12.0];
        assert_eq!(truncate(vector.clone(), None), Ok(vector.clone()));
        assert_eq!(truncate(vector.clone(), Some(3)), Ok(vector.clone()), "nothing is truncated");
        assert_eq!(truncate(vector.clone(), Some(2)), Ok(vec![0.6, 0.8]));
        assert_eq!(truncate(vec![0.0, 1.0], Some(1)), Ok(vec![0.0]), "no number is divided by zero");
        let failure = truncate(vector, Some(4)).expect_err("too many");
        assert!(failure.message.contains("dimensions is 4, but the model's vectors have 3"), "{failure}");
    }
}
