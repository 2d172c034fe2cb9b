//! Several queens, hives that leave and return, and declarations that change: none of it interrupts an answer.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use futures::StreamExt as _;
use rbee_nats::{CommandIssuer, IssuedCommand, Registry};
use rbee_schema::{
    Chunk, FailureCode, HiveCommand, HiveEvent, LeaderRecord, ModelReference, ModelSpec, QueenEvent, Replicas,
    StopMode, WorkerPhase,
    api::{CommandReply, Explanation, Hives, ModelRequest, Worker, WorkerRequest},
};
use rbee_tests::{
    chaos::EventReader,
    fleet::{Fleet, chat, whole},
    port::PortBlock,
    wait::{PATIENCE, eventually, soon},
};

fn model(name: &str) -> ModelRequest {
    ModelRequest { model: name.parse().expect("a name") }
}

async fn leader(fleet: &Fleet) -> Option<LeaderRecord> {
    Registry::leader(&fleet.bus).get("leader").await.expect("the server answers")
}

/// All events of queens.
async fn queen_events(fleet: &Fleet) -> Vec<QueenEvent> {
    let since = std::time::SystemTime::UNIX_EPOCH;
    let events = rbee_nats::recent_events(&fleet.bus, "rbee.evt.queen.>", since).await.expect("the server answers");
    events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect()
}

#[tokio::test]
async fn another_queen_takes_over_and_running_answers_continue() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    assert_eq!(leader(&fleet).await.expect("a queen leads").queen.as_str(), "queen");
    fleet.serve_mock("m", "tokens=1000,interval=10ms", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.kill_role("queen");
    // A model that is declared meanwhile gets its worker from the other queen, as soon as that has the lease.
    fleet.serve_mock("n", "tokens=2", 1, 1).await;
    let (_, mut other) = fleet.submit("n", chat("Hi")).await;
    assert!(matches!(whole(&mut other).await.last(), Some(Chunk::Done { .. })));
    assert_eq!(leader(&fleet).await.expect("a queen leads").queen.as_str(), "second");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the answer was not interrupted");
    let placed = queen_events(&fleet).await.iter().filter(|event| event.name() == "placed").count();
    assert_eq!(placed, 2, "one worker for each model");
}

#[tokio::test]
async fn stopping_queen_hands_over_at_once() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    assert!(fleet.stop_role("queen").await, "the queen exits with code 0");
    // The second may not have learned yet which queen led before.
    let is_elected = |event: &&QueenEvent| matches!(event, QueenEvent::Elected { .. });
    eventually("the other queen leads", PATIENCE, async || {
        queen_events(&fleet).await.iter().filter(is_elected).count() == 2
    })
    .await;
}

#[tokio::test]
async fn lease_of_an_exited_queen_is_taken_over_before_it_expires() {
    // With another queen that runs already, and with one that starts afterwards.
    for is_there in [true, false] {
        let mut fleet = Fleet::start().await;
        if is_there {
            fleet.queen_named("second", "").await;
        }
        fleet.kill_role("queen");
        let bucket = fleet.bus.jetstream().get_key_value("rbee_queen").await.expect("the bucket exists");
        let last = bucket.entry("leader").await.expect("the server answers").expect("it has not expired yet").revision;
        if !is_there {
            fleet.queen_named("second", "").await;
        }
        let mut term = None;
        eventually("the second leads", PATIENCE, async || {
            let leader = leader(&fleet).await.filter(|leader| leader.queen.as_str() == "second");
            term = leader.and_then(|leader| leader.term);
            term.is_some()
        })
        .await;
        assert_eq!(term, Some(last + 1), "the marker of an expired lease would have a revision in between");
    }
}

#[tokio::test]
async fn hive_refuses_commands_of_an_ended_term() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let mut events = EventReader::start(&fleet.bus).await;
    let command =
        HiveCommand::Stop { worker: worker.name.clone(), why: "a replay".to_owned(), mode: StopMode::Terminate };
    // The first term began with revision 1 at the earliest.
    fleet
        .bus
        .issue(&worker.hive, &IssuedCommand { command, issuer: CommandIssuer::Leader(0), trace: None })
        .await
        .expect("stored");
    let refused = |event: &HiveEvent| match event {
        HiveEvent::Refused { failure } => Some(failure.code),
        _ => None,
    };
    assert_eq!(events.hive_event("refused", refused).await.0, FailureCode::StaleCommand);
    let still = fleet.ready(1).await.remove(0);
    assert_eq!((still.name, still.record.pid), (worker.name, worker.record.pid), "the worker was not stopped");
}

