//! Admission of a worker: does the machine have room for it.

use rbee_schema::{Device, Failure, FailureCode, ModelKind, ModelReference, ModelSpec};

/// Memory of a worker without a model: its program, its threads and its connection.
const BASE: u64 = 64 << 20;

/// Memory of a worker with the test engine, which has no model. About 12 MiB were measured.
const MOCK_BASE: u64 = 16 << 20;

/// Working memory of an encoder, which keeps nothing between texts: some thousand tokens at most, each with 10,000 numbers.
const TEXTS: u64 = 64 << 20;

/// Context length in tokens where the declaration leaves it out: the most that the engine holds.
const CONTEXT: u64 = 4096;

/// Resources that a worker needs. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Memory; GPU memory where the worker runs on a GPU.
    pub memory: u64,
    /// Disk space for a model file that has to be fetched first.
    pub disk: u64,
    /// Required device; `None` for the default device of the hive's workers.
    pub device: Option<Device>,
}

impl Need {
    /// Resources for a model of this declaration. `file_bytes` is the size of the model file, where it is known.
    ///
    /// With `limits.memory` that is the memory needed: no worker can use more. Otherwise the memory is estimated, rather too
    /// high than too low: the weights, the KV caches of all slots with a full context and of one more, and the program.
    pub fn of(spec: &ModelSpec, file_bytes: Option<u64>) -> Self {
        let memory = match (spec.limits.memory, &spec.reference) {
            (Some(memory), _) => memory.bytes(),
            (None, ModelReference::Mock(_)) => MOCK_BASE,
            (None, ModelReference::File(_) | ModelReference::Hub(_)) if spec.kind == ModelKind::Embeddings => {
                BASE.saturating_add(TEXTS).saturating_add(weights(file_bytes.unwrap_or(0)))
            }
            (None, ModelReference::File(_) | ModelReference::Hub(_)) => {
                let file = file_bytes.unwrap_or(0);
                let tokens = (u64::from(spec.slots) + 1) * spec.context.map_or(CONTEXT, u64::from);
                let caches = tokens.saturating_mul(bytes_of_a_token(file));
                BASE.saturating_add(weights(file)).saturating_add(caches)
            }
        };
        Self { memory, disk: 0, device: spec.device }
    }

    /// With disk space for a model file of `bytes` that has to be fetched first.
    pub fn fetching(self, bytes: u64) -> Self {
        Self { disk: bytes, ..self }
    }
}

/// Memory of a model's weights by the size of its file. Packed for the processor they take up to an eighth more than in the
/// file. Measured with SmolLM2-135M (98 MB): 118 MiB before the first job, 160 MiB at most during the load.
fn weights(file: u64) -> u64 {
    file.saturating_add(file / 8)
}

/// KV cache of a token in bytes, by the size of the model file: two 16-bit numbers for each layer and each dimension of the
/// keys.
///
/// It is 23 KiB for SmolLM2-135M, 32 KiB for Llama 3.2 1B and 128 KiB for Llama 3.1 8B, with files of 100 MB, 800 MB and
/// 4.9 GB. Models without grouped-query attention take up to four times as much.
fn bytes_of_a_token(file: u64) -> u64 {
    (24 << 10) + file / 40_000
}

/// Free resources of a hive. Sizes are in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    /// Total memory of the machine.
    pub memory_total: u64,
    /// Memory that can be used now.
    pub memory_available: u64,
    /// Part of the available memory that is reserved for running workers and not used by them yet.
    pub memory_reserved: u64,
    /// Free memory of the GPU that has most of it; `None` where no GPU answers.
    pub gpu_free: Option<u64>,
    /// Free space on the disk of model files.
    pub disk_free: u64,
    /// Devices of the worker program, the default first. Empty means the CPU.
    pub devices: &'a [Device],
    /// Number of workers on the hive.
    pub workers: u32,
    /// Largest number of workers; `None` for as many as there is room for.
    pub max_workers: Option<u32>,
    /// True while the hive takes no further workers.
    pub draining: bool,
}

/// Decides whether a worker may start.
///
/// # Errors
/// The first that applies of `hive-draining`, `hive-full`, `device-missing`, `disk-full` and `memory-short`. The message says
/// what is needed, what is there, and what to do.
pub fn admit(need: &Need, room: &Room<'_>) -> Result<(), Failure> {
    if room.draining {
        return refuse(
            FailureCode::HiveDraining,
            "the hive is draining and takes no further workers: resume it, or let another hive run the model"
                .to_owned(),
        );
    }
    if let Some(most) = room.max_workers.filter(|most| room.workers >= *most) {
        let workers = room.workers;
        return refuse(
            FailureCode::HiveFull,
            format!("the hive runs {workers} workers of at most {most}: stop one, or allow more with --max-workers"),
        );
    }
    let device = device(need, room)?;
    if need.disk > room.disk_free {
        let (needed, free) = (rounded_up(need.disk), rounded_down(room.disk_free));
        return refuse(
            FailureCode::DiskFull,
            format!(
                "the model file needs {needed} and {free} of the disk are free: remove model files, or use another disk"
            ),
        );
    }
    match (device, room.gpu_free) {
        (Device::Cuda, Some(free)) => on_gpu(need, free),
        (Device::Cuda, None) | (Device::Cpu | Device::Metal, _) => on_machine(need, room),
    }
}

fn device(need: &Need, room: &Room<'_>) -> Result<Device, Failure> {
    let devices = if room.devices.is_empty() { &[Device::Cpu] } else { room.devices };
    let device = need.device.unwrap_or(devices[0]);
    if devices.contains(&device) {
        return Ok(device);
    }
    let there: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let (there, device) = (there.join(", "), device.as_str());
    refuse(
        FailureCode::DeviceMissing,
        format!(
            "the model needs the device {device} and the workers of this hive run on {there}: use a hive whose worker \
             program is built for {device}, or leave out the model's device"
        ),
    )
}

fn on_gpu(need: &Need, free: u64) -> Result<(), Failure> {
    if need.memory <= free {
        return Ok(());
    }
    let (needed, free) = (rounded_up(need.memory), rounded_down(free));
    refuse(
        FailureCode::MemoryShort,
        format!(
            "the worker needs {needed} of GPU memory and no GPU has more than {free} free: stop a worker, or {SMALLER}"
        ),
    )
}

fn on_machine(need: &Need, room: &Room<'_>) -> Result<(), Failure> {
    let free = room.memory_available.saturating_sub(room.memory_reserved);
    if need.memory <= free {
        return Ok(());
    }
    let (needed, total) = (rounded_up(need.memory), rounded_down(room.memory_total));
    if need.memory > room.memory_total {
        return refuse(
            FailureCode::MemoryShort,
            format!("the worker needs {needed} of memory and the whole machine has {total}: {SMALLER}"),
        );
    }
    let (free, reserved) = (rounded_down(free), rounded_up(room.memory_reserved));
    refuse(
        FailureCode::MemoryShort,
        format!(
            "the worker needs {needed} of memory and {free} of {total} are free, not counting {reserved} reserved for running \
             workers: stop a worker, or {SMALLER}"
        ),
    )
}

/// Ways to make a worker smaller. The last one is for an estimate that is too high.
const SMALLER: &str = "use a smaller model, fewer slots or a smaller context, or set limits.memory";

fn refuse<T>(code: FailureCode, message: String) -> Result<T, Failure> {
    Err(Failure::new(code, message))
}

/// Rounded to MiB for people, in the direction in which a shortage stays visible.
fn rounded_up(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn rounded_down(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests;
