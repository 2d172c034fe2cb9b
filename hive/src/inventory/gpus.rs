//! NVIDIA GPUs, through the library that comes with their driver (NVML). Without a driver there are none.
//!
//! No worker program of this version computes on a GPU. The hive measures the memory of GPUs all the same: `decide/admit.rs`
//! admits workers by it as soon as a worker program names the device `cuda`.

use nvml_wrapper::{Nvml, error::NvmlError};
use tracing::debug;

/// A GPU. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its memory.
    pub(crate) total: u64,
    /// Memory that no process uses.
    pub(crate) free: u64,
}

/// Handle of the driver's library. Loading it takes a while where there are GPUs, so it is kept.
#[derive(Debug)]
pub(crate) struct Gpus(Option<Nvml>);

impl Gpus {
    /// Loads the library of the driver, where there is one.
    pub(crate) fn open() -> Self {
        // The name without a version comes only with development packages; this one comes with the driver.
        let opened = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init();
        Self(opened.inspect_err(|error| debug!(%error, "no NVIDIA driver was found")).ok())
    }

    /// The GPUs as they are now. One that does not answer is left out.
    pub(super) fn inspect(&self) -> Vec<Gpu> {
        let Some(nvml) = &self.0 else { return Vec::new() };
        let gpu = |index| -> Result<Gpu, NvmlError> {
            let memory = nvml.device_by_index(index)?.memory_info()?;
            Ok(Gpu { total: memory.total, free: memory.free })
        };
        let unresponsive = |error: &NvmlError| debug!(%error, "a GPU does not answer");
        let count = nvml.device_count().inspect_err(unresponsive).unwrap_or(0);
        (0..count).filter_map(|index| gpu(index).inspect_err(unresponsive).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_without_a_driver_has_no_gpus() {
        assert!(Gpus(None).inspect().is_empty());
        let gpus = Gpus::open();
        let found = gpus.inspect();
        assert!(gpus.0.is_some() || found.is_empty());
        assert!(found.iter().all(|gpu| gpu.free <= gpu.total), "{found:?}");
    }
}
