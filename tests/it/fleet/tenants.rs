//! Tenants: their weights and limits apply to every client, over all workers, and from the moment in which they are written.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use rbee_nats::{Bus, EventReader, OutputReader, Registry, Submission, Subscriber};
use rbee_schema::{Chunk, FailureCode, JobClass, JobId, ModelReference, ModelSpec, Replicas, Tenant, TenantSpec};
use rbee_tests::{
    fleet::{Fleet, HiveSetup, chat, text, whole},
    wait::{PATIENCE, eventually, soon},
};
use serde_json::{Value, json};

/// A hive with workers of the mock engine, and no queen.
async fn workers(names: &[&str], options: &str, slots: u32) -> Fleet {
    let mut fleet = Fleet::bare().await;
    let setup: HiveSetup = fleet.hive_one("");
    fleet.start_hive(&setup).await;
    for name in names {
        let spec = ModelSpec { slots, ..ModelSpec::new(ModelReference::Mock(options.to_owned())) };
        fleet.spawn(name, "m", spec).await;
    }
    for name in names {
        fleet.ready_in(name, 1).await;
    }
    fleet
}

/// Writes the record of a tenant, as the `nats` command line does.
async fn configure(bus: &Bus, tenant: &str, record: &Value) {
    let store = bus.jetstream().get_key_value("rbee_tenants").await.expect("the bucket exists");
    store.put(tenant, record.to_string().into()).await.expect("stored");
}

/// Submits a job with this message.
async fn submit(bus: &Bus, class: JobClass, tenant: &str, content: &str) -> OutputReader {
    let (tenant, job): (Tenant, _) = (tenant.parse().expect("a name"), JobId::generate());
    let output = bus.read_output(&tenant, &job).await.expect("subscribed");
    let (model, body) = ("m".parse().expect("a name"), chat(content).to_string().into());
    bus.submit(Submission { model, class, tenant, job, body }).await.expect("accepted");
    output
}

/// Publishes a job as any NATS client does. Returns its id.
async fn publish(bus: &Bus, model: &str, tenant: &str, content: &str) -> String {
    let body = chat(content).to_string();
    let sent = bus.jetstream().publish(format!("rbee.job.{model}.interactive.{tenant}"), body.into()).await;
    sent.expect("sent").await.expect("stored").sequence.to_string()
}

async fn outputs(bus: &Bus, tenant: &str) -> Subscriber {
    bus.subscribe(format!("rbee.out.{tenant}.*")).await.expect("subscribed")
}

fn is_done(chunks: &[Chunk]) -> bool {
    matches!(chunks.last(), Some(Chunk::Done { .. }))
}

/// Next chunk of any job, with its tenant and id.
async fn next_chunk(outputs: &mut Subscriber) -> (String, String, Chunk) {
    let message = soon("chunk", outputs.next()).await.expect("the connection is open");
    let mut tokens = message.subject.split('.').skip(2).map(str::to_owned);
    let (tenant, job) = (tokens.next().expect("a tenant"), tokens.next().expect("a job"));
    (tenant, job, serde_json::from_slice(&message.payload).expect("a chunk"))
}

/// Tokens that jobs of each tenant were answered with, in the next `jobs` answers.
async fn served(outputs: &mut Subscriber, jobs: usize) -> BTreeMap<String, u32> {
    let (mut served, mut done) = (BTreeMap::new(), 0);
    while done < jobs {
        if let (tenant, _, Chunk::Done { usage, .. }) = next_chunk(outputs).await {
            *served.entry(tenant).or_insert(0) += usage.total_tokens;
            done += 1;
        }
    }
    served
}

fn ratio(served: &BTreeMap<String, u32>) -> f64 {
    let of = |tenant: &str| f64::from(served.get(tenant).copied().unwrap_or(0));
    of("acme") / of("other").max(1.0)
}

