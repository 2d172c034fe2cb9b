//! Connecting: an unusable server is reported at once, with what was found and what to do.

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
async fn unreachable_server_error_names_address_and_remedy() {
    let port = Port::take();
    let url = format!("nats://127.0.0.1:{}", port.number());
    let error = soon("answer", connect(&url, "rbee")).await.expect_err("no server answers");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("rbee up") && text.contains("--nats"), "{text}");
}

#[tokio::test]
async fn connecting_to_an_unresponsive_server_times_out() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", unresponsive.local_addr().expect("an address"));
    let error = soon("answer", connect(&url, "rbee")).await.expect_err("no greeting comes");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn server_without_jetstream_is_refused_with_a_remedy() {
    let server = NatsServer::start_without_jetstream().await;
    let error = connect(server.url(), "rbee").await.expect_err("no JetStream");
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error}");
    assert!(error.to_string().contains("-js"), "{error}");
}

#[tokio::test]
async fn old_server_is_refused_with_its_and_the_required_version() {
    let error = connect_to_greeter(r#""version":"2.9.10","max_payload":1048576"#).await;
    assert!(matches!(error, ConnectError::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("2.9.10") && text.contains("2.12 or newer"), "{text}");
}

#[tokio::test]
async fn server_with_a_small_message_limit_is_refused_with_a_remedy() {
    let error = connect_to_greeter(r#""version":"2.15.1","max_payload":65536"#).await;
    assert!(matches!(error, ConnectError::SmallPayload { found: 65_536, needed, .. } if needed > 512 << 10), "{error}");
    assert!(error.to_string().contains("max_payload: 1MB"), "{error}");
}

/// The error of connecting to a server whose greeting has these fields.
async fn connect_to_greeter(fields: &str) -> ConnectError {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let info = format!(
        r#"INFO {{"server_id":"S","go":"","host":"127.0.0.1","port":4222,"headers":true,"jetstream":true,"proto":1,{fields}}}"#
    );
    let greeter = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            greet(stream, &info).await;
        }
    });
    let error = connect(&url, "rbee").await.expect_err("the server is unsuitable");
    greeter.abort();
    error
}

/// The minimum that a client expects of a server: a greeting, and an answer to its ping.
async fn greet(mut stream: TcpStream, info: &str) {
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
async fn connection_reports_loss_and_return_of_the_server() {
    let mut server = NatsServer::start().await;
    let bus = server.connect("rbee").await;
    let mut online = bus.online();
    assert!(*online.borrow_and_update());
    server.kill().await;
    soon("loss of the connection", online.wait_for(|online| !online)).await.expect("the connection is ours");
    server.restart().await;
    soon("return of the connection", online.wait_for(|online| *online)).await.expect("the connection is ours");
    bus.round_trip().await.expect("the server answers again");
}

#[tokio::test]
async fn confirmed_subscription_misses_no_message() {
    let server = NatsServer::start().await;
    let (subscriber, publisher) = (server.connect("rbee").await, server.connect("rbee").await);
    for round in 0..50 {
        let subject = format!("round.{round}");
        let mut messages = subscriber.subscribe(subject.clone()).await.expect("subscribed");
        publisher.client().publish(subject, "hello".into()).await.expect("published");
        let message = soon("message", futures::StreamExt::next(&mut messages)).await.expect("the connection is open");
        assert_eq!(message.payload, "hello");
    }
}

#[tokio::test]
async fn request_to_a_killed_server_fails_in_time() {
    let mut server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    server.kill().await;
    let started = tokio::time::Instant::now();
    assert!(soon("refusal", bus.queue_depths()).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
