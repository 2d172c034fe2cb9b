//! Commands to hives, by request. They are a person's: hives follow them whoever leads.

use std::time::Instant;

use futures::future::try_join_all;
use rbee_nats::trace::{STEPS, TraceContext};
use rbee_nats::{ApiRequest, Bus, CommandIssuer, IssuedCommand, Subject};
use rbee_schema::{
    Event, Failure, FailureCode, HiveCommand, HiveName, QueenEvent, WorkerName,
    api::{CommandReply, Drain, FileRequest, Spawn, Stop, WorkerRequest},
};
use tracing::{Instrument as _, Span, debug, info_span};

use super::{
    Context,
    look::{find, unknown},
    read,
};
use crate::decide::place::place;

const WHY: &str = "somebody asked for it by request";

/// What is commanded, and whom.
struct Plan {
    hives: Vec<HiveName>,
    command: HiveCommand,
    worker: Option<WorkerName>,
    why: String,
}

/// Commands hives as a request says, and replies when the commands are stored.
pub(super) fn carry_out(context: &Context<'_>, request: ApiRequest) {
    let plan = plan(context, &request);
    let bus = context.bus.clone();
    let (span, trace) = begin(&request);
    let carrying_out = async move {
        let done = match plan {
            Ok(plan) => command(&bus, plan, trace).await,
            Err(failure) => Err(failure),
        };
        match done {
            Ok(commanded) => request.reply(&commanded).await,
            Err(failure) => {
                debug!(target: STEPS, "refused: {failure}");
                request.refuse(&failure).await;
            }
        }
    };
    tokio::spawn(carrying_out.instrument(span));
}

/// The span of a request in the trace of who asks, and what its commands are to carry. Who asks in none begins one.
fn begin(request: &ApiRequest) -> (Span, TraceContext) {
    let asked = request.trace().unwrap_or_else(TraceContext::random);
    let span = info_span!(parent: None, "command", operation = request.operation(), trace = asked.id());
    let trace = rbee_nats::trace::continue_trace(&span, &asked);
    (span, trace)
}

async fn command(
    bus: &Bus,
    Plan { hives, command, worker, why }: Plan,
    trace: TraceContext,
) -> Result<CommandReply, Failure> {
    let order = IssuedCommand { command, issuer: CommandIssuer::Person, trace: Some(trace) };
    // All at once: whoever asks waits no longer for many hives than for one.
    let stored = try_join_all(hives.iter().map(|hive| bus.issue(hive, &order))).await;
    stored.map_err(|error| Failure::new(FailureCode::TimedOut, error.to_string()))?;
    let any = || "*".to_owned();
    let events = match (hives.as_slice(), &worker) {
        ([hive], Some(worker)) => bus.subject(&Subject::WorkerEvent(hive.clone(), worker.clone(), any())),
        ([hive], None) => bus.subject(&Subject::HiveEvent(hive.clone(), any())),
        _ => bus.namespace().all_hive_events(),
    };
    Ok(CommandReply { hives, worker, events, why })
}

fn plan(context: &Context<'_>, request: &ApiRequest) -> Result<Plan, Failure> {
    match request.operation() {
        "spawn" => spawn(context, read(request)?),
        "stop" => {
            let Stop { worker, hive, mode } = read(request)?;
            let (hive, worker) = find(context.fleet, &WorkerRequest { worker, hive })?;
            let command = HiveCommand::Stop { worker: worker.clone(), why: WHY.to_owned(), mode };
            Ok(Plan { hives: vec![hive], command, worker: Some(worker), why: String::new() })
        }
        "reset" => {
            let (hive, worker) = find(context.fleet, &read(request)?)?;
            let command = HiveCommand::Reset { worker: worker.clone() };
            Ok(Plan { hives: vec![hive], command, worker: Some(worker), why: String::new() })
        }
        "drain" => {
            let Drain { hive, undo } = read(request)?;
            let command = if undo { HiveCommand::Resume } else { HiveCommand::Drain { why: WHY.to_owned() } };
            to_hives(context, Some(hive), command)
        }
        "pull" => {
            let FileRequest { reference, hive } = read(request)?;
            to_hives(context, hive, HiveCommand::Fetch { reference })
        }
        _ => {
            let FileRequest { reference, hive } = read(request)?;
            to_hives(context, hive, HiveCommand::RemoveFile { reference })
        }
    }
}

/// A command to one hive, or to all that are there.
fn to_hives(context: &Context<'_>, hive: Option<HiveName>, command: HiveCommand) -> Result<Plan, Failure> {
    let there: Vec<HiveName> =
        context.fleet.hives.keys().filter(|hive| context.fleet.is_there(hive)).cloned().collect();
    let refuse = |message: String| Err(Failure::new(FailureCode::NoCapacity, message));
    let hives = match hive {
        Some(hive) if there.contains(&hive) => vec![hive],
        Some(hive) => {
            let names: Vec<&str> = there.iter().map(HiveName::as_str).collect();
            return refuse(format!("hive {hive} is not there; these are: {}", names.join(", ")));
        }
        None if there.is_empty() => {
            return refuse("no hive is connected: start one with `rbee hive --nats URL`".to_owned());
        }
        None => there,
    };
    Ok(Plan { hives, command, worker: None, why: String::new() })
}

fn spawn(context: &Context<'_>, Spawn { model, hive }: Spawn) -> Result<Plan, Failure> {
    let fleet = context.fleet;
    let spec = fleet.models.get(&model).ok_or_else(|| unknown(fleet, &model))?.clone();
    if fleet.capacity(&model) >= spec.replicas.max {
        let message = format!(
            "{model} has {} workers of at most {}: declare it with more (`rbee serve --replicas`)",
            fleet.capacity(&model),
            spec.replicas.max
        );
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    let (hive, why) = match hive {
        Some(hive) if fleet.is_there(&hive) => (hive, WHY.to_owned()),
        Some(hive) => {
            return Err(Failure::new(FailureCode::NoCapacity, format!("hive {hive} is not there; see `rbee hives`")));
        }
        None => place(fleet, &model, &spec, Instant::now()).map_err(|nowhere| nowhere.failure)?,
    };
    let worker = WorkerName::generate(&model);
    let (told_model, told_hive, told_worker) = (model.clone(), hive.clone(), worker.clone());
    let placed = QueenEvent::Placed {
        model: told_model,
        hive: told_hive,
        worker: told_worker,
        why: format!("{WHY}; {why}"),
        expected_ms: None,
    };
    context.outbox.publish(&Event::Queen(context.queen.clone(), placed));
    let command = HiveCommand::Spawn { worker: worker.clone(), model, spec };
    Ok(Plan { hives: vec![hive], command, worker: Some(worker), why })
}
