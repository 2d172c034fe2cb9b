//! Every path that a Rust file writes: in imports, types, expressions, attributes, and inside of macro calls.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, ItemUse, Meta, UseTree, Visibility, spanned::Spanned as _, visit::Visit};

use super::source::is_for_tests;

/// A path such as `tokio::time::sleep`, with the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// One name that a `use` brings into scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: WrittenPath,
    /// The name in this file; `None` for `use x::*`.
    pub(super) alias: Option<String>,
    /// True for `pub use`, `pub(crate) use` and `pub(super) use`.
    pub(super) is_reexport: bool,
}

/// The imports and paths of one module. Code of tests is left out.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) imports: Vec<Import>,
    pub(super) written: Vec<WrittenPath>,
}

impl Paths {
    /// The paths of these items and of everything inside them, except modules: those are modules of their own.
    pub(super) fn of_module(items: &[Item]) -> Self {
        let mut paths = Self::default();
        items.iter().filter(|item| !matches!(item, Item::Mod(_))).for_each(|item| paths.visit_item(item));
        paths
    }

    /// The paths of a whole file, inline modules included.
    pub(super) fn of_file(file: &syn::File) -> Self {
        let mut paths = Self::default();
        paths.visit_file(file);
        paths
    }

    /// Every path in full: where its first segment is an imported name, the import's path stands in its place. Imports
    /// themselves are included.
    pub(super) fn resolved(&self) -> Vec<WrittenPath> {
        let names: BTreeMap<&str, &[String]> = self
            .imports
            .iter()
            .filter_map(|import| Some((import.alias.as_deref()?, import.path.segments.as_slice())))
            .collect();
        let expand = |path: &WrittenPath| {
            let Some(import) = names.get(path.segments[0].as_str()) else { return path.clone() };
            WrittenPath { segments: [import, &path.segments[1..]].concat(), line: path.line }
        };
        self.imports.iter().map(|import| import.path.clone()).chain(self.written.iter().map(expand)).collect()
    }

    fn add_tokens(&mut self, tokens: TokenStream) {
        self.written.extend(paths_in_tokens(tokens));
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        add_imports(&item.tree, &mut Vec::new(), is_reexport, &mut self.imports);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.written.push(WrittenPath { segments, line: path.span().start().line });
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }
}

fn add_imports(tree: &UseTree, prefix: &mut Vec<String>, is_reexport: bool, found: &mut Vec<Import>) {
    let mut add = |last: Option<String>, alias: Option<String>, line: usize| {
        // `use a::{self}` imports `a`.
        let last = last.filter(|last| last != "self" || prefix.is_empty());
        let alias = if alias.as_deref() == Some("self") { prefix.last().cloned() } else { alias };
        let segments = prefix.iter().cloned().chain(last).collect();
        found.push(Import { path: WrittenPath { segments, line }, alias, is_reexport });
    };
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            add_imports(&path.tree, prefix, is_reexport, found);
            prefix.pop();
        }
        UseTree::Name(name) => {
            let text = name.ident.to_string();
            add(Some(text.clone()), Some(text), name.ident.span().start().line);
        }
        UseTree::Rename(rename) => {
            add(Some(rename.ident.to_string()), Some(rename.rename.to_string()), rename.ident.span().start().line);
        }
        UseTree::Glob(glob) => add(None, None, glob.span().start().line),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| add_imports(tree, prefix, is_reexport, found));
        }
    }
}

/// Names that are joined by `::`, and single names that are no field or method.
fn paths_in_tokens(tokens: TokenStream) -> Vec<WrittenPath> {
    let mut found: Vec<WrittenPath> = Vec::new();
    // Colons since the last name; a name after two of them continues its path, a name after a dot begins none.
    let (mut colons, mut follows_a_name, mut follows_a_dot) = (0, false, false);
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                match found.last_mut() {
                    Some(path) if follows_a_name && colons == 2 => path.segments.push(name),
                    _ if follows_a_dot => {}
                    _ => found.push(WrittenPath { segments: vec![name], line: ident.span().start().line }),
                }
                (colons, follows_a_name) = (0, !follows_a_dot);
                follows_a_dot = false;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Punct(punct) => (colons, follows_a_name, follows_a_dot) = (0, false, punct.as_char() == '.'),
            TokenTree::Group(group) => {
                found.extend(paths_in_tokens(group.stream()));
                (colons, follows_a_name, follows_a_dot) = (0, false, false);
            }
            TokenTree::Literal(_) => (colons, follows_a_name, follows_a_dot) = (0, false, false),
        }
    }
    found
}

pub(super) fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn paths_are_found_in_imports_types_expressions_and_macros() {
    let file = syn::parse_file(
        "use std::{fs, time::{self, Duration as Span}};\n\
         fn f(x: Span) { fs::read(x); }\n\
         fn g() { select! { _ = time::sleep(a.b) => crate::h::<T>() } }\n\
         #[cfg(test)] mod tests { use super::hidden; }",
    );
    let paths = Paths::of_file(&file.expect("it is Rust"));
    let found: Vec<String> =
        paths.resolved().iter().map(|path| format!("{}:{}", path.line, path.segments.join("::"))).collect();
    for path in
        ["1:std::fs", "1:std::time", "2:std::time::Duration", "2:std::fs::read", "3:std::time::sleep", "3:crate::h"]
    {
        assert!(found.iter().any(|one| one == path), "{path}: {found:?}");
    }
    assert!(!found.iter().any(|path| path.contains("hidden") || path.ends_with(":b")), "{found:?}");
}
