//! The harness itself: the server of a test is killed and started again with its data on its port.

use rbee_tests::nats::NatsServer;

use crate::sample::submission;

#[tokio::test]
async fn server_restarts_on_its_port_with_its_data() {
    let mut server = NatsServer::start().await;
    let before = server.bus("rbee").await;
    before.submit(submission("a")).await.expect("accepted");
    server.kill().await;
    server.restart().await;
    let after = server.connect("rbee").await;
    let waiting = after.queued_jobs(&after.namespace().all_jobs(), 1).await.expect("the server answers");
    assert_eq!(waiting.len(), 1);
}

#[tokio::test]
async fn two_servers_of_one_test_are_independent() {
    let (one, two) = (NatsServer::start().await, NatsServer::start().await);
    assert_ne!(one.url(), two.url());
    let (one, two) = (one.bus("rbee").await, two.bus("rbee").await);
    one.submit(submission("a")).await.expect("accepted");
    assert_eq!(two.queue_depths().await.expect("the server answers"), []);
}
