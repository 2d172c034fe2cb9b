//! How inputs whose vectors are wanted are answered: how many at a time, and what of a vector.

use rbee_schema::{Chunk, Failure, FailureCode};

/// Tokens that are computed at a time, so that a job can be kept, cancelled or taken over meanwhile: some tenths of a second
/// on two cores, with a small model.
const TOKENS_AT_ONCE: usize = 1024;
/// Inputs that are answered at a time. A chunk may have a megabyte, and a vector of 1,024 numbers takes up to 16 kilobytes.
const INPUTS_AT_ONCE: usize = 32;

/// The next of these texts that are to be computed together: at least one, where there is one.
pub fn next_few(texts: &[Vec<u32>]) -> &[Vec<u32>] {
    let mut tokens = 0;
    let fits = |text: &&Vec<u32>| {
        tokens += text.len();
        tokens <= TOKENS_AT_ONCE
    };
    let count = texts.iter().take(INPUTS_AT_ONCE).take_while(fits).count();
    &texts[..count.max(1).min(texts.len())]
}

/// How many of those that wait are computed together, given how many tokens the texts of each have: at least one.
pub fn together(sizes: impl ExactSizeIterator<Item = usize>) -> usize {
    let (mut tokens, waiting) = (0, sizes.len());
    let fits = |size: &usize| {
        tokens += size;
        tokens <= TOKENS_AT_ONCE
    };
    sizes.take_while(fits).count().max(1).min(waiting)
}

/// How many inputs were answered by what is stored.
pub fn stored_inputs<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> usize {
    let count = |chunk: &Chunk| match chunk {
        Chunk::Embeddings { vectors, base64, .. } => vectors.len() + base64.len(),
        Chunk::Started { .. }
        | Chunk::Resumed { .. }
        | Chunk::Paused { .. }
        | Chunk::Tokens { .. }
        | Chunk::Done { .. }
        | Chunk::Error { .. } => 0,
    };
    chunks.map(count).sum()
}

/// The first numbers of a vector, made one long again: what is left of one by a model that was made to be cut (Kusupati and
/// others: Matryoshka Representation Learning, 2022). All of it where nobody asks for a number.
///
/// # Errors
/// `invalid-request` if it has fewer.
pub fn cut(mut vector: Vec<f32>, dimensions: Option<u32>) -> Result<Vec<f32>, Failure> {
    let Some(wanted) = dimensions.map(|wanted| wanted as usize) else { return Ok(vector) };
    if wanted > vector.len() {
        let has = vector.len();
        let message = format!("dimensions is {wanted}: the model's vectors have {has}");
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    if wanted < vector.len() {
        vector.truncate(wanted);
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
    fn texts_are_computed_together_as_far_as_they_are_short() {
        let few = |lengths: &[usize]| {
            let texts: Vec<Vec<u32>> = lengths.iter().map(|length| vec![0; *length]).collect();
            next_few(&texts).len()
        };
        for (lengths, count) in
            [(&[][..], 0), (&[5000], 1), (&[1000, 24, 1], 2), (&[1000, 25], 1), (&[1; 100], INPUTS_AT_ONCE)]
        {
            assert_eq!(few(lengths), count, "{lengths:?}");
        }
    }

    #[test]
    fn who_waits_is_answered_together_as_far_as_it_is_short() {
        for (sizes, count) in [(&[][..], 0), (&[2000, 1], 1), (&[500, 500, 24, 1], 3), (&[1024, 0], 2)] {
            assert_eq!(together(sizes.iter().copied()), count, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_stored_is_not_computed_again() {
        let chunks = [
            Chunk::Embeddings { index: 0, vectors: vec![vec![1.0]; 2], base64: Vec::new() },
            Chunk::Paused { index: 2 },
            Chunk::Embeddings { index: 2, vectors: Vec::new(), base64: vec![String::new()] },
        ];
        assert_eq!(stored_inputs(chunks.iter()), 3);
    }

    #[test]
    fn a_vector_is_cut_and_made_one_long_again() {
        let vector = vec![3.0, 4.0, 12.0];
        assert_eq!(cut(vector.clone(), None), Ok(vector.clone()));
        assert_eq!(cut(vector.clone(), Some(3)), Ok(vector.clone()), "nothing is cut");
        assert_eq!(cut(vector.clone(), Some(2)), Ok(vec![0.6, 0.8]));
        assert_eq!(cut(vec![0.0, 1.0], Some(1)), Ok(vec![0.0]), "no number is divided by zero");
        let failure = cut(vector, Some(4)).expect_err("too many");
        assert!(failure.message.contains("dimensions is 4: the model's vectors have 3"), "{failure}");
    }
}
