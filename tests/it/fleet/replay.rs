//! Replay of the events of a real fleet.

use std::fs;

use rbee_schema::Chunk;
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

/// Exit code, standard output and standard error of `rbee replay`.
async fn replay(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, String) {
    let output = fleet.rbee(&[&["replay"], arguments].concat()).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn recorded_decisions_are_repeated_and_a_missing_one_is_found() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("cold", "tokens=3", 0, 1).await;
    fleet.declared(&["cold"]).await;
    let (job, mut output) = fleet.submit("cold", chat("Hi")).await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Done { .. })));
    fleet.serve_mock("warm", "tokens=3", 1, 1).await;
    fleet.ready(2).await;

    let mut printed = (None, String::new());
    eventually("the replay repeats both placements", PATIENCE, async || {
        printed = replay(&fleet, &[]).await;
        printed.1.contains(&format!("job {job} of tenant default: the answer is complete"))
    })
    .await;
    let (code, text) = printed;
    assert_eq!(code, Some(0), "{text}");
    for part in ["decided:  start a worker for cold on one", "decided:  start a worker for warm on one"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("first difference") && text.contains("free memory, devices and labels of hives"), "{text}");

    let events = fleet.rbee(&["events", "--since", "1h", "--json"]).await;
    let events = String::from_utf8(events.stdout).expect("text");
    let file = fleet.folder().join("events.json");
    let path = file.display().to_string();
    fs::write(&file, &events).expect("written");
    let (code, text) = replay(&fleet, &[&path]).await;
    assert_eq!(code, Some(0), "{text}");
    let is_placement_of_warm = |line: &&str| line.contains(".placed\"") && line.contains("\"warm\"");
    let changed: Vec<&str> = events.lines().filter(|line| !is_placement_of_warm(line)).collect();
    assert_eq!(changed.len() + 1, events.lines().count(), "{events}");
    fs::write(&file, changed.join("\n")).expect("written");
    let (code, text) = replay(&fleet, &[&path]).await;
    assert_eq!(code, Some(1), "{text}");
    let difference = text.split_once("first difference").expect("a difference").1;
    assert!(difference.contains("start a worker for warm on one") && difference.contains("nothing"), "{text}");
}

#[tokio::test]
async fn file_that_holds_no_events_is_refused_with_the_line() {
    let fleet = Fleet::bare().await;
    let file = fleet.folder().join("events.json");
    fs::write(&file, "{\"at\":\"2026-01-01T00:00:00.000Z\",\"subject\":\"rbee.evt.x\",\"body\":{}}\nhello\n")
        .expect("written");
    let (code, text) = replay(&fleet, &[&file.display().to_string()]).await;
    assert!(code == Some(2) && text.contains("line 2") && text.contains("rbee events --json"), "{text}");
}
