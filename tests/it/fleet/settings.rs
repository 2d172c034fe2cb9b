//! Settings of an operator take effect, also in the processes to which a role passes them on.

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

/// Limit for a setting of a fraction of a second. Each default is longer than this.
const SOON: Duration = Duration::from_millis(4500);

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a queen with these arguments, and waits until it listens.
async fn queen(fleet: &mut Fleet, name: &str, arguments: &[&str]) {
    let mut command = fleet.command();
    command.args(["queen", "--http", "127.0.0.1:0", "--queen-name", name]).args(arguments);
    fleet.launch(name, command);
    let log = fleet.log(name);
    let is_up = || fs::read_to_string(&log).is_ok_and(|log| log.contains("the queen listens"));
    eventually(&format!("queen {name} listens"), PATIENCE, async || is_up()).await;
}

fn hive(fleet: &Fleet, timers: &str, arguments: &[&str]) -> HiveSetup {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    HiveSetup { arguments, ..fleet.hive_one(timers) }
}

/// Time to live of a key in a bucket, in seconds.
async fn time_to_live(bus: &Bus, bucket: &str, key: &str) -> Option<String> {
    let stream = bus.jetstream().get_stream(format!("KV_rbee_{bucket}")).await.expect("the bucket exists");
    let last = stream.get_last_raw_message_by_subject(&format!("$KV.rbee_{bucket}.{key}")).await.ok()?;
    last.headers.get("Nats-TTL").map(|value| value.as_str().to_owned())
}

/// The revision of a key.
async fn revision(bus: &Bus, bucket: &str, key: &str) -> u64 {
    let store = bus.jetstream().get_key_value(format!("rbee_{bucket}")).await.expect("the bucket exists");
    store.entry(key).await.expect("the server answers").map_or(0, |entry| entry.revision)
}

#[tokio::test]
async fn hive_and_worker_intervals_follow_their_settings() {
    let mut fleet = Fleet::bare().await;
    let timers = "beat=50ms,presence=100ms,presence_lapse=4s,lease_renewal=100ms,port_lease=17s";
    let worker = "beat=50ms,grace=1s,answer_tokens=7";
    let setup = hive(&fleet, timers, &["--worker-settings", worker, "--connection", "output_recheck=2s"]);
    fleet.start_hive(&setup).await;
    let record = fleet.mocks_ready(&["w"], "m", "tokens=100").await.remove(0);
    for filter in
        [fleet.bus.namespace().worker_heartbeats_of(&"one".parse().expect("a name")), "rbee.beat.one".to_owned()]
    {
        let mut beats = fleet.bus.subscribe(filter).await.expect("the server answers");
        let begun = Instant::now();
        for _ in 0..12 {
            soon("heartbeat", beats.next()).await.expect("the connection is open");
        }
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "twelve heartbeats take 11 s by default: {:?}",
            begun.elapsed()
        );
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
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    for variable in [format!("RBEE_WORKER_SETTINGS={worker}"), "RBEE_CONNECTION=output_recheck=2s".to_owned()] {
        assert!(variables.contains(&variable.as_bytes()), "{variable}");
    }
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let answer = whole(&mut output).await;
    assert!(matches!(answer.last(), Some(Chunk::Done { index: 7, .. })), "{:?} on port {port}", answer.last());

    fleet.kill_role("one");
    eventually("the worker has exited without its hive", SOON + PATIENCE, async || !fleet.processes().contains(&pid))
        .await;
}

