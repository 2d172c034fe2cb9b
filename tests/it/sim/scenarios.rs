//! The scenarios. Each returns a transcript of everything that a client observes.

use std::time::Duration;

use super::{
    broker::{Ack, Broker, Headers, Received, StreamSpec},
    model::Model,
    real::Real,
};

/// Redelivery timeout of the scenarios.
const ACK_WAIT: Duration = Duration::from_secs(1);

/// Time in which something arrives that is sent at once.
const SOON: Duration = Duration::from_millis(400);

const JOBS: StreamSpec = StreamSpec {
    name: "jobs",
    subjects: "job.>",
    work_queue: true,
    discard_new: true,
    per_subject: Some(3),
    max_bytes: None,
    duplicates: None,
    republish: Some(("job.", "queued.", true)),
    is_bucket: false,
};

const OUTPUT: StreamSpec = StreamSpec {
    name: "output",
    subjects: "tok.>",
    work_queue: false,
    discard_new: true,
    per_subject: None,
    max_bytes: None,
    duplicates: None,
    republish: Some(("tok.", "out.", false)),
    is_bucket: false,
};

const BUCKET: StreamSpec = StreamSpec {
    name: "ports",
    subjects: "ports.>",
    work_queue: false,
    discard_new: false,
    per_subject: None,
    max_bytes: None,
    duplicates: None,
    republish: None,
    is_bucket: true,
};

type Scenario = fn(&mut dyn Broker) -> Vec<String>;

fn check(scenario: Scenario) {
    let by_model = scenario(&mut Model::new());
    let by_server = scenario(&mut Real::start());
    assert_eq!(by_model, by_server, "the model differs from the server");
    assert!(!by_model.is_empty());
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn none() -> Headers {
    Headers::default()
}

/// Creates the queue with a consumer of `job.a` and these jobs in it.
fn queue(broker: &mut dyn Broker, jobs: &[&str]) {
    broker.create_stream(&JOBS);
    broker.open_consumer("jobs", "a", "job.a", ACK_WAIT).expect("opened");
    for job in jobs {
        broker.publish("job.a", job, none()).expect("stored");
    }
}

/// Fetches a job that waits now. Returns its acknowledgement subject.
fn fetch(broker: &mut dyn Broker, transcript: &mut Vec<String>) -> String {
    let pull = broker.pull("jobs", "a", 0, None);
    let received = broker.receive(pull, SOON);
    transcript.push(format!("fetched {received:?}"));
    match received {
        Some(Received::Message { reply, .. }) => reply,
        _ => String::new(),
    }
}

fn note(transcript: &mut Vec<String>, what: &str, value: &impl std::fmt::Debug) {
    transcript.push(format!("{what}: {value:?}"));
}

#[test]
fn model_and_server_store_a_message_id_once_within_its_window() {
    check(|broker| {
        let mut seen = Vec::new();
        broker.create_stream(&StreamSpec { duplicates: Some(millis(1000)), ..OUTPUT });
        let with_id = Headers { id: Some("x"), ..none() };
        for (subject, headers) in [
            ("tok.a", with_id),
            ("tok.a", with_id),
            // The id counts for the whole stream. The expected sequence is looked at first.
            ("tok.b", with_id),
            ("tok.a", Headers { expect: Some(9), ..with_id }),
        ] {
            note(&mut seen, subject, &broker.publish(subject, "1", headers));
        }
        broker.wait(millis(2500));
        note(&mut seen, "later", &broker.publish("tok.a", "2", with_id));
        note(&mut seen, "count", &broker.count("output"));
        seen
    });
}

#[test]
fn model_and_server_compare_the_last_sequence_of_a_subject() {
    check(|broker| {
        let mut seen = Vec::new();
        broker.create_stream(&OUTPUT);
        for (subject, expect) in [("tok.a", 1), ("tok.a", 0), ("tok.a", 0), ("tok.b", 0), ("tok.a", 1), ("tok.a", 2)] {
            let headers = Headers { expect: Some(expect), ..none() };
            note(&mut seen, subject, &broker.publish(subject, "x", headers));
        }
        note(&mut seen, "last", &broker.last("output", "tok.a"));
        seen
    });
}

#[test]
fn model_and_server_refuse_what_a_full_subject_or_stream_cannot_hold() {
    check(|broker| {
        let mut seen = Vec::new();
        broker.create_stream(&JOBS);
        for subject in ["job.a", "job.a", "job.a", "job.a", "job.b"] {
            note(&mut seen, subject, &broker.publish(subject, "x", none()));
        }
        broker.open_consumer("jobs", "a", "job.a", ACK_WAIT).expect("opened");
        let reply = fetch(broker, &mut seen);
        note(&mut seen, "delivered ones count", &broker.publish("job.a", "x", none()));
        broker.acknowledge(&reply, Ack::Done);
        note(&mut seen, "room again", &broker.publish("job.a", "x", none()));
        broker.create_stream(&StreamSpec { max_bytes: Some(300), ..OUTPUT });
        let large = "y".repeat(400);
        note(&mut seen, "small", &broker.publish("tok.a", "x", none()));
        note(&mut seen, "large", &broker.publish("tok.a", &large, none()));
        seen
    });
}

#[test]
fn model_and_server_deliver_in_order_and_count_what_waits() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1", "2", "3"]);
        broker.publish("job.b", "other", none()).expect("stored");
        let first = fetch(broker, &mut seen);
        let second = fetch(broker, &mut seen);
        broker.acknowledge(&second, Ack::Nak(Duration::ZERO));
        broker.acknowledge(&first, Ack::Nak(Duration::ZERO));
        for _ in 0..4 {
            fetch(broker, &mut seen);
        }
        note(&mut seen, "count", &broker.count("jobs"));
        seen
    });
}

