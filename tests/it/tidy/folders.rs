//! The top level of the repository shows the product: one folder for each part of it, and nothing else.

use std::collections::BTreeSet;

use super::source::text_files;

const FOLDERS: [&str; 10] = ["bench", "cli", "docs", "hive", "nats", "queen", "schema", "scripts", "tests", "worker"];

/// The visible top-level folders that hold one of these files.
fn folders<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    paths
        .filter_map(|path| path.split_once('/'))
        .map(|(folder, _)| folder)
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[test]
fn the_top_level_holds_the_folders_of_the_product_and_no_other() {
    let files = text_files();
    assert_eq!(folders(files.iter().map(|file| file.path.as_str())), BTreeSet::from(FOLDERS));
}

#[test]
fn folders_are_told_from_files_and_hidden_folders() {
    let paths = ["README.md", ".ci/run", "cli/src/main.rs", "cli/Cargo.toml", "extra/a/b"];
    assert_eq!(folders(paths.into_iter()), BTreeSet::from(["cli", "extra"]));
}
