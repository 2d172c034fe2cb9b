//! `rbee doctor`: checks this machine and the fleet, and names a remedy for each problem.

mod checks;
mod finding;

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use rbee_nats::{Bus, Plan, without_secrets};
use rbee_schema::{
    JobClass, JobFlow, ModelName, Tenant, WorkerPhase,
    api::{Hives, Models, Status, Tenants, Worker, Workers},
};

use self::{
    checks::{check_hive, check_model, check_tenant, check_worker},
    finding::Finding,
};
use crate::{Context, error::CliError, output, paging, worker_program::worker_program};

/// Options of `rbee doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Clock skew between a hive and the server that is no problem. Beyond it, log lines do not match events.
    #[arg(long, default_value = "2s", value_parser = rbee_schema::parse_duration, value_name = "TIME")]
    clock_skew: Duration,
}

impl Doctor {
    pub(crate) async fn run(self, context: Context) -> Result<(), CliError> {
        let mut findings = vec![find_worker_program()];
        match context.bus("cli/doctor").await {
            Ok(bus) => findings.extend(inspect(&bus, &context, self.clock_skew).await),
            Err(error) => {
                findings.push(find_server_program().await);
                findings.push(Finding::problem("bus", error.message()));
            }
        }
        let problems = findings.iter().filter(|finding| !finding.ok).count();
        if context.json {
            output::json(&serde_json::json!({ "findings": findings }));
        } else {
            let row = |finding: &Finding| {
                let mark = if finding.ok { "ok" } else { "PROBLEM" };
                [mark.to_owned(), finding.what.clone(), finding.found.clone()]
            };
            output::table(["", "WHAT", "FOUND"], findings.iter().map(row).collect(), "");
        }
        match problems {
            0 => Ok(()),
            1 => Err(CliError::failed("found 1 problem")),
            more => Err(CliError::failed(format!("found {more} problems"))),
        }
    }
}

fn find_worker_program() -> Finding {
    match worker_program(None) {
        Ok(program) => Finding::ok("worker program", program.display()),
        Err(error) => Finding::problem("worker program", error.message()),
    }
}

/// The server that `rbee up` would start. It matters only where no server answers.
async fn find_server_program() -> Finding {
    match rbee_nats::find_server().await {
        Ok((program, version)) => Finding::ok("nats-server", format!("{} is version {version}", program.display())),
        Err(error) => Finding::problem("nats-server", error),
    }
}

async fn inspect(bus: &Bus, context: &Context, clock_skew: Duration) -> Vec<Finding> {
    let server = format!("{} runs nats-server {}", without_secrets(&context.nats), bus.server_version());
    let mut findings = vec![Finding::ok("bus", server)];
    findings.push(match Plan::compute(bus).await {
        Ok(plan) if plan.changes.is_empty() => Finding::ok("streams and buckets", "as this version needs them"),
        Ok(plan) => Finding::problem("streams and buckets", format!("`rbee topology apply` would change:\n{plan}")),
        Err(error) => Finding::problem("streams and buckets", error),
    });
    match bus.request::<_, Status>("status", &()).await {
        Ok(status) => {
            findings.push(Finding::ok("queen", format!("{} is version {}", status.queen, status.version)));
            findings.extend(status.storage_problem.map(storage_problem));
            findings.push(match status.hives {
                0 => Finding::problem("hives", "none is connected; start one with `rbee hive --nats URL`"),
                hives => Finding::ok("hives", hives),
            });
            findings.extend(inspect_hives(bus, clock_skew).await);
            findings.extend(inspect_workers(bus).await);
            findings.extend(inspect_models(bus).await);
            findings.extend(inspect_tenants(bus).await);
        }
        Err(failure) => findings.push(Finding::problem("queen", failure.message)),
    }
    findings
}

fn storage_problem(problem: String) -> Finding {
    let remedy = "free disk space on the machine of the server; then restart the server, unless `rbee up` started it";
    Finding::problem("storage", format!("{problem}; {remedy}"))
}

async fn inspect_hives(bus: &Bus, clock_skew: Duration) -> Vec<Finding> {
    match paging::fetch_all::<Hives>(bus).await {
        Ok(reply) => reply.hives.iter().map(|hive| check_hive(hive, clock_skew)).collect(),
        Err(failure) => vec![Finding::problem("hives", failure.message)],
    }
}

async fn inspect_workers(bus: &Bus) -> Vec<Finding> {
    match paging::fetch_all::<Workers>(bus).await {
        Ok(reply) => {
            let mut findings: Vec<Finding> = reply.workers.iter().filter_map(check_worker).collect();
            findings.extend(find_missing_consumers(bus, &reply.workers).await);
            findings
        }
        Err(failure) => vec![Finding::problem("workers", failure.message)],
    }
}

/// Models with a ready worker and without the consumer from which it would pull. The worker makes it within seconds.
async fn find_missing_consumers(bus: &Bus, workers: &[Worker]) -> Vec<Finding> {
    let ready = workers.iter().filter(|worker| worker.record.phase == WorkerPhase::Ready);
    let models: BTreeSet<&ModelName> = ready.map(|worker| &worker.record.model).collect();
    let flow = JobFlow { class: JobClass::Interactive, tenant: Tenant::default() };
    let mut findings = Vec::new();
    for model in models {
        let found = match bus.has_consumer(model, &flow).await {
            Ok(true) => continue,
            Ok(false) => {
                "its consumer is missing although a worker is ready: its jobs wait. Workers make it again within \
                          seconds; if it stays away, `rbee topology apply` restores the streams"
                    .to_owned()
            }
            Err(error) => error.to_string(),
        };
        findings.push(Finding::problem(format!("model {model}"), found));
    }
    findings
}

async fn inspect_models(bus: &Bus) -> Vec<Finding> {
    match paging::fetch_all::<Models>(bus).await {
        // A fresh fleet is well.
        Ok(reply) if reply.models.is_empty() => {
            vec![Finding::ok("models", "none is declared yet; declare one with `rbee serve NAME FILE.gguf`")]
        }
        Ok(reply) => {
            let names: Vec<&str> = reply.models.iter().map(|model| model.name.as_str()).collect();
            let failures = reply.models.iter().filter_map(check_model);
            std::iter::once(Finding::ok("models", names.join(", "))).chain(failures).collect()
        }
        Err(failure) => vec![Finding::problem("models", failure.message)],
    }
}

/// Invalid records of tenants. Valid ones are no finding: `rbee tenant ls` lists them.
async fn inspect_tenants(bus: &Bus) -> Vec<Finding> {
    match paging::fetch_all::<Tenants>(bus).await {
        Ok(reply) => reply.refused.iter().map(check_tenant).collect(),
        Err(failure) => vec![Finding::problem("tenants", failure.message)],
    }
}
