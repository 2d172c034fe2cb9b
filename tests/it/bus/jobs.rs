//! Jobs: an accepted job is stored, runs on one worker at a time, and is not lost with its worker.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{consumer::pull, stream::Config},
};
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use rbee_nats::{Bus, BusLimits, JobFinder, JobQueue, Plan, Priority, Pull, Pulled, Submission, server_error};
use rbee_schema::{DeadJob, Failure, FailureCode, JobClass, JobEvent, JobFlow, JobId, MAX_BODY_BYTES, Tenant};
use rbee_tests::{
    nats::NatsServer,
    wait::{PATIENCE, eventually, soon},
};
use tokio::time::{interval, timeout};

use crate::sample::{CHAT, fetch, flow, model, name, pull, queue, reply, submission};

/// Number of jobs that wait or run.
async fn depth(bus: &Bus) -> u64 {
    bus.queue_depths().await.expect("the server answers").into_iter().map(|(_, count)| count).sum()
}

/// Publishes as any NATS client would, and returns the sequence of the acknowledgement.
async fn publish(bus: &Bus, subject: &str, headers: HeaderMap) -> u64 {
    let sent = bus.jetstream().publish_with_headers(subject.to_owned(), headers, CHAT.into()).await;
    sent.expect("sent").await.expect("stored").sequence
}

#[tokio::test]
async fn short_subject_submits_an_interactive_job_of_the_default_tenant() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    publish(&bus, "rbee.submit.smollm2", HeaderMap::new()).await;
    let delivery = pull(&mut queue(&bus).await).await;
    assert_eq!((delivery.tenant.as_str(), delivery.attempt), ("default", 1));
    assert_eq!(delivery.body(), CHAT);
}

#[tokio::test]
async fn job_without_message_id_is_named_by_its_stream_sequence() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    publish(&bus, "rbee.submit.other", HeaderMap::new()).await;
    let sequence = publish(&bus, "rbee.submit.smollm2", HeaderMap::new()).await;
    assert_eq!(pull(&mut queue(&bus).await).await.job, JobId::from_sequence(sequence));
}

/// Headers with this id of a job.
fn with_id(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers
}

#[tokio::test]
async fn job_with_an_invalid_id_is_refused_under_its_sequence() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    for id in ["no name: it has spaces", "a.b"] {
        let sequence = publish(&bus, "rbee.submit.smollm2", with_id(id)).await;
        let delivery = pull(&mut queue).await;
        assert_eq!(delivery.job, JobId::from_sequence(sequence));
        let refusal = delivery.misnamed.as_ref().expect("refused").failure.clone();
        assert!(refusal.message.contains(id), "{refusal}");
        delivery.ack().await.expect("settled");
    }
}

#[tokio::test]
async fn id_is_read_with_and_without_its_tenant_in_front() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    for id in ["default.a", "b"] {
        publish(&bus, "rbee.submit.smollm2", with_id(id)).await;
        let delivery = pull(&mut queue).await;
        assert_eq!((delivery.job.as_str(), &delivery.misnamed), (id.trim_start_matches("default."), &None));
        delivery.ack().await.expect("settled");
    }
}

#[tokio::test]
async fn job_submitted_twice_with_one_id_is_refused_and_stored_once() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("same")).await.expect("accepted");
    let refusal = bus.submit(submission("same")).await.expect_err("a duplicate");
    assert_eq!(refusal.code, FailureCode::DuplicateJob, "{refusal}");
    assert!(refusal.message.contains("rbee attach same"), "{refusal}");
    assert_eq!(depth(&bus).await, 1);
    assert_eq!(pull(&mut queue(&bus).await).await.job, name("same"));
}

#[tokio::test]
async fn equal_ids_of_two_tenants_are_two_jobs() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("same")).await.expect("accepted");
    bus.submit(Submission { tenant: name("acme"), ..submission("same") }).await.expect("accepted");
    assert_eq!(depth(&bus).await, 2);
}

