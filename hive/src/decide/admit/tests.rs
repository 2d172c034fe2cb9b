use proptest::prelude::*;
use rbee_schema::ByteSize;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const NEED: Need = Need { memory: GIB, disk: 2 * GIB, device: None };

/// A hive in which `NEED` just fits.
const ROOM: Room<'static> = Room {
    memory_total: 8 * GIB,
    memory_available: 3 * GIB,
    memory_reserved: 2 * GIB,
    gpu_free: None,
    disk_free: 2 * GIB,
    devices: &[],
    workers: 3,
    max_workers: Some(4),
    draining: false,
};

fn check(need: Need, room: Room<'_>, code: FailureCode, texts: &[&str]) {
    let failure = admit(&need, &room).expect_err(texts[0]);
    assert_eq!(failure.code, code, "{failure}");
    assert!(texts.iter().all(|text| failure.message.contains(text)), "{texts:?}: {failure}");
    // The remedy stands after the colon.
    assert!(failure.message.contains(": "), "{failure}");
}

#[test]
fn worker_that_just_fits_is_admitted() {
    assert_eq!(admit(&NEED, &ROOM), Ok(()));
    assert_eq!(admit(&Need { device: Some(Device::Cpu), ..NEED }, &ROOM), Ok(()));
    assert_eq!(admit(&NEED, &Room { max_workers: None, workers: u32::MAX, ..ROOM }), Ok(()));
}

#[test]
fn refusal_names_the_need_the_room_and_a_remedy() {
    let over = Need { memory: GIB + 1, ..NEED };
    check(
        over,
        ROOM,
        FailureCode::MemoryShort,
        &["needs 1025 MiB", "1024 MiB of 8192 MiB", "2048 MiB reserved", "stop a worker"],
    );
    let huge = Need { memory: 9 * GIB, ..NEED };
    check(huge, ROOM, FailureCode::MemoryShort, &["needs 9216 MiB", "whole machine has 8192 MiB: use a smaller model"]);
    let more = Need { disk: 2 * GIB + 1, ..NEED };
    check(
        more,
        ROOM,
        FailureCode::DiskFull,
        &["needs 2049 MiB", "2048 MiB of the disk are free", "remove model files"],
    );
    check(NEED, Room { workers: 4, ..ROOM }, FailureCode::HiveFull, &["4 workers of at most 4", "stop one"]);
    check(NEED, Room { draining: true, ..ROOM }, FailureCode::HiveDraining, &["draining", "resume it"]);
}

#[test]
fn more_may_be_reserved_than_is_available() {
    let room = Room { memory_available: GIB, ..ROOM };
    check(Need { memory: 1, ..NEED }, room, FailureCode::MemoryShort, &["needs 1 MiB", "0 MiB of"]);
}

#[test]
fn worker_runs_only_on_a_device_of_the_worker_program() {
    let cuda = Need { device: Some(Device::Cuda), ..NEED };
    check(cuda, ROOM, FailureCode::DeviceMissing, &["needs the device cuda", "run on cpu", "built for cuda"]);
    let both = Room { devices: &[Device::Cuda, Device::Cpu], gpu_free: Some(GIB), ..ROOM };
    assert_eq!(admit(&cuda, &both), Ok(()));
    check(Need { device: Some(Device::Metal), ..NEED }, both, FailureCode::DeviceMissing, &["run on cuda, cpu"]);
}

#[test]
fn gpu_memory_counts_for_a_worker_on_a_gpu() {
    let room = Room { devices: &[Device::Cuda], gpu_free: Some(GIB), memory_available: 0, ..ROOM };
    assert_eq!(admit(&NEED, &room), Ok(()), "the first device is the default");
    let over = Need { memory: GIB + 1, ..NEED };
    check(over, room, FailureCode::MemoryShort, &["needs 1025 MiB", "GPU memory", "1024 MiB free"]);
    // Where no GPU answers, the memory of the machine counts.
    check(NEED, Room { gpu_free: None, ..room }, FailureCode::MemoryShort, &["0 MiB of 8192 MiB"]);
}

fn spec(reference: &str) -> ModelSpec {
    ModelSpec::new(reference.parse().expect("a reference"))
}

#[test]
fn memory_limit_is_the_need_of_a_worker() {
    let mut spec = spec("file:/m.gguf");
    spec.limits.memory = Some(ByteSize(300 * MIB));
    spec.device = Some(Device::Cuda);
    let need = Need::of(&spec, Some(9 * GIB));
    assert_eq!(need, Need { memory: 300 * MIB, disk: 0, device: Some(Device::Cuda) });
    assert_eq!(need.fetching(9 * GIB).disk, 9 * GIB);
}

#[test]
fn mock_worker_needs_little_memory() {
    assert_eq!(Need::of(&spec("mock:interval=5ms"), None).memory, MOCK_BASE);
}

#[test]
fn encoder_needs_no_kv_cache() {
    let encoder = ModelSpec { kind: rbee_schema::ModelKind::Embeddings, ..spec("file:/models/minilm") };
    let need = |slots| Need::of(&ModelSpec { slots, ..encoder.clone() }, Some(GIB)).memory;
    assert_eq!(need(1), need(64));
    assert!(need(1) > GIB && need(1) < Need::of(&spec("file:/m.gguf"), Some(GIB)).memory);
}

#[test]
fn estimate_covers_weights_and_full_kv_caches_of_known_models() {
    const KIB: u64 = 1 << 10;
    // Size of the file, and KV cache of a token.
    for (name, file, token) in [
        ("SmolLM2-135M.Q8_0", 145_000_000, 23 * KIB),
        ("Llama-3.2-1B.Q4_K_M", 808_000_000, 32 * KIB),
        ("Llama-3.1-8B.Q4_K_M", 4_920_000_000, 128 * KIB),
        ("Mistral-7B.Q8_0", 7_700_000_000, 128 * KIB),
    ] {
        let mut spec = spec(&format!("hf:owner/repo/{name}.gguf"));
        (spec.slots, spec.context) = (2, Some(2048));
        // A context for each slot, and one more for the prompt cache.
        let least = file + 3 * 2048 * token;
        let memory = Need::of(&spec, Some(file)).memory;
        assert!((least..2 * least).contains(&memory), "{name}: {memory} for {least}");
    }
}

proptest! {
    #[test]
    fn more_of_anything_never_needs_less(file: u64, more: u64, slots in 1u32..=256, context: u32) {
        let mut spec = spec("file:/m.gguf");
        let least = Need::of(&spec, Some(file)).memory;
        prop_assert!(Need::of(&spec, Some(file.saturating_add(more))).memory >= least);
        (spec.slots, spec.context) = (slots, Some(context.max(16)));
        let some = Need::of(&spec, Some(file)).memory;
        spec.slots += 1;
        prop_assert!(Need::of(&spec, Some(file)).memory >= some);
    }

    #[test]
    fn smaller_worker_is_admitted_wherever_a_larger_one_is(memory: u64, less: u64, available: u64, reserved: u64) {
        let room = Room { memory_available: available, memory_reserved: reserved, ..ROOM };
        if admit(&Need { memory, ..NEED }, &room).is_ok() {
            let smaller = Need { memory: memory.min(less), ..NEED };
            prop_assert!(admit(&smaller, &room).is_ok());
        }
    }
}
