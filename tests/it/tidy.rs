//! Rules about the code itself.

use std::{fs, path::Path};

use rbee_cli::{config::example, verb::schema::generated};
use rbee_tests::tools::repository;

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of this repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn decisions_do_no_io_and_read_no_clock() {
    for role in ["queen", "hive", "worker"] {
        let mut files = Vec::new();
        rust_files(&repository().join(role).join("src/decide"), &mut files);
        assert!(!files.is_empty(), "{role} decides something");
        // What tests begin with may look at the clock.
        let is_of_tests = |file: &Path| file.ends_with("tests.rs") || file.ends_with("fixture.rs");
        for file in files.iter().filter(|file| !is_of_tests(file)) {
            let text = fs::read_to_string(file).expect("a file of this repository");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in ["tokio", "async ", "std::fs", "std::net", "std::process", "Instant::now", "SystemTime::now"] {
                assert!(!code.contains(word), "{}: `{word}` has no place in a decision", file.display());
            }
        }
    }
}

#[test]
fn nothing_polls_for_readiness() {
    // Every timer of queen and hive stands here with what it is for; a new one must give its reason.
    let allowed = [
        ("queen/src/controller/mod.rs", "sleep_until"), // a decision's own deadline
        ("queen/src/leader.rs", "interval"),            // the renewal of her lease
        ("queen/src/leader.rs", "sleep_until"),         // the end of her lease
        ("queen/src/leader.rs", "timeout_at"),          // the same, while she waits for the server
        ("queen/src/sealer.rs", "sleep_until"),         // a seal for many events
        ("queen/src/sealer.rs", "sleep"),               // a pause before the stream is tried again
        ("queen/src/gateway/chat.rs", "interval"),      // a silent stream says that it lives
        ("hive/src/supervisor/mod.rs", "sleep_until"),  // a worker's own deadline
        ("hive/src/supervisor/mod.rs", "interval"),     // heartbeat, presence, lease renewal, own clock, health checks
        ("hive/src/supervisor/mod.rs", "sleep"),        // a pause before commands are received again
        ("hive/src/supervisor/shutdown.rs", "timeout_at"), // the last words
        ("hive/src/supervisor/shutdown.rs", "sleep_until"), // the deadlines of a shutdown
        ("hive/src/supervisor/watch.rs", "timeout"),    // what a worker said last before its end
        ("hive/src/probe.rs", "timeout"),               // a health check
        ("hive/src/store/fetch.rs", "sleep"),           // a pause before the hub is tried again
        ("hive/src/store/hub.rs", "timeout"),           // a silent connection
        ("hive/src/store/lock.rs", "timeout"),          // another process that holds a file and brings nothing
    ];
    for role in ["queen", "hive"] {
        let mut files = Vec::new();
        rust_files(&repository().join(role).join("src"), &mut files);
        for file in files {
            let name = file.strip_prefix(repository()).expect("a file of this repository").display().to_string();
            let text = fs::read_to_string(&file).expect("a file of this repository");
            for timer in ["sleep(", "sleep_until(", "interval(", "interval_at(", "timeout(", "timeout_at("] {
                let is_allowed = allowed.contains(&(name.as_str(), timer.trim_end_matches('(')));
                assert!(is_allowed || !text.contains(timer), "{name} has a timer `{timer}`: what is it for?");
            }
        }
    }
}

#[test]
fn every_operation_is_documented_with_its_line() {
    let text = fs::read_to_string(repository().join("docs/operations.md")).expect("a file of this repository");
    for operation in rbee_nats::OPERATIONS {
        assert!(text.contains(&format!("nats req rbee.api.{operation} ")), "docs/operations.md has no {operation}");
    }
}

#[test]
fn generated_files_are_fresh() {
    let folder = repository().join("schema/schemas");
    for (name, text) in generated() {
        let stored = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(stored == text, "schema/schemas/{name} is stale: run `make generate`");
    }
    let files = fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(files, generated().len(), "schema/schemas holds a file that nothing generates");
    let stored = fs::read_to_string(repository().join("docs/rbee.toml")).unwrap_or_default();
    assert!(stored == example(), "docs/rbee.toml is stale: run `make generate`");
}
