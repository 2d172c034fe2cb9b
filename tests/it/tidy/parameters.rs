//! A function has at most six parameters, its receiver included. Kernels are exempt: their shapes are their arguments.

use syn::{Signature, visit::Visit};

use super::source::{SourceFile, Violation, assert_none, rust_files};

const MOST: usize = 6;

const EXEMPT: &str = "worker/kernels";

struct Signatures<'a> {
    file: &'a SourceFile,
    found: Vec<Violation>,
}

impl<'ast> Visit<'ast> for Signatures<'_> {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let count = signature.inputs.len();
        if count > MOST {
            let (name, line) = (&signature.ident, signature.ident.span().start().line);
            self.found.push(self.file.violation(line, format!("fn {name} has {count} parameters")));
        }
        syn::visit::visit_signature(self, signature);
    }
}

fn violations(file: &SourceFile) -> Vec<Violation> {
    let mut signatures = Signatures { file, found: Vec::new() };
    signatures.visit_file(&file.parse());
    signatures.found
}

#[test]
fn no_function_has_more_than_six_parameters() {
    let files = rust_files();
    let files = files.iter().filter(|file| !file.is_in(EXEMPT));
    let found: Vec<Violation> = files.flat_map(violations).collect();
    assert_none("group what belongs together in a struct", &found);
}

#[test]
fn a_seventh_parameter_is_found() {
    let text = "fn six(a: A, b: A, c: A, d: A, e: A, f: A) {}\n\
                impl T {\n    fn seven(&self, a: A, b: A, c: A, d: A, e: A, f: A) {}\n}";
    let found: Vec<String> = violations(&SourceFile::sample("a.rs", text)).iter().map(Violation::to_string).collect();
    assert_eq!(found, ["a.rs:3: fn seven has 7 parameters"]);
}
