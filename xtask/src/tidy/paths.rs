//! Nothing in the repository knows the machine it was written on: no absolute path of somebody's
//! folders, and no build for the builder's own CPU, which would hide the dispatch that users get.

use super::{Findings, Tree};

/// Beginnings of paths that exist on one machine only. Written in halves: this file is checked too.
const FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
];
const NATIVE: &str = concat!("target-cpu", "=native");

/// Reports lines with such a path or flag.
pub fn check(tree: &Tree, found: &mut Findings) {
    for file in tree.files.iter().filter(|f| f.path != "Cargo.lock") {
        for (i, line) in file.text.lines().enumerate() {
            if let Some(folder) = FOLDERS.iter().find(|f| is_absolute(line, f)) {
                let fix = "use a path from the root, an argument, or tempfile in tests";
                found.problem(&file.path, i + 1, format!("names {folder} of one machine; {fix}"));
            }
            if line.contains(NATIVE) && !file.path.ends_with(".md") {
                let fix = "builds for one CPU; kernels are chosen at run time, remove it";
                found.problem(&file.path, i + 1, format!("{NATIVE} {fix}"));
            }
        }
    }
}

/// Whether `folder` occurs as the start of a path, not in the middle of a relative one or a URL.
fn is_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}~*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_native_builds_are_found() {
        let mut found = Findings::default();
        let bad = format!("ok\ncp a {}me/b\n", FOLDERS[0]);
        let native = format!("[build]\nrustflags = [\"-C\", \"{NATIVE}\"]\n");
        let fine = format!("see docs{}x and https://a.b{}y\n", FOLDERS[3], FOLDERS[0]);
        let tree = Tree::of(&[("a.md", &bad), (".cargo/config.toml", &native), ("b.md", &fine)]);
        check(&tree, &mut found);
        let places: Vec<_> = found.problems.iter().map(|p| (p.path.as_str(), p.line)).collect();
        assert_eq!(places, [("a.md", 2), (".cargo/config.toml", 2)]);
    }
}