#[tokio::test]
async fn hive_rewrites_its_deleted_key_and_keeps_its_workers() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    // The next renewal would come only after minutes.
    let setup = fleet.hive_one("presence=10m,presence_lapse=11m");
    fleet.start_hive(&setup).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let hives = fleet.bus.jetstream().get_key_value("rbee_hives").await.expect("the bucket exists");
    let before = hives.entry("one").await.expect("the server answers").expect("it exists").revision;
    for deletes in [true, false] {
        let deleted = if deletes { hives.delete("one").await } else { hives.purge("one").await };
        deleted.expect("the server answers");
        fleet.joined("one", fleet.role_pid("one")).await;
    }
    assert!(hives.entry("one").await.expect("the server answers").is_some_and(|entry| entry.revision >= before + 4));
    // A queen that had forgotten the hive would have replaced its worker by now: it knows a later declaration.
    fleet.serve_mock("n", "", 1, 1).await;
    let ready = fleet.ready(2).await;
    let same = |found: &Worker| (&found.name, found.record.pid) == (&worker.name, worker.record.pid);
    assert!(ready.iter().any(same), "{ready:?}");
    let events = queen_events(&fleet).await;
    let names: Vec<&str> = events.iter().map(QueenEvent::name).collect();
    assert_eq!(names.iter().filter(|name| **name == "placed").count(), 2, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("hive-")), "{names:?}");
}

#[tokio::test]
async fn queen_that_cannot_campaign_exits_with_the_error() {
    let mut fleet = Fleet::bare().await;
    fleet.set_variable("RBEE_CONNECTION", "connect=100ms,request=1s,reader=1s");
    fleet.queen().await;
    // Another stream takes the subjects of the bucket while the queen cannot make the bucket again.
    fleet.signal_role("queen", "STOP");
    fleet.bus.jetstream().delete_stream("KV_rbee_queen").await.expect("deleted");
    let subjects = vec!["$KV.rbee_queen.>".to_owned()];
    let thief = Config { name: "thief".to_owned(), subjects, ..Config::default() };
    fleet.bus.jetstream().create_stream(thief).await.expect("made");
    fleet.signal_role("queen", "CONT");
    assert_eq!(fleet.exit_code("queen").await, Some(69), "the exit code for an unavailable service");
    let log = std::fs::read_to_string(fleet.log("queen")).expect("the queen writes a log");
    assert!(log.contains("failed to campaign for the lead: failed to watch rbee_queen"), "{log}");
}

#[tokio::test]
async fn unconfirmed_command_is_resent_before_it_is_given_up() {
    let fleet = Fleet::start().await;
    let stream = fleet.bus.jetstream().get_stream("rbee_commands").await.expect("the stream exists");
    let usual = stream.cached_info().config.clone();
    // A subscriber receives the commands, so that the server reports no missing responder, and no stream stores them.
    let mut commands = fleet.bus.subscribe("rbee.cmd.hive.*".to_owned()).await.expect("the server answers");
    let elsewhere = Config { subjects: vec!["elsewhere".to_owned()], ..usual.clone() };
    fleet.bus.jetstream().update_stream(elsewhere).await.expect("the server answers");
    fleet.serve_mock("m", "", 1, 1).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let order = soon("command", commands.next()).await.expect("the connection is open");
        ids.push(order.headers.and_then(|headers| headers.get("Nats-Msg-Id").cloned()).expect("it has an id"));
    }
    let begun = Instant::now();
    assert_eq!(ids[0], ids[1], "every attempt has the same id, so that the command is stored once");
    fleet.bus.jetstream().update_stream(usual).await.expect("the server answers");
    fleet.ready(1).await;
    assert!(begun.elapsed() < BEFORE_IT_IS_STALE, "{:?}", begun.elapsed());
    let events = queen_events(&fleet).await;
    assert_eq!(events.iter().filter(|event| event.name() == "placed").count(), 1, "{events:?}");
}

/// The queen gives an unanswered command up after 30 s. A worker that starts earlier was commanded by a retry.
const BEFORE_IT_IS_STALE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn duplicate_workers_are_drained_when_a_lost_hive_returns() {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", "suspect=1500ms,lost=3s").await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.serve_mock("m", "tokens=1000,interval=10ms", 1, 1).await;
    let first = fleet.ready(1).await.remove(0);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    let other = PortBlock::take();
    fleet.hive("two", &other.range()).await;
    fleet.signal_role("one", "STOP");
    let is_ready_on_two = |worker: &Worker| worker.hive.as_str() == "two" && worker.record.phase == WorkerPhase::Ready;
    eventually("its worker is replaced", PATIENCE, async || fleet.workers().await.iter().any(is_ready_on_two)).await;
    let hives: Hives = fleet.bus.request("hives", &()).await.expect("the queen answers");
    let presence = |hives: &Hives, name: &str| {
        hives.hives.iter().find(|hive| hive.name.as_str() == name).map(|hive| hive.presence.clone())
    };
    assert_eq!(presence(&hives, "one").as_deref(), Some("lost"));
    fleet.signal_role("one", "CONT");
    eventually("one worker is left, the one with the job", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.len() == 1 && workers[0].name == first.name && workers[0].record.pid == first.record.pid
    })
    .await;
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the answer was not interrupted");
    let names: Vec<&str> = queen_events(&fleet).await.iter().map(QueenEvent::name).collect();
    for name in ["hive-suspected", "hive-lost", "hive-returned"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn changed_declaration_replaces_its_worker_without_a_gap() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=300,interval=10ms", 1, 1).await;
    let old = fleet.ready(1).await.remove(0);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    eventually("only the new worker is left", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.len() == 1 && workers[0].name != old.name && workers[0].record.phase == WorkerPhase::Ready
    })
    .await;
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 300, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the old worker finished its job");
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { index: 3, .. })));
}

