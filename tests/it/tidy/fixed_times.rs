//! Every fixed time has a reason, and no time stands in the middle of code. A time is a setting, or a constant whose doc
//! comment says in a sentence why nobody needs to set it (docs/adr/0015-what-is-a-setting.md).

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprCall, ImplItemConst, Item, ItemConst, ItemStatic, Lit, Macro, Meta, Type, visit::Visit,
};

use super::{
    paths::attributes_of,
    source::{SourceFile, Violation, assert_none, is_for_tests, rust_files},
};

const ROLES: [&str; 5] = ["nats", "queen", "hive", "worker", "cli"];

/// Units that longer times are made of.
const UNITS: [&str; 4] = ["SECOND", "MINUTE", "HOUR", "DAY"];

/// Words that a reason has at least. Fewer only repeat the name.
const REASON: usize = 5;

struct Times<'a> {
    file: &'a SourceFile,
    constants: usize,
    found: Vec<Violation>,
}

impl Times<'_> {
    fn check(&mut self, name: &proc_macro2::Ident, attributes: &[Attribute]) {
        self.constants += 1;
        if !UNITS.contains(&name.to_string().as_str()) && !is_reason(&doc(attributes)) {
            let line = name.span().start().line;
            self.found
                .push(self.file.violation(line, format!("{name} needs a sentence that says why it is this long")));
        }
    }

    fn report_literal(&mut self, line: usize) {
        let text = self.file.text.lines().nth(line - 1).unwrap_or_default().trim();
        self.found.push(self.file.violation(line, format!("a time in the middle of code: `{text}`")));
    }
}

impl<'ast> Visit<'ast> for Times<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        if is_duration(&item.ty) {
            self.check(&item.ident, &item.attrs);
        } else {
            syn::visit::visit_item_const(self, item);
        }
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        if is_duration(&item.ty) {
            self.check(&item.ident, &item.attrs);
        } else {
            syn::visit::visit_item_static(self, item);
        }
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        if is_duration(&item.ty) {
            self.check(&item.ident, &item.attrs);
        } else {
            syn::visit::visit_impl_item_const(self, item);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(function) = &*call.func {
            let segments: Vec<String> = function.path.segments.iter().map(|one| one.ident.to_string()).collect();
            let is_number = matches!(call.args.first(), Some(Expr::Lit(literal)) if matches!(literal.lit, Lit::Int(_) | Lit::Float(_)));
            if is_number && makes_a_duration(&segments) {
                self.report_literal(function.path.segments[0].ident.span().start().line);
            }
        }
        syn::visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        literals_in_tokens(call.tokens.clone()).into_iter().for_each(|line| self.report_literal(line));
    }
}

fn makes_a_duration(segments: &[String]) -> bool {
    matches!(segments, [.., kind, function] if kind == "Duration" && function.starts_with("from_"))
}

/// The lines of `Duration::from_*(number)` in a macro call.
fn literals_in_tokens(tokens: TokenStream) -> Vec<usize> {
    let mut found = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => names.push(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' => {}
            TokenTree::Group(group) => {
                let first = group.stream().into_iter().next();
                if makes_a_duration(&names) && matches!(first, Some(TokenTree::Literal(_))) {
                    found.push(group.span_open().start().line);
                }
                found.extend(literals_in_tokens(group.stream()));
                names.clear();
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => names.clear(),
        }
    }
    found
}

fn is_duration(kind: &Type) -> bool {
    matches!(kind, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Duration"))
}

fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        Meta::Path(_) | Meta::List(_) | Meta::NameValue(_) => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// One full sentence at least.
fn is_reason(doc: &str) -> bool {
    doc.split_whitespace().count() >= REASON && doc.trim_end().ends_with(['.', '`', ')']) && doc.contains('.')
}

fn times(file: &SourceFile) -> Times<'_> {
    let mut times = Times { file, constants: 0, found: Vec::new() };
    times.visit_file(&file.parse());
    times
}

#[test]
fn every_fixed_time_has_a_reason() {
    let files = rust_files();
    let (mut found, mut count) = (Vec::new(), 0);
    for role in ROLES {
        let folder = format!("{role}/src");
        for file in files.iter().filter(|file| file.is_in(&folder) && !file.is_for_tests()) {
            let times = times(file);
            count += times.constants;
            found.extend(times.found);
        }
    }
    assert!(count >= 50, "{count} fixed times were found, and there are more");
    assert_none("docs/adr/0015-what-is-a-setting.md says whether a time is a setting, and where it goes", &found);
}

#[test]
fn a_constant_without_a_reason_is_found() {
    for bad in [
        "const WAIT: Duration = Duration::from_secs(1);",
        "/// The wait.\npub(super) const WAIT: std::time::Duration = Duration::from_secs(1);",
        "impl A {\n    /// Long enough\n    const WAIT: Duration = Duration::from_secs(1);\n}",
        "static WAIT: Duration = 3 * SECOND;",
    ] {
        assert_eq!(times(&SourceFile::sample("a.rs", bad)).found.len(), 1, "{bad}");
    }
}

#[test]
fn a_literal_time_in_code_is_found() {
    for bad in [
        "fn f() { sleep(Duration::from_millis(50)); }",
        "const A: u8 = f(std::time::Duration::from_secs(1));",
        "fn f() { select! { _ = sleep(Duration::from_secs(1)) => {} } }",
    ] {
        assert_eq!(times(&SourceFile::sample("a.rs", bad)).found.len(), 1, "{bad}");
    }
    for fine in [
        "/// Two lost heartbeats are no reason to act.\nconst WAIT: Duration = Duration::from_secs(1);",
        "const MINUTE: Duration = Duration::from_secs(60);",
        "fn f() { sleep(Duration::from_millis(load_ms)); }",
        "fn f() { sleep(3 * SECOND); }",
        "#[cfg(test)]\nmod tests { fn f() { sleep(Duration::from_secs(1)); } }",
    ] {
        assert_eq!(times(&SourceFile::sample("a.rs", fine)).found, [], "{fine}");
    }
}
