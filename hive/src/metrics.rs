//! All metrics of a hive: their names, their help texts, and the functions that record them.

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
const MESSAGES_LOST: &str = "rbee_hive_messages_lost_total";

/// Counters without labels. They start at 0, so that the first count shows as a rise.
const COUNTERS: [(&str, Unit, &str); 10] = [
    (SPAWNS, Unit::Count, "Worker processes started."),
    (RESTARTS, Unit::Count, "Restarts of workers that exited unexpectedly."),
    (CRASH_LOOPS, Unit::Count, "Crash loops: workers that exited too often and are retried rarely."),
    (ADOPTED, Unit::Count, "Running workers of an earlier run of the hive that were adopted."),
    (ORPHANS_KILLED, Unit::Count, "Processes killed because they belonged to no worker."),
    (JOBS_RETURNED, Unit::Count, "Jobs of exited workers returned to the queue."),
    (STALE_COMMANDS, Unit::Count, "Commands refused because the term of their queen was over."),
    (PORTS_RECLAIMED, Unit::Count, "Leaked port leases: found without a worker and released."),
    (HEALTH_CHECK_FAILURES, Unit::Count, "Failed health checks of workers."),
    (FETCHED, Unit::Bytes, "Bytes of model files fetched."),
];

/// All phases, so that one without workers is shown as 0.
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

/// Registers the help text of each metric.
pub(crate) fn describe() {
    for (name, unit, text) in COUNTERS {
        describe_counter!(name, unit, text);
        counter!(name).increment(0);
    }
    describe_counter!(REFUSALS, Unit::Count, "Workers that were not started, by failure code.");
    describe_counter!(EXITS, Unit::Count, "Exits of worker processes, by class.");
    describe_counter!(
        INVALID_TRANSITIONS,
        Unit::Count,
        "Messages about a worker that did not fit its state, by state and message."
    );
    describe_counter!(SUSPECTS, Unit::Count, "Workers that became suspect, by reason.");
    describe_counter!(FETCHES, Unit::Count, "Fetches of model files, by outcome: `fetched` or a failure code.");
    describe_gauge!(WORKERS, Unit::Count, "Workers, by phase.");
    describe_gauge!(PORTS_LEASED, Unit::Count, "Leased ports of the hive.");
    describe_gauge!(PORTS, Unit::Count, "Ports that the hive may lease.");
    describe_gauge!(LATE, Unit::Seconds, "Lateness of the hive's own clock, a measure of the load of its machine.");
    describe_gauge!(DEGRADED, Unit::Count, "1 while the hive is degraded: load is better placed on other hives.");
    describe_gauge!(SHUTDOWN, Unit::Seconds, "Duration of the shutdown, until the last worker has exited.");
    describe_gauge!(MEMORY_AVAILABLE, Unit::Bytes, "Memory of the machine that is available for workers.");
    describe_gauge!(MEMORY_RESERVED, Unit::Bytes, "Memory reserved for running workers and not used by them yet.");
    describe_gauge!(BUS_ONLINE, Unit::Count, "1 while the hive is connected to the bus.");
    describe_counter!(MESSAGES_LOST, Unit::Count, "Events and registry entries that the bus could not store.");
    describe_histogram!(
        SPAWN_TO_READY,
        Unit::Seconds,
        "Time from the start of a worker, with the fetch of its model, until it is ready."
    );
    describe_histogram!(
        LOAD,
        Unit::Seconds,
        "Time from the start of a worker process until it is ready, as the worker reports it."
    );
}

/// Counts an event of a worker.
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
            // The first word is the kind of message; the rest would make a label with unlimited values.
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

/// Sets the number of workers in each phase, from the phase of each worker.
pub(crate) fn workers(phases: impl IntoIterator<Item = WorkerPhase>) {
    let phases: Vec<WorkerPhase> = phases.into_iter().collect();
    for phase in PHASES {
        let count = phases.iter().filter(|found| **found == phase).count();
        gauge!(WORKERS, "phase" => phase.as_str()).set(count as f64);
    }
}

/// Counts the start of a worker process.
pub(crate) fn spawned() {
    counter!(SPAWNS).increment(1);
}

/// Counts a worker that was not started.
pub(crate) fn spawn_refused(code: FailureCode) {
    counter!(REFUSALS, "code" => code.as_str()).increment(1);
}