#[tokio::test]
async fn inconsistent_timers_stop_a_hive_from_starting() {
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
    eventually("the queen leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    let slow = hive(&fleet, "beat=2s", &[]);
    fleet.launch_hive(&slow);
    assert_eq!(fleet.exit_code("one").await, Some(1));
    let log = fs::read_to_string(fleet.log("one")).expect("the hive writes a log");
    assert!(
        log.contains("`suspect=2s`: expected longer than the heartbeat interval of this hive, which is 2s"),
        "{log}"
    );

    // A running hive reports the conflict when such a queen starts.
    fleet.kill_role("queen");
    let bucket = fleet.bus.jetstream().get_key_value("rbee_queen").await.expect("the bucket exists");
    bucket.purge("leader").await.expect("the server answers");
    fleet.start_hive(&slow).await;
    queen(&mut fleet, "next", &["--queen-timers", "suspect=2s"]).await;
    eventually("the hive is degraded", PATIENCE, async || {
        let record = Registry::hives(&fleet.bus).get("one").await.expect("the server answers");
        record
            .and_then(|record| record.degraded)
            .is_some_and(|why| why.contains("queen next do not fit those of this hive"))
    })
    .await;
}

#[tokio::test]
async fn queen_lease_and_bus_limits_follow_their_settings() {
    let mut fleet = Fleet::bare().await;
    let timers = "lease=9s,lease_renewal=100ms,seal=50ms,suspect=4s";
    queen(&mut fleet, "queen", &["--queen-timers", timers, "--bus-limits", "events_age=7d,queued=3"]).await;
    eventually("the queen leads", PATIENCE, async || fleet.status().await.is_some_and(|status| status.leads)).await;
    assert_eq!(time_to_live(&fleet.bus, "queen", "leader").await.as_deref(), Some("9"));
    let record = Registry::leader(&fleet.bus).get("leader").await.expect("the server answers").expect("a queen leads");
    assert_eq!(record.suspect_ms, Some(4000));
    let before = revision(&fleet.bus, "queen", "leader").await;
    eventually("the lease was renewed ten times", Duration::from_secs(12), async || {
        revision(&fleet.bus, "queen", "leader").await >= before + 10
    })
    .await;
    let events = fleet.bus.jetstream().get_stream("rbee_events").await.expect("the stream exists");
    assert_eq!(events.cached_info().config.max_age, Duration::from_secs(7 * 24 * 60 * 60));
    let jobs = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    assert_eq!(jobs.cached_info().config.max_messages_per_subject, 3);

    // A hive does not change the limits.
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let jobs = fleet.bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    assert_eq!(jobs.cached_info().config.max_messages_per_subject, 3);
}

#[tokio::test]
async fn seal_interval_follows_its_setting() {
    let mut fleet = Fleet::bare().await;
    queen(&mut fleet, "queen", &["--queen-timers", "seal=1h"]).await;
    fleet.serve("m", ModelSpec::new(ModelReference::Mock(String::new()))).await;
    let events =
        async |filter: &str| recent_events(&fleet.bus, filter, SystemTime::UNIX_EPOCH).await.expect("read").len();
    eventually("the event is published", PATIENCE, async || events("rbee.evt.model.>").await > 0).await;
    // Twice the default seal interval.
    hold_fault(Duration::from_secs(2)).await;
    assert_eq!(events("rbee.evt.audit.sealed").await, 0);
}

/// Times of all elections of queens, oldest first.
async fn elections(fleet: &Fleet) -> Vec<SystemTime> {
    let events = recent_events(&fleet.bus, "rbee.evt.queen.*.elected", SystemTime::UNIX_EPOCH).await.expect("read");
    let elected = |body: &[u8]| matches!(serde_json::from_slice(body), Ok(QueenEvent::Elected { .. }));
    events.iter().filter(|event| elected(&event.body)).map(|event| event.stored).collect()
}

#[tokio::test]
async fn takeover_time_follows_its_setting() {
    // A running queen waits for the first one to come back. A starting queen waits for its answer.
    for (is_there, timers) in [(true, "takeover=2s,answer=2s,lease=60s"), (false, "answer=2s,lease=60s")] {
        let mut fleet = Fleet::bare().await;
        queen(&mut fleet, "queen", &["--queen-timers", timers]).await;
        eventually("the queen leads", PATIENCE, async || elections(&fleet).await.len() == 1).await;
        if is_there {
            queen(&mut fleet, "second", &["--queen-timers", timers]).await;
        }
        let killed = SystemTime::now();
        fleet.kill_role("queen");
        if !is_there {
            queen(&mut fleet, "second", &["--queen-timers", timers]).await;
        }
        eventually("the second leads", Duration::from_secs(30), async || elections(&fleet).await.len() == 2).await;
        let took = elections(&fleet).await[1].duration_since(killed).expect("afterwards");
        assert!(took >= Duration::from_millis(1900), "{timers}: {took:?}");
    }
}

#[tokio::test]
async fn keep_alive_and_patience_of_the_gateway_follow_their_settings() {
    let mut fleet = Fleet::bare().await;
    queen(&mut fleet, "queen", &["--queen-timers", "keep_alive=50ms,patience=1s"]).await;
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    eventually("the queen knows the model", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.models == 1)
    })
    .await;
    // No hive runs the job.
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
async fn roles_without_a_bus_stop_after_the_last_words_timeout() {
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
async fn waiting_verbs_give_up_after_their_patience() {
    let fleet = Fleet::bare().await;
    // A hive that exists only as a key.
    let record = r#"{"epoch":1,"version":"0","host":"h","first_port":1,"last_port":2}"#;
    let record = serde_json::from_str(record).expect("a record");
    Registry::hives(&fleet.bus).put("ghost", &record).await.expect("the server answers");
    let (job, _) = fleet.submit("m", chat("Hi")).await;
    for (arguments, words) in [
        (&["drain", "ghost"][..], "no event came for 300ms (--patience)"),
        (&["pull", "hf:o/r/m.gguf"], "sent no answer for 300ms (--patience)"),
        (&["down"], "no event came for 300ms (--patience)"),
        (&["attach", job.as_str()], "no output for 300ms"),
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
async fn batch_jobs_start_beside_interactive_ones_by_their_share() {
    let mut fleet = Fleet::bare().await;
    let setup = hive(&fleet, "", &["--worker-settings", "batch_share=2"]);
    fleet.start_hive(&setup).await;
    let spec = ModelSpec { slots: 1, ..ModelSpec::new(ModelReference::Mock("tokens=2,interval=50ms".to_owned())) };
    fleet.spawn("w", "m", spec).await;
    fleet.ready_in("w", 1).await;
    let mut started = fleet.bus.subscribe("rbee.evt.job.*.*.started".to_owned()).await.expect("subscribed");
    let mut jobs = Vec::new();
    for class in [JobClass::Interactive; 7].into_iter().chain([JobClass::Batch; 3]) {
        let job = JobId::generate();
        jobs.push((job.clone(), class));
        let (model, tenant) = ("m".parse().expect("a name"), Tenant::default());
        let body = chat("Hi").to_string().into();
        fleet.bus.submit(Submission { model, class, tenant, job, body }).await.expect("accepted");
    }
    let mut order = Vec::new();
    while order.len() < jobs.len() {
        let event = soon("start of a job", started.next()).await.expect("the connection is open");
        let (_, class) = jobs.iter().find(|(job, _)| event.subject.contains(job.as_str())).expect("one of the jobs");
        order.push(*class);
    }
    let last = order.iter().rposition(|class| *class == JobClass::Batch);
    assert!(last.is_some_and(|last| last < 8), "every second job is a batch job: {order:?}");
}