#[tokio::test]
async fn tenants_are_served_by_their_weights_which_apply_at_once() {
    let fleet = workers(&["w"], "tokens=5", 1).await;
    let mut answers = outputs(&fleet.bus, "*").await;
    let gate = submit(&fleet.bus, JobClass::Interactive, "gate", "mock: tokens=20000 interval=5ms").await;
    for _ in 0..400 {
        for tenant in ["acme", "other"] {
            publish(&fleet.bus, "m", tenant, "Hi").await;
        }
    }
    drop(gate);
    fleet.bus.cancel(&"gate".parse().expect("a name"), &gate_job(&mut answers).await).await.expect("cancelled");
    let equal = ratio(&served(&mut answers, 100).await);
    assert!((0.7..1.4).contains(&equal), "{equal} without weights");
    configure(&fleet.bus, "acme", &json!({ "weight": 3 })).await;
    // Jobs that were chosen before are on their way.
    served(&mut answers, 20).await;
    let weighted = ratio(&served(&mut answers, 120).await);
    assert!((2.3..4.0).contains(&weighted), "{weighted} with weight 3");
    configure(&fleet.bus, "other", &json!({ "weight": 6 })).await;
    served(&mut answers, 20).await;
    let weighted = ratio(&served(&mut answers, 120).await);
    assert!((0.35..0.7).contains(&weighted), "{weighted} with weights 3 and 6");
}

/// Id of the job of the tenant `gate`, from its first chunk.
async fn gate_job(answers: &mut Subscriber) -> JobId {
    loop {
        if let (tenant, job, Chunk::Tokens { .. }) = next_chunk(answers).await
            && tenant == "gate"
        {
            return job.parse().expect("a name");
        }
    }
}

/// Follows jobs of a tenant until `jobs` of them have ended. Returns the largest number that ran at once, and the workers.
async fn most_at_once(answers: &mut Subscriber, jobs: usize) -> (usize, BTreeSet<String>) {
    let (mut running, mut most, mut ended, mut workers) = (BTreeSet::new(), 0, 0, BTreeSet::new());
    while ended < jobs {
        match next_chunk(answers).await {
            (_, job, Chunk::Started { worker, .. } | Chunk::Resumed { worker, .. }) => {
                workers.insert(worker.to_string());
                running.insert(job);
                most = most.max(running.len());
            }
            (_, job, chunk) if chunk.is_last() => {
                assert!(matches!(chunk, Chunk::Done { .. }), "{chunk:?}");
                running.remove(&job);
                ended += 1;
            }
            (_, job, Chunk::Paused { .. }) => drop(running.remove(&job)),
            _ => {}
        }
    }
    (most, workers)
}

#[tokio::test]
async fn running_jobs_of_a_tenant_are_limited_over_all_workers() {
    let fleet = workers(&["one", "two"], "tokens=10,interval=5ms", 4).await;
    configure(&fleet.bus, "acme", &json!({ "max_running": 3 })).await;
    let mut answers = outputs(&fleet.bus, "acme").await;
    for _ in 0..30 {
        publish(&fleet.bus, "m", "acme", "Hi").await;
    }
    let (most, used) = most_at_once(&mut answers, 30).await;
    assert_eq!((most, used.len()), (3, 2), "{used:?}");
    // Others have the remaining slots meanwhile.
    for _ in 0..30 {
        publish(&fleet.bus, "m", "acme", "mock: tokens=100 interval=10ms").await;
    }
    let mut other = submit(&fleet.bus, JobClass::Interactive, "other", "Hi").await;
    assert!(is_done(&whole(&mut other).await));
    // A higher limit applies to the jobs that wait, also without an end of a job.
    configure(&fleet.bus, "acme", &json!({ "max_running": 6 })).await;
    let (most, _) = most_at_once(&mut answers, 30).await;
    assert_eq!(most, 6);
}

