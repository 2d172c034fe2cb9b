//! Generated files are fresh, and documents name everything that they list.

use std::fs;

use rbee_cli::{example_config, generated_schemas};
use rbee_tests::tools::repository;

#[test]
fn every_operation_is_documented_with_its_command_line() {
    let text = fs::read_to_string(repository().join("docs/operations.md")).expect("a file of this repository");
    for operation in rbee_nats::OPERATIONS {
        assert!(text.contains(&format!("nats req rbee.api.{operation} ")), "docs/operations.md has no {operation}");
    }
}

#[test]
fn generated_files_are_fresh() {
    let folder = repository().join("schema/schemas");
    for (name, text) in generated_schemas() {
        let stored = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(stored == text, "schema/schemas/{name} is stale: run `make generate`");
    }
    let files = fs::read_dir(&folder).expect("the folder exists").count();
    assert_eq!(files, generated_schemas().len(), "schema/schemas holds a file that nothing generates");
    let stored = fs::read_to_string(repository().join("docs/rbee.toml")).unwrap_or_default();
    assert!(stored == example_config(), "docs/rbee.toml is stale: run `make generate`");
}
