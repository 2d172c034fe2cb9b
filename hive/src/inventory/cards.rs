//! NVIDIA graphics cards, through the library that comes with their driver. Where there is no driver, there is no card.

use nvml_wrapper::{Nvml, error::NvmlError};
use tracing::debug;

/// A graphics card. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// What its maker calls it.
    pub(crate) name: String,
    /// Its memory.
    pub(crate) total: u64,
    /// How much of it nobody has.
    pub(crate) free: u64,
}

/// The way to the cards. Opening it takes a while where there are some, so it is kept.
#[derive(Debug)]
pub(crate) struct Cards(Option<Nvml>);

impl Cards {
    /// Looks for the library of the driver.
    pub(crate) fn open() -> Self {
        // Its plain name comes only with development packages; the other one comes with the driver.
        let opened = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init();
        Self(opened.inspect_err(|error| debug!(%error, "no NVIDIA cards can be asked for")).ok())
    }

    /// The cards as they are now. One that does not answer is not there.
    pub(super) fn look(&self) -> Vec<Card> {
        let Some(nvml) = &self.0 else { return Vec::new() };
        let card = |index| -> Result<Card, NvmlError> {
            let device = nvml.device_by_index(index)?;
            let memory = device.memory_info()?;
            Ok(Card { name: device.name()?, total: memory.total, free: memory.free })
        };
        let silent = |error: &NvmlError| debug!(%error, "a graphics card does not answer");
        let count = nvml.device_count().inspect_err(silent).unwrap_or(0);
        (0..count).filter_map(|index| card(index).inspect_err(silent).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_driver_there_are_no_cards() {
        assert!(Cards(None).look().is_empty());
        let cards = Cards::open();
        let found = cards.look();
        assert!(cards.0.is_some() || found.is_empty());
        assert!(found.iter().all(|card| card.free <= card.total), "{found:?}");
    }
}