#[tokio::test]
async fn flow_at_its_limit_keeps_no_slot_from_other_tenants() {
    let fleet = workers(&["one", "two"], "tokens=3", 2).await;
    configure(&fleet.bus, "acme", &json!({ "max_running": 1 })).await;
    let mut long = submit(&fleet.bus, JobClass::Interactive, "acme", "mock: tokens=20000 interval=5ms").await;
    long.next(PATIENCE).await.expect("the answer continues").expect("the answer begins");
    let mut answers = outputs(&fleet.bus, "*").await;
    for _ in 0..100 {
        publish(&fleet.bus, "m", "acme", "Hi").await;
        publish(&fleet.bus, "m", "other", "Hi").await;
    }
    let served = served(&mut answers, 100).await;
    assert_eq!(served.keys().collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn job_at_the_limit_is_paused_for_an_interactive_job_and_resumed() {
    let fleet = workers(&["w"], "tokens=200,interval=5ms", 1).await;
    configure(&fleet.bus, "default", &json!({ "max_running": 1 })).await;
    let mut batch = submit(&fleet.bus, JobClass::Batch, "acme", "Hi").await;
    batch.next(PATIENCE).await.expect("the answer continues").expect("the answer begins");
    let mut interactive = submit(&fleet.bus, JobClass::Interactive, "acme", "mock: tokens=5").await;
    assert!(is_done(&whole(&mut interactive).await));
    let chunks = whole(&mut batch).await;
    assert!(
        is_done(&chunks) && chunks.iter().any(|chunk| matches!(chunk, Chunk::Paused { .. })),
        "{:?}",
        chunks.last()
    );
}

#[tokio::test]
async fn job_at_the_limit_goes_to_another_worker_when_its_worker_dies() {
    let fleet = workers(&["one", "two"], "tokens=3", 1).await;
    configure(&fleet.bus, "acme", &json!({ "max_running": 1 })).await;
    let mut lost = submit(&fleet.bus, JobClass::Interactive, "acme", "mock: tokens=50 interval=5ms crash=20").await;
    let mut waiting = submit(&fleet.bus, JobClass::Interactive, "acme", "Hi").await;
    let chunks = whole(&mut lost).await;
    assert!(
        is_done(&chunks) && chunks.iter().any(|chunk| matches!(chunk, Chunk::Resumed { .. })),
        "{:?}",
        chunks.last()
    );
    assert!(is_done(&whole(&mut waiting).await));
}

/// A queen with these timers, a hive, and a model `m` with one slot.
async fn queen(timers: &str) -> Fleet {
    let mut fleet = Fleet::bare().await;
    fleet.queen_named("queen", timers).await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    let replicas = Replicas { min: 1, max: 1 };
    let reference = ModelReference::Mock("tokens=5".to_owned());
    fleet.serve("m", ModelSpec { slots: 2, replicas, ..ModelSpec::new(reference) }).await;
    fleet.ready(1).await;
    fleet
}

/// Entry of a tenant in `rbee tenant ls`.
async fn tenant(fleet: &Fleet, name: &str) -> Value {
    let listed = fleet.rbee(&["tenant", "ls", "--json"]).await;
    // While no queen answers, there is no output.
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    let found = listed["tenants"].as_array().into_iter().flatten().find(|tenant| tenant["name"] == name);
    found.cloned().unwrap_or_default()
}

#[tokio::test]
async fn newest_waiting_jobs_beyond_the_limit_are_refused() {
    let fleet = queen("").await;
    let set = fleet.rbee(&["tenant", "set", "acme", "--max-queued", "5"]).await;
    assert!(set.status.success(), "{set:?}");
    eventually("the queen knows the limit", PATIENCE, async || tenant(&fleet, "acme").await["has_record"] == true)
        .await;
    let mut answers = outputs(&fleet.bus, "acme").await;
    let mut running = BTreeSet::new();
    for _ in 0..2 {
        running.insert(publish(&fleet.bus, "m", "acme", "mock: tokens=20000 interval=5ms").await);
    }
    while !running.is_empty() {
        let (_, job, _) = next_chunk(&mut answers).await;
        running.remove(&job);
    }
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(publish(&fleet.bus, "m", "acme", "Hi").await);
    }
    let mut refused = BTreeSet::new();
    while refused.len() < 15 {
        if let (_, job, Chunk::Error { error }) = next_chunk(&mut answers).await {
            assert_eq!(error.code, FailureCode::QueueFull, "{error}");
            assert!(error.message.contains("acme") && error.message.contains("max_queued"), "{error}");
            refused.insert(job);
        }
    }
    assert_eq!(refused, ids[5..].iter().cloned().collect(), "the newest");
    eventually("five jobs wait", PATIENCE, async || {
        let found = tenant(&fleet, "acme").await;
        found["jobs_queued"] == 5 && found["jobs_running"] == 2
    })
    .await;
    // Another tenant has no such limit.
    let other = publish(&fleet.bus, "m", "other", "Hi").await;
    // A higher limit applies at once: one more job waits.
    fleet.rbee(&["tenant", "set", "acme", "--max-queued", "6"]).await;
    eventually("the limit is higher", PATIENCE, async || tenant(&fleet, "acme").await["spec"]["max_queued"] == 6).await;
    let (kept, beyond) = (publish(&fleet.bus, "m", "acme", "Hi").await, publish(&fleet.bus, "m", "acme", "Hi").await);
    loop {
        if let (_, job, Chunk::Error { .. }) = next_chunk(&mut answers).await {
            assert_eq!(job, beyond);
            break;
        }
    }
    // The refused job leaves the queue after its error was stored.
    eventually(&format!("{kept} and {other} wait"), PATIENCE, async || {
        let queue = fleet.bus.count_queue().await.expect("the server answers");
        let depth = |tenant: &str| queue.tenants.get(&tenant.parse::<Tenant>().expect("a name")).copied();
        (depth("acme"), depth("other")) == (Some(8), Some(1))
    })
    .await;
}

#[tokio::test]
async fn burst_that_finds_free_slots_is_not_refused() {
    let fleet = queen("").await;
    configure(&fleet.bus, "acme", &json!({ "max_queued": 1 })).await;
    eventually("the queen knows the limit", PATIENCE, async || tenant(&fleet, "acme").await["has_record"] == true)
        .await;
    for _ in 0..5 {
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(submit(&fleet.bus, JobClass::Interactive, "acme", "Hi").await);
        }
        for answer in &mut answers {
            let chunks = whole(answer).await;
            assert!(is_done(&chunks), "{chunks:?}");
        }
    }
}