/// Counts the exit of a worker process.
pub(crate) fn exited(class: ExitClass) {
    counter!(EXITS, "class" => class.to_string()).increment(1);
}

/// Counts a restart.
pub(crate) fn restarted() {
    counter!(RESTARTS).increment(1);
}

/// Counts a crash loop.
pub(crate) fn crash_looped() {
    counter!(CRASH_LOOPS).increment(1);
}

/// Counts the adoption of a running worker.
pub(crate) fn adopted() {
    counter!(ADOPTED).increment(1);
}

/// Counts a killed process that belonged to no worker.
pub(crate) fn orphan_killed() {
    counter!(ORPHANS_KILLED).increment(1);
}

/// Records the time from the start of a worker until it was ready.
pub(crate) fn became_ready(after: Duration) {
    histogram!(SPAWN_TO_READY).record(after);
}

/// Records the load time that a worker reports.
pub(crate) fn loaded(after: Duration) {
    histogram!(LOAD).record(after);
}

/// Counts jobs returned to the queue.
pub(crate) fn jobs_returned(jobs: usize) {
    counter!(JOBS_RETURNED).increment(jobs as u64);
}

/// Sets the numbers of leased and of all ports.
pub(crate) fn ports(leased: u32, total: u32) {
    gauge!(PORTS_LEASED).set(leased);
    gauge!(PORTS).set(total);
}

/// Counts a command of a queen whose term is over.
pub(crate) fn stale_command() {
    counter!(STALE_COMMANDS).increment(1);
}

/// Counts the release of a leaked lease.
pub(crate) fn port_reclaimed() {
    counter!(PORTS_RECLAIMED).increment(1);
}

/// Counts a message that did not fit the state of its worker.
pub(crate) fn event_ignored(state: impl Into<SharedString>, message: impl Into<SharedString>) {
    counter!(INVALID_TRANSITIONS, "state" => state.into(), "event" => message.into()).increment(1);
}

/// Counts a worker that became suspect; `reason` is `silent` or `frozen`.
pub(crate) fn suspected(reason: &'static str) {
    counter!(SUSPECTS, "reason" => reason).increment(1);
}

/// Counts a failed health check.
pub(crate) fn health_check_failed() {
    counter!(HEALTH_CHECK_FAILURES).increment(1);
}

/// Sets the lateness of the hive's own clock.
pub(crate) fn late(by: Duration) {
    gauge!(LATE).set(by);
}

/// Sets whether the hive is degraded.
pub(crate) fn degraded(is_degraded: bool) {
    gauge!(DEGRADED).set(u32::from(is_degraded));
}

/// Sets the duration of the shutdown.
pub(crate) fn shut_down(after: Duration) {
    gauge!(SHUTDOWN).set(after);
}

/// Counts fetched bytes of a model file.
pub(crate) fn bytes_fetched(bytes: u64) {
    counter!(FETCHED).increment(bytes);
}

/// Counts a complete fetch.
pub(crate) fn fetched() {
    counter!(FETCHES, "outcome" => "fetched").increment(1);
}

/// Counts a failed fetch.
pub(crate) fn fetch_failed(code: FailureCode) {
    counter!(FETCHES, "outcome" => code.as_str()).increment(1);
}

/// Sets the memory that is available for workers, and the part of it that is reserved.
pub(crate) fn memory(available: ByteSize, reserved: ByteSize) {
    gauge!(MEMORY_AVAILABLE).set(available.bytes() as f64);
    gauge!(MEMORY_RESERVED).set(reserved.bytes() as f64);
}

/// Sets whether the hive is connected to the bus.
pub(crate) fn bus_online(is_online: bool) {
    gauge!(BUS_ONLINE).set(u32::from(is_online));
}

/// Sets the number of events and registry entries that could not be stored since the start.
pub(crate) fn lost_messages(count: u64) {
    counter!(MESSAGES_LOST).absolute(count);
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
    fn every_metric_is_rendered_under_its_name_with_a_help_text() {
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
            lost_messages(3);
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
            "rbee_hive_messages_lost_total 3",
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
    fn counters_start_at_zero() {
        let text = rendered(describe);
        for (name, ..) in COUNTERS {
            assert!(text.lines().any(|line| line == format!("{name} 0")), "{name} in\n{text}");
        }
    }

    #[test]
    fn every_phase_has_its_gauge() {
        // A new phase needs a new case here and an entry in the list.
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
