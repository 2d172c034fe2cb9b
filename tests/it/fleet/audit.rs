//! The audit trail detects changes, and alerts report what needs an operator.

use rbee_nats::recent_events;
use rbee_schema::{AlertEvent, AlertKind, AuditEvent, ModelReference, ModelSpec};
use rbee_tests::{
    fleet::Fleet,
    wait::{PATIENCE, eventually},
};

async fn run(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, String) {
    let output = fleet.rbee(arguments).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // Lines are wrapped to the width of a terminal.
    (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
}

async fn seals(fleet: &Fleet) -> Vec<AuditEvent> {
    let events = recent_events(&fleet.bus, "rbee.evt.audit.sealed", std::time::SystemTime::UNIX_EPOCH).await;
    events.expect("the server answers").iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect()
}

async fn alerts(fleet: &Fleet, kind: AlertKind) -> Vec<AlertEvent> {
    let filter = format!("rbee.evt.alert.{kind}.*");
    let events = recent_events(&fleet.bus, &filter, std::time::SystemTime::UNIX_EPOCH).await;
    events.expect("the server answers").iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect()
}

#[tokio::test]
async fn removed_event_breaks_the_audit_trail_across_leaders() {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    let spec = ModelSpec::new(ModelReference::Mock(String::new()));
    fleet.serve("m", spec.clone()).await;
    eventually("events are sealed", PATIENCE, async || !seals(&fleet).await.is_empty()).await;
    fleet.kill_role("queen");
    let before = seals(&fleet).await.len();
    fleet.serve("m", ModelSpec { slots: 4, ..spec }).await;
    eventually("the other queen seals events", PATIENCE, async || seals(&fleet).await.len() > before).await;
    let (code, text) = run(&fleet, &["audit", "verify"]).await;
    assert!(code == Some(0) && text.contains("events under"), "{text}");
    let hash = text.rsplit(' ').next().expect("a hash").to_owned();
    let (code, text) = run(&fleet, &["audit", "verify", "--expect", &hash]).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&fleet, &["audit", "verify", "--expect", "0000"]).await;
    assert!(code == Some(1) && text.contains("no seal has the hash 0000"), "{text}");

    let (code, text) = run(&fleet, &["audit", "--since", "10m"]).await;
    assert_eq!(code, Some(0));
    for words in ["hive one joined", "model m declared new: mock:", "model m declared slots 2 -> 4", "leader-changed"] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let stream = fleet.bus.jetstream().get_stream("rbee_events").await.expect("the stream exists");
    let joined = recent_events(&fleet.bus, "rbee.evt.hive.one.joined", std::time::SystemTime::UNIX_EPOCH).await;
    let joined = joined.expect("the server answers").remove(0).sequence;
    stream.delete_message(joined).await.expect("it can be deleted");
    let (code, text) = run(&fleet, &["audit", "verify"]).await;
    assert!(code == Some(1) && text.contains("was changed, added or removed"), "{text}");
}

#[tokio::test]
async fn dead_letters_and_crash_loops_raise_alerts_that_clear() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let one = fleet.hive_one("first_backoff=10ms,backoff=10ms,backoff_most=20ms,trial=10m");
    fleet.start_hive(&one).await;
    fleet.serve_mock("m", "crash=0", 1, 1).await;
    // Each job kills three workers before it is dead-lettered. A worker enters a crash loop after five exits in a row.
    for _ in 0..6 {
        fleet.submit("m", rbee_tests::fleet::chat("Hi")).await;
    }
    eventually("a job is dead-lettered", PATIENCE, async || !alerts(&fleet, AlertKind::DeadLetter).await.is_empty())
        .await;
    eventually("the event is published", PATIENCE, async || !alerts(&fleet, AlertKind::CrashLoop).await.is_empty())
        .await;
    let raised = alerts(&fleet, AlertKind::CrashLoop).await;
    assert!(
        matches!(&raised[..], [AlertEvent::Raised { about, remedy, .. }] if about.starts_with("one/m-") && remedy.contains("rbee reset")),
        "{raised:?}"
    );
    fleet.rbee(&["remove", "m"]).await;
    let is_over = |alerts: &[AlertEvent]| matches!(alerts.last(), Some(AlertEvent::Cleared { .. }));
    eventually("the alert is cleared", PATIENCE, async || is_over(&alerts(&fleet, AlertKind::CrashLoop).await)).await;
}

#[tokio::test]
async fn refused_login_is_published_as_an_event() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let url = |login: &str| fleet.server.url().replace("nats://", &format!("nats://{login}@"));
    assert!(rbee_tests::nats::connect(&url("rbee:rbe%65"), "rbee").await.is_ok(), "the password is right");
    let refused = rbee_tests::nats::connect(&url("eve:wrong"), "rbee").await.expect_err("the password is wrong");
    assert!(refused.to_string().contains("refused the login: authorization violation"), "{refused}");
    eventually("the event is published", PATIENCE, async || {
        let events =
            recent_events(&fleet.bus, "rbee.evt.queen.*.login-refused", std::time::SystemTime::UNIX_EPOCH).await;
        let events = events.expect("the server answers");
        events.iter().any(|event| String::from_utf8_lossy(&event.body).contains(r#""user":"eve""#))
    })
    .await;
    let (_, text) = run(&fleet, &["audit", "--since", "10m"]).await;
    assert!(text.contains("login-refused") && text.contains("Authentication Failure"), "{text}");
}
