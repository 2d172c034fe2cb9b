//! Settings of cgroup v1. Sources: Documentation/admin-guide/cgroup-v1/memory.rst and
//! Documentation/scheduler/sched-bwc.rst of the kernel.

use rbee_schema::Limits;

use super::setting::Setting;

/// Period of a CPU quota in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// Settings for a group of the memory controller.
pub(super) fn memory(limits: &Limits) -> Vec<Setting> {
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let Some(memory) = limits.memory else { return Vec::new() };
    vec![
        // The limit of memory with swap must never be below that of memory alone, so it is lifted first.
        Setting::optional(WITH_SWAP, -1),
        Setting::required("memory.limit_in_bytes", memory.bytes()),
        Setting::optional(WITH_SWAP, memory.bytes()),
    ]
}

/// Settings for a group of the cpu controller.
pub(super) fn cpu(limits: &Limits) -> Vec<Setting> {
    let Some(millis) = limits.cpu_millis else { return Vec::new() };
    let quota = u64::from(millis) * PERIOD / 1000;
    vec![Setting::required("cpu.cfs_period_us", PERIOD), Setting::required("cpu.cfs_quota_us", quota)]
}

#[cfg(test)]
mod tests {
    use rbee_schema::ByteSize;

    use super::*;

    #[test]
    fn limits_become_settings_of_cgroup_v1() {
        let limits = Limits { memory: Some(ByteSize(64 << 20)), cpu_millis: Some(10), open_files: None };
        let written = |settings: Vec<Setting>| settings.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            written(memory(&limits)),
            [
                "memory.memsw.limit_in_bytes=-1",
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=67108864"
            ]
        );
        assert_eq!(written(cpu(&limits)), ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=1000"]);
        assert!(memory(&Limits::default()).is_empty() && cpu(&Limits::default()).is_empty());
    }
}