#[tokio::test]
async fn workers_are_added_when_jobs_wait_longer_than_a_start() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec::new(ModelReference::Mock("tokens=300,interval=10ms".into()));
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 1, max: 3 }, slots: 1, ..spec }).await;
    fleet.ready(1).await;
    let mut outputs = Vec::new();
    for _ in 0..6 {
        outputs.push(fleet.submit("m", chat("Hi")).await.1);
    }
    eventually("more workers run", PATIENCE, async || fleet.workers().await.len() >= 2).await;
    for output in &mut outputs {
        assert!(matches!(whole(output).await.last(), Some(Chunk::Done { index: 300, .. })));
    }
    let why: Vec<String> = queen_events(&fleet)
        .await
        .into_iter()
        .filter_map(|event| match event {
            QueenEvent::Placed { why, .. } => Some(why),
            _ => None,
        })
        .collect();
    assert!(why.iter().any(|why| why.contains("waiting for")), "{why:?}");
}

#[tokio::test]
async fn workers_are_spread_and_their_placement_is_explained() {
    let mut fleet = Fleet::start().await;
    let other = PortBlock::take();
    fleet.hive("two", &other.range()).await;
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    let labels = [("zone".to_owned(), "attic".to_owned())].into();
    fleet.serve("labelled", ModelSpec { labels, ..spec.clone() }).await;
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 2, max: 3 }, ..spec }).await;
    let mut hives: Vec<String> = fleet.ready(2).await.iter().map(|worker| worker.hive.to_string()).collect();
    hives.sort();
    assert_eq!(hives, ["one", "two"]);
    let explained: Explanation = fleet.bus.request("explain", &model("labelled")).await.expect("the queen answers");
    assert_eq!(explained.hive, None);
    assert!(explained.why.contains("lacks the label zone=attic"), "{}", explained.why);
    let shown = fleet.rbee(&["explain", "m"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("best of 2 hives"), "{text}");
}

#[tokio::test]
async fn workers_are_started_inspected_and_stopped_by_request() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let spawned: CommandReply = fleet.bus.request("spawn", &model("m")).await.expect("the queen answers");
    let worker = spawned.worker.expect("it has a name");
    fleet.ready(1).await;
    let asked = WorkerRequest { worker: worker.clone(), hive: None };
    let seen: Worker = fleet.bus.request("worker", &asked).await.expect("the queen answers");
    assert!(seen.since.is_some() && seen.known && seen.record.phase == WorkerPhase::Ready, "{seen:?}");
    let again = fleet
        .bus
        .request::<_, CommandReply>("spawn", &model("m"))
        .await
        .expect_err("the model has its maximum of workers");
    assert!(again.message.contains("runs its maximum of workers, 1"), "{again}");
    let unknown =
        fleet.bus.request::<_, CommandReply>("spawn", &model("n")).await.expect_err("the model does not exist");
    assert_eq!(unknown.code, FailureCode::UnknownModel);
    let _: CommandReply = fleet.bus.request("stop", &asked).await.expect("the queen answers");
    eventually("the worker is removed", PATIENCE, async || fleet.workers().await.is_empty()).await;
}

#[tokio::test]
async fn hive_is_suspect_at_once_when_its_connection_closes() {
    let mut fleet = Fleet::bare().await;
    // Missing heartbeats alone would take minutes.
    fleet.queen_named("queen", "suspect=5m,lost=10m").await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.kill_role("one");
    let is_suspect =
        |event: &QueenEvent| matches!(event, QueenEvent::HiveSuspected { why, .. } if why.contains("connection"));
    eventually("the queen suspects the hive", PATIENCE, async || queen_events(&fleet).await.iter().any(is_suspect))
        .await;
    fleet.hive("one", &ports).await;
    let is_back = |event: &QueenEvent| matches!(event, QueenEvent::HiveReturned { .. });
    eventually("the hive has returned", PATIENCE, async || queen_events(&fleet).await.iter().any(is_back)).await;
}

