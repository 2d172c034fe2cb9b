//! Plan and apply: a server gets the topology, and nothing on it is ever deleted.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use rbee_nats::{Bus, BusLimits, Change, ExistingStreams, Namespace, Plan, PlanError, Topology, prepare_streams};
use rbee_schema::FailureCode;
use rbee_tests::nats::NatsServer;

use crate::sample::submission;

async fn plan(bus: &Bus) -> Plan {
    Plan::compute(bus).await.expect("the server answers")
}

/// Configuration of the stream `name` on the server.
async fn config(bus: &Bus, name: &str) -> Config {
    bus.jetstream().get_stream(name).await.expect("the stream exists").cached_info().config.clone()
}

#[tokio::test]
async fn plan_creates_every_stream_once() {
    let server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let first = plan(&bus).await;
    let created: Vec<&str> = first
        .changes
        .iter()
        .map(|change| match change {
            Change::Create(stream) => stream.name.as_str(),
            Change::Update { want, .. } => panic!("{} is updated on an empty server", want.name),
        })
        .collect();
    let topology = Topology::new(&Namespace::default());
    assert_eq!(created, topology.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>());
    first.apply(&bus).await.expect("the server accepts it");
    assert_eq!(plan(&bus).await, Plan::default());
    assert_eq!(plan(&bus).await.to_string(), "nothing to change\n");
}

#[tokio::test]
async fn plan_updates_our_settings_and_keeps_those_of_operators() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("a")).await.expect("accepted");
    let by_hand = Config { max_messages_per_subject: 5, max_messages: 1_000_000, ..config(&bus, "rbee_jobs").await };
    bus.jetstream().update_stream(by_hand).await.expect("changed by hand");

    let planned = Plan::with_limits(&bus, &BusLimits::default()).await.expect("the server answers");
    assert_eq!(planned.to_string(), "update rbee_jobs:\n  max_messages_per_subject: 5 -> 10000\n");
    planned.apply(&bus).await.expect("the server accepts it");

    assert_eq!(plan(&bus).await, Plan::default());
    let after = config(&bus, "rbee_jobs").await;
    assert_eq!((after.max_messages_per_subject, after.max_messages), (10_000, 1_000_000));
    assert_eq!(bus.queue_depths().await.expect("the server answers").len(), 1);
}

#[tokio::test]
async fn limits_change_only_with_a_plan_that_has_limits() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let limits = "queued=1,events_age=7d,output_size=64MiB,duplicates=1m".parse().expect("limits");
    let planned = Plan::with_limits(&bus, &limits).await.expect("the server answers");
    assert_eq!(
        planned.changes.len(),
        Topology::new(&Namespace::default()).streams.len(),
        "every stream has a duplicate window"
    );
    planned.apply(&bus).await.expect("the server accepts it");
    assert_eq!(config(&bus, "rbee_events").await.max_age, Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(config(&bus, "rbee_output").await.max_bytes, 64 << 20);
    assert_eq!(plan(&bus).await, Plan::default());

    bus.submit(submission("a")).await.expect("accepted");
    let full = bus.submit(submission("b")).await.expect_err("one may wait");
    assert_eq!(full.code, FailureCode::QueueFull, "{full}");

    let back = Plan::with_limits(&bus, &BusLimits::default()).await.expect("the server answers");
    back.apply(&bus).await.expect("the server accepts it");
    bus.submit(submission("b")).await.expect("accepted");
    let small = "jobs_size=1KiB".parse().expect("limits");
    Plan::with_limits(&bus, &small)
        .await
        .expect("the server answers")
        .apply(&bus)
        .await
        .expect("the server accepts it");
    let full = async || {
        for number in 0..10 {
            if let Err(failure) = bus.submit(submission(&format!("more-{number}"))).await {
                return Some(failure.code);
            }
        }
        None
    };
    assert_eq!(full().await, Some(FailureCode::QueueFull));
}

#[tokio::test]
async fn unfixable_difference_is_refused_and_nothing_is_deleted() {
    let server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let subjects = vec!["rbee.job.>".to_owned()];
    let by_hand = Config { name: "rbee_jobs".to_owned(), subjects, ..Config::default() };
    let stream = bus.jetstream().create_stream(by_hand).await.expect("made by hand");
    bus.jetstream().publish("rbee.job.m.batch.t", "kept".into()).await.expect("sent").await.expect("stored");

    let error = plan(&bus).await.apply(&bus).await.expect_err("the retention of a stream cannot be changed");
    assert!(matches!(&error, PlanError::Refused { action: "update", stream, .. } if stream == "rbee_jobs"), "{error}");
    let text = error.to_string();
    assert!(text.contains("Nothing was deleted") && text.contains("nats stream edit rbee_jobs"), "{text}");

    let kept = stream.get_info().await.expect("the stream exists");
    assert_eq!((kept.state.messages, kept.config.retention), (1, RetentionPolicy::Limits));
}

