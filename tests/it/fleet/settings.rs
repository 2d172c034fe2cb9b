//! What an operator may set has the effect that it says, in the processes that it is handed on to.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt as _;
use rbee_nats::{Bus, Registry, Submission, recent_events};
use rbee_schema::{Chunk, JobClass, JobId, ModelReference, ModelSpec, QueenEvent, Tenant};
use rbee_tests::{
    fleet::{Fleet, HiveSetup, chat, whole},
    wait::{PATIENCE, eventually, hold_fault, soon},
};
use serde_json::json;

/// What is set to a fraction of a second takes no longer than this, and by default longer.
const SOON: Duration = Duration::from_millis(4500);

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A queen with these arguments, who leads.
async fn queen(fleet: &mut Fleet, name: &str, arguments: &[&str]) {
    let mut command = fleet.command();
    command.args(["queen", "--http", "127.0.0.1:0", "--queen-name", name]).args(arguments);
    fleet.launch(name, command);
    let log = fleet.log(name);
    let is_up = || fs::read_to_string(&log).is_ok_and(|said| said.contains("the queen listens"));
    eventually(&format!("queen {name} listens"), PATIENCE, async || is_up()).await;
}

fn hive(fleet: &Fleet, timers: &str, arguments: &[&str]) -> HiveSetup {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    HiveSetup { arguments, ..fleet.hive_one(timers) }
}

/// The time to live that a key of a bucket was written with, in seconds.
async fn time_to_live(bus: &Bus, bucket: &str, key: &str) -> Option<String> {
    let stream = bus.jetstream().get_stream(format!("KV_rbee_{bucket}")).await.expect("the bucket is there");
    let last = stream.get_last_raw_message_by_subject(&format!("$KV.rbee_{bucket}.{key}")).await.ok()?;
    last.headers.get("Nats-TTL").map(|value| value.as_str().to_owned())
}

/// The revision of a key.
async fn revision(bus: &Bus, bucket: &str, key: &str) -> u64 {
    let store = bus.jetstream().get_key_value(format!("rbee_{bucket}")).await.expect("the bucket is there");
    store.entry(key).await.expect("the server answers").map_or(0, |entry| entry.revision)
}

#[tokio::test]
async fn a_hive_and_its_workers_beat_renew_and_let_lapse_as_they_are_told() {
    let mut fleet = Fleet::bare().await;
    let timers = "beat=50ms,presence=100ms,presence_lapse=4s,lease_renewal=100ms,port_lease=17s";
    let worker = "beat=50ms,grace=1s,batch_wait=100ms,answer_tokens=7";
    let setup = hive(&fleet, timers, &["--worker-settings", worker, "--connection", "output_recheck=2s"]);
    fleet.start_hive(&setup).await;
    let record = fleet.mocks_ready(&["w"], "m", "tokens=100").await.remove(0);
    for filter in
        [fleet.bus.namespace().worker_heartbeats_of(&"one".parse().expect("a name")), "rbee.beat.one".to_owned()]
    {
        let mut beats = fleet.bus.subscribe(filter).await.expect("the server answers");
        let begun = Instant::now();
        for _ in 0..12 {
            soon("heartbeat", beats.next()).await.expect("the connection stands");
        }
        assert!(begun.elapsed() < Duration::from_secs(8), "twelve by default take eleven: {:?}", begun.elapsed());
    }
    assert_eq!(time_to_live(&fleet.bus, "hives", "one").await.as_deref(), Some("4"));
    let port = record.port.expect("it has a port");
    let lease = Registry::ports(&fleet.bus).all().await.expect("the server answers").remove(0).0;
    assert_eq!(time_to_live(&fleet.bus, "ports", &lease).await.as_deref(), Some("17"));
    let before = revision(&fleet.bus, "ports", &lease).await;
    eventually("the lease was renewed thrice", Duration::from_secs(30), async || {
        revision(&fleet.bus, "ports", &lease).await >= before + 3
    })
    .await;

    let pid = record.pid.expect("it runs");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("the worker runs");
    let told: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    for variable in [format!("RBEE_WORKER_SETTINGS={worker}"), "RBEE_CONNECTION=output_recheck=2s".to_owned()] {
        assert!(told.contains(&variable.as_bytes()), "{variable}");
    }
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let answer = whole(&mut output).await;
    assert!(matches!(answer.last(), Some(Chunk::Done { index: 7, .. })), "{:?} on port {port}", answer.last());

    fleet.kill_role("one");
    eventually("the worker has ended by itself", SOON + PATIENCE, async || !fleet.processes().contains(&pid)).await;
}

