//! `rbee doctor`: what could be wrong, and what to do about it.

use clap::Args;
use rbee_nats::{Bus, Plan};
use rbee_schema::api::{Models, Status};
use serde::Serialize;

use crate::{Setting, fleet::worker_program, outcome::Outcome, show};

/// Options of `rbee doctor`.
#[derive(Debug, Args)]
pub struct Doctor {}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
}

fn good(what: &'static str, found: impl ToString) -> Finding {
    Finding { what, ok: true, found: found.to_string() }
}

fn bad(what: &'static str, found: impl ToString) -> Finding {
    Finding { what, ok: false, found: found.to_string() }
}

impl Doctor {
    pub(crate) async fn run(self, setting: Setting) -> Result<(), Outcome> {
        let mut findings = vec![program(), server_program().await];
        match setting.bus("cli/doctor").await {
            Ok(bus) => findings.extend(look_at(&bus, &setting).await),
            Err(outcome) => findings.push(bad("bus", outcome.message())),
        }
        let problems = findings.iter().filter(|finding| !finding.ok).count();
        if setting.json {
            show::json(&serde_json::json!({ "findings": findings }));
        } else {
            let row = |finding: &Finding| {
                let mark = if finding.ok { "ok" } else { "PROBLEM" };
                [mark.to_owned(), finding.what.to_owned(), finding.found.clone()]
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

async fn look_at(bus: &Bus, setting: &Setting) -> Vec<Finding> {
    let mut findings = vec![good("bus", format!("{} runs nats-server {}", setting.nats, bus.server_version()))];
    findings.push(match Plan::make(bus).await {
        Ok(plan) if plan.changes.is_empty() => good("streams and buckets", "as this version needs them"),
        Ok(plan) => bad("streams and buckets", format!("`rbee topology apply` would change:\n{plan}")),
        Err(error) => bad("streams and buckets", error),
    });
    match bus.ask::<_, Status>("status", &()).await {
        Ok(status) => {
            findings.push(good("queen", format!("{} is version {}", status.queen, status.version)));
            findings.push(match status.hives {
                0 => bad("hives", "none is connected; start one with `rbee hive --nats URL`"),
                hives => good("hives", hives),
            });
            findings.push(models(bus).await);
        }
        Err(failure) => findings.push(bad("queen", failure.message)),
    }
    findings
}

async fn models(bus: &Bus) -> Finding {
    match bus.ask::<_, Models>("models", &()).await {
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
