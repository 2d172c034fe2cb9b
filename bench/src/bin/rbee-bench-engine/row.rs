//! The values of both sides for each quantity, and their ratio.

use std::collections::BTreeMap;

use rbee_bench::table::{Samples, Unit};
use serde_json::{Value, json};

/// A quantity that is measured on both sides.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// Target of our value divided by llama.cpp's: a minimum where more is better, a maximum where less is.
    pub(crate) aim: Option<f64>,
}

/// The better one of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Kind {
    pub(crate) fn rate(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: Unit::PerSecond, better: Better::More, aim: None }
    }

    pub(crate) fn time(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: Unit::Seconds, better: Better::Less, aim: None }
    }

    pub(crate) fn with_target(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// The values of a quantity, one for each round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    ours: Vec<f64>,
    /// Values of llama.cpp, by its setting.
    theirs: BTreeMap<&'static str, Vec<f64>>,
}

impl Row {
    pub(crate) fn ours(&self) -> Option<Samples> {
        (!self.ours.is_empty()).then(|| Samples::of(self.ours.iter().copied(), self.kind.unit))
    }

    /// The best setting of llama.cpp for this quantity, and its values.
    pub(crate) fn theirs(&self) -> Option<(&'static str, Samples)> {
        let (setting, values) = self.best()?;
        Some((setting, Samples::of(values.iter().copied(), self.kind.unit)))
    }

    fn best(&self) -> Option<(&'static str, &[f64])> {
        let median = |values: &[f64]| Samples::of(values.iter().copied(), self.kind.unit).median();
        let settings = self.theirs.iter().map(|(setting, values)| (*setting, values.as_slice()));
        settings.min_by(|(_, one), (_, other)| match self.kind.better {
            Better::More => median(other).total_cmp(&median(one)),
            Better::Less => median(one).total_cmp(&median(other)),
        })
    }

    /// Our value divided by llama.cpp's, round by round: other load slows down both sides of a round.
    pub(crate) fn ratios(&self) -> Option<Samples> {
        let (_, theirs) = self.best()?;
        let ratios = self.ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        (!self.ours.is_empty()).then(|| Samples::ratios(ratios))
    }

    /// True where the target is met; `None` without a target or without values of both sides.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let (ratio, aim) = (self.ratios()?.median(), self.kind.aim?);
        Some(match self.kind.better {
            Better::More => ratio >= aim,
            Better::Less => ratio <= aim,
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.kind.name,
            "unit": self.kind.unit.name(),
            "rbee": self.ours,
            "llama.cpp": self.theirs,
            "setting": self.best().map(|(setting, _)| setting),
            "ratio": self.ratios().map(|ratios| ratios.median()),
            "aim": self.kind.aim,
            "met": self.is_met(),
        })
    }
}

/// Rows in the order in which they were first measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rows(pub(crate) Vec<Row>);

impl Rows {
    /// Adds our values of one round.
    pub(crate) fn ours(&mut self, measured: Vec<(Kind, f64)>) {
        measured.into_iter().for_each(|(kind, value)| self.row(kind).ours.push(value));
    }

    /// Adds the values of llama.cpp with one setting, of one round.
    pub(crate) fn theirs(&mut self, setting: &'static str, measured: Vec<(Kind, f64)>) {
        measured.into_iter().for_each(|(kind, value)| self.row(kind).theirs.entry(setting).or_default().push(value));
    }

    fn row(&mut self, kind: Kind) -> &mut Row {
        let index = self.0.iter().position(|row| row.kind == kind).unwrap_or(self.0.len());
        if index == self.0.len() {
            self.0.push(Row { kind, ours: Vec::new(), theirs: BTreeMap::new() });
        }
        &mut self.0[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, ours: &[f64], flash: &[f64], plain: &[f64]) -> Row {
        let mut rows = Rows::default();
        ours.iter().for_each(|&value| rows.ours(vec![(kind.clone(), value)]));
        flash.iter().for_each(|&value| rows.theirs("flash", vec![(kind.clone(), value)]));
        plain.iter().for_each(|&value| rows.theirs("plain", vec![(kind.clone(), value)]));
        rows.0.remove(0)
    }

    #[test]
    fn best_setting_of_llama_cpp_is_compared() {
        let more = row(Kind::rate("tokens"), &[8.0], &[4.0], &[16.0]);
        assert_eq!(more.theirs().expect("measured").0, "plain");
        let less = row(Kind::time("load"), &[8.0], &[4.0], &[16.0]);
        assert_eq!(less.theirs().expect("measured").0, "flash");
    }

    #[test]
    fn target_is_met_from_its_own_value_on() {
        let rate = Kind::rate("tokens").with_target(0.9);
        assert_eq!(row(rate.clone(), &[9.0], &[10.0], &[1.0]).is_met(), Some(true));
        assert_eq!(row(rate.clone(), &[8.9], &[10.0], &[1.0]).is_met(), Some(false));
        assert_eq!(row(Kind::time("load").with_target(1.0), &[1.1], &[1.0], &[2.0]).is_met(), Some(false));
        assert_eq!(row(Kind::time("load").with_target(1.0), &[1.0], &[1.0], &[2.0]).is_met(), Some(true));
        assert_eq!(row(Kind::rate("tokens"), &[9.0], &[10.0], &[1.0]).is_met(), None);
        assert_eq!(row(rate, &[], &[10.0], &[1.0]).is_met(), None);
    }

    #[test]
    fn ratios_compare_values_of_the_same_round() {
        let ratios = row(Kind::rate("tokens"), &[1.0, 4.0, 3.0], &[2.0, 4.0, 6.0], &[]).ratios().expect("both");
        assert_eq!((ratios.least(), ratios.median(), ratios.most()), (0.5, 0.5, 1.0));
    }
}
