//! The modules of a crate: the file of each, the names that it defines, and how a path leads to one of them.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, ItemMod};

use super::{
    paths::{Import, Paths, WrittenPath, attributes_of},
    source::{SourceFile, is_for_tests},
};

/// All modules of one crate; the first is its root.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: Vec<Module>,
}

#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) path: String,
    pub(super) is_for_tests: bool,
    pub(super) paths: Paths,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
}

/// Target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// An item that this module defines, or that a macro defines there.
    ItemOf(usize),
    Module(usize),
}

/// The files that begin a crate: libraries, programs, examples, and integration tests.
pub(super) fn crate_roots(files: &[SourceFile]) -> Vec<&SourceFile> {
    let is_root = |file: &&SourceFile| {
        let mut parts = file.path.rsplit('/');
        let (name, folder, above) = (parts.next(), parts.next(), parts.next());
        let is_alone = matches!(folder, Some("bin" | "examples" | "fuzz_targets"))
            || folder == Some("tests") && above.is_some_and(|above| above != "src");
        is_alone || matches!(name, Some("lib.rs" | "main.rs"))
    };
    files.iter().filter(is_root).collect()
}

impl Crate {
    /// Reads the crate that begins in a file.
    pub(super) fn load(root: &SourceFile, files: &BTreeMap<&str, &SourceFile>) -> Self {
        let mut loader = Loader { files, modules: Vec::new() };
        let place = Place { file: root, folder: folder_of(&root.path).to_owned(), parent: None, is_for_tests: false };
        loader.add(&place, &root.parse().items);
        Self { modules: loader.modules }
    }

    /// Where a path that stands in module `from` leads; `None` where it leaves the crate.
    pub(super) fn resolve(&self, from: usize, path: &WrittenPath) -> Option<Target> {
        self.walk(from, &path.segments, &mut BTreeSet::new())
    }

    fn walk(&self, from: usize, segments: &[String], seen: &mut BTreeSet<(usize, String)>) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent?),
            name => self.lookup(from, name, seen)?,
        };
        for name in rest {
            let Target::Module(module) = target else { break };
            target = match name.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                // A name that is not there was defined by a macro.
                name => self.lookup(module, name, seen).unwrap_or(Target::ItemOf(module)),
            };
        }
        Some(target)
    }

    fn lookup(&self, module: usize, name: &str, seen: &mut BTreeSet<(usize, String)>) -> Option<Target> {
        if !seen.insert((module, name.to_owned())) {
            return None;
        }
        let here = &self.modules[module];
        let own = here.items.contains(name).then_some(Target::ItemOf(module));
        let child = || here.children.get(name).copied().map(Target::Module);
        let imported = |seen: &mut BTreeSet<_>| {
            let named = here.paths.imports.iter().filter(|import| import.alias.as_deref() == Some(name));
            named.into_iter().find_map(|import| self.walk(module, &import.path.segments, seen))
        };
        own.or_else(child).or_else(|| imported(seen)).or_else(|| {
            let globs = here.paths.imports.iter().filter(|import| import.alias.is_none());
            globs.into_iter().find_map(|glob| match self.walk(module, &glob.path.segments, seen)? {
                Target::Module(from) if from != module => self.lookup(from, name, seen),
                Target::Module(_) | Target::ItemOf(_) => None,
            })
        })
    }

    /// True where one module contains another.
    pub(super) fn contains(&self, outer: usize, inner: usize) -> bool {
        let mut above = self.modules[inner].parent;
        while let Some(module) = above {
            if module == outer {
                return true;
            }
            above = self.modules[module].parent;
        }
        false
    }

    /// True for an import that only passes a name of a module inside on to other modules.
    pub(super) fn is_reexport_from_inside(&self, module: usize, import: &Import) -> bool {
        match self.resolve(module, &import.path) {
            Some(Target::ItemOf(target) | Target::Module(target)) => {
                import.is_reexport && self.contains(module, target)
            }
            None => false,
        }
    }
}

/// Reads the files of a crate, beginning at its root.
struct Loader<'a> {
    files: &'a BTreeMap<&'a str, &'a SourceFile>,
    modules: Vec<Module>,
}

/// Where a module stands.
struct Place<'a> {
    file: &'a SourceFile,
    /// The folder of the modules inside it.
    folder: String,
    parent: Option<usize>,
    is_for_tests: bool,
}

impl Loader<'_> {
    fn add(&mut self, place: &Place<'_>, items: &[Item]) -> usize {
        let number = self.modules.len();
        self.modules.push(Module {
            path: place.file.path.clone(),
            is_for_tests: place.is_for_tests,
            paths: Paths::of_module(items),
            parent: place.parent,
            children: BTreeMap::new(),
            items: items.iter().filter_map(name_of).collect(),
        });
        for item in items {
            let Item::Mod(child) = item else { continue };
            let added = self.add_child(place, child, number);
            self.modules[number].children.extend(added.map(|added| (child.ident.to_string(), added)));
        }
        number
    }

    /// `None` where the file of the module is not there.
    fn add_child(&mut self, place: &Place<'_>, child: &ItemMod, parent: usize) -> Option<usize> {
        let folder = joined(&place.folder, &child.ident.to_string());
        let is_for_tests = place.is_for_tests || is_for_tests(&child.attrs);
        if let Some((_, items)) = &child.content {
            return Some(self.add(&Place { file: place.file, folder, parent: Some(parent), is_for_tests }, items));
        }
        let named = path_attribute(child).map(|path| joined(folder_of(&place.file.path), &path));
        let candidates = named.into_iter().chain([format!("{folder}.rs"), format!("{folder}/mod.rs")]);
        let files = self.files;
        let file = candidates.into_iter().find_map(|path| files.get(path.as_str()).copied())?;
        Some(self.add(&Place { file, folder, parent: Some(parent), is_for_tests }, &file.parse().items))
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        _ if is_for_tests(attributes_of(item)) => return None,
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// The file that `#[path = ".."]` names.
fn path_attribute(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        syn::Meta::Path(_) | syn::Meta::List(_) | syn::Meta::NameValue(_) => None,
    })
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path relative to a folder, without `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
