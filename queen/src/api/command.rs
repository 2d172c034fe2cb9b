//! Commands to hives, by request. They come from a person, so hives follow them whichever queen leads.

use std::time::Instant;

use futures::future::try_join_all;
use rbee_nats::trace::{STEPS, TraceContext};
use rbee_nats::{ApiRequest, Bus, CommandIssuer, IssuedCommand, Subject};
use rbee_schema::{
    Event, Failure, FailureCode, HiveCommand, HiveName, QueenEvent, StopMode, WorkerName,
    api::{CommandReply, Drain, FileRequest, Spawn, Stop, WorkerRequest},
};
use tracing::{Instrument as _, Span, debug, info_span};

use super::{
    context::Context,
    document::{find_worker, not_declared},
    exchange::read,
};
use crate::decide::{overlay::Overlay, place::place};

/// Reason given for a command by request.
const WHY: &str = "requested over the API";

/// A command with the hives that get it.
struct Dispatch {
    hives: Vec<HiveName>,
    command: HiveCommand,
    worker: Option<WorkerName>,
    why: String,
}

/// Sends the commands of a request, and replies when the server has stored them.
pub(super) fn carry_out(context: &Context<'_>, request: ApiRequest) {
    let dispatch = dispatch(context, &request);
    let bus = context.bus.clone();
    let (span, trace) = begin(&request);
    let carrying_out = async move {
        let done = match dispatch {
            Ok(dispatch) => send(&bus, dispatch, trace).await,
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

/// Span of a request, in the client's trace, and the trace context of its commands. Without a client's trace one begins.
fn begin(request: &ApiRequest) -> (Span, TraceContext) {
    let trace = request.trace().unwrap_or_else(TraceContext::random);
    let span = info_span!(parent: None, "command", operation = request.operation(), trace = trace.id());
    let trace = rbee_nats::trace::continue_trace(&span, &trace);
    (span, trace)
}

async fn send(
    bus: &Bus,
    Dispatch { hives, command, worker, why }: Dispatch,
    trace: TraceContext,
) -> Result<CommandReply, Failure> {
    let order = IssuedCommand { command, issuer: CommandIssuer::Person, trace: Some(trace) };
    // All at once, so that the client waits no longer for many hives than for one.
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

fn dispatch(context: &Context<'_>, request: &ApiRequest) -> Result<Dispatch, Failure> {
    match request.operation() {
        "spawn" => spawn(context, read(request)?),
        "stop" => {
            let Stop { worker, hive, mode } = read(request)?;
            let (hive, worker) = find_worker(context.fleet, &WorkerRequest { worker, hive })?;
            let command = HiveCommand::Stop { worker: worker.clone(), why: WHY.to_owned(), mode };
            Ok(Dispatch { hives: vec![hive], command, worker: Some(worker), why: String::new() })
        }
        "reset" => {
            let (hive, worker) = find_worker(context.fleet, &read(request)?)?;
            let command = HiveCommand::Reset { worker: worker.clone() };
            Ok(Dispatch { hives: vec![hive], command, worker: Some(worker), why: String::new() })
        }
        "drain" => {
            let Drain { hive, undo, hand_over } = read(request)?;
            let mode = StopMode::of_drain(hand_over);
            let command = if undo { HiveCommand::Resume } else { HiveCommand::Drain { why: WHY.to_owned(), mode } };
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

/// A command to one hive, or to all present ones.
fn to_hives(context: &Context<'_>, hive: Option<HiveName>, command: HiveCommand) -> Result<Dispatch, Failure> {
    let present = context.fleet.hives().keys().filter(|hive| context.fleet.is_present(hive));
    let present: Vec<HiveName> = present.cloned().collect();
    let refuse = |message: String| Err(Failure::new(FailureCode::NoCapacity, message));
    let hives = match hive {
        Some(hive) if present.contains(&hive) => vec![hive],
        Some(hive) => {
            let names: Vec<&str> = present.iter().map(HiveName::as_str).collect();
            return refuse(format!("hive {hive} is not connected; connected hives: {}", names.join(", ")));
        }
        None if present.is_empty() => {
            return refuse("no hive is connected: start one with `rbee hive --nats URL`".to_owned());
        }
        None => present,
    };
    Ok(Dispatch { hives, command, worker: None, why: String::new() })
}

fn spawn(context: &Context<'_>, Spawn { model, hive }: Spawn) -> Result<Dispatch, Failure> {
    let fleet = context.fleet;
    let spec = fleet.models().get(&model).ok_or_else(|| not_declared(fleet, &model))?.clone();
    if fleet.capacity(&model) >= spec.replicas.max {
        let message = format!(
            "{model} runs its maximum of workers, {}: raise it with `rbee serve --replicas`",
            spec.replicas.max
        );
        return Err(Failure::new(FailureCode::InvalidRequest, message));
    }
    let (hive, why) = match hive {
        Some(hive) if fleet.is_present(&hive) => (hive, WHY.to_owned()),
        Some(hive) => {
            let message = format!("hive {hive} is not connected: `rbee hives` lists the hives");
            return Err(Failure::new(FailureCode::NoCapacity, message));
        }
        None => {
            let overlay = Overlay::new(fleet);
            let placement = place(&overlay, &model, &spec, Instant::now());
            placement.map(|placement| (placement.hive.clone(), placement.why)).map_err(|none| none.failure)?
        }
    };
    let worker = WorkerName::generate(&model);
    let placed = QueenEvent::Placed {
        model: model.clone(),
        hive: hive.clone(),
        worker: worker.clone(),
        why: format!("{WHY}; {why}"),
        expected_ms: None,
    };
    context.outbox.publish(&Event::Queen(context.queen.clone(), placed));
    let command = HiveCommand::Spawn { worker: worker.clone(), model, spec };
    Ok(Dispatch { hives: vec![hive], command, worker: Some(worker), why })
}
