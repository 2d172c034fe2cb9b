//! The machine under the hive: what it has, what is free, and how late its clock ticks.

use std::{io, time::Instant};

use rbee_schema::{ByteSize, FreeResources};
use tracing::warn;

use crate::{
    decide::lateness::{Lateness, Tick},
    inventory::{Gpus, Inventory},
};

/// State of the machine.
pub(super) struct Machine {
    gpus: Gpus,
    /// Result of the last inspection.
    inventory: Option<Inventory>,
    /// Free space on the disk of the models, in bytes, when it was measured last.
    disk_free: u64,
    /// True while a task measures the disk, which a stalled disk delays.
    measures_disk: bool,
    lateness: Lateness,
    /// Milliseconds by which this machine's clock is ahead of the server's; negative where it is behind.
    pub(super) clock_skew_ms: i64,
}

impl Machine {
    pub(super) fn new(clock_skew_ms: i64) -> Self {
        Self {
            gpus: Gpus::open(),
            inventory: None,
            disk_free: 0,
            measures_disk: false,
            lateness: Lateness::default(),
            clock_skew_ms,
        }
    }

    /// Reads what the machine has and what is free. A failed inspection keeps the last result.
    pub(super) fn inspect(&mut self) {
        match Inventory::take(self.disk_free, &self.gpus) {
            Ok(inventory) => self.inventory = Some(inventory),
            Err(error) => warn!(%error, "failed to inspect this machine's memory"),
        }
    }

    /// Claims the measurement of the disk for a task. False while another task measures it.
    pub(super) fn begin_to_measure_disk(&mut self) -> bool {
        !std::mem::replace(&mut self.measures_disk, true)
    }

    /// Takes the measured free space of the disk. A failed measurement keeps the last result.
    pub(super) fn disk_measured(&mut self, measured: io::Result<u64>) {
        self.measures_disk = false;
        match measured {
            Ok(free) => self.disk_free = free,
            Err(error) => warn!(%error, "failed to inspect the disk of the model files"),
        }
    }

    pub(super) fn inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    /// Total memory in bytes, 0 where it is unknown.
    pub(super) fn memory_total(&self) -> ByteSize {
        ByteSize(self.inventory.as_ref().map_or(0, |inventory| inventory.memory_total))
    }

    /// Number of cores, 0 where it is unknown.
    pub(super) fn cores(&self) -> u32 {
        self.inventory.as_ref().map_or(0, |inventory| inventory.cores)
    }

    /// Resources free for further workers at the last inspection, with `reserved` bytes of memory promised to running ones.
    pub(super) fn free(&self, reserved: u64) -> Option<FreeResources> {
        let inventory = self.inventory.as_ref()?;
        Some(FreeResources {
            memory: inventory.memory_available.saturating_sub(reserved),
            disk: inventory.disk_free,
            gpu_memory: inventory.gpu_free(),
        })
    }

    pub(super) fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// Notes a tick of the clock.
    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        self.lateness.tick(now)
    }
}
