//! Angles of positions, for the rows of one step.

use crate::description::{Rope, Scaling};

impl Rope {
    /// For each position cosines and then sines of all pairs, as [`rbee_kernels::rotate`] wants them.
    pub(crate) fn turns(&self, positions: impl Iterator<Item = usize>) -> Vec<f32> {
        let speeds = self.speeds();
        let magnitude = match &self.scaling {
            Scaling::None | Scaling::Linear(_) => 1.0,
            Scaling::Factors { magnitude, .. } => f64::from(*magnitude),
        };
        let mut turns = Vec::new();
        for position in positions {
            let angles = speeds.iter().map(|speed| position as f64 * speed);
            turns.extend(angles.clone().map(|angle| (angle.cos() * magnitude) as f32));
            turns.extend(angles.map(|angle| (angle.sin() * magnitude) as f32));
        }
        turns
    }

    /// By how much each pair turns from one token to the next.
    fn speeds(&self) -> Vec<f64> {
        let speed = |pair: usize| f64::from(self.base).powf(-((2 * pair) as f64) / self.dimensions as f64);
        let divisor = |pair: usize| match &self.scaling {
            Scaling::None => 1.0,
            Scaling::Linear(factor) => f64::from(*factor),
            Scaling::Factors { factors, .. } => f64::from(factors[pair]),
        };
        (0..self.dimensions / 2).map(|pair| speed(pair) / divisor(pair)).collect()
    }
}
