//! Several queens, hives that go and come back, and declarations that change: no stream is touched by any of it.

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

/// What queens have told.
async fn told(fleet: &Fleet) -> Vec<QueenEvent> {
    let since = std::time::SystemTime::UNIX_EPOCH;
    let events = rbee_nats::recent_events(&fleet.bus, "rbee.evt.queen.>", since).await.expect("the server answers");
    events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect()
}

#[tokio::test]
async fn when_the_leading_queen_is_killed_another_one_goes_on_and_no_stream_is_touched() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    assert_eq!(leader(&fleet).await.expect("somebody leads").queen.as_str(), "queen");
    fleet.serve_mock("m", "tokens=1000,interval=10ms", 1, 1).await;
    fleet.ready(1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.kill_role("queen");
    // Planning waits for the lease at most: a model that is declared meanwhile gets its worker from the other queen.
    fleet.serve_mock("n", "tokens=2", 1, 1).await;
    let (_, mut other) = fleet.submit("n", chat("Hi")).await;
    assert!(matches!(whole(&mut other).await.last(), Some(Chunk::Done { .. })));
    assert_eq!(leader(&fleet).await.expect("somebody leads").queen.as_str(), "second");
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 1000, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the stream was not touched");
    let placed = told(&fleet).await.iter().filter(|event| event.name() == "placed").count();
    assert_eq!(placed, 2, "one worker for each model");
}

#[tokio::test]
async fn a_queen_that_stops_hands_over_at_once() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    assert!(fleet.stop_role("queen").await, "she ends well");
    let elected = |event: &QueenEvent| matches!(event, QueenEvent::Elected { after: Some(after), .. } if after.as_str() == "queen");
    eventually("the other one leads", PATIENCE, async || told(&fleet).await.iter().any(elected)).await;
}

#[tokio::test]
async fn the_lease_of_a_queen_who_is_gone_is_taken_over_before_it_lapses() {
    // With another queen there, and with one who begins afterwards.
    for is_there in [true, false] {
        let mut fleet = Fleet::start().await;
        if is_there {
            fleet.queen_named("second", "").await;
        }
        fleet.kill_role("queen");
        let bucket = fleet.bus.jetstream().get_key_value("rbee_queen").await.expect("the bucket is there");
        let last = bucket.entry("leader").await.expect("the server answers").expect("it has not lapsed yet").revision;
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
        assert_eq!(term, Some(last + 1), "the mark of a lease that lapsed would stand between");
    }
}

#[tokio::test]
async fn a_hive_refuses_the_commands_of_a_queen_whose_term_is_over() {
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
    assert_eq!((still.name, still.record.pid), (worker.name, worker.record.pid), "nobody was stopped");
}

#[tokio::test]
async fn a_hive_whose_key_is_deleted_writes_it_again_and_its_workers_are_known_all_the_while() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    // By renewal alone it would take minutes.
    let setup = fleet.hive_one("presence=10m,presence_lapse=11m");
    fleet.start_hive(&setup).await;
    fleet.serve_mock("m", "", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let hives = fleet.bus.jetstream().get_key_value("rbee_hives").await.expect("the bucket is there");
    let before = hives.entry("one").await.expect("the server answers").expect("it is there").revision;
    for deletes in [true, false] {
        let deleted = if deletes { hives.delete("one").await } else { hives.purge("one").await };
        deleted.expect("the server answers");
        fleet.joined("one", fleet.role_pid("one")).await;
    }
    assert!(hives.entry("one").await.expect("the server answers").is_some_and(|entry| entry.revision >= before + 4));
    // Where she had forgotten it, its worker would have been replaced by now: she knows what was declared after it.
    fleet.serve_mock("n", "", 1, 1).await;
    let ready = fleet.ready(2).await;
    let same = |found: &Worker| (&found.name, found.record.pid) == (&worker.name, worker.record.pid);
    assert!(ready.iter().any(same), "{ready:?}");
    let told = told(&fleet).await;
    let names: Vec<&str> = told.iter().map(QueenEvent::name).collect();
    assert_eq!(names.iter().filter(|name| **name == "placed").count(), 2, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("hive-")), "{names:?}");
}

