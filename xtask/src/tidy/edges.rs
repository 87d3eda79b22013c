//! Which crate may use which: the arrows of ARCHITECTURE.md, read from the Cargo.toml files.

use super::{Findings, Tree};

/// Every crate with the crates it may use. No arrow points up.
const EDGES: &[(&str, &[&str])] = &[
    ("formats", &[]),
    ("kernels", &["formats"]),
    ("model", &["formats"]),
    ("runtime", &["formats", "kernels", "model"]),
    ("measure", &[]),
    ("optimize", &["formats", "model", "runtime", "measure"]),
    ("train", &["formats", "model", "runtime", "measure"]),
    ("engine", &["formats", "model", "runtime"]),
    ("server", &["model", "runtime", "engine"]),
    ("fleet", &["model", "measure", "engine", "server"]),
    (
        "cli",
        &[
            "formats", "kernels", "model", "runtime", "measure", "optimize", "train", "engine",
            "server", "fleet",
        ],
    ),
];

/// Reports crates without a line in [`EDGES`] and dependencies it does not allow.
pub fn check(tree: &Tree, found: &mut Findings) {
    for file in &tree.files {
        let Some(name) = crate_of(&file.path) else { continue };
        let Some((_, allowed)) = EDGES.iter().find(|(n, _)| *n == name) else {
            let fix = "is not in the edge table; add it to xtask/src/tidy/edges.rs and \
                       ARCHITECTURE.md with the crates it may use";
            found.problem(&file.path, 1, format!("crate {name} {fix}"));
            continue;
        };
        for (line, used) in uses(&file.text) {
            if used != name && !allowed.contains(&used) {
                let may = if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") };
                let fix = format!("it may use {may}; move the code or turn the arrow round");
                found.problem(&file.path, line, format!("{name} must not use {used}; {fix}"));
            }
        }
    }
}

/// `crates/NAME/Cargo.toml` -> `NAME`.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

/// Lines that depend on a crate of ours, and its name without the prefix.
fn uses(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_dependencies = false;
    manifest.lines().enumerate().filter_map(move |(i, line)| {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        }
        let name = line.strip_prefix("sterna-").filter(|_| in_dependencies)?;
        Some((i + 1, name.split(['.', ' ', '=']).next().unwrap_or(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let mut found = Findings::default();
        let model = "[package]\nname = \"sterna-model\"\n[dependencies]\n\
                     sterna-formats.workspace = true\nsterna-runtime = { path = \"../runtime\" }\n";
        let tree = Tree::of(&[
            ("crates/model/Cargo.toml", model),
            ("crates/wild/Cargo.toml", "[package]\n"),
        ]);
        check(&tree, &mut found);
        let places: Vec<_> = found.problems.iter().map(|p| (p.path.as_str(), p.line)).collect();
        assert_eq!(places, [("crates/model/Cargo.toml", 5), ("crates/wild/Cargo.toml", 1)]);
    }
}
