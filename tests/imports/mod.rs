//! Which file of a crate imports which.
//!
//! An import is a path that leads into another file of the crate: in a `use` or in the code. It counts for the file that
//! defines the name: re-exports and `mod` lines are no imports themselves. Code for tests is left out, and so are the
//! arguments of macros.

use edgesplit_testkit::project::relative;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

/// A module's path from the crate's root, such as `["http", "url"]`.
type ModulePath = Vec<String>;

/// A file of the crate.
#[derive(Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// Names that `use` brings in, and the full path of each.
    names: BTreeMap<String, Vec<String>>,
    /// Paths from the crate's root that the code mentions, each with the number of its line.
    mentions: Vec<(Vec<String>, usize)>,
}

/// Files that import each other.
pub(crate) struct Cycle {
    pub files: Vec<String>,
    /// The imports between them, with file and line.
    pub imports: Vec<String>,
}

/// The cycles in the crate with the root file `entry`.
pub(crate) fn cycles(entry: &Path) -> Vec<Cycle> {
    let mut modules = BTreeMap::new();
    read(entry, Vec::new(), true, &mut modules);
    let edges: BTreeMap<&ModulePath, BTreeMap<ModulePath, String>> = modules
        .iter()
        .map(|(path, module)| {
            let targets = module.mentions.iter().filter_map(|(mention, line)| {
                let target = resolve(&modules, mention)?;
                let import = format!("{}:{line} imports {}", relative(&module.file), relative(&modules[&target].file));
                (target != *path).then_some((target, import))
            });
            (path, targets.collect())
        })
        .collect();
    let reach: BTreeMap<&ModulePath, BTreeSet<ModulePath>> =
        edges.keys().map(|from| (*from, reachable(&edges, from))).collect();
    let mut seen = BTreeSet::new();
    let mut cycles = Vec::new();
    for path in modules.keys() {
        let members: BTreeSet<&ModulePath> =
            modules.keys().filter(|other| reach[path].contains(*other) && reach[*other].contains(path)).collect();
        if members.is_empty() || !seen.insert(members.clone()) {
            continue;
        }
        let imports = members.iter().flat_map(|from| &edges[*from]).filter(|(to, _)| members.contains(to));
        let imports = imports.map(|(_, import)| import.clone()).collect();
        cycles.push(Cycle { files: members.iter().map(|path| relative(&modules[*path].file)).collect(), imports });
    }
    cycles
}

/// All modules that `from` leads to, in one step or more.
fn reachable(edges: &BTreeMap<&ModulePath, BTreeMap<ModulePath, String>>, from: &ModulePath) -> BTreeSet<ModulePath> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(path) = open.pop() {
        for target in edges[&path].keys() {
            if found.insert(target.clone()) {
                open.push(target.clone());
            }
        }
    }
    found
}

/// Longer chains of re-exports are not followed.
const REEXPORTS_MAX: usize = 8;

/// The module whose file defines the name that the path ends with.
fn resolve(modules: &BTreeMap<ModulePath, Module>, mention: &[String]) -> Option<ModulePath> {
    let mut path = mention.to_vec();
    for _ in 0..REEXPORTS_MAX {
        let depth = (0..=path.len()).rev().find(|depth| modules.contains_key(&path[..*depth]))?;
        let module = &modules[&path[..depth]];
        match path.get(depth).and_then(|name| module.names.get(name)) {
            Some(full) => {
                let rest = path.split_off(depth + 1);
                path = [full.clone(), rest].concat();
            }
            None => return Some(path[..depth].to_vec()),
        }
    }
    None
}

/// Reads a file and the files of its modules.
fn read(file: &Path, path: ModulePath, is_folder: bool, modules: &mut BTreeMap<ModulePath, Module>) {
    let text = std::fs::read_to_string(file).unwrap();
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let children = syntax.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && !is_for_tests(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    });
    let children: BTreeSet<String> = children.collect();
    let mut module = Module { file: file.to_path_buf(), children: children.clone(), ..Module::default() };
    Reader { path: path.clone(), module: &mut module }.visit_file(&syntax);
    modules.insert(path.clone(), module);
    let folder = if is_folder { file.parent().unwrap().to_path_buf() } else { file.with_extension("") };
    for child in children {
        let path = [path.clone(), vec![child.clone()]].concat();
        let in_folder = folder.join(&child).join("mod.rs");
        if in_folder.exists() {
            read(&in_folder, path, true, modules);
        } else {
            read(&folder.join(format!("{child}.rs")), path, false, modules);
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Notes the paths that a file mentions.
struct Reader<'a> {
    /// The module that is read: the file's, or one inside the file.
    path: ModulePath,
    module: &'a mut Module,
}

impl Reader<'_> {
    /// The path from the crate's root, or none where it leads out of the crate.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([self.path.clone(), rest.to_vec()].concat()),
            "super" => {
                let mut path = self.path.clone();
                path.pop()?;
                let mut rest = rest;
                while let Some((first, others)) = rest.split_first()
                    && first == "super"
                {
                    path.pop()?;
                    rest = others;
                }
                Some([path, rest.to_vec()].concat())
            }
            name if self.module.children.contains(name) => Some([self.path.clone(), segments.to_vec()].concat()),
            _ => None,
        }
    }

    fn read_use(&mut self, tree: &UseTree, prefix: &[String], line: usize, is_reexport: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (full, name) = match tree {
            UseTree::Path(path) => return self.read_use(&path.tree, &with(&path.ident), line, is_reexport),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.read_use(tree, prefix, line, is_reexport));
            }
            UseTree::Glob(_) => (prefix.to_vec(), None),
            UseTree::Name(name) if name.ident == "self" => (prefix.to_vec(), prefix.last().cloned()),
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        };
        let Some(full) = self.absolute(&full) else { return };
        if let Some(name) = name {
            self.module.names.insert(name, full.clone());
        }
        if !is_reexport {
            self.module.mentions.push((full, line));
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.path.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.path.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        self.read_use(&item.tree, &[], item.use_token.span.start().line, is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1
            && let Some(full) = self.absolute(&segments)
        {
            let line = path.segments[0].ident.span().start().line;
            self.module.mentions.push((full, line));
        }
        visit::visit_path(self, path);
    }

    /// `pub(in crate::…)` is no import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
