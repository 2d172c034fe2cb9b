//! Which file of a crate uses which other one, and the circles among them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    modules::{Crate, Target},
    paths::WrittenPath,
};

/// From a file to the files whose items it uses, each with the names and the first line.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, Used>>;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) line: usize,
    pub(super) names: BTreeSet<String>,
}

/// Each item counts for the file that defines it, through whatever re-export it is named. Test modules use nothing, and a
/// module that re-exports what is inside it does not use it by that.
pub(super) fn uses(of: &Crate) -> Uses {
    let mut uses = Uses::new();
    for (number, module) in of.modules.iter().enumerate().filter(|(_, module)| !module.is_for_tests) {
        let imports = module.paths.imports.iter().filter(|import| !of.is_reexport_from_inside(number, import));
        let globs = imports.clone().filter(|import| import.alias.is_none()).map(|import| &import.path);
        let named = imports.filter(|import| import.alias.is_some()).map(|import| &import.path);
        let mut add = |path: &WrittenPath, target: usize| {
            let target = &of.modules[target].path;
            if *target != module.path {
                let used = uses.entry(module.path.clone()).or_default().entry(target.clone()).or_default();
                used.line = if used.names.is_empty() { path.line } else { used.line.min(path.line) };
                used.names.insert(path.segments.last().map_or("*", |last| last.as_str()).to_owned());
            }
        };
        for path in named.chain(&module.paths.written) {
            if let Some(Target::ItemOf(target)) = of.resolve(number, path) {
                add(path, target);
            }
        }
        for glob in globs {
            if let Some(Target::ItemOf(target) | Target::Module(target)) = of.resolve(number, glob) {
                add(glob, target);
            }
        }
    }
    uses
}

/// Sets of files of which each uses each other one, directly or through others.
pub(super) fn circles(uses: &Uses) -> Vec<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|file| (file.as_str(), reachable(uses, file))).collect();
    let circle = |file: &&str| -> BTreeSet<&str> {
        let back = |other: &&&str| reached.get(**other).is_some_and(|files| files.contains(file));
        reached[*file].iter().filter(back).copied().collect()
    };
    let circles: BTreeSet<BTreeSet<&str>> = reached.keys().map(circle).collect();
    circles.into_iter().filter(|files| files.len() > 1).collect()
}

fn reachable<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    found
}
