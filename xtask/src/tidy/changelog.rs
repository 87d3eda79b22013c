//! The change log knows the version that the workspace has.

use super::{Findings, Tree};

/// Reports a CHANGELOG.md without a section for the workspace's version.
pub fn check(tree: &Tree, found: &mut Findings) {
    let manifest = tree.file("Cargo.toml").map(|f| f.text.as_str()).unwrap_or_default();
    let table = manifest.parse::<toml::Table>().unwrap_or_default();
    let version = table
        .get("workspace")
        .and_then(|w| w.get("package")?.get("version")?.as_str())
        .unwrap_or_default();
    if version.is_empty() {
        return found.problem("Cargo.toml", 0, "has no workspace.package.version; set it");
    }
    let log = tree.file("CHANGELOG.md").map(|f| f.text.as_str()).unwrap_or_default();
    if !log.lines().any(|l| l.starts_with(&format!("## [{version}]"))) {
        let message = format!("has no section `## [{version}]`; say there what changed");
        found.problem("CHANGELOG.md", 0, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_without_section_is_found() {
        let manifest = "[workspace.package]\nversion = \"0.2.0\"\n";
        let problems = |log: &str| {
            let mut found = Findings::default();
            check(&Tree::of(&[("Cargo.toml", manifest), ("CHANGELOG.md", log)]), &mut found);
            found.problems.len()
        };
        assert_eq!(problems("## [0.2.0] - unreleased\n"), 0);
        assert_eq!(problems("## [0.1.0]\nsee [0.2.0]\n"), 1);
    }
}
