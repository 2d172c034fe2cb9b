//! Pooling: the vectors of a text's tokens become one.

use super::description::{EncoderDescription, Pooling};

/// Pools `hidden`, which has a row of the hidden size for each token, into one vector per text. `counts` has the number of
/// tokens of each text.
pub(super) fn pool(description: &EncoderDescription, hidden: &[f32], counts: &[usize]) -> Vec<Vec<f32>> {
    let width = description.width;
    let mut first = 0;
    let vector = |count: &usize| {
        let rows = &hidden[first * width..(first + count) * width];
        first += count;
        let mut vector = match description.pooling {
            Pooling::First => rows[..width].to_vec(),
            Pooling::Mean => mean(rows, width),
        };
        if description.is_normalized {
            normalize(&mut vector);
        }
        vector
    };
    counts.iter().map(vector).collect()
}

fn mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut mean = rows[..width].to_vec();
    for row in rows[width..].chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
    }
    let count = (rows.len() / width) as f32;
    mean.iter_mut().for_each(|number| *number /= count);
    mean
}

/// Scales a vector to length 1. A vector of zeros stays.
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
    // The lower bound of torch.nn.functional.normalize.
    let length = (square.sqrt() as f32).max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}

#[cfg(test)]
mod tests {
    use rbee_kernels::Activation;

    use super::*;

    fn description(pooling: Pooling, is_normalized: bool) -> EncoderDescription {
        EncoderDescription {
            vocabulary: 1,
            positions: 8,
            first_position: 0,
            token_types: 1,
            width: 2,
            inner: 2,
            heads: 1,
            layers: 0,
            epsilon: 1e-12,
            activation: Activation::Gelu,
            pooling,
            is_normalized,
        }
    }

    #[test]
    fn each_text_is_pooled_from_its_own_rows() {
        let hidden = [1.0, 2.0, 3.0, 6.0, 5.0, 5.0];
        for (pooling, expected) in
            [(Pooling::Mean, [vec![2.0, 4.0], vec![5.0, 5.0]]), (Pooling::First, [vec![1.0, 2.0], vec![5.0, 5.0]])]
        {
            assert_eq!(pool(&description(pooling, false), &hidden, &[2, 1]), expected, "{pooling:?}");
        }
    }

    #[test]
    fn a_normalized_vector_has_length_1_and_zeros_stay() {
        let hidden = [3.0, 4.0, 0.0, 0.0];
        let vectors = pool(&description(Pooling::First, true), &hidden, &[1, 1]);
        assert_eq!(vectors, [vec![0.6, 0.8], vec![0.0, 0.0]]);
    }
}