#[test]
fn model_and_server_deliver_again_after_the_ack_wait() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1", "2"]);
        fetch(broker, &mut seen);
        fetch(broker, &mut seen);
        fetch(broker, &mut seen);
        let pull = broker.pull("jobs", "a", 0, Some(millis(5000)));
        note(&mut seen, "too early", &broker.receive(pull, millis(500)));
        note(&mut seen, "in time", &broker.receive(pull, millis(1500)));
        // The server delivers the second one when its timer comes again.
        let pull = broker.pull("jobs", "a", 0, Some(millis(5000)));
        note(&mut seen, "in time", &broker.receive(pull, millis(1500)));
        fetch(broker, &mut seen);
        seen
    });
}

#[test]
fn model_and_server_restart_the_ack_wait_with_a_keep_alive() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1"]);
        let reply = fetch(broker, &mut seen);
        for _ in 0..4 {
            broker.wait(millis(600));
            broker.acknowledge(&reply, Ack::Progress);
        }
        let pull = broker.pull("jobs", "a", 0, Some(millis(5000)));
        note(&mut seen, "kept", &broker.receive(pull, millis(500)));
        let Some(Received::Message { reply: second, .. }) = broker.receive(pull, millis(1500)) else {
            panic!("not delivered again")
        };
        // A keep-alive of the first delivery extends the second one.
        for _ in 0..3 {
            broker.wait(millis(600));
            broker.acknowledge(&reply, Ack::Progress);
        }
        fetch(broker, &mut seen);
        broker.acknowledge(&second, Ack::Done);
        note(&mut seen, "count", &broker.count("jobs"));
        seen
    });
}

#[test]
fn model_and_server_deliver_a_delayed_nak_after_its_delay() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1"]);
        let reply = fetch(broker, &mut seen);
        broker.acknowledge(&reply, Ack::Nak(millis(2000)));
        let pull = broker.pull("jobs", "a", 0, Some(millis(5000)));
        note(&mut seen, "longer than the ack wait", &broker.receive(pull, millis(1500)));
        note(&mut seen, "then", &broker.receive(pull, millis(1500)));
        seen
    });
}

#[test]
fn model_and_server_honor_a_stale_acknowledgement() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1", "2"]);
        let first = fetch(broker, &mut seen);
        broker.acknowledge(&first, Ack::Nak(Duration::ZERO));
        fetch(broker, &mut seen);
        broker.acknowledge(&first, Ack::Done);
        note(&mut seen, "count", &broker.count("jobs"));
        // The message is gone: nothing is left to be delivered again.
        fetch(broker, &mut seen);
        let pull = broker.pull("jobs", "a", 0, Some(millis(3000)));
        note(&mut seen, "again", &broker.receive(pull, millis(2000)));
        broker.acknowledge(&first, Ack::Done);
        broker.acknowledge(&first, Ack::Nak(Duration::ZERO));
        note(&mut seen, "count", &broker.count("jobs"));
        seen
    });
}

#[test]
fn model_and_server_honor_a_stale_nak_and_repeated_naks_once() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1"]);
        let first = fetch(broker, &mut seen);
        for _ in 0..3 {
            broker.acknowledge(&first, Ack::Nak(Duration::ZERO));
        }
        fetch(broker, &mut seen);
        fetch(broker, &mut seen);
        // The first delivery is over, and its nak takes the job from the second one.
        broker.acknowledge(&first, Ack::Nak(Duration::ZERO));
        let third = fetch(broker, &mut seen);
        broker.acknowledge(&third, Ack::Term);
        note(&mut seen, "count", &broker.count("jobs"));
        fetch(broker, &mut seen);
        seen
    });
}

#[test]
fn model_and_server_give_a_job_to_the_pull_with_the_highest_priority() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &[]);
        let waits = Some(millis(4000));
        let pulls = [9, 0, 9, 0, 3].map(|priority| broker.pull("jobs", "a", priority, waits));
        for job in ["1", "2", "3"] {
            broker.publish("job.a", job, none()).expect("stored");
        }
        for (number, pull) in pulls.into_iter().enumerate() {
            note(&mut seen, &format!("pull {number}"), &broker.receive(pull, SOON));
        }
        seen
    });
}