#[tokio::test]
async fn subject_that_no_worker_reads_is_not_accepted() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    for subject in ["rbee.job.m", "rbee.job.m.batch", "rbee.job.m.urgent.default", "rbee.job.m.batch.a.b"] {
        let sent = bus.jetstream().publish(subject, CHAT.into()).await.expect("sent");
        assert!(sent.await.is_err(), "{subject} is stored");
    }
    assert_eq!(depth(&bus).await, 0);
}

#[tokio::test]
async fn message_with_an_invalid_name_is_counted_as_misnamed() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    for subject in ["rbee.submit.modèle", "rbee.job.m.interactive.té"] {
        publish(&bus, subject, HeaderMap::new()).await;
    }
    let mut misnamed = bus.count_queue().await.expect("the server answers").misnamed;
    misnamed.sort_unstable();
    assert_eq!(misnamed, ["rbee.job.m.interactive.té", "rbee.job.modèle.interactive.default"]);
}

#[tokio::test]
async fn queued_notice_has_headers_only_and_names_the_job() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut notices = bus.subscribe(bus.namespace().all_queued()).await.expect("subscribed");
    bus.submit(Submission { tenant: name("acme"), class: JobClass::Batch, ..submission("a") }).await.expect("accepted");
    let without_id = publish(&bus, "rbee.submit.smollm2", HeaderMap::new()).await;

    let first = soon("notice", notices.next()).await.expect("a notice");
    assert!(first.payload.is_empty());
    assert_eq!(bus.queued_notice(&first), Some((model(), without_id - 1, name("acme"), name("a"))));
    let second = soon("notice", notices.next()).await.expect("a notice");
    let job = JobId::from_sequence(without_id);
    assert_eq!(bus.queued_notice(&second), Some((model(), without_id, Tenant::default(), job)));
}

#[tokio::test]
async fn full_queue_refuses_only_its_own_tenant() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let small = Config { max_messages_per_subject: 2, ..stream.cached_info().config.clone() };
    bus.jetstream().update_stream(small).await.expect("the limit of the queue is lowered");

    for job in ["a", "b"] {
        bus.submit(submission(job)).await.expect("accepted");
    }
    let refusal = bus.submit(submission("c")).await.expect_err("full");
    assert_eq!((refusal.code, refusal.retryable), (FailureCode::QueueFull, true), "{refusal}");
    bus.submit(Submission { tenant: name("acme"), ..submission("d") }).await.expect("accepted");

    pull(&mut queue(&bus).await).await.ack().await.expect("settled");
    bus.submit(submission("c")).await.expect("there is room again");
}

#[tokio::test]
async fn largest_body_is_accepted_and_one_byte_more_refused() {
    const LIMIT: usize = 2 << 20;
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let limits = "body_size=2MiB,bodies_size=8MiB".parse().expect("limits");
    let planned = Plan::with_limits(&bus, &limits).await.expect("the server answers");
    planned.apply(&bus).await.expect("the server accepts it");
    let body = |size| Bytes::from(vec![b'x'; size]);
    for (job, size) in [("a", MAX_BODY_BYTES), ("b", MAX_BODY_BYTES + 1), ("c", LIMIT)] {
        bus.submit(Submission { body: body(size), ..submission(job) }).await.expect("accepted");
    }
    let refusal = bus.submit(Submission { body: body(LIMIT + 1), ..submission("d") }).await.expect_err("too large");
    assert_eq!(refusal.code, FailureCode::BodyTooLarge, "{refusal}");
    assert!(refusal.message.contains("2097153") && refusal.message.contains("2097152"), "{refusal}");
    assert_eq!(depth(&bus).await, 3);
}

#[tokio::test]
async fn returned_job_is_redelivered_at_once_as_second_attempt() {
    let server = NatsServer::start().await;
    let (bus, other) = (server.bus("rbee").await, server.connect("rbee").await);
    bus.submit(submission("a")).await.expect("accepted");
    let first = pull(&mut queue(&bus).await).await;
    let mut elsewhere = queue(&other).await;
    let (returned, second) = futures::join!(first.nak(), timeout(BEFORE_ACK_WAIT, pull(&mut elsewhere)));
    returned.expect("the server confirms");
    let second = second.expect("it arrives before the ack deadline of the first attempt");
    assert_eq!((second.job, second.attempt), (name("a"), 2));
}