#[tokio::test]
async fn a_queen_whose_campaign_ends_ends_with_its_error() {
    let mut fleet = Fleet::bare().await;
    fleet.set_variable("RBEE_CONNECTION", "connect=100ms,request=1s,reader=1s");
    fleet.queen().await;
    fleet.bus.jetstream().delete_stream("KV_rbee_queen").await.expect("the server answers");
    assert_eq!(fleet.exit_code("queen").await, Some(69), "the exit code of what is unavailable");
    let said = std::fs::read_to_string(fleet.log("queen")).expect("she has written");
    assert!(said.contains("failed to campaign for the lead: failed to watch rbee_queen"), "{said}");
}

#[tokio::test]
async fn an_order_that_nobody_says_is_stored_is_given_again_before_its_hive_is_thought_deaf() {
    let fleet = Fleet::start().await;
    let stream = fleet.bus.jetstream().get_stream("rbee_commands").await.expect("the stream is there");
    let usual = stream.cached_info().config.clone();
    // Somebody hears them, so that the server does not say that nobody does, and nothing is stored.
    let mut given = fleet.bus.subscribe("rbee.cmd.hive.*".to_owned()).await.expect("the server answers");
    let elsewhere = Config { subjects: vec!["elsewhere".to_owned()], ..usual.clone() };
    fleet.bus.jetstream().update_stream(elsewhere).await.expect("the server answers");
    fleet.serve_mock("m", "", 1, 1).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let order = soon("order", given.next()).await.expect("the connection stands");
        ids.push(order.headers.and_then(|headers| headers.get("Nats-Msg-Id").cloned()).expect("it has an id"));
    }
    let begun = Instant::now();
    assert_eq!(ids[0], ids[1], "however often it is given, it is stored once");
    fleet.bus.jetstream().update_stream(usual).await.expect("the server answers");
    fleet.ready(1).await;
    assert!(begun.elapsed() < BEFORE_IT_IS_STALE, "{:?}", begun.elapsed());
    let told = told(&fleet).await;
    assert_eq!(told.iter().filter(|event| event.name() == "placed").count(), 1, "{told:?}");
}

/// An order of which nothing is heard is given up after half a minute: what comes earlier came because it was given again.
const BEFORE_IT_IS_STALE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_lost_hive_is_replaced_and_its_duplicates_are_drained_when_it_returns() {
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
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the stream was not touched");
    let names: Vec<&str> = told(&fleet).await.iter().map(QueenEvent::name).collect();
    for name in ["hive-suspected", "hive-lost", "hive-returned"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[tokio::test]
async fn a_declaration_that_changes_replaces_its_worker_without_a_gap() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=300,interval=10ms", 1, 1).await;
    let old = fleet.ready(1).await.remove(0);
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    output.next(PATIENCE).await.expect("the answer begins");
    fleet.serve_mock("m", "tokens=3", 1, 1).await;
    eventually("the new worker alone is left", PATIENCE, async || {
        let workers = fleet.workers().await;
        workers.len() == 1 && workers[0].name != old.name && workers[0].record.phase == WorkerPhase::Ready
    })
    .await;
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { index: 300, .. })), "{:?}", chunks.last());
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })), "the old one finished its job");
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { index: 3, .. })));
}

#[tokio::test]
async fn more_workers_come_when_jobs_wait_for_longer_than_one_takes_to_start() {
    let fleet = Fleet::start().await;
    let spec = ModelSpec::new(ModelReference::Mock("tokens=300,interval=10ms".into()));
    fleet.serve("m", ModelSpec { replicas: Replicas { min: 1, max: 3 }, slots: 1, ..spec }).await;
    fleet.ready(1).await;
    let mut outputs = Vec::new();
    for _ in 0..6 {
        outputs.push(fleet.submit("m", chat("Hi")).await.1);
    }
    eventually("more of them serve", PATIENCE, async || fleet.workers().await.len() >= 2).await;
    for output in &mut outputs {
        assert!(matches!(whole(output).await.last(), Some(Chunk::Done { index: 300, .. })));
    }
    let why: Vec<String> = told(&fleet)
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
async fn workers_are_spread_and_where_they_go_is_explained() {
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
async fn workers_are_started_looked_at_and_stopped_by_request() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "", 0, 1).await;
    let spawned: CommandReply = fleet.bus.request("spawn", &model("m")).await.expect("the queen answers");
    let worker = spawned.worker.expect("it has a name");
    fleet.ready(1).await;
    let asked = WorkerRequest { worker: worker.clone(), hive: None };
    let seen: Worker = fleet.bus.request("worker", &asked).await.expect("the queen answers");
    assert!(seen.since.is_some() && seen.known && seen.record.phase == WorkerPhase::Ready, "{seen:?}");
    let again = fleet.bus.request::<_, CommandReply>("spawn", &model("m")).await.expect_err("it has as many as it may");
    assert!(again.message.contains("1 workers of at most 1"), "{again}");
    let unknown = fleet.bus.request::<_, CommandReply>("spawn", &model("n")).await.expect_err("there is none");
    assert_eq!(unknown.code, FailureCode::UnknownModel);
    let _: CommandReply = fleet.bus.request("stop", &asked).await.expect("the queen answers");
    eventually("it is gone", PATIENCE, async || fleet.workers().await.is_empty()).await;
}