#[tokio::test]
async fn timers_that_do_not_fit_the_workers_or_the_queen_are_refused_when_a_hive_starts() {
    let mut fleet = Fleet::bare().await;
    for (arguments, words) in [
        (&["--worker-settings", "beat=3s"][..], "longer than the heartbeat interval of its workers, which is 3s"),
        (&["--timers", "presence=30s"], "`presence_lapse=30s`: expected longer than presence"),
        (&["--bounds", "loop_exit=3"], "did you mean `loop_exits`?"),
        (&["--connection", "outbox=none"], "`outbox=none`: expected a whole number"),
    ] {
        let refused = fleet.rbee(&[&["hive", "--name", "two"], arguments].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(words), "{arguments:?}: {}", stderr(&refused));
    }
    queen(&mut fleet, "queen", &["--queen-timers", "suspect=2s"]).await;
    eventually("she leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    let slow = hive(&fleet, "beat=2s", &[]);
    fleet.launch_hive(&slow);
    assert_eq!(fleet.exit_code("one").await, Some(1));
    let said = fs::read_to_string(fleet.log("one")).expect("it says why");
    assert!(
        said.contains("`suspect=2s`: expected longer than the heartbeat interval of this hive, which is 2s"),
        "{said}"
    );

    // One that runs already says so when such a queen comes.
    fleet.kill_role("queen");
    let bucket = fleet.bus.jetstream().get_key_value("rbee_queen").await.expect("the bucket is there");
    bucket.purge("leader").await.expect("the server answers");
    fleet.start_hive(&slow).await;
    queen(&mut fleet, "next", &["--queen-timers", "suspect=2s"]).await;
    eventually("it is degraded", PATIENCE, async || {
        let record = Registry::hives(&fleet.bus).get("one").await.expect("the server answers");
        record
            .and_then(|record| record.degraded)
            .is_some_and(|why| why.contains("queen next do not fit those of this hive"))
    })
    .await;
}

#[tokio::test]
async fn a_queen_keeps_her_lease_seals_and_limits_the_bus_as_she_is_told() {
    let mut fleet = Fleet::bare().await;
    let timers = "lease=9s,lease_renewal=100ms,seal=50ms,suspect=4s";
    queen(&mut fleet, "queen", &["--queen-timers", timers, "--bus-limits", "events_age=7d,queued=3"]).await;
    eventually("she leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    assert_eq!(time_to_live(&fleet.bus, "queen", "leader").await.as_deref(), Some("9"));
    let record = Registry::leader(&fleet.bus).get("leader").await.expect("the server answers").expect("she leads");
    assert_eq!(record.suspect_ms, Some(4000));
    let before = revision(&fleet.bus, "queen", "leader").await;
    eventually("the lease was renewed ten times", Duration::from_secs(12), async || {
        revision(&fleet.bus, "queen", "leader").await >= before + 10
    })
    .await;
    let events = fleet.bus.jetstream().get_stream("rbee_events").await.expect("the stream is there");
    assert_eq!(events.cached_info().config.max_age, Duration::from_secs(7 * 24 * 60 * 60));
    let jobs = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream is there");
    assert_eq!(jobs.cached_info().config.max_messages_per_subject, 3);

    // A hive has no say in that.
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let jobs = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream is there");
    assert_eq!(jobs.cached_info().config.max_messages_per_subject, 3);
}

#[tokio::test]
async fn events_are_sealed_when_the_queen_was_told_to() {
    let mut fleet = Fleet::bare().await;
    queen(&mut fleet, "queen", &["--queen-timers", "seal=1h"]).await;
    fleet.serve("m", ModelSpec::new(ModelReference::Mock(String::new()))).await;
    let events =
        async |filter: &str| recent_events(&fleet.bus, filter, SystemTime::UNIX_EPOCH).await.expect("read").len();
    eventually("it is told", PATIENCE, async || events("rbee.evt.model.>").await > 0).await;
    // Twice as long as it takes by default.
    hold_fault(Duration::from_secs(2)).await;
    assert_eq!(events("rbee.evt.audit.sealed").await, 0);
}

/// When queens were elected, the first one first.
async fn elections(fleet: &Fleet) -> Vec<SystemTime> {
    let events = recent_events(&fleet.bus, "rbee.evt.queen.*.elected", SystemTime::UNIX_EPOCH).await.expect("read");
    let elected = |body: &[u8]| matches!(serde_json::from_slice(body), Ok(QueenEvent::Elected { .. }));
    events.iter().filter(|event| elected(&event.body)).map(|event| event.stored).collect()
}

#[tokio::test]
async fn another_queen_takes_over_after_the_time_that_she_was_told() {
    // One who is there waits for the first to come back; one who begins waits for her answer.
    for (is_there, timers) in [(true, "takeover=2s,answer=2s,lease=60s"), (false, "answer=2s,lease=60s")] {
        let mut fleet = Fleet::bare().await;
        queen(&mut fleet, "queen", &["--queen-timers", timers]).await;
        eventually("she leads", PATIENCE, async || elections(&fleet).await.len() == 1).await;
        if is_there {
            queen(&mut fleet, "second", &["--queen-timers", timers]).await;
        }
        let gone = SystemTime::now();
        fleet.kill_role("queen");
        if !is_there {
            queen(&mut fleet, "second", &["--queen-timers", timers]).await;
        }
        eventually("the second leads", Duration::from_secs(30), async || elections(&fleet).await.len() == 2).await;
        let took = elections(&fleet).await[1].duration_since(gone).expect("afterwards");
        assert!(took >= Duration::from_millis(1900), "{timers}: {took:?}");
    }
}

#[tokio::test]
async fn a_silent_stream_says_that_it_lives_and_a_silent_job_is_given_up_as_the_queen_was_told() {
    let mut fleet = Fleet::bare().await;
    queen(&mut fleet, "queen", &["--queen-timers", "keep_alive=50ms,patience=1s"]).await;
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    eventually("the model is known", PATIENCE, async || fleet.status().await.is_some_and(|status| status.models == 1))
        .await;
    // No hive runs it.
    let url = format!("{}/v1/chat/completions", fleet.http().await);
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
    let (client, begun) = (reqwest::Client::new(), Instant::now());
    let whole = client.post(&url).json(&body).send().await.expect("the gateway answers");
    assert!(whole.status() == 504 && begun.elapsed() < SOON, "{} after {:?}", whole.status(), begun.elapsed());
    body["stream"] = json!(true);
    let streamed = client.post(&url).json(&body).send().await.expect("the gateway answers");
    let text = streamed.text().await.expect("a body");
    assert!(
        text.lines().filter(|line| line.starts_with(':')).count() > 3 && text.contains("no output for 1s"),
        "{text}"
    );
}

#[tokio::test]
async fn roles_whose_bus_is_away_end_after_their_last_words() {
    let mut fleet = Fleet::bare().await;
    queen(&mut fleet, "queen", &["--queen-timers", "final_flush=100ms", "--connection", "connect=1s,request=1s"]).await;
    let setup = hive(&fleet, "final_flush=100ms,shutdown=1s,kill=100ms", &[]);
    fleet.start_hive(&setup).await;
    fleet.server.kill().await;
    for role in ["queen", "one"] {
        let begun = Instant::now();
        fleet.signal_role(role, "TERM");
        fleet.exit_code(role).await;
        assert!(begun.elapsed() < SOON, "{role}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_verb_that_waits_bears_silence_as_long_as_it_was_told() {
    let fleet = Fleet::bare().await;
    // A hive that is there by its key alone.
    let record = r#"{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2}"#;
    let record = serde_json::from_str(record).expect("a record");
    Registry::hives(&fleet.bus).put("ghost", &record).await.expect("the server answers");
    for (arguments, words) in [
        (&["drain", "ghost"][..], "no event came for 300ms (--patience)"),
        (&["pull", "hf:o/r/m.gguf"], "sent no answer for 300ms (--patience)"),
        (&["down"], "no event came for 300ms (--patience)"),
        (&["cancel", "j"], "no output for 300ms"),
        (&["attach", "j"], "no output for 300ms"),
    ] {
        let begun = Instant::now();
        let output = fleet.rbee(&[arguments, &["--patience", "300ms"]].concat()).await;
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(begun.elapsed() < SOON, "{arguments:?}: {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    fleet.rbee(&["down", "--patience", "100ms", "--connection", "discovery=2s"]).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "queens have that long to answer: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_batch_job_waits_for_interactive_ones_as_long_as_workers_were_told() {
    let mut fleet = Fleet::bare().await;
    let setup = hive(&fleet, "", &["--worker-settings", "batch_wait=20s"]);
    fleet.start_hive(&setup).await;
    fleet.mocks_ready(&["w"], "m", "tokens=1").await;
    let job = JobId::generate();
    let mut output = fleet.bus.read_output(&Tenant::default(), &job).await.expect("followed");
    let body = chat("Hi").to_string().into();
    let (model, tenant) = ("m".parse().expect("a name"), Tenant::default());
    fleet.bus.submit(Submission { model, class: JobClass::Batch, tenant, job, body }).await.expect("accepted");
    // By default it is begun within a second.
    assert!(output.next(Duration::from_secs(4)).await.is_err(), "it waits");
    let (_, mut interactive) = fleet.submit("m", chat("Hi")).await;
    assert!(matches!(whole(&mut interactive).await.last(), Some(Chunk::Done { .. })), "that one does not");
}
