//! Checks of single hives and workers. Pure: they judge records that were fetched before.

use std::time::Duration;

use rbee_schema::{
    FailureCode, LimitMethod, WorkerPhase,
    api::{Hive, Model, RefusedTenant, Worker},
};

use super::finding::Finding;

/// Checks that heartbeats of a hive arrive and that it accepts workers, and reports what limits its workers.
pub(super) fn check_hive(Hive { name, record, presence, .. }: &Hive, clock_skew: Duration) -> Finding {
    let limits = match record.limit_method {
        Some(by @ (LimitMethod::CgroupV2 | LimitMethod::CgroupV1)) => format!("{} limits its workers", by.as_str()),
        Some(by @ LimitMethod::RlimitData) => format!(
            "{} limits the memory of its workers, and nothing limits their processor time; to use cgroups, run the hive \
             under systemd with Delegate=yes",
            by.as_str()
        ),
        None => "it does not report what limits its workers".to_owned(),
    };
    let draining = record.draining.then(|| {
        format!("it is draining: `rbee drain {name} --undo` lets it accept workers again, `rbee stop {name}` stops it")
    });
    let degraded = record.degraded.as_ref().map(|why| {
        format!(
            "it is degraded ({why}): workers are placed elsewhere where possible; `rbee events evt.worker.{name}.> \
             --since 1h` shows how its workers ended"
        )
    });
    let away = matches!(presence.as_str(), "suspect" | "lost").then(|| {
        format!("it is {presence}: no heartbeat arrives; check that it is running and that its machine reaches the bus")
    });
    let skew = Duration::from_millis(record.clock_skew_ms.unsigned_abs());
    let skewed = (skew > clock_skew).then(|| {
        let ahead = record.clock_skew_ms;
        format!(
            "its clock is {ahead} ms ahead of the server's, so its log lines do not match the events; synchronize its clock"
        )
    });
    let problems: Vec<String> = [away, draining, degraded, skewed].into_iter().flatten().collect();
    let what = format!("hive {name}");
    match problems.as_slice() {
        [] => Finding::ok(what, limits),
        problems => Finding::problem(what, format!("{}; {limits}", problems.join("; "))),
    }
}

/// Problem of a worker; none if the worker is well or restarts without help.
pub(super) fn check_worker(Worker { hive, name, record, .. }: &Worker) -> Option<Finding> {
    if record.phase != WorkerPhase::CrashLoop {
        return None;
    }
    let failure = record.failure.as_ref().map_or_else(|| "the cause is unknown".to_owned(), ToString::to_string);
    let found = format!(
        "crash-loop after {} exits: {failure}; fix the cause, then `rbee reset {name}` starts it again at once",
        record.exits
    );
    Some(Finding::problem(format!("worker {hive}/{name}"), found))
}

/// Problem of a model whose workers do not start; none if nothing is known to be wrong. A crash loop is a problem of its worker.
pub(super) fn check_model(Model { name, failure, .. }: &Model) -> Option<Finding> {
    let failure = failure.as_ref().filter(|failure| failure.code != FailureCode::CrashLoop)?;
    Some(Finding::problem(format!("model {name}"), format!("{failure}; `rbee explain {name}` judges every hive")))
}

/// Problem of a tenant with an invalid record.
pub(super) fn check_tenant(RefusedTenant { name, failure }: &RefusedTenant) -> Finding {
    let found = format!(
        "its record is invalid and has no effect: {failure}; `rbee tenant set {name}` writes a valid one, `rbee tenant rm {name}` \
         removes it"
    );
    Finding::problem(format!("tenant {name}"), found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hive_with(more: &str) -> Finding {
        hive_in("online", more)
    }

    fn hive_in(presence: &str, more: &str) -> Finding {
        let record = format!(r#"{{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2{more}}}"#);
        let record = serde_json::from_str(&record).expect("a record");
        let found = Hive {
            name: "one".parse().expect("a name"),
            record,
            workers: 0,
            presence: presence.to_owned(),
            free: None,
        };
        check_hive(&found, Duration::from_secs(2))
    }

    #[test]
    fn an_accepting_hive_is_ok_and_reports_what_limits_workers() {
        for (more, part) in [
            (r#","limit_method":"cgroup-v2""#, "cgroup-v2 limits its workers"),
            (r#","limit_method":"rlimit-data""#, "Delegate=yes"),
            (r#","clock_skew_ms":2000"#, "does not report"),
            ("", "does not report"),
        ] {
            let finding = hive_with(more);
            assert!(finding.ok && finding.found.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn each_problem_of_a_hive_comes_with_a_remedy() {
        for (more, part) in [
            (r#","draining":true"#, "rbee drain one --undo"),
            (r#","degraded":"three workers loop""#, "(three workers loop): workers are placed elsewhere"),
            (r#","clock_skew_ms":-2001"#, "its clock is -2001 ms ahead"),
        ] {
            let finding = hive_with(more);
            assert!(!finding.ok && finding.found.contains(part), "{finding:?}");
        }
        for presence in ["suspect", "lost"] {
            let finding = hive_in(presence, "");
            assert!(!finding.ok && finding.found.contains(&format!("it is {presence}: ")), "{finding:?}");
        }
    }

    #[test]
    fn only_a_worker_in_a_crash_loop_is_a_problem() {
        let worker_in = |phase: &str| {
            let failure = r#"{"code":"out-of-memory","message":"it needed 600 MiB"}"#;
            let record =
                format!(r#"{{"model":"m","phase":"{phase}","epoch":3,"slots":2,"exits":5,"failure":{failure}}}"#);
            check_worker(&Worker {
                hive: "one".parse().expect("a name"),
                name: "w".parse().expect("a name"),
                record: serde_json::from_str(&record).expect("a record"),
                jobs: Vec::new(),
                tokens: 0,
                memory_bytes: 0,
                cache: None,
                since: None,
                known: true,
            })
        };
        assert_eq!(worker_in("backoff"), None);
        let finding = worker_in("crash-loop").expect("a problem");
        assert!(!finding.ok && finding.what == "worker one/w", "{finding:?}");
        for part in ["after 5 exits", "it needed 600 MiB (out-of-memory)", "`rbee reset w`"] {
            assert!(finding.found.contains(part), "{finding:?}");
        }
    }
}
