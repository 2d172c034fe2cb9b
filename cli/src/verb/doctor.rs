//! `rbee doctor`: what could be wrong, and what to do about it.

use std::time::Duration;

use clap::Args;
use rbee_nats::{Bus, Plan, without_secrets};
use rbee_schema::{
    LimitMethod, WorkerPhase,
    api::{Hive, Hives, Models, Status, Worker, Workers},
};
use serde::Serialize;

use crate::{Setting, fleet::worker_program, listing, outcome::Outcome, show};

/// Options of `rbee doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// By how much the clock of a hive may differ from the server's: its log lines are compared with events.
    #[arg(long, default_value = "2s", value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    clock_skew: Duration,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    found: String,
}

fn good(what: impl Into<String>, found: impl ToString) -> Finding {
    Finding { what: what.into(), ok: true, found: found.to_string() }
}

fn bad(what: impl Into<String>, found: impl ToString) -> Finding {
    Finding { what: what.into(), ok: false, found: found.to_string() }
}

impl Doctor {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let mut findings = vec![program(), server_program().await];
        match setting.bus("cli/doctor").await {
            Ok(bus) => findings.extend(look_at(&bus, &setting, self.clock_skew).await),
            Err(outcome) => findings.push(bad("bus", outcome.message())),
        }
        let problems = findings.iter().filter(|finding| !finding.ok).count();
        if setting.json {
            show::json(&serde_json::json!({ "findings": findings }));
        } else {
            let row = |finding: &Finding| {
                let mark = if finding.ok { "ok" } else { "PROBLEM" };
                [mark.to_owned(), finding.what.clone(), finding.found.clone()]
            };
            show::table(["", "WHAT", "FOUND"], findings.iter().map(row).collect(), "");
        }
        match problems {
            0 => Ok(()),
            1 => Err(Outcome::failed("one problem was found")),
            more => Err(Outcome::failed(format!("{more} problems were found"))),
        }
    }
}

fn program() -> Finding {
    match worker_program(None) {
        Ok(program) => good("worker program", program.display()),
        Err(outcome) => bad("worker program", outcome.message()),
    }
}

async fn server_program() -> Finding {
    match rbee_nats::find_server().await {
        Ok((program, version)) => good("nats-server", format!("{} is version {version}", program.display())),
        Err(error) => bad("nats-server", error),
    }
}

async fn look_at(bus: &Bus, setting: &Setting, clock_skew: Duration) -> Vec<Finding> {
    let mut findings =
        vec![good("bus", format!("{} runs nats-server {}", without_secrets(&setting.nats), bus.server_version()))];
    findings.push(match Plan::compute(bus).await {
        Ok(plan) if plan.changes.is_empty() => good("streams and buckets", "as this version needs them"),
        Ok(plan) => bad("streams and buckets", format!("`rbee topology apply` would change:\n{plan}")),
        Err(error) => bad("streams and buckets", error),
    });
    match bus.request::<_, Status>("status", &()).await {
        Ok(status) => {
            findings.push(good("queen", format!("{} is version {}", status.queen, status.version)));
            findings.push(match status.hives {
                0 => bad("hives", "none is connected; start one with `rbee hive --nats URL`"),
                hives => good("hives", hives),
            });
            findings.extend(hives(bus, clock_skew).await);
            findings.extend(workers(bus).await);
            findings.push(models(bus).await);
        }
        Err(failure) => findings.push(bad("queen", failure.message)),
    }
    findings
}

async fn hives(bus: &Bus, clock_skew: Duration) -> Vec<Finding> {
    match listing::all::<Hives>(bus).await {
        Ok(reply) => reply.hives.iter().map(|found| hive(found, clock_skew)).collect(),
        Err(failure) => vec![bad("hives", failure.message)],
    }
}

async fn workers(bus: &Bus) -> Vec<Finding> {
    match listing::all::<Workers>(bus).await {
        Ok(reply) => reply.workers.iter().filter_map(worker).collect(),
        Err(failure) => vec![bad("workers", failure.message)],
    }
}

