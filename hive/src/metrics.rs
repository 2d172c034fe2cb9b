//! The names of all metrics of a hive, and the only places where they are counted.

use std::time::Duration;

use metrics::{SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use rbee_schema::{ByteSize, ExitClass, FailureCode, WorkerEvent, WorkerPhase};

const WORKERS: &str = "rbee_hive_workers";
const SPAWNS: &str = "rbee_hive_spawns_total";
const REFUSALS: &str = "rbee_hive_spawn_refusals_total";
const EXITS: &str = "rbee_hive_exits_total";
const RESTARTS: &str = "rbee_hive_restarts_total";
const CRASH_LOOPS: &str = "rbee_hive_crash_loops_total";
const ADOPTED: &str = "rbee_hive_adopted_total";
const ORPHANS_KILLED: &str = "rbee_hive_orphans_killed_total";
const SPAWN_TO_READY: &str = "rbee_hive_spawn_to_ready_seconds";
const LOAD: &str = "rbee_hive_load_seconds";
const JOBS_RETURNED: &str = "rbee_hive_jobs_returned_total";
const PORTS_LEASED: &str = "rbee_hive_ports_leased";
const PORTS: &str = "rbee_hive_ports";
const STALE_COMMANDS: &str = "rbee_hive_stale_commands_total";
const PORTS_RECLAIMED: &str = "rbee_hive_ports_reclaimed_total";
const INVALID_TRANSITIONS: &str = "rbee_hive_invalid_transitions_total";
const SUSPECTS: &str = "rbee_hive_suspects_total";
const HEALTH_CHECK_FAILURES: &str = "rbee_hive_health_check_failures_total";
const LATE: &str = "rbee_hive_late_seconds";
const DEGRADED: &str = "rbee_hive_degraded";
const SHUTDOWN: &str = "rbee_hive_shutdown_seconds";
const FETCHED: &str = "rbee_hive_fetched_bytes_total";
const FETCHES: &str = "rbee_hive_fetches_total";
const MEMORY_AVAILABLE: &str = "rbee_hive_memory_available_bytes";
const MEMORY_RESERVED: &str = "rbee_hive_memory_reserved_bytes";
const BUS_ONLINE: &str = "rbee_hive_bus_online";

/// Counters without labels. They stand at 0 from the beginning, so that the first count is seen as a rise.
const COUNTERS: [(&str, Unit, &str); 10] = [
    (SPAWNS, Unit::Count, "Worker processes that were started."),
    (RESTARTS, Unit::Count, "Starts of workers that had ended unwanted."),
    (CRASH_LOOPS, Unit::Count, "Workers that ended too often and are tried again only rarely."),
    (ADOPTED, Unit::Count, "Workers of an earlier run of the hive that lived and are its own again."),
    (ORPHANS_KILLED, Unit::Count, "Processes that belonged to no worker and were killed."),
    (JOBS_RETURNED, Unit::Count, "Jobs of ended workers that were given back to the queue."),
    (STALE_COMMANDS, Unit::Count, "Commands of queens whose term was over, and which were not obeyed."),
    (PORTS_RECLAIMED, Unit::Count, "Leases that were found without a worker and taken back: leaks."),
    (HEALTH_CHECK_FAILURES, Unit::Count, "Health checks that a worker did not answer well."),
    (FETCHED, Unit::Bytes, "Bytes of model files that were fetched."),
];

/// Every phase, so that one without workers stands at 0.
const PHASES: [WorkerPhase; 10] = [
    WorkerPhase::Requested,
    WorkerPhase::Spawning,
    WorkerPhase::Loading,
    WorkerPhase::Ready,
    WorkerPhase::Suspect,
    WorkerPhase::Draining,
    WorkerPhase::Stopping,
    WorkerPhase::Backoff,
    WorkerPhase::CrashLoop,
    WorkerPhase::Failed,
];

/// Says what each metric means.
pub(crate) fn describe() {
    for (name, unit, text) in COUNTERS {
        describe_counter!(name, unit, text);
        counter!(name).increment(0);
    }
    describe_counter!(REFUSALS, Unit::Count, "Workers that were not started, by failure code.");
    describe_counter!(EXITS, Unit::Count, "Worker processes that ended, by what kind of end it was.");
    describe_counter!(INVALID_TRANSITIONS, Unit::Count, "Words about a worker that did not fit its state, by both.");
    describe_counter!(SUSPECTS, Unit::Count, "Workers that became suspect, by why.");
    describe_counter!(FETCHES, Unit::Count, "Fetches of model files that ended: fetched, or by failure code.");
    describe_gauge!(WORKERS, Unit::Count, "Workers, by phase.");
    describe_gauge!(PORTS_LEASED, Unit::Count, "Ports that are leased.");
    describe_gauge!(PORTS, Unit::Count, "Ports that may be leased.");
    describe_gauge!(LATE, Unit::Seconds, "By how much the hive's own clock ticks late: how overloaded its machine is.");
    describe_gauge!(DEGRADED, Unit::Count, "1 while workers end so often that load is better placed elsewhere.");
    describe_gauge!(SHUTDOWN, Unit::Seconds, "From the order to end to the last worker's end.");
    describe_gauge!(MEMORY_AVAILABLE, Unit::Bytes, "Memory of the machine that is free for workers.");
    describe_gauge!(MEMORY_RESERVED, Unit::Bytes, "Memory that workers were promised.");
    describe_gauge!(BUS_ONLINE, Unit::Count, "1 while the bus is there.");
    describe_histogram!(SPAWN_TO_READY, Unit::Seconds, "From the command to start a worker to its being ready.");
    describe_histogram!(LOAD, Unit::Seconds, "From the start of a worker's process to its being ready, as it says.");
}

/// Something was told about a worker.
pub(crate) fn count_event(event: &WorkerEvent) {
    match event {
        WorkerEvent::Spawned { .. } => spawned(),
        WorkerEvent::Adopted { .. } => adopted(),
        WorkerEvent::Suspect { why, .. } if why.contains("SIGSTOP") => suspected("frozen"),
        WorkerEvent::Suspect { .. } => suspected("silent"),
        WorkerEvent::Exited { class, jobs_returned: jobs, .. } => {
            exited(*class);
            jobs_returned(*jobs as usize);
        }
        WorkerEvent::Restarting { .. } => restarted(),
        WorkerEvent::CrashLooped { .. } => crash_looped(),
        WorkerEvent::Failed { failure, .. } => spawn_refused(failure.code),
        WorkerEvent::Ignored { received, state } => {
            // Its first word is its kind; the rest would be a label without end.
            let kind = received.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
            event_ignored(state.clone(), kind.to_owned());
        }
        WorkerEvent::Loading { .. }
        | WorkerEvent::Ready { .. }
        | WorkerEvent::Recovered { .. }
        | WorkerEvent::Draining { .. }
        | WorkerEvent::Stopping { .. }
        | WorkerEvent::Unkillable { .. }
        | WorkerEvent::Removed { .. } => {}
    }
}

/// Which phases the workers are in now, one for each worker.
pub(crate) fn workers(phases: impl IntoIterator<Item = WorkerPhase>) {
    let phases: Vec<WorkerPhase> = phases.into_iter().collect();
    for phase in PHASES {
        let count = phases.iter().filter(|found| **found == phase).count();
        gauge!(WORKERS, "phase" => phase.as_str()).set(count as f64);
    }
}

/// A worker process was started.
pub(crate) fn spawned() {
    counter!(SPAWNS).increment(1);
}

/// A worker was not started.
pub(crate) fn spawn_refused(code: FailureCode) {
    counter!(REFUSALS, "code" => code.as_str()).increment(1);
}

/// A worker process ended.
pub(crate) fn exited(class: ExitClass) {
    counter!(EXITS, "class" => class.to_string()).increment(1);
}

/// A worker that had ended is started again.
pub(crate) fn restarted() {
    counter!(RESTARTS).increment(1);
}

/// A worker ended too often.
pub(crate) fn crash_looped() {
    counter!(CRASH_LOOPS).increment(1);
}

/// A worker of an earlier run is ours again.
pub(crate) fn adopted() {
    counter!(ADOPTED).increment(1);
}

/// A process that belonged to no worker was killed.
pub(crate) fn orphan_killed() {
    counter!(ORPHANS_KILLED).increment(1);
}

/// A worker became ready, this long after it was commanded.
pub(crate) fn became_ready(after: Duration) {
    histogram!(SPAWN_TO_READY).record(after);
}

/// A worker said how long it took from the start of its process to ready.
pub(crate) fn loaded(after: Duration) {
    histogram!(LOAD).record(after);
}

/// Jobs of an ended worker were given back.
pub(crate) fn jobs_returned(jobs: usize) {
    counter!(JOBS_RETURNED).increment(jobs as u64);
}

/// How many ports are leased, and how many may be.
pub(crate) fn ports(leased: u32, total: u32) {
    gauge!(PORTS_LEASED).set(leased);
    gauge!(PORTS).set(total);
}

/// A queen whose term is over has commanded something.
pub(crate) fn stale_command() {
    counter!(STALE_COMMANDS).increment(1);
}

/// A lease without a worker was taken back.
pub(crate) fn port_reclaimed() {
    counter!(PORTS_RECLAIMED).increment(1);
}

/// Something was heard of a worker that did not fit its state.
pub(crate) fn event_ignored(state: impl Into<SharedString>, heard: impl Into<SharedString>) {
    counter!(INVALID_TRANSITIONS, "state" => state.into(), "event" => heard.into()).increment(1);
}

/// A worker became suspect: a few fixed words say why, such as `silent` or `frozen`.
pub(crate) fn suspected(reason: &'static str) {
    counter!(SUSPECTS, "reason" => reason).increment(1);
}

/// A worker did not answer its health check well.
pub(crate) fn health_check_failed() {
    counter!(HEALTH_CHECK_FAILURES).increment(1);
}

/// By how much the hive's own clock ticks late.
pub(crate) fn late(by: Duration) {
    gauge!(LATE).set(by);
}

/// Whether load is better placed elsewhere.
pub(crate) fn degraded(is_degraded: bool) {
    gauge!(DEGRADED).set(u32::from(is_degraded));
}

/// The workers are gone, this long after the order to end.
pub(crate) fn shut_down(after: Duration) {
    gauge!(SHUTDOWN).set(after);
}

/// Bytes of a model file came.
pub(crate) fn bytes_fetched(bytes: u64) {
    counter!(FETCHED).increment(bytes);
}

/// A model file is here and whole.
pub(crate) fn fetched() {
    counter!(FETCHES, "outcome" => "fetched").increment(1);
}

/// A model file could not be fetched.
pub(crate) fn fetch_failed(code: FailureCode) {
    counter!(FETCHES, "outcome" => code.as_str()).increment(1);
}

/// What memory is free for workers, and what they were promised.
pub(crate) fn memory(available: ByteSize, reserved: ByteSize) {
    gauge!(MEMORY_AVAILABLE).set(available.bytes() as f64);
    gauge!(MEMORY_RESERVED).set(reserved.bytes() as f64);
}

/// Whether the bus is there.
pub(crate) fn bus_online(is_online: bool) {
    gauge!(BUS_ONLINE).set(u32::from(is_online));
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;

    fn rendered(count: impl FnOnce()) -> String {
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &[1.0, 10.0]);
        let recorder = builder.expect("there are buckets").build_recorder();
        metrics::with_local_recorder(&recorder, count);
        recorder.handle().render()
    }

    #[test]
    fn what_is_counted_is_rendered_under_its_name_with_what_it_means() {
        let text = rendered(|| {
            describe();
            workers([WorkerPhase::Ready, WorkerPhase::Ready, WorkerPhase::CrashLoop]);
            spawned();
            spawn_refused(FailureCode::PortsExhausted);
            exited(ExitClass::ReadyTimeout);
            restarted();
            crash_looped();
            adopted();
            orphan_killed();
            became_ready(Duration::from_secs(2));
            loaded(Duration::from_millis(500));
            jobs_returned(3);
            ports(2, 100);
            port_reclaimed();
            event_ignored("ready", String::from("started"));
            suspected("silent");
            health_check_failed();
            late(Duration::from_millis(250));
            degraded(true);
            shut_down(Duration::from_secs(4));
            bytes_fetched(1_000);
            fetched();
            fetch_failed(FailureCode::DiskFull);
            memory(ByteSize(2_048), ByteSize(1_024));
            bus_online(true);
        });
        for line in [
            "rbee_hive_workers{phase=\"ready\"} 2",
            "rbee_hive_workers{phase=\"crash-loop\"} 1",
            "rbee_hive_workers{phase=\"failed\"} 0",
            "rbee_hive_spawns_total 1",
            "rbee_hive_spawn_refusals_total{code=\"ports-exhausted\"} 1",
            "rbee_hive_exits_total{class=\"ready-timeout\"} 1",
            "rbee_hive_restarts_total 1",
            "rbee_hive_crash_loops_total 1",
            "rbee_hive_adopted_total 1",
            "rbee_hive_orphans_killed_total 1",
            "rbee_hive_spawn_to_ready_seconds_bucket{le=\"1\"} 0",
            "rbee_hive_spawn_to_ready_seconds_bucket{le=\"10\"} 1",
            "rbee_hive_load_seconds_sum 0.5",
            "rbee_hive_jobs_returned_total 3",
            "rbee_hive_ports_leased 2",
            "rbee_hive_ports 100",
            "rbee_hive_ports_reclaimed_total 1",
            "rbee_hive_invalid_transitions_total{state=\"ready\",event=\"started\"} 1",
            "rbee_hive_suspects_total{reason=\"silent\"} 1",
            "rbee_hive_health_check_failures_total 1",
            "rbee_hive_late_seconds 0.25",
            "rbee_hive_degraded 1",
            "rbee_hive_shutdown_seconds 4",
            "rbee_hive_fetched_bytes_total 1000",
            "rbee_hive_fetches_total{outcome=\"fetched\"} 1",
            "rbee_hive_fetches_total{outcome=\"disk-full\"} 1",
            "rbee_hive_memory_available_bytes 2048",
            "rbee_hive_memory_reserved_bytes 1024",
            "rbee_hive_bus_online 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is described");
            assert!(name.starts_with("rbee_hive_"), "{name} is a hive's");
        }
    }

    #[test]
    fn counters_stand_at_zero_before_anything_happens() {
        let text = rendered(describe);
        for (name, ..) in COUNTERS {
            assert!(text.lines().any(|line| line == format!("{name} 0")), "{name} in\n{text}");
        }
    }

    #[test]
    fn every_phase_has_its_gauge() {
        // A new phase is a new case here, and an entry of the list.
        let place = |phase| match phase {
            WorkerPhase::Requested => 0,
            WorkerPhase::Spawning => 1,
            WorkerPhase::Loading => 2,
            WorkerPhase::Ready => 3,
            WorkerPhase::Suspect => 4,
            WorkerPhase::Draining => 5,
            WorkerPhase::Stopping => 6,
            WorkerPhase::Backoff => 7,
            WorkerPhase::CrashLoop => 8,
            WorkerPhase::Failed => 9,
        };
        assert!(PHASES.iter().copied().map(place).eq(0..PHASES.len()));
    }
}