#[test]
fn model_and_server_give_no_job_to_a_withdrawn_pull() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &[]);
        let waits = Some(millis(4000));
        let (first, second) = (broker.pull("jobs", "a", 0, waits), broker.pull("jobs", "a", 5, waits));
        broker.withdraw(first);
        broker.publish("job.a", "1", none()).expect("stored");
        note(&mut seen, "withdrawn", &broker.receive(first, SOON));
        note(&mut seen, "other", &broker.receive(second, SOON));
        let third = broker.pull("jobs", "a", 0, waits);
        broker.withdraw(third);
        broker.publish("job.a", "2", none()).expect("stored");
        // Nobody has taken it.
        fetch(broker, &mut seen);
        seen
    });
}

#[test]
fn model_and_server_answer_pulls_that_find_nothing() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &[]);
        fetch(broker, &mut seen);
        let pull = broker.pull("jobs", "a", 0, Some(millis(500)));
        note(&mut seen, "expired", &broker.receive(pull, millis(2000)));
        let pull = broker.pull("jobs", "a", 0, Some(millis(5000)));
        broker.delete_consumer("jobs", "a");
        note(&mut seen, "deleted", &broker.receive(pull, SOON));
        let pull = broker.pull("jobs", "a", 0, None);
        note(&mut seen, "missing", &broker.receive(pull, SOON));
        seen
    });
}

#[test]
fn model_and_server_deliver_everything_again_to_a_new_consumer() {
    check(|broker| {
        let mut seen = Vec::new();
        queue(broker, &["1", "2"]);
        let first = fetch(broker, &mut seen);
        note(&mut seen, "overlap", &broker.open_consumer("jobs", "b", "job.a", ACK_WAIT));
        broker.delete_consumer("jobs", "a");
        broker.open_consumer("jobs", "a", "job.a", ACK_WAIT).expect("opened");
        // An acknowledgement of the consumer before fits nothing that the new one has delivered.
        broker.acknowledge(&first, Ack::Done);
        note(&mut seen, "count", &broker.count("jobs"));
        fetch(broker, &mut seen);
        fetch(broker, &mut seen);
        broker.acknowledge(&first, Ack::Done);
        note(&mut seen, "count", &broker.count("jobs"));
        seen
    });
}

#[test]
fn model_and_server_republish_what_is_stored_and_nothing_else() {
    check(|broker| {
        let mut seen = Vec::new();
        broker.create_stream(&JOBS);
        broker.create_stream(&OUTPUT);
        let (out, queued) = (broker.subscribe("out.*"), broker.subscribe("queued.>"));
        broker.publish("job.a", "content", none()).expect("stored");
        broker.publish("tok.a", "1", Headers { expect: Some(0), ..none() }).expect("stored");
        broker.publish("tok.a", "2", Headers { expect: Some(0), ..none() }).expect_err("stale");
        broker.publish("tok.a", "3", Headers { expect: Some(1), ..none() }).expect("stored");
        for _ in 0..3 {
            note(&mut seen, "out", &broker.receive(out, SOON));
        }
        note(&mut seen, "queued", &broker.receive(queued, SOON));
        note(&mut seen, "queued", &broker.receive(queued, SOON));
        seen
    });
}

#[test]
fn model_and_server_expire_keys_and_leave_markers() {
    check(|broker| {
        let mut seen = Vec::new();
        broker.create_stream(&BUCKET);
        let lease = |expect| Headers { expect: Some(expect), time_to_live: Some(millis(1000)), ..none() };
        note(&mut seen, "claimed", &broker.publish("ports.1", "a", lease(0)));
        note(&mut seen, "claimed again", &broker.publish("ports.1", "b", lease(0)));
        broker.wait(millis(600));
        note(&mut seen, "renewed", &broker.publish("ports.1", "a", lease(1)));
        broker.wait(millis(600));
        note(&mut seen, "kept", &broker.last("ports", "ports.1"));
        broker.wait(millis(1400));
        note(&mut seen, "expired", &broker.last("ports", "ports.1"));
        note(&mut seen, "by old revision", &broker.publish("ports.1", "c", lease(2)));
        note(&mut seen, "by marker", &broker.publish("ports.1", "c", lease(3)));
        let release = Headers { deletes: true, ..lease(4) };
        note(&mut seen, "released", &broker.publish("ports.1", "", release));
        note(&mut seen, "released", &broker.last("ports", "ports.1"));
        broker.wait(millis(2500));
        note(&mut seen, "marker gone", &broker.last("ports", "ports.1"));
        note(&mut seen, "free", &broker.publish("ports.1", "d", lease(0)));
        seen
    });
}