/// Whether a hive is heard and takes workers, and who limits them.
fn hive(Hive { name, record, presence, .. }: &Hive, clock_skew: Duration) -> Finding {
    let limits = match record.limit_method {
        Some(by @ (LimitMethod::CgroupV2 | LimitMethod::CgroupV1)) => format!("{} limits its workers", by.as_str()),
        Some(by @ LimitMethod::RlimitData) => format!(
            "{} limits the memory of its workers, and nobody their processor time; for cgroups run it under systemd \
             with Delegate=yes",
            by.as_str()
        ),
        None => "it does not say who limits its workers".to_owned(),
    };
    let draining = record.draining.then(|| {
        format!("it drains: `rbee drain {name} --undo` lets it take workers again, `rbee stop {name}` ends it")
    });
    let degraded = record.degraded.as_ref().map(|why| {
        format!(
            "it is degraded ({why}): workers go elsewhere where they can; `rbee events evt.worker.{name}.> --since 1h` \
             tells how its workers ended"
        )
    });
    let silent = matches!(presence.as_str(), "suspect" | "lost").then(|| {
        format!(
            "it is {presence}: nothing is heard of it; look whether it runs, and whether its machine reaches the bus"
        )
    });
    let skew = Duration::from_millis(record.clock_skew_ms.unsigned_abs());
    let skewed = (skew > clock_skew).then(|| {
        let ahead = record.clock_skew_ms;
        format!("its clock is {ahead} ms ahead of the server's: its log lines do not match the events; set its clock")
    });
    let problems: Vec<String> = [silent, draining, degraded, skewed].into_iter().flatten().collect();
    let what = format!("hive {name}");
    match problems.as_slice() {
        [] => good(what, limits),
        problems => bad(what, format!("{}; {limits}", problems.join("; "))),
    }
}

/// A worker with which something is wrong.
fn worker(Worker { hive, name, record, .. }: &Worker) -> Option<Finding> {
    if record.phase != WorkerPhase::CrashLoop {
        return None;
    }
    let failure = record.failure.as_ref().map_or_else(|| "nobody knows why".to_owned(), ToString::to_string);
    let found = format!(
        "crash-loop after {} exits: {failure}; mend that, then `rbee reset {name}` tries it again at once",
        record.exits
    );
    Some(bad(format!("worker {hive}/{name}"), found))
}

async fn models(bus: &Bus) -> Finding {
    match listing::all::<Models>(bus).await {
        Ok(reply) if reply.models.is_empty() => {
            bad("models", "none is declared; declare one with `rbee serve NAME FILE.gguf`")
        }
        Ok(reply) => {
            let names: Vec<&str> = reply.models.iter().map(|model| model.name.as_str()).collect();
            good("models", names.join(", "))
        }
        Err(failure) => bad("models", failure.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_hive(more: &str) -> Finding {
        let record = format!(r#"{{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2{more}}}"#);
        let record = serde_json::from_str(&record).expect("a record");
        let found = Hive {
            name: "one".parse().expect("a name"),
            record,
            workers: 0,
            presence: "online".to_owned(),
            free: None,
        };
        hive(&found, Duration::from_secs(2))
    }

    #[test]
    fn a_hive_that_takes_workers_is_well_and_says_who_limits_them() {
        for (more, words) in [
            (r#","limit_method":"cgroup-v2""#, "cgroup-v2 limits its workers"),
            (r#","limit_method":"rlimit-data""#, "Delegate=yes"),
            (r#","clock_skew_ms":2000"#, "does not say"),
            ("", "does not say"),
        ] {
            let finding = of_hive(more);
            assert!(finding.ok && finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn a_hive_that_drains_or_is_degraded_is_a_problem_with_a_way_out() {
        for (more, words) in [
            (r#","draining":true"#, "rbee drain one --undo"),
            (r#","degraded":"three workers loop""#, "(three workers loop): workers go elsewhere"),
            (r#","clock_skew_ms":-2001"#, "its clock is -2001 ms ahead"),
        ] {
            let finding = of_hive(more);
            assert!(!finding.ok && finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn a_worker_in_a_crash_loop_is_a_problem_and_others_are_none() {
        let of_worker = |phase: &str| {
            let failure = r#"{"code":"out-of-memory","message":"it needed 600 MiB"}"#;
            let record =
                format!(r#"{{"model":"m","phase":"{phase}","epoch":3,"slots":2,"exits":5,"failure":{failure}}}"#);
            worker(&Worker {
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
        assert_eq!(of_worker("backoff"), None);
        let finding = of_worker("crash-loop").expect("a problem");
        assert!(!finding.ok && finding.what == "worker one/w", "{finding:?}");
        for words in ["after 5 exits", "it needed 600 MiB (out-of-memory)", "`rbee reset w`"] {
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }
}
