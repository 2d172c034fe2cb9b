//! Whether a machine has room for another worker.

use rbee_schema::{Device, Failure, FailureCode, ModelKind, ModelReference, ModelSpec};

/// What a worker takes before it has a model: its program, its threads and its connection.
const BASE: u64 = 64 << 20;

/// The same with the test engine, which has no model; about 12 MiB were measured.
const MOCK_BASE: u64 = 16 << 20;

/// What an encoder computes with at a time, which remembers nothing between texts: it takes some thousand tokens at most, each
/// with 10,000 numbers.
const TEXTS: u64 = 64 << 20;

/// Tokens of prompt and answer where the declaration does not say: the most that the engine holds.
const CONTEXT: u64 = 4096;

/// What a worker needs. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Memory; that of the graphics card where it runs on one.
    pub memory: u64,
    /// Room on the disk, for a model file that has to be fetched first.
    pub disk: u64,
    /// What it must run on; `None`: what the hive's workers run on.
    pub device: Option<Device>,
}

impl Need {
    /// What a worker of this declaration needs, whose model file has `file_bytes`, where that is known.
    ///
    /// `limits.memory` is taken at its word: no worker can use more. Else it is an estimate, rather too high than too
    /// low: the weights, the caches of all slots when each has filled its context and of one more, and the program.
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

    /// The same for a model file that has to be fetched first.
    pub fn fetching(self, bytes: u64) -> Self {
        Self { disk: bytes, ..self }
    }
}

/// The memory of a model's weights, by the size of its file: packed once and held once, they take up to an eighth more
/// than in the file. A worker with SmolLM2-135M (98 MB) was measured: 118 MiB before its first job, 160 MiB at most while it
/// loaded.
fn weights(file: u64) -> u64 {
    file.saturating_add(file / 8)
}

/// The cache of keys and values of a token, by the size of the model file: two numbers of 16 bits for each layer and
/// each dimension of its keys.
///
/// It is 23 KiB for SmolLM2-135M, 32 KiB for Llama 3.2 1B and 128 KiB for Llama 3.1 8B with files of 100 MB, 800 MB and
/// 4.9 GB. Models from before heads shared their keys take up to four times as much.
fn bytes_of_a_token(file: u64) -> u64 {
    (24 << 10) + file / 40_000
}

/// What a hive has left. Sizes are in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room<'a> {
    /// The machine's memory.
    pub memory_total: u64,
    /// How much of it can be had now.
    pub memory_available: u64,
    /// How much of that belongs to workers that run and have not touched it yet.
    pub memory_reserved: u64,
    /// The memory that is free on the graphics card that has most of it, where one answers.
    pub gpu_free: Option<u64>,
    /// What may still be written to the disk of model files.
    pub disk_free: u64,
    /// What the worker program can run on; the first is what it runs on by itself. None means the processor.
    pub devices: &'a [Device],
    /// How many workers there are.
    pub workers: u32,
    /// How many there may be; `None`: as many as have room.
    pub max_workers: Option<u32>,
    /// Whether the hive takes no further workers.
    pub draining: bool,
}

/// Says whether the worker may start.
///
/// # Errors
/// `hive-draining`, `hive-full`, `device-missing`, `disk-full` or `memory-short`, the first that holds: what is needed,
/// what is there, and what to do.
pub fn admit(need: &Need, room: &Room<'_>) -> Result<(), Failure> {
    if room.draining {
        return refuse(
            FailureCode::HiveDraining,
            "the hive drains and takes no further workers: resume it, or let another hive run the model".to_owned(),
        );
    }
    if let Some(most) = room.max_workers.filter(|most| room.workers >= *most) {
        let workers = room.workers;
        return refuse(
            FailureCode::HiveFull,
            format!(
                "the hive runs {workers} workers of at most {most}: stop one, or let it run more with --max-workers"
            ),
        );
    }
    let device = device(need, room)?;
    if need.disk > room.disk_free {
        let (needed, free) = (rounded_up(need.disk), rounded_down(room.disk_free));
        return refuse(
            FailureCode::DiskFull,
            format!(
                "the model file needs {needed} and the disk has {free} left: remove model files, or use another disk"
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
    let wanted = need.device.unwrap_or(devices[0]);
    if devices.contains(&wanted) {
        return Ok(wanted);
    }
    let there: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let (there, wanted) = (there.join(", "), wanted.as_str());
    refuse(
        FailureCode::DeviceMissing,
        format!(
            "the model must run on {wanted} and the workers of this hive run on {there}: use a hive whose worker program \
             is built for {wanted}, or leave out the model's device"
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
            "the worker needs {needed} of memory on a graphics card and no card has more than {free} free: stop a \
             worker, or {SMALLER}"
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
            "the worker needs {needed} of memory and {free} of {total} are free, without {reserved} that running workers \
             have yet to touch: stop a worker, or {SMALLER}"
        ),
    )
}

/// What makes a worker smaller. The last is for an estimate that is too high.
const SMALLER: &str =
    "use a smaller model, fewer slots or a smaller context, or say what it may use with limits.memory";

fn refuse<T>(code: FailureCode, message: String) -> Result<T, Failure> {
    Err(Failure::new(code, message))
}

/// People compare MiB, not bytes. Rounded so that what is short still looks short.
fn rounded_up(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn rounded_down(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests;