/// The ack deadline is 10 s. A job that arrives earlier was returned to the queue.
const BEFORE_ACK_WAIT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn hive_returns_the_job_named_in_a_heartbeat_of_an_exited_worker() {
    let server = NatsServer::start().await;
    let (worker, hive, other) = (server.bus("rbee").await, server.connect("rbee").await, server.connect("rbee").await);
    worker.submit(submission("a")).await.expect("accepted");
    let held = pull(&mut queue(&worker).await).await.in_flight();
    drop(worker);
    hive.nak(&held).await.expect("the server confirms");
    let second = timeout(BEFORE_ACK_WAIT, pull(&mut queue(&other).await)).await.expect("it arrives at once");
    assert_eq!((second.job, second.attempt), (name("a"), 2));
}

#[tokio::test]
async fn job_without_keep_alives_is_redelivered_and_a_kept_job_is_not() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("kept")).await.expect("accepted");
    let kept = pull(&mut queue(&bus).await).await;
    bus.submit(submission("left")).await.expect("accepted");
    let left = pull(&mut queue(&bus).await).await;
    assert_eq!(left.job, name("left"));

    let keeping = async {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            kept.keep_alive().await.expect("kept");
        }
    };
    let again = tokio::select! {
        never = keeping => never,
        again = async { pull(&mut queue(&bus).await).await } => again,
    };
    assert_eq!((again.job, again.attempt), (name("left"), 2));
}

#[tokio::test]
async fn settled_job_leaves_the_queue() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    bus.submit(submission("a")).await.expect("accepted");
    let delivery = pull(&mut queue(&bus).await).await;
    assert_eq!(depth(&bus).await, 1);
    delivery.ack().await.expect("settled");
    assert_eq!(depth(&bus).await, 0);
}

#[tokio::test]
async fn waiting_pull_gets_a_job_at_once() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    let (submitted, delivery) = futures::join!(bus.submit(submission("a")), pull(&mut queue));
    submitted.expect("accepted");
    assert_eq!((delivery.job, delivery.waiting), (name("a"), 0));
}

#[tokio::test]
async fn fetch_is_answered_at_once_with_a_job_of_its_flow_or_without() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    let acme = JobFlow { class: JobClass::Batch, tenant: name("acme") };
    for job in ["a", "b"] {
        bus.submit(Submission { tenant: name("acme"), class: JobClass::Batch, ..submission(job) })
            .await
            .expect("accepted");
    }
    assert!(fetch(&mut queue, &flow()).await.is_none(), "the jobs are of another flow");
    let first = fetch(&mut queue, &acme).await.expect("a job");
    assert_eq!((first.job.clone(), first.flow(), first.waiting), (name("a"), acme.clone(), 1));
    assert_eq!(fetch(&mut queue, &acme).await.expect("a job").job, name("b"));
    assert!(fetch(&mut queue, &acme).await.is_none(), "both are taken");
}

/// Waits until `count` pulls wait at the consumer of the flow that most tests use.
async fn waiting_pulls(bus: &Bus, count: usize) {
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    eventually("the pulls wait", PATIENCE, async || {
        stream.consumer_info(CONSUMER).await.is_ok_and(|info| info.num_waiting == count)
    })
    .await;
}

/// The consumer of the flow that most tests use.
const CONSUMER: &str = "smollm2=interactive=default";

/// Leaves a standing pull and waits until the server has it.
async fn stand(bus: &Bus, queue: &mut JobQueue, priority: Priority, pulls: usize) {
    queue.stand(&flow(), priority).await;
    let opening = async {
        loop {
            let received = queue.receive().await;
            queue.process(received).await;
        }
    };
    tokio::select! {
        () = opening => {}
        () = waiting_pulls(bus, pulls) => {}
    }
}