#[tokio::test]
async fn two_processes_can_prepare_a_server_concurrently() {
    let server = NatsServer::start().await;
    let (one, two) = (server.connect("rbee").await, server.connect("rbee").await);
    let (first, second) = (plan(&one).await, plan(&two).await);
    let applied = futures::join!(first.apply(&one), second.apply(&two));
    applied.0.expect("one applies its plan");
    applied.1.expect("the other applies the same plan");
    assert_eq!(plan(&one).await, Plan::default());
}

#[tokio::test]
async fn stream_created_by_another_process_is_kept() {
    let server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let planned = plan(&bus).await;
    let Some(Change::Create(jobs)) = planned.changes.first() else { panic!("the jobs are created first") };
    let by_another = Config { max_messages: 1_000_000, ..jobs.create() };
    bus.jetstream().create_stream(by_another).await.expect("made by another");
    planned.apply(&bus).await.expect("the rest is made");
    assert_eq!(plan(&bus).await, Plan::default());
    assert_eq!(config(&bus, "rbee_jobs").await.max_messages, 1_000_000);
}

#[tokio::test]
async fn two_namespaces_can_share_a_server() {
    let server = NatsServer::start().await;
    let (one, two) = (server.bus("one").await, server.bus("two").await);
    one.submit(submission("a")).await.expect("accepted");
    assert_eq!(one.queue_depths().await.expect("the server answers").len(), 1);
    assert_eq!(two.queue_depths().await.expect("the server answers"), []);
    assert_eq!(plan(&one).await, Plan::default());
    assert_eq!(plan(&two).await, Plan::default());
}

#[tokio::test]
async fn topology_survives_a_server_restart() {
    let mut server = NatsServer::start().await;
    server.bus("rbee").await;
    server.kill().await;
    server.restart().await;
    let bus = server.connect("rbee").await;
    assert_eq!(plan(&bus).await, Plan::default());
}

#[tokio::test]
async fn limits_of_a_queen_apply_whoever_makes_the_streams_first() {
    let server = NatsServer::start().await;
    let limits: BusLimits =
        "queued=7,output_size=64MiB,events_size=1MiB,dead_size=1MiB,bodies_size=1MiB,batches_size=1MiB"
            .parse()
            .expect("limits");
    for round in 0..5 {
        let namespace = format!("round{round}");
        let (queen, hive) = (server.connect(&namespace).await, server.connect(&namespace).await);
        let defaults: BusLimits =
            "output_size=32MiB,events_size=1MiB,dead_size=1MiB,bodies_size=1MiB,batches_size=1MiB"
                .parse()
                .expect("limits");
        let prepared = futures::join!(
            prepare_streams(&queen, &limits, ExistingStreams::SetLimits),
            prepare_streams(&hive, &defaults, ExistingStreams::KeepLimits),
        );
        prepared.0.expect("the queen prepares the server");
        prepared.1.expect("the hive prepares the server");
        assert_eq!(config(&queen, &format!("{namespace}_jobs")).await.max_messages_per_subject, 7, "{namespace}");
        assert_eq!(config(&queen, &format!("{namespace}_output")).await.max_bytes, 64 << 20, "{namespace}");
    }
}

#[tokio::test]
async fn sizes_for_which_the_server_has_no_room_are_reduced() {
    let server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let limits: BusLimits = "output_size=1000000GiB,events_size=100000GiB,dead_size=3MiB".parse().expect("limits");
    let reduced = prepare_streams(&bus, &limits, ExistingStreams::SetLimits).await.expect("prepared");
    assert!(reduced.output_size < limits.output_size && reduced.events_size < limits.events_size, "{reduced}");
    let size = config(&bus, "rbee_output").await.max_bytes;
    assert_eq!(u64::try_from(size).ok(), Some(reduced.output_size.bytes()));
    // The room that is left takes the same again.
    let stream = Config { name: "other".to_owned(), max_bytes: size, ..Config::default() };
    bus.jetstream().create_stream(stream).await.expect("there is room");
}

#[tokio::test]
async fn stream_that_is_made_again_continues_with_higher_sequences() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let store = async || {
        let sent = bus.jetstream().publish("rbee.evt.hive.h.resumed", "{}".into()).await.expect("sent");
        sent.await.expect("stored").sequence
    };
    let before = [store().await, store().await];
    bus.jetstream().delete_stream("rbee_events").await.expect("deleted");
    plan(&bus).await.apply(&bus).await.expect("made again");
    assert_eq!(before[1], before[0] + 1);
    assert!(store().await > before[1]);
}
