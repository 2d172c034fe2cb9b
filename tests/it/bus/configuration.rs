//! The shipped configurations in `nats/server` are valid.

use std::{fs, process::Command};

use rbee_tests::tools::{nats_server, repository};

#[test]
fn nats_server_accepts_every_shipped_configuration() {
    let mut checked = 0;
    for entry in fs::read_dir(repository().join("nats/server")).expect("the folder exists") {
        let file = entry.expect("an entry").path();
        let output = Command::new(nats_server())
            .arg("-t")
            .arg("--config")
            .arg(&file)
            .env("RBEE_NATS_NAME", "n1")
            .env("RBEE_NATS_ROUTES", r#"["nats://127.0.0.1:6222", "nats://127.0.0.2:6222"]"#)
            .env("RBEE_NATS_STORE", "unused")
            .env("RBEE_NATS_PASSWORD", "a-password")
            .output()
            .expect("the server can be started");
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
        checked += 1;
    }
    assert!(checked >= 4, "{checked} configurations");
}