#[tokio::test]
async fn tenant_beyond_its_tokens_per_minute_waits_and_others_do_not() {
    // Twenty seconds instead of a minute: the limit applies in proportion.
    let mut fleet = queen("token_window=20s").await;
    fleet.queen_named("second", "token_window=20s").await;
    configure(&fleet.bus, "acme", &json!({ "tokens_per_minute": 90 })).await;
    eventually("the queens know the limit", PATIENCE, async || tenant(&fleet, "acme").await["has_record"] == true)
        .await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.tenant.acme.throttled", None).await.expect("opened");
    let mut first = submit(&fleet.bus, JobClass::Interactive, "acme", "mock: tokens=30").await;
    assert!(is_done(&whole(&mut first).await));
    let event = soon("throttle", events.next()).await.expect("the server answers").expect("an event");
    let event: Value = serde_json::from_slice(&event.body).expect("JSON");
    assert!(event["tokens"].as_u64().is_some_and(|tokens| tokens >= 30), "{event}");

    // The state survives the leading queen.
    fleet.kill_role("queen");
    let throttles = Registry::throttles(&fleet.bus);
    eventually("the worker and the next queen know it", PATIENCE, async || {
        let is_stored = throttles.get("acme").await.is_ok_and(|throttle| throttle.is_some());
        is_stored && tenant(&fleet, "acme").await["throttled_until"].is_string()
    })
    .await;
    let acme: Tenant = "acme".parse().expect("a name");
    let mut throttled = submit(&fleet.bus, JobClass::Interactive, "acme", "mock: tokens=2").await;
    for _ in 0..3 {
        let mut other = submit(&fleet.bus, JobClass::Interactive, "other", "Hi").await;
        assert!(is_done(&whole(&mut other).await));
    }
    let begun = fleet.bus.count_queue().await.expect("the server answers").tenants.get(&acme).copied();
    let still = throttles.get("acme").await.expect("the server answers");
    assert!(begun == Some(1) && still.is_some(), "the job waits: {begun:?} {still:?}");
    assert!(is_done(&whole(&mut throttled).await), "it runs when the window has passed");
    eventually("the throttle is gone", PATIENCE, async || {
        throttles.get("acme").await.is_ok_and(|throttle| throttle.is_none())
    })
    .await;
}

