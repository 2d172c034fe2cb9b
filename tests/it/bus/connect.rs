//! Connecting: what cannot work is told at once, with what was found and what to do.

use std::time::Duration;

use rbee_nats::ConnectError;
use rbee_tests::{
    nats::{NatsServer, connect},
    port::Port,
    wait::soon,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn where_nobody_answers_the_address_and_the_remedy_are_told() {
    let port = Port::take();
    let url = format!("nats://127.0.0.1:{}", port.number());
    let error = soon("answer", connect(&url, "rbee")).await.expect_err("nobody is there");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("rbee up") && text.contains("--nats"), "{text}");
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", silent.local_addr().expect("an address"));
    let error = soon("answer", connect(&url, "rbee")).await.expect_err("nobody speaks");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused_with_the_remedy() {
    let server = NatsServer::start_without_jetstream().await;
    let error = connect(server.url(), "rbee").await.expect_err("no JetStream");
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error}");
    assert!(error.to_string().contains("-js"), "{error}");
}

#[tokio::test]
async fn an_old_server_is_refused_with_its_version_and_the_one_that_is_needed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let old_server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            greet_as_old_server(stream).await;
        }
    });
    let error = connect(&url, "rbee").await.expect_err("too old");
    assert!(matches!(error, ConnectError::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("2.9.10") && text.contains("2.12 or newer"), "{text}");
    old_server.abort();
}

/// The least that a client needs to take somebody for a server: a greeting, and an answer to its ping.
async fn greet_as_old_server(mut stream: TcpStream) {
    let info = r#"INFO {"server_id":"OLD","version":"2.9.10","go":"","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"proto":1}"#;
    let (reader, mut writer) = stream.split();
    let _ = writer.write_all(format!("{info}\r\n").as_bytes()).await;
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("PING") {
            let _ = writer.write_all(b"PONG\r\n").await;
        }
    }
}

#[tokio::test]
async fn a_connection_tells_when_the_server_goes_and_comes_back() {
    let mut server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let mut online = bus.online();
    assert!(*online.borrow_and_update());
    server.kill().await;
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("told");
    server.restart().await;
    soon("return of the connection", online.wait_for(|online| *online)).await.expect("told");
    bus.round_trip().await.expect("the server answers again");
}

#[tokio::test]
async fn a_subscription_that_is_there_misses_nothing() {
    let server = NatsServer::start().await;
    let (listener, speaker) = (server.connect("rbee").await, server.connect("rbee").await);
    for round in 0..50 {
        let subject = format!("round.{round}");
        let mut heard = listener.subscribe(subject.clone()).await.expect("subscribed");
        speaker.client().publish(subject, "hello".into()).await.expect("published");
        let message = soon("message", futures::StreamExt::next(&mut heard)).await.expect("the connection stands");
        assert_eq!(message.payload, "hello");
    }
}

#[tokio::test]
async fn a_request_to_a_server_that_is_gone_fails_in_time() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    server.kill().await;
    let started = tokio::time::Instant::now();
    assert!(soon("refusal", bus.queue_depths()).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
