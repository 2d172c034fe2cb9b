//! Sines and cosines of rotary positions, for the rows of one step.

use super::description::{Rope, RopeScaling};

impl Rope {
    /// Returns, for each position, the cosines and then the sines of all pairs, as [`rbee_kernels::apply_rope`] takes them.
    ///
    /// Angles are computed in 64 bits: at position 100,000 an `f32` angle would be off by 0.004.
    pub(crate) fn rotations(&self, positions: impl Iterator<Item = usize>) -> Vec<f32> {
        let frequencies = self.frequencies();
        let magnitude = match &self.scaling {
            RopeScaling::None | RopeScaling::Linear(_) => 1.0,
            RopeScaling::Factors { magnitude, .. } => f64::from(*magnitude),
        };
        let mut rotations = Vec::new();
        for position in positions {
            let angles = frequencies.iter().map(|frequency| position as f64 * frequency);
            rotations.extend(angles.clone().map(|angle| (angle.cos() * magnitude) as f32));
            rotations.extend(angles.map(|angle| (angle.sin() * magnitude) as f32));
        }
        rotations
    }

    /// Angle of each pair per token, in radians.
    fn frequencies(&self) -> Vec<f64> {
        let frequency = |pair: usize| f64::from(self.base).powf(-((2 * pair) as f64) / self.dimensions as f64);
        let divisor = |pair: usize| match &self.scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear(factor) => f64::from(*factor),
            RopeScaling::Factors { factors, .. } => f64::from(factors[pair]),
        };
        (0..self.dimensions / 2).map(|pair| frequency(pair) / divisor(pair)).collect()
    }
}