#[tokio::test]
async fn withdrawn_pull_gets_no_job() {
    let server = NatsServer::start().await;
    let (bus, other) = (server.bus("rbee").await, server.connect("rbee").await);
    let (mut withdrawn, mut waiting) = (queue(&bus).await, queue(&other).await);
    stand(&bus, &mut withdrawn, Priority::Free, 1).await;
    withdrawn.withdraw().await;
    soon("end of the withdrawal", async {
        while withdrawn.is_withdrawing() {
            let received = withdrawn.receive().await;
            assert!(withdrawn.process(received).await.is_empty());
        }
    })
    .await;
    bus.submit(submission("a")).await.expect("accepted");
    let delivery = pull(&mut waiting).await;
    assert_eq!((delivery.job, delivery.attempt), (name("a"), 1), "no other pull had it before");
}

#[tokio::test]
async fn job_that_was_under_way_at_a_withdrawal_arrives() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    for number in 0..20 {
        let job = format!("job-{number}");
        stand(&bus, &mut queue, Priority::Free, 1).await;
        let (submitted, ()) = futures::join!(bus.submit(submission(&job)), queue.withdraw());
        submitted.expect("accepted");
        let arrived = async {
            loop {
                let received = queue.receive().await;
                for pulled in queue.process(received).await {
                    if let Pulled::Job(delivery, Pull::Withdrawn) = pulled {
                        return Some(*delivery);
                    }
                }
                if !queue.is_withdrawing() {
                    return None;
                }
            }
        };
        let delivery = match soon("end of the withdrawal", arrived).await {
            Some(delivery) => delivery,
            // The pull was withdrawn before the job was stored. The server accepts a job before its consumers know of it, so
            // a fetch might still find nothing.
            None => pull(&mut queue).await,
        };
        assert_eq!(delivery.job, name(&job));
        delivery.ack().await.expect("settled");
    }
}

#[tokio::test]
async fn pull_of_a_free_slot_goes_before_one_that_preempts() {
    let server = NatsServer::start().await;
    let (bus, other) = (server.bus("rbee").await, server.connect("rbee").await);
    let (mut busy, mut free) = (queue(&bus).await, queue(&other).await);
    stand(&bus, &mut busy, Priority::Preempting, 1).await;
    stand(&bus, &mut free, Priority::Free, 2).await;
    for (job, queue) in [("a", &mut free), ("b", &mut busy)] {
        bus.submit(submission(job)).await.expect("accepted");
        let Pulled::Job(delivery, _) = reply(queue).await else { panic!("a job") };
        assert_eq!(delivery.job, name(job));
    }
}

#[tokio::test]
async fn deleted_consumer_is_made_again() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    for (job, is_waiting) in [("a", true), ("b", false)] {
        if is_waiting {
            stand(&bus, &mut queue, Priority::Free, 1).await;
        }
        stream.delete_consumer(CONSUMER).await.expect("deleted");
        if !is_waiting {
            queue.fetch(&flow()).await;
        }
        let told = reply(&mut queue).await;
        assert!(matches!(told, Pulled::Failed(..)), "{told:?}");
        bus.submit(submission(job)).await.expect("accepted");
        let delivery = pull(&mut queue).await;
        assert_eq!(delivery.job, name(job));
        delivery.ack().await.expect("settled");
    }
}

#[tokio::test]
async fn pulls_fail_while_the_stream_is_missing_and_work_when_it_is_back() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut queue = queue(&bus).await;
    stand(&bus, &mut queue, Priority::Free, 1).await;
    bus.jetstream().delete_stream("rbee_jobs").await.expect("deleted");
    // The server does not always report the deletion: it may end the stream's task before that has sent the advisory.
    // So the pulls show it: the next one asks for the stream.
    queue.fetch(&flow()).await;
    soon("failure of a pull", async {
        loop {
            let received = queue.receive().await;
            for pulled in queue.process(received).await {
                match pulled {
                    Pulled::Failed(_, _, error) if server_error::is_missing_stream(&error.cause) => return,
                    Pulled::Failed(_, Pull::Fetch, _) | Pulled::Reset => queue.fetch(&flow()).await,
                    _ => {}
                }
            }
        }
    })
    .await;
    Plan::compute(&bus).await.expect("compared").apply(&bus).await.expect("the stream is made again");
    soon("reset", async {
        loop {
            let received = queue.receive().await;
            if queue.process(received).await.iter().any(|pulled| matches!(pulled, Pulled::Reset)) {
                return;
            }
        }
    })
    .await;
    bus.submit(submission("a")).await.expect("accepted");
    assert_eq!(pull(&mut queue).await.job, name("a"));
}

