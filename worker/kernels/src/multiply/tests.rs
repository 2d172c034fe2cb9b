//! Properties of products: the same bits on every instruction set, and close to products of unpacked weights.

use proptest::prelude::*;

use crate::{InputRows, Isa, Matrix, Pool, WeightType, multiply, samples::Noise};

struct Case {
    matrix: Matrix,
    inputs: Vec<f32>,
}

impl Case {
    fn new(seed: u64, weight_type: WeightType, rows: usize, columns: usize, batch: usize) -> Self {
        let mut noise = Noise(seed);
        let bytes = noise.weights(weight_type, rows, columns);
        let matrix = Matrix::pack(&Pool::new(1), weight_type, rows, columns, &bytes, &mut |_| {}).unwrap();
        Self { matrix, inputs: noise.numbers(batch * columns) }
    }

    fn outputs(&self, isa: Isa, threads: usize, inputs: &[f32]) -> Vec<f32> {
        let pool = Pool::new(threads);
        let mut prepared = InputRows::new();
        prepared.set(&pool, isa, inputs, self.matrix.columns());
        let mut out = vec![f32::NAN; inputs.len() / self.matrix.columns() * self.matrix.rows()];
        multiply(&pool, isa, &prepared, &mut [(&self.matrix, &mut out)]);
        out
    }

    /// Outputs in 64 bits, and for each the sum of the sizes of its weights, which bounds the effect of rounded inputs.
    fn expected(&self) -> Vec<(f64, f64)> {
        let columns = self.matrix.columns();
        let mut weights = vec![0.0; self.matrix.rows() * columns];
        for (index, row) in weights.chunks_exact_mut(columns).enumerate() {
            self.matrix.row(index, row);
        }
        let product = |inputs: &[f32], weights: &[f32]| {
            let terms = inputs.iter().zip(weights).map(|(input, weight)| f64::from(*input) * f64::from(*weight));
            let slack: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
            (terms.sum(), slack)
        };
        let rows = self.inputs.chunks_exact(columns);
        rows.flat_map(|inputs| weights.chunks_exact(columns).map(move |weights| product(inputs, weights))).collect()
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn columns_of(weight_type: WeightType, blocks: usize) -> usize {
    if weight_type.is_float() {
        blocks * 7 + 1
    } else {
        blocks.min(if weight_type.block_size() == 256 { 3 } else { 20 }) * weight_type.block_size()
    }
}

fn any_type() -> impl Strategy<Value = WeightType> {
    proptest::sample::select(WeightType::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn outputs_have_the_same_bits_on_every_isa_in_any_batch(
        seed: u64, weight_type in any_type(), rows in 1..100usize, blocks in 1..20usize, batch in 1..40usize, threads in 1..4usize,
    ) {
        let case = Case::new(seed, weight_type, rows, columns_of(weight_type, blocks), batch);
        let expected = case.outputs(Isa::Portable, 1, &case.inputs);
        for isa in Isa::all() {
            prop_assert_eq!(bits(&case.outputs(*isa, threads, &case.inputs)), bits(&expected), "{:?}", isa);
            let last = &case.inputs[(batch - 1) * case.matrix.columns()..];
            prop_assert_eq!(bits(&case.outputs(*isa, 1, last)), bits(&expected[(batch - 1) * rows..]), "{:?} alone", isa);
        }
    }

    #[test]
    fn outputs_are_close_to_products_of_unpacked_weights(
        seed: u64, weight_type in any_type(), rows in 1..40usize, blocks in 1..20usize, batch in 1..4usize,
    ) {
        let case = Case::new(seed, weight_type, rows, columns_of(weight_type, blocks), batch);
        for (found, (expected, slack)) in case.outputs(Isa::detect(), 1, &case.inputs).iter().zip(case.expected()) {
            // Inputs are below 1, so rounding changes each by at most half of 1/127.
            let allowed = if weight_type.is_float() { 1e-5 * slack } else { 0.5 / 127.0 * slack + 1e-4 };
            prop_assert!((f64::from(*found) - expected).abs() <= allowed, "{found} for {expected} +- {allowed}");
        }
    }
}