#[tokio::test]
async fn a_hive_whose_connection_ends_is_suspect_at_once() {
    let mut fleet = Fleet::bare().await;
    // By silence alone it would take minutes.
    fleet.queen_named("queen", "suspect=5m,lost=10m").await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.kill_role("one");
    let is_suspect =
        |event: &QueenEvent| matches!(event, QueenEvent::HiveSuspected { why, .. } if why.contains("connection"));
    eventually("the queen tells", PATIENCE, async || told(&fleet).await.iter().any(is_suspect)).await;
    fleet.hive("one", &ports).await;
    let is_back = |event: &QueenEvent| matches!(event, QueenEvent::HiveReturned { .. });
    eventually("it is back", PATIENCE, async || told(&fleet).await.iter().any(is_back)).await;
}

#[tokio::test]
async fn everything_ends_in_order_and_nothing_is_left() {
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
    let said = String::from_utf8_lossy(&down.stdout).into_owned();
    assert!(down.status.success(), "{said}{}", String::from_utf8_lossy(&down.stderr));
    for words in [
        "queen queen has ended",
        "queen second has ended",
        "one has stopped",
        "two has stopped",
        "everything has ended",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        matches!(whole(&mut output).await.last(), Some(Chunk::Done { index: 300, .. })),
        "its job was finished first"
    );
    for role in ["queen", "second", "one", "two"] {
        assert!(fleet.exit_code(role).await == Some(0), "{role} ends well");
    }
    assert_eq!(fleet.processes(), [0; 0], "no process is left");
    let again = fleet.rbee(&["down"]).await;
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing is running"));
}

#[tokio::test]
async fn models_of_a_file_are_declared_and_what_would_change_is_told_first() {
    let fleet = Fleet::start().await;
    let file = fleet.folder().join("models.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("a file can be written");
    let path = file.display().to_string();
    let run = async |arguments: &[&str]| {
        let output = fleet.rbee(arguments).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    write("[models.m]\nreference = \"mock:\"\nreplicas = { min = 1 }\n[models.n]\nreference = \"mock:\"\n");
    let (code, said) = run(&["plan", &path]).await;
    assert!(code == Some(0) && said.contains("+ m: mock:") && said.contains("+ n: mock:"), "{said}");
    assert!(fleet.workers().await.is_empty(), "a plan changes nothing");
    assert_eq!(run(&["apply", &path]).await.0, Some(0));
    fleet.ready(1).await;
    assert!(run(&["apply", &path]).await.1.contains("nothing changes"));
    write("[models.m]\nreference = \"mock:\"\nslots = 4\n");
    let (_, said) = run(&["plan", &path, "--prune"]).await;
    assert!(said.contains("~ m:") && said.contains("slots 2 -> 4") && said.contains("- n:"), "{said}");
    write("[models.m]\nreference = \"mock:\"\nslot = 4\n");
    let (code, said) = run(&["apply", &path]).await;
    assert!(code == Some(2) && said.contains("`slot` is not known"), "{said}");
}

#[tokio::test]
async fn a_declaration_that_is_none_is_refused_with_the_reason_and_may_be_mended() {
    let fleet = Fleet::start().await;
    let bucket = fleet.bus.jetstream().get_key_value("rbee_models").await.expect("the bucket is there");
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