#[tokio::test]
async fn shared_consumers_of_earlier_versions_are_replaced() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let shared = pull::Config {
        durable_name: Some("smollm2-interactive".to_owned()),
        filter_subject: "rbee.job.smollm2.interactive.*".to_owned(),
        ..pull::Config::default()
    };
    stream.create_consumer(shared).await.expect("created");
    bus.submit(submission("a")).await.expect("accepted");
    assert_eq!(pull(&mut queue(&bus).await).await.job, name("a"));
    assert!(stream.consumer_info("smollm2-interactive").await.is_err(), "it is removed");
}

#[tokio::test]
async fn redelivery_of_a_consumer_is_raised_but_not_lowered() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    for (limit, expected) in [(10, 10), (1, 10), (20, 20)] {
        let limits: BusLimits = format!("redelivery={limit}s").parse().expect("limits");
        Plan::with_limits(&bus, &limits).await.expect("compared").apply(&bus).await.expect("applied");
        assert!(fetch(&mut queue(&bus).await, &flow()).await.is_none());
        let consumer = stream.consumer_info(CONSUMER).await.expect("it exists");
        assert_eq!(consumer.config.ack_wait, Duration::from_secs(expected), "redelivery={limit}s");
    }
}

#[tokio::test]
async fn consumer_of_a_flow_lapses_when_it_is_not_used() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    fetch(&mut queue(&bus).await, &flow()).await;
    assert!(bus.has_consumer(&model(), &flow()).await.expect("the server answers"));
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let consumer = stream.consumer_info(CONSUMER).await.expect("it exists");
    assert_eq!(consumer.config.inactive_threshold, Duration::from_secs(600));
    assert!(!bus.has_consumer(&name("other"), &flow()).await.expect("the server answers"));
}

#[tokio::test]
async fn waiting_worker_gets_a_job_at_once_after_a_server_restart() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let mut jobs = queue(&bus).await;
    let waiting = tokio::spawn(async move { pull(&mut jobs).await });
    waiting_pulls(&bus, 1).await;
    server.kill().await;
    server.restart().await;
    server.connect("rbee").await.submit(submission("a")).await.expect("accepted");
    let delivery = timeout(PATIENCE / 2, waiting).await.expect("it arrives before the lost pull would have expired");
    assert_eq!(delivery.expect("the worker waits").job, name("a"));
}

#[tokio::test]
async fn each_job_goes_to_exactly_one_of_many_pullers() {
    const JOBS: usize = 200;
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let submitted = (0..JOBS).map(|number| bus.submit(submission(&format!("job-{number}"))));
    for accepted in join_all(submitted).await {
        accepted.expect("accepted");
    }
    let pullers = (0..8).map(async |_| {
        let mut queue = queue(&bus).await;
        let mut mine = Vec::new();
        while let Some(delivery) = fetch(&mut queue, &flow()).await {
            delivery.ack().await.expect("settled");
            mine.push(delivery.job);
        }
        mine
    });
    let all: Vec<JobId> = join_all(pullers).await.into_iter().flatten().collect();
    assert_eq!(all.len(), JOBS);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), JOBS);
    assert_eq!(depth(&bus).await, 0);
}

