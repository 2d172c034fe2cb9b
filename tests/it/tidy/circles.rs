//! No file of a crate uses a file that uses it, directly or through others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    imports::{Uses, circles, uses},
    modules::{Crate, crate_roots},
    source::{SourceFile, Violation, assert_none, rust_files},
};

fn loaded(files: &[SourceFile]) -> Vec<Crate> {
    let by_path = files.iter().map(|file| (file.path.as_str(), file)).collect();
    crate_roots(files).into_iter().map(|root| Crate::load(root, &by_path)).collect()
}

/// Every use inside a circle.
fn violations(uses: &Uses) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, circle) in circles(uses).iter().enumerate() {
        for file in circle {
            for (other, used) in uses[*file].iter().filter(|(other, _)| circle.contains(other.as_str())) {
                let names: Vec<&str> = used.names.iter().map(String::as_str).collect();
                let text = format!("circle {}: uses {} of {other}", number + 1, names.join(", "));
                found.push(Violation { path: (*file).to_owned(), line: used.line, text });
            }
        }
    }
    found
}

#[test]
fn no_file_uses_a_file_that_uses_it() {
    let files = rust_files();
    let found: Vec<Violation> = loaded(&files).iter().flat_map(|one| violations(&uses(one))).collect();
    assert_none("files of a crate import each other in a circle", &found);
}

#[test]
fn every_rust_file_belongs_to_a_crate() {
    let files = rust_files();
    let crates = loaded(&files);
    let reached: BTreeSet<&str> =
        crates.iter().flat_map(|one| &one.modules).map(|module| module.path.as_str()).collect();
    let lost = files.iter().filter(|file| !reached.contains(file.path.as_str()));
    let found: Vec<Violation> = lost.map(|file| file.violation(1, "no `mod` declares this file")).collect();
    assert_none("a file that no crate contains is not compiled", &found);
}

/// The circles of a crate that consists of these files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<SourceFile> = files.iter().map(|(path, text)| SourceFile::sample(path, text)).collect();
    let uses: BTreeMap<_, _> = loaded(&files).iter().flat_map(uses).collect();
    violations(&uses).iter().map(Violation::to_string).collect()
}

#[test]
fn a_circle_of_two_files_is_found() {
    let found = circles_of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::b::B;\npub struct A;"),
        ("src/b.rs", "pub struct B;\nfn f() { assert!(super::a::A::is_fine()); }"),
    ]);
    assert_eq!(found, ["src/a.rs:1: circle 1: uses B of src/b.rs", "src/b.rs:2: circle 1: uses is_fine of src/a.rs"]);
}

#[test]
fn an_item_counts_for_the_file_that_defines_it_and_not_for_a_reexport() {
    let uses_defined = "use super::Defined;\npub struct Child;";
    let reexport = "mod child;\npub(crate) use child::Child;\n";
    let files = |lib: &'static str| [("src/lib.rs", lib), ("src/child.rs", uses_defined)];
    assert_eq!(circles_of(&files("mod child;\npub(crate) use child::Child;\npub struct Defined;")).len(), 0);
    let through_reexport =
        [("src/lib.rs", "mod a;\nmod b;\npub use a::A;"), ("src/a.rs", "pub struct A;"), ("src/b.rs", "use crate::A;")];
    assert_eq!(circles_of(&through_reexport).len(), 0, "{reexport}");
    let found = circles_of(&files("mod child;\nuse child::Child;\npub struct Defined(Child);"));
    let expected =
        ["src/child.rs:1: circle 1: uses Defined of src/lib.rs", "src/lib.rs:2: circle 1: uses Child of src/child.rs"];
    assert_eq!(found, expected);
    let by_name = circles_of(&files("mod child;\npub use child::Child;\npub struct Defined(Child);"));
    assert_eq!(by_name.len(), 2, "a re-exported name that the module itself uses: {by_name:?}");
}

#[test]
fn test_modules_are_in_no_circle() {
    let found = circles_of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}
