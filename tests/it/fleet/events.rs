//! Events of workers and jobs, as a subscriber of `rbee.evt.>` receives them.

use rbee_nats::EventReader;
use rbee_schema::{ExitClass, WorkerEvent};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::soon,
};

/// Reads events until `last`, and returns their names without the progress of loading.
async fn names_until(events: &mut EventReader, last: &str) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let record = soon(last, events.next()).await.expect("the server answers").expect("an event");
        let name = record.subject.rsplit('.').next().expect("a subject has tokens").to_owned();
        let is_last = name == last;
        if name != "loading" {
            names.push(name);
        }
        if is_last {
            return names;
        }
    }
}

#[tokio::test]
async fn events_cover_a_start_and_a_restart_in_order() {
    let fleet = Fleet::start().await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.*.one.>", None).await.expect("the server answers");
    fleet.serve_mock("m", "load=300ms", 1, 1).await;
    assert_eq!(names_until(&mut events, "ready").await, ["leased", "spawned", "ready"]);

    let worker = fleet.ready(1).await.remove(0);
    fleet.kill(&worker);
    let names = names_until(&mut events, "ready").await;
    assert_eq!(names.first().map(String::as_str), Some("exited"));
    for name in ["released", "restarting", "leased", "spawned", "ready"] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
    let again = fleet.ready(1).await.remove(0);
    assert_eq!((again.name, again.record.epoch), (worker.name, 2));
    assert_eq!(again.record.port, worker.record.port, "the released port is the lowest free one");
}

#[tokio::test]
async fn load_progress_is_published_in_rising_percent() {
    let fleet = Fleet::start().await;
    let filter = "rbee.evt.worker.one.*.loading";
    let mut events = EventReader::since(&fleet.bus, filter, None).await.expect("the server answers");
    fleet.serve_mock("m", "load=1s", 1, 1).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&100) {
        let record = soon("progress", events.next()).await.expect("the server answers").expect("an event");
        match serde_json::from_slice(&record.body).expect("an event of a worker") {
            WorkerEvent::Loading { percent, .. } => seen.push(percent),
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.len() > 3 && seen.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn exit_event_has_signal_returned_jobs_and_last_log_lines() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1000,interval=20ms", 1, 1).await;
    let worker = fleet.ready(1).await.remove(0);
    let filter = "rbee.evt.worker.one.*.exited";
    let mut events = EventReader::since(&fleet.bus, filter, None).await.expect("the server answers");
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    soon("token", output.next(rbee_tests::wait::PATIENCE)).await.expect("the answer begins");
    fleet.kill(&worker);
    let record = soon("exit", events.next()).await.expect("the server answers").expect("an event");
    let event: WorkerEvent = serde_json::from_slice(&record.body).expect("an event of a worker");
    let WorkerEvent::Exited { class, signal, jobs_returned, stderr_tail, .. } = event else { panic!("{event:?}") };
    assert_eq!((class, signal, jobs_returned), (ExitClass::Signal, Some(9), 1));
    assert!(stderr_tail.iter().any(|line| line.contains("ready")), "{stderr_tail:?}");
}

#[tokio::test]
async fn job_events_cover_its_start_and_end() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=2", 0, 1).await;
    let mut events = EventReader::since(&fleet.bus, "rbee.evt.job.>", None).await.expect("the server answers");
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    whole(&mut output).await;
    for name in ["started", "finished"] {
        let record = soon(name, events.next()).await.expect("the server answers").expect("an event");
        assert_eq!(record.subject, format!("rbee.evt.job.default.{job}.{name}"));
    }
}