#[tokio::test]
async fn down_stops_the_fleet_and_leaves_nothing() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    let other = PortBlock::take();
    fleet.hive("two", &other.range()).await;
    let spec = ModelSpec::new(ModelReference::Mock("tokens=300,interval=10ms".into()));
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 2, max: 2 }, ..spec }).await;
    fleet.ready(2).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    let down = fleet.rbee(&["down"]).await;
    let report = String::from_utf8_lossy(&down.stdout).into_owned();
    assert!(down.status.success(), "{report}{}", String::from_utf8_lossy(&down.stderr));
    for words in [
        "queen queen has ended",
        "queen second has ended",
        "one has stopped",
        "two has stopped",
        "everything has ended",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
    assert!(
        matches!(whole(&mut output).await.last(), Some(Chunk::Done { index: 300, .. })),
        "the hive finished its job first"
    );
    for role in ["queen", "second", "one", "two"] {
        assert!(fleet.exit_code(role).await == Some(0), "{role} exits with code 0");
    }
    assert_eq!(fleet.processes(), [0; 0], "no process is left");
    let again = fleet.rbee(&["down"]).await;
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing is running"));
}

#[tokio::test]
async fn apply_declares_models_of_a_file_and_plan_shows_changes() {
    let fleet = Fleet::start().await;
    let file = fleet.folder().join("models.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("a file can be written");
    let path = file.display().to_string();
    let run = async |arguments: &[&str]| {
        let output = fleet.rbee(arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    write("[models.m]\nreference = \"mock:\"\nreplicas = { min = 1 }\n[models.n]\nreference = \"mock:\"\n");
    let (code, text) = run(&["plan", &path]).await;
    assert!(code == Some(0) && text.contains("+ m: mock:") && text.contains("+ n: mock:"), "{text}");
    assert!(fleet.workers().await.is_empty(), "a plan changes nothing");
    assert_eq!(run(&["apply", &path]).await.0, Some(0));
    fleet.ready(1).await;
    assert!(run(&["apply", &path]).await.1.contains("no changes"));
    write("[models.m]\nreference = \"mock:\"\nslots = 4\n");
    let (_, text) = run(&["plan", &path, "--prune"]).await;
    assert!(text.contains("~ m:") && text.contains("slots 2 -> 4") && text.contains("- n:"), "{text}");
    write("[models.m]\nreference = \"mock:\"\nslot = 4\n");
    let (code, text) = run(&["apply", &path]).await;
    assert!(code == Some(2) && text.contains("unknown key `slot`"), "{text}");
}

#[tokio::test]
async fn invalid_declaration_is_refused_until_it_is_corrected() {
    let fleet = Fleet::start().await;
    let bucket = fleet.bus.jetstream().get_key_value("rbee_models").await.expect("the bucket exists");
    for (wrong, words) in [
        (r#"{"reference":"mock:","slots":0}"#, "slots is 0"),
        (r#"{"slots":2}"#, "missing field `reference`"),
        ("no JSON", "expected"),
    ] {
        bucket.put("m", wrong.into()).await.expect("the server answers");
        eventually("it is refused", PATIENCE, async || {
            let asked = fleet.bus.request::<_, rbee_schema::api::Model>("model", &model("m")).await;
            asked.is_err_and(|failure| failure.message.contains(words))
        })
        .await;
        bucket.delete("m").await.expect("the server answers");
    }
    fleet.serve_mock("m", "tokens=2", 1, 1).await;
    fleet.ready(1).await;
}

#[tokio::test]
async fn forged_leader_key_does_not_stop_planning() {
    let garbage = "garbage".to_owned();
    let ghost = LeaderRecord {
        queen: "ghost".parse().expect("a name"),
        version: "1".to_owned(),
        protocol: rbee_schema::Protocol::OURS,
        term: None,
        suspect_ms: None,
    };
    let ghost = serde_json::to_string(&ghost).expect("JSON");
    for (forged, restarts) in [(&garbage, false), (&garbage, true), (&ghost, false)] {
        let mut fleet = Fleet::start().await;
        fleet.serve_mock("m", "tokens=2", 0, 1).await;
        if restarts {
            fleet.kill_role("queen");
        }
        let bucket = fleet.bus.jetstream().get_key_value("rbee_queen").await.expect("the bucket exists");
        bucket.put("leader", forged.clone().into()).await.expect("stored");
        if restarts {
            fleet.queen().await;
        }
        let (_, mut output) = fleet.submit("m", chat("Hi")).await;
        assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })), "{forged}");
    }
}
