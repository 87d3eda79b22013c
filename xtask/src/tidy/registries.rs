//! The explicit lists: every file of a catalogue is named in its list, every name has its file.

use super::{Findings, Tree};

/// A folder whose files are listed in a constant of one of its files.
pub struct Registry {
    /// What it lists, as people say it.
    pub what: &'static str,
    /// The folder, ending in `/`.
    pub folder: &'static str,
    /// The file with the list.
    pub list: &'static str,
    /// The list's name.
    pub constant: &'static str,
}

/// Every catalogue.
pub const REGISTRIES: &[Registry] = &[Registry {
    what: "encoding",
    folder: "crates/formats/src/encodings/",
    list: "crates/formats/src/encodings/mod.rs",
    constant: "ENCODINGS",
}];

/// Reports files without a list entry and entries without a file.
pub fn check(tree: &Tree, found: &mut Findings) {
    for registry in REGISTRIES {
        check_one(registry, tree, found);
    }
}

fn check_one(registry: &Registry, tree: &Tree, found: &mut Findings) {
    let Registry { what, folder, list, constant } = registry;
    let Some(source) = tree.file(list) else {
        return found.notes.push(format!("{list} does not exist yet, its list is not checked"));
    };
    let Some((line, entries)) = entries_of(&source.code, constant) else {
        let fix = "write the list of its folder there, one entry a line";
        return found.problem(list, 0, format!("has no `{constant}: ... = &[...]`; {fix}"));
    };
    let modules = modules_in(tree, folder);
    for module in &modules {
        if !entries.iter().any(|(_, e)| e == module) {
            let message = format!("{what} {module} is not in {constant} ({list}); add it");
            found.problem(&file_of(tree, folder, module), 1, message);
        }
    }
    for (entry_line, entry) in entries.iter().filter(|(_, e)| !modules.contains(e)) {
        let message = format!("{constant} names {entry}, but {folder}{entry}.rs does not exist");
        found.problem(list, line + entry_line, message + "; one file per entry");
    }
}

fn file_of(tree: &Tree, folder: &str, module: &str) -> String {
    let file = format!("{folder}{module}.rs");
    if tree.file(&file).is_some() { file } else { format!("{folder}{module}/mod.rs") }
}

/// Modules directly in the folder. `shared` is where entries keep what they have in common.
fn modules_in(tree: &Tree, folder: &str) -> Vec<String> {
    let inside = tree.rust().filter_map(|f| f.path.strip_prefix(folder));
    let module = |path: &str| match path.split_once('/') {
        None => Some(path.strip_suffix(".rs")?.to_owned()),
        Some((module, "mod.rs")) => Some(module.to_owned()),
        Some(_) => None,
    };
    inside
        .filter_map(module)
        .filter(|m| !["mod", "tests", "shared"].contains(&m.as_str()))
        .collect()
}

/// The list's 0-based first line + 1, and `(line in the list, module)` for each `module::` in it.
pub fn entries_of(code: &str, constant: &str) -> Option<(usize, Vec<(usize, String)>)> {
    let declared = code.find(&format!(" {constant}: "))?;
    let open = declared + code[declared..].find("= &[")? + 4;
    let close = open + code[open..].find("];")?;
    let first_line = code[..open].lines().count();
    let mut entries = Vec::new();
    for (i, line) in code[open..close].lines().enumerate() {
        for (at, _) in line.match_indices("::") {
            let before = &line[..at];
            let start =
                before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |n| n + 1);
            let is_path_tail = before[..start].ends_with(':');
            let module = &before[start..];
            let is_entry = module.starts_with(char::is_lowercase) && module != "shared";
            if is_entry && !is_path_tail {
                entries.push((i, module.to_owned()));
            }
        }
    }
    entries.dedup_by(|a, b| a.1 == b.1);
    Some((first_line, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_entry_and_an_entry_without_file_are_found() {
        let list = "//! L.\nmod q4_0;\npub const ENCODINGS: &[EncodingRef] = &[\n\
                    \x20   &q4_0::Q4_0,\n    &q9_9::Q9_9,\n];\n";
        let mut found = Findings::default();
        let tree = Tree::of(&[
            ("crates/formats/src/encodings/mod.rs", list),
            ("crates/formats/src/encodings/q4_0.rs", "//! Q4_0.\n"),
            ("crates/formats/src/encodings/q8_0.rs", "//! Q8_0.\n"),
            ("crates/formats/src/encodings/tests.rs", "//! T.\n"),
        ]);
        check_one(&REGISTRIES[0], &tree, &mut found);
        let places: Vec<_> = found.problems.iter().map(|p| (p.path.as_str(), p.line)).collect();
        assert_eq!(
            places,
            [
                ("crates/formats/src/encodings/q8_0.rs", 1),
                ("crates/formats/src/encodings/mod.rs", 5)
            ]
        );
    }
}
