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
    /// The list's name: a constant with `&[...]`, or `enum Name`.
    pub constant: &'static str,
    /// Modules of the folder that entries have in common, beside `shared`.
    pub shared: &'static [&'static str],
}

/// Every catalogue.
pub const REGISTRIES: &[Registry] = &[
    Registry {
        what: "encoding",
        folder: "crates/formats/src/encodings/",
        list: "crates/formats/src/encodings/mod.rs",
        constant: "ENCODINGS",
        shared: &[],
    },
    Registry {
        what: "op",
        folder: "crates/model/src/ops/",
        list: "crates/model/src/ops/mod.rs",
        constant: "OPS",
        shared: &[],
    },
    Registry {
        what: "packed format",
        folder: "crates/kernels/src/dot/",
        list: "crates/kernels/src/dot/mod.rs",
        constant: "FORMATS",
        shared: &["linear", "many", "pack"],
    },
    Registry {
        what: "isa",
        folder: "crates/kernels/src/isa/",
        list: "crates/kernels/src/table.rs",
        constant: "ISAS",
        shared: &[],
    },
    Registry {
        what: "container",
        folder: "crates/formats/src/containers/",
        list: "crates/formats/src/containers/mod.rs",
        constant: "CONTAINERS",
        shared: &["layout", "refuse"],
    },
    Registry {
        what: "arch",
        folder: "crates/model/src/archs/",
        list: "crates/model/src/archs/mod.rs",
        constant: "ARCHS",
        shared: &[],
    },
    Registry {
        what: "rewrite",
        folder: "crates/model/src/rewrites/",
        list: "crates/model/src/rewrites/mod.rs",
        constant: "REWRITES",
        shared: &[],
    },
    Registry {
        what: "pass",
        folder: "crates/optimize/src/passes/",
        list: "crates/optimize/src/passes/mod.rs",
        constant: "PASSES",
        shared: &[],
    },
    Registry {
        what: "command",
        folder: "crates/cli/src/commands/",
        list: "crates/cli/src/commands/mod.rs",
        constant: "enum Command",
        shared: &[],
    },
];

/// Reports files without a list entry and entries without a file.
pub fn check(tree: &Tree, found: &mut Findings) {
    for registry in REGISTRIES {
        check_one(registry, tree, found);
    }
}

fn check_one(registry: &Registry, tree: &Tree, found: &mut Findings) {
    let Registry { what, folder, list, constant, shared } = registry;
    let Some(source) = tree.file(list) else {
        let fix = "if it moved, say where in xtask/src/tidy/registries.rs";
        return found.problem(list, 0, format!("does not exist; {fix}"));
    };
    let Some((line, entries)) = entries_of(&source.text, constant) else {
        let fix = "write the list of its folder there, one entry a line";
        return found.problem(list, 0, format!("has no list {constant}; {fix}"));
    };
    let modules = modules_in(tree, folder);
    for module in modules.iter().filter(|m| !shared.contains(&m.as_str())) {
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

/// The line before the list, and `(line in the list, module)` of each entry.
fn entries_of(text: &str, constant: &str) -> Option<(usize, Vec<(usize, String)>)> {
    let (open, close) = list_in(text, constant)?;
    let mut entries = Vec::new();
    for (i, line) in text[open..close].lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        entries.extend(code.split(", ").filter_map(entry_module).map(|m| (i, m)));
    }
    Some((text[..open].lines().count(), entries))
}

/// Where the inside of a list starts and ends in its file.
pub fn list_in(text: &str, constant: &str) -> Option<(usize, usize)> {
    if let Some(name) = constant.strip_prefix("enum ") {
        let open = text.find(&format!("enum {name} {{"))? + constant.len() + 2;
        return Some((open, open + text[open..].find("\n}")? + 1));
    }
    let declared = text.find(&format!(" {constant}: "))?;
    let equals = declared + text[declared..].find('=')?;
    let open = equals + text[equals..].find("&[")? + 2;
    Some((open, open + text[open..].find("];")?))
}

/// The module that an entry lies in: `q4_0` of `shared::of::<q4_0::Q4_0>()`, `rtn` of `&rtn::Rtn`,
/// `rms_norm` of `&RmsNorm { eps: 1e-5 }`, `avx2` of `"avx2"`, `run` of `Run(run::Args)`.
fn entry_module(entry: &str) -> Option<String> {
    let entry = entry.trim().trim_end_matches(',');
    if let Some(quoted) = entry.strip_prefix('"') {
        return quoted.split('"').next().map(str::to_owned);
    }
    let path = entry.split([' ', '{']).next().unwrap_or(entry);
    if !path.contains("::") {
        return path.strip_prefix('&').map(snake);
    }
    let words = path.split(|c: char| !c.is_alphanumeric() && c != '_');
    let is_module = |w: &&str| w.starts_with(char::is_lowercase) && !["shared", "of"].contains(w);
    words.filter(|w| !w.is_empty()).find(is_module).map(str::to_owned)
}

/// `RmsNorm` -> `rms_norm`.
fn snake(camel: &str) -> String {
    let mut out = String::new();
    for c in camel.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_their_module_in_several_ways() {
        let modules = |e: &str| entry_module(e);
        let is = |m: &str| Some(m.to_owned());
        assert_eq!(modules("    shared::of::<q4_k::Q4K>(),"), is("q4_k"));
        assert_eq!(modules("&float::Float::<float::F32>::NEW,"), is("float"));
        assert_eq!(modules("&RmsNorm { eps: 1e-5, group_len: 1 },"), is("rms_norm"));
        assert_eq!((modules("\"avx2\""), modules("    head_dim: 2,")), (is("avx2"), None));
        assert_eq!(modules("layout: RopeLayout::Half,"), None);
        assert_eq!(modules("    Inspect(inspect::Args),"), is("inspect"));
    }

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
