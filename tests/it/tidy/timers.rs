//! Nothing polls for readiness: the queen and the hive learn everything from the bus and the kernel. Their timers are
//! deadlines, pauses and heartbeats, and each one says so in a comment `// Timer: reason` directly above its call.

use syn::{Expr, Stmt, spanned::Spanned as _, visit::Visit};

use super::{
    paths::{Paths, attributes_of},
    source::{SourceFile, Violation, assert_none, is_for_tests, rust_files},
};

const ROLES: [&str; 2] = ["queen", "hive"];

const TIMERS: [&str; 6] = ["sleep", "sleep_until", "interval", "interval_at", "timeout", "timeout_at"];

const MARK: &str = "// Timer: ";

/// Calls of timers that no comment gives a reason for.
fn violations(file: &SourceFile) -> Vec<Violation> {
    let parsed = file.parse();
    let lines: Vec<&str> = file.text.lines().collect();
    let starts = starts_of_statements(&parsed);
    let mut found = Vec::new();
    for (timer, line) in timers(&parsed) {
        let statement =
            starts.iter().filter(|(first, last)| (*first..=*last).contains(&line)).map(|(first, _)| *first).max();
        let has_reason = has_reason(&lines, line) || statement.is_some_and(|first| has_reason(&lines, first));
        if !has_reason {
            found.push(file.violation(line, format!("`{timer}` without `{MARK}<reason>` above it")));
        }
    }
    found
}

/// Each timer that is named outside of imports and tests, with its line.
fn timers(parsed: &syn::File) -> Vec<(String, usize)> {
    let paths = Paths::of_file(parsed);
    let imports: Vec<_> = paths.imports.iter().map(|import| import.path.clone()).collect();
    let is_timer = |segments: &[String]| match segments {
        [.., time, timer] => matches!(time.as_str(), "time" | "thread") && TIMERS.contains(&timer.as_str()),
        _ => false,
    };
    let named = paths.resolved().into_iter().filter(|path| is_timer(&path.segments) && !imports.contains(path));
    named.map(|path| (path.segments.last().cloned().unwrap_or_default(), path.line)).collect()
}

/// True where the comment that stands directly above a line, or at its end, begins with the mark and says something.
fn has_reason(lines: &[&str], line: usize) -> bool {
    let says = |comment: &str| comment.trim().strip_prefix(MARK).is_some_and(|reason| reason.len() >= 10);
    let at_end = lines[line - 1].find(MARK).is_some_and(|at| says(&lines[line - 1][at..]));
    let above = lines[..line - 1].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
    at_end || above.last().is_some_and(|first| says(first))
}

/// The first and last lines of statements and of arms, in which a call may stand on a later line than the comment.
fn starts_of_statements(parsed: &syn::File) -> Vec<(usize, usize)> {
    #[derive(Default)]
    struct Starts(Vec<(usize, usize)>);
    impl<'ast> Visit<'ast> for Starts {
        fn visit_item(&mut self, item: &'ast syn::Item) {
            if !is_for_tests(attributes_of(item)) {
                syn::visit::visit_item(self, item);
            }
        }
        fn visit_stmt(&mut self, statement: &'ast Stmt) {
            let span = statement.span();
            self.0.push((span.start().line, span.end().line));
            syn::visit::visit_stmt(self, statement);
        }
        fn visit_expr(&mut self, expression: &'ast Expr) {
            // The calls of a chain stand on lines of their own.
            if let Expr::MethodCall(call) = expression {
                self.0.push((call.span().start().line, call.span().end().line));
            }
            syn::visit::visit_expr(self, expression);
        }
    }
    let mut starts = Starts::default();
    starts.visit_file(parsed);
    starts.0
}

#[test]
fn every_timer_of_queen_and_hive_states_its_reason() {
    let files = rust_files();
    let (mut found, mut count) = (Vec::new(), 0);
    for role in ROLES {
        let folder = format!("{role}/src");
        for file in files.iter().filter(|file| file.is_in(&folder) && !file.is_for_tests()) {
            count += timers(&file.parse()).len();
            found.extend(violations(file));
        }
    }
    assert!(count >= 15, "{count} timers were found, and there are more");
    assert_none("a timer is no way to wait for readiness", &found);
}

#[test]
fn a_timer_without_a_reason_is_found() {
    let lines = |text: &str| -> Vec<usize> {
        violations(&SourceFile::sample("a.rs", text)).iter().map(|violation| violation.line).collect()
    };
    let import = "use tokio::time::{self, sleep as rest};\n";
    assert_eq!(lines(&format!("{import}fn f() {{\n    rest(A).await;\n}}")), [3]);
    assert_eq!(lines(&format!("{import}fn f() {{\n    // Timer: \n    rest(A).await;\n}}")), [4], "no reason");
    assert_eq!(lines(&format!("{import}fn f() {{\n    // A pause.\n    rest(A).await;\n}}")), [4], "no mark");
    assert_eq!(lines(&format!("{import}fn f() {{\n    select! {{ _ = time::sleep(A) => {{}} }}\n}}")), [3]);
    assert_eq!(lines("fn f() {\n    g();\n    std::thread::sleep(A);\n}"), [3]);
}

#[test]
fn a_reason_may_stand_above_the_call_or_above_its_statement() {
    let import = "use tokio::time::timeout;\n";
    for fine in [
        "fn f() {\n    // Timer: the deadline of a health check.\n    timeout(A, b()).await;\n}",
        "fn f() {\n    // Timer: the deadline of a health check,\n    // which may be long.\n    let x =\n        timeout(A, b())\n            .await;\n}",
        "fn f() {\n    select! {\n        // Timer: the end of the lease.\n        _ = timeout(A, b()) => {}\n    }\n}",
        "fn f() {\n    let timeout = 3;\n    g(other::timeout(1));\n}",
    ] {
        let import = if fine.contains("let timeout") { "" } else { import };
        assert_eq!(violations(&SourceFile::sample("a.rs", &format!("{import}{fine}"))), [], "{fine}");
    }
}