#[tokio::test]
async fn cancelled_jobs_count_and_a_removed_limit_releases_at_once() {
    let fleet = queen("").await;
    configure(&fleet.bus, "acme", &json!({ "tokens_per_minute": 20 })).await;
    eventually("the queen knows the limit", PATIENCE, async || tenant(&fleet, "acme").await["has_record"] == true)
        .await;
    let mut answers = outputs(&fleet.bus, "acme").await;
    let job = publish(&fleet.bus, "m", "acme", "mock: tokens=20000 interval=1ms").await;
    loop {
        if let (_, _, Chunk::Tokens { index: 20.., .. }) = next_chunk(&mut answers).await {
            break;
        }
    }
    fleet.bus.cancel(&"acme".parse().expect("a name"), &job.parse().expect("a name")).await.expect("cancelled");
    eventually("the tenant is throttled", PATIENCE, async || {
        tenant(&fleet, "acme").await["throttled_until"].is_string()
    })
    .await;
    let mut waiting = submit(&fleet.bus, JobClass::Interactive, "acme", "Hi").await;
    let removed = fleet.rbee(&["tenant", "rm", "acme"]).await;
    assert!(removed.status.success(), "{removed:?}");
    assert!(is_done(&whole(&mut waiting).await));
    assert!(text(&whole(&mut submit(&fleet.bus, JobClass::Interactive, "acme", "Hi").await).await).len() > 5);
}

#[tokio::test]
async fn invalid_record_of_a_tenant_is_reported_until_it_is_replaced() {
    let fleet = queen("").await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.tenant.>", None).await.expect("opened");
    configure(&fleet.bus, "acme", &json!({ "max_running": 0 })).await;
    let event = soon("refusal", events.next()).await.expect("the server answers").expect("an event");
    assert_eq!(event.subject, "rbee.evt.tenant.acme.refused");
    assert!(String::from_utf8_lossy(&event.body).contains("max_running is 0"), "{:?}", event.body);
    let doctor = fleet.rbee(&["doctor"]).await;
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!doctor.status.success() && found.contains("tenant acme") && found.contains("max_running is 0"), "{found}");

    let set = fleet.rbee(&["tenant", "set", "acme", "--weight", "2", "--max-running", "4", "--json"]).await;
    let spec: TenantSpec = serde_json::from_slice(&set.stdout).expect("a record");
    assert_eq!((spec.max_running, spec.weight.thousandths()), (Some(4), 2000));
    let event = soon("change", events.next()).await.expect("the server answers").expect("an event");
    assert_eq!(event.subject, "rbee.evt.tenant.acme.configured");
    let doctor = fleet.rbee(&["doctor"]).await;
    assert!(!String::from_utf8_lossy(&doctor.stdout).contains("tenant acme"), "{doctor:?}");
    let table = fleet.rbee(&["tenant", "ls"]).await;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let row = table.lines().find(|line| line.starts_with(" acme") || line.starts_with("acme")).unwrap_or_default();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["acme", "2", "4", "-", "-", "0", "0", "0", "-"], "{table}");

    let removed = fleet.rbee(&["tenant", "rm", "acme"]).await;
    assert!(removed.status.success(), "{removed:?}");
    let event = soon("removal", events.next()).await.expect("the server answers").expect("an event");
    assert_eq!(event.subject, "rbee.evt.tenant.acme.removed");
    let again = fleet.rbee(&["tenant", "rm", "acme"]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
}
