//! Batches: files of requests that the leading queen runs, also when it is killed meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rbee_nats::recent_events;
use rbee_schema::{
    BatchState, FailureCode,
    api::{Batch, BatchRequest, BatchRun, Batches, PageRequest},
};
use rbee_tests::{
    fleet::Fleet,
    wait::{PATIENCE, eventually, soon},
};
use serde_json::{Value, json};

/// A line with this id and this message.
fn line(custom_id: &str, content: &str) -> String {
    let body = json!({ "messages": [{ "role": "user", "content": content }], "seed": 1 });
    json!({ "custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body }).to_string()
}

fn write(fleet: &Fleet, lines: &[String]) -> PathBuf {
    let file = fleet.folder().join("requests.jsonl");
    fs::write(&file, lines.join("\n")).expect("written");
    file
}

fn read(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the output is written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn custom_ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["custom_id"].as_str().unwrap_or("-")).collect()
}

async fn batches(fleet: &Fleet) -> Vec<Batch> {
    let all: Result<Batches, _> = fleet.bus.request("batches", &PageRequest::default()).await;
    all.map(|all| all.batches).unwrap_or_default()
}

/// Number of times that each job was answered.
async fn answers(fleet: &Fleet) -> BTreeMap<String, usize> {
    let events = recent_events(&fleet.bus, "rbee.evt.job.*.*.finished", SystemTime::UNIX_EPOCH).await;
    let mut answers = BTreeMap::new();
    for event in events.expect("the server answers") {
        *answers.entry(event.subject).or_insert(0) += 1;
    }
    answers
}

/// Starts `rbee batch` with the file, and writes the answers to the returned file.
fn start(fleet: &Fleet, file: &Path) -> (std::process::Child, PathBuf) {
    let output = fleet.folder().join("answers.jsonl");
    let mut command = fleet.command();
    command.arg("batch").arg(file).args(["--model", "m", "--output"]).arg(&output);
    (command.spawn().expect("rbee runs"), output)
}

async fn success(mut run: std::process::Child) -> bool {
    let ended = tokio::task::spawn_blocking(move || run.wait());
    soon("end of rbee batch", ended).await.expect("no panic").expect("it ends").success()
}

#[tokio::test]
async fn batch_answers_good_and_bad_lines_in_order_within_its_window() {
    const LINES: usize = 300;
    const WINDOW: u64 = 16;
    let mut fleet = Fleet::bare().await;
    fleet.set_variable("RBEE_QUEEN_LIMITS", "batch_window=16");
    fleet.queen().await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.serve_mock("m", "tokens=3,interval=1ms", 1, 1).await;
    fleet.declared(&["m"]).await;
    let lines: Vec<String> = (0..LINES)
        .map(|number| match number {
            7 => "{".to_owned(),
            8 => line("line-8", "Hi").replace("completions", "nothing"),
            9 => line("line-9", "Hi").replace(r#""seed":1"#, r#""model":"unknown""#),
            10 => line("line-10", &"x".repeat(700 << 10)),
            _ => line(&format!("line-{number}"), "Hi"),
        })
        .collect();
    let file = write(&fleet, &lines);
    let (run, output) = start(&fleet, &file);
    let most = async {
        let mut most: u64 = 0;
        loop {
            let depths = fleet.bus.queue_depths().await.expect("the server answers");
            most = most.max(depths.iter().map(|(_, depth)| *depth).sum());
            if batches(&fleet).await.iter().any(|batch| batch.record.state.is_final()) {
                return most;
            }
        }
    };
    let (succeeded, most) = tokio::join!(success(run), soon("end of the batch", most));
    assert!(succeeded);
    // The jobs of the worker's two slots leave the queue a moment after their answers are complete.
    assert!((1..=WINDOW + 2).contains(&most), "{most} jobs in the queue");
    let answered = read(&output);
    let expected: Vec<String> =
        (0..LINES).map(|number| if number == 7 { "-".to_owned() } else { format!("line-{number}") }).collect();
    assert_eq!(custom_ids(&answered), expected);
    for (number, line) in answered.iter().enumerate() {
        let (status, code) = match number {
            7 => (400, Some("invalid-json")),
            8 => (400, Some("invalid-request")),
            9 => (404, Some("unknown-model")),
            10 => (400, Some("context-exceeded")),
            _ => (200, None),
        };
        assert_eq!(
            (line["response"]["status_code"].as_u64(), line["error"]["code"].as_str()),
            (Some(status), code),
            "{line}"
        );
        if code.is_none() {
            assert_eq!(line["response"]["body"]["usage"]["completion_tokens"], 3, "{line}");
            assert_eq!(line["response"]["body"]["object"], "chat.completion", "{line}");
        }
    }
    let [batch] = &batches(&fleet).await[..] else { panic!("one batch") };
    let counts = batch.record.counts;
    assert_eq!((counts.total, counts.completed, counts.failed), (LINES as u64, LINES as u64 - 4, 4));

    // The same file is the same batch.
    fs::remove_file(&output).expect("removed");
    let (again, output) = start(&fleet, &file);
    assert!(success(again).await);
    assert_eq!(read(&output), answered);
    assert_eq!(answers(&fleet).await.len(), LINES - 4, "nothing was computed again");
    let table = fleet.rbee(&["batch", "ls"]).await;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("finished") && table.contains("300/300"), "{table}");
    let got = fleet.rbee(&["batch", "get", batch.batch.as_str()]).await;
    assert_eq!(got.stdout, fs::read(&output).expect("read"));
}

#[tokio::test]
async fn batch_continues_with_each_line_once_when_its_queen_is_killed() {
    const LINES: usize = 200;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.queen_named("again", "").await;
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.serve_mock("m", "tokens=5,interval=10ms", 1, 1).await;
    fleet.declared(&["m"]).await;
    // The server forgets ids at once, so that a job that is submitted twice is stored twice.
    fleet.limit_bus("duplicates=100ms").await;
    let lines: Vec<String> = (0..LINES).map(|number| line(&format!("line-{number}"), "Hi")).collect();
    let (run, output) = start(&fleet, &write(&fleet, &lines));
    eventually("some lines are answered", PATIENCE, async || {
        batches(&fleet).await.iter().any(|batch| batch.record.counts.done() > 10)
    })
    .await;
    fleet.kill_role("queen");
    assert!(success(run).await);
    let answered = read(&output);
    let expected: Vec<String> = (0..LINES).map(|number| format!("line-{number}")).collect();
    assert_eq!(custom_ids(&answered), expected);
    assert!(answered.iter().all(|line| line["response"]["status_code"] == 200), "{answered:?}");
    let answers = answers(&fleet).await;
    assert_eq!(answers.len(), LINES);
    assert!(answers.values().all(|count| *count == 1), "{answers:?}");
    let twice = recent_events(&fleet.bus, "rbee.evt.job.*.*.failed", SystemTime::UNIX_EPOCH).await;
    assert_eq!(twice.expect("the server answers").len(), 0, "no job was submitted twice");
}

#[tokio::test]
async fn cancelled_batch_ends_its_jobs_and_keeps_its_answers() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=20,interval=10ms", 1, 1).await;
    fleet.declared(&["m"]).await;
    let lines: Vec<String> = (0..500).map(|number| line(&format!("line-{number}"), "Hi")).collect();
    let (run, output) = start(&fleet, &write(&fleet, &lines));
    let mut id = None;
    eventually("some lines are answered", PATIENCE, async || {
        let all = batches(&fleet).await;
        id = all.iter().find(|batch| batch.record.counts.done() > 3).map(|batch| batch.batch.clone());
        id.is_some()
    })
    .await;
    let id = id.expect("a batch");
    assert!(fleet.rbee(&["batch", "cancel", id.as_str()]).await.status.success());
    assert!(!success(run).await, "the command says that the batch was cancelled");
    let batch: Batch = fleet.bus.request("batch", &BatchRequest { batch: id }).await.expect("the queen answers");
    assert_eq!(batch.record.state, BatchState::Cancelled);
    let done = usize::try_from(batch.record.counts.done()).expect("few");
    assert!((4..500).contains(&done), "{done}");
    let expected: Vec<String> = (0..done).map(|number| format!("line-{number}")).collect();
    assert_eq!(custom_ids(&read(&output)), expected);
    eventually("no job of the batch is left", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn batch_is_run_by_request_for_files_of_its_tenant() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=2", 1, 1).await;
    fleet.declared(&["m"]).await;
    let files = fleet.bus.batches().files();
    files.put("acme/requests", line("a", "Hi").as_bytes()).await.expect("stored");
    let request = |tenant: &str, input: &str| BatchRun {
        batch: Some("one".parse().expect("a name")),
        tenant: tenant.parse().expect("a name"),
        model: Some("m".parse().expect("a name")),
        input: input.to_owned(),
    };
    for (tenant, input, code) in
        [("other", "acme/requests", FailureCode::InvalidRequest), ("acme", "acme/nothing", FailureCode::BodyMissing)]
    {
        let refused: Result<Batch, _> = fleet.bus.request("batch-run", &request(tenant, input)).await;
        assert_eq!(refused.expect_err("refused").code, code);
    }
    let batch: Batch = fleet.bus.request("batch-run", &request("acme", "acme/requests")).await.expect("accepted");
    let mut output = None;
    eventually("the answers are stored", PATIENCE, async || {
        output = files.find(&batch.record.output).await.expect("the server answers");
        output.is_some()
    })
    .await;
    let answers = files.read(&output.expect("an object")).await.expect("stored");
    let answer: Value = serde_json::from_slice(&answers).expect("one line of JSON");
    assert_eq!((&answer["custom_id"], &answer["response"]["status_code"]), (&json!("a"), &json!(200)));
    let unknown = BatchRequest { batch: "nothing".parse().expect("a name") };
    let unknown: Result<Batch, _> = fleet.bus.request("batch", &unknown).await;
    assert_eq!(unknown.expect_err("unknown").code, FailureCode::UnknownBatch);
}