#[tokio::test]
async fn dead_lettered_job_is_stored_once_with_its_reason() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let dead = dead_job(CHAT);
    bus.store_dead_job(&model(), &dead).await.expect("kept");
    bus.store_dead_job(&model(), &dead).await.expect("kept already");
    let stream = bus.jetstream().get_stream("rbee_dead").await.expect("the stream exists");
    assert_eq!(stream.cached_info().state.messages, 1);
    let kept = stream.get_last_raw_message_by_subject("rbee.dead.smollm2.acme.a").await.expect("the dead job");
    assert_eq!(serde_json::from_slice::<DeadJob>(&kept.payload).expect("a dead job"), dead);
}

fn dead_job(body: &str) -> DeadJob {
    DeadJob {
        tenant: name("acme"),
        job: name("a"),
        submitted: None,
        prompt_tokens: None,
        attempts: 3,
        runs: Vec::new(),
        failure: Failure::new(FailureCode::TriedTooOften, "it killed three workers"),
        exit: None,
        blame: None,
        body: body.to_owned(),
        body_object: None,
    }
}

#[tokio::test]
async fn dead_letter_that_is_too_large_is_stored_without_its_body() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    // A quote takes two bytes in a JSON string, and a message may have a megabyte.
    let dead = dead_job(&"\"".repeat(MAX_BODY_BYTES));
    bus.store_dead_job(&model(), &dead).await.expect("kept");
    let kept = bus.dead_letter(&name("acme"), &name("a")).await.expect("the server answers").expect("it is stored");
    assert_eq!(kept.dead, dead_job(""));
    let refused = bus.retry(&JobFinder::start(&bus), &kept).await.expect_err("there is no body to submit");
    assert_eq!(refused.code, FailureCode::BodyTooLarge, "{refused}");
    assert!(bus.dead_letter(&name("acme"), &name("a")).await.expect("the server answers").is_some(), "it is kept");
}

#[tokio::test]
async fn dead_letter_is_submitted_again_once_however_often_it_is_retried() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let finder = JobFinder::start(&bus);
    bus.store_dead_job(&model(), &dead_job(CHAT)).await.expect("kept");
    let letter = bus.dead_letter(&name("acme"), &name("a")).await.expect("the server answers").expect("it is stored");
    let retries = join_all((0..8).map(|_| bus.retry(&finder, &letter))).await;
    let ids: BTreeSet<JobId> = retries.into_iter().map(|retried| retried.expect("submitted")).collect();
    assert_eq!((ids.len(), depth(&bus).await), (1, 1), "{ids:?}");
    let retried_as = ids.first().expect("one").clone();
    assert_eq!(bus.dead_letter(&name("acme"), &name("a")).await.expect("the server answers"), None);

    // The server forgets the ids of messages, and a person may have stopped half-way.
    let stream = bus.jetstream().get_stream("rbee_jobs").await.expect("the stream exists");
    let found = finder.find(&name("acme"), &retried_as).await.expect("the server answers").expect("it waits");
    stream.delete_message(found.sequence).await.expect("it can be deleted");
    bus.retry(&finder, &letter).await.expect("it was submitted before");
    assert_eq!(depth(&bus).await, 0, "its event tells that it was submitted");
    let history = bus.job_history(&name("acme"), &name("a")).await.expect("the server answers");
    assert!(
        matches!(&history.events[..], [only] if only.event == JobEvent::Retried { retried_as: retried_as.clone() }),
        "{history:?}"
    );
}

#[tokio::test]
async fn events_of_one_job_are_read_among_many() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let event = |job: usize, number: usize| {
        let subject = format!("rbee.evt.job.acme.{job}.returned");
        let body = format!(r#"{{"event":"returned","hive":"h","worker":"w-{number}"}}"#);
        bus.jetstream().publish(subject, body.into())
    };
    for number in 0..3 {
        let sent = join_all((0..500).map(|job| event(job, number))).await;
        join_all(sent.into_iter().map(|sent| async { sent.expect("sent").await.expect("stored") })).await;
    }
    let history = bus.job_history(&name("acme"), &name("77")).await.expect("the server answers");
    let runs: Vec<String> = history.runs().iter().map(|run| run.worker.to_string()).collect();
    assert_eq!(runs, ["w-0", "w-1", "w-2"]);
    assert!(!history.is_cut);
}
