//! The licence gate: every crate in the lock file allows what ours (MIT OR Apache-2.0) promises.

use super::{Findings, Tree};
use serde_json::Value;

/// Licences we can ship, by their SPDX names.
const ALLOWED: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "CC0-1.0",
    "Unlicense",
    "MPL-2.0",
    "NCSA",
    "CDLA-Permissive-2.0",
];

/// Reports packages whose licence expression cannot be met from [`ALLOWED`].
pub fn check(tree: &Tree, found: &mut Findings) {
    let Some(metadata) = &tree.metadata else { return };
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("");
        if !is_allowed(licence) {
            let name = text(package, "name");
            let shown = if licence.is_empty() { "no licence expression" } else { licence };
            let message = format!("{name} {} has {shown}", text(package, "version"));
            let fix = "replace it, or, if the licence is fine, add it to \
                       xtask/src/tidy/licences.rs";
            found.problem("Cargo.lock", 0, format!("{message}; {fix}"));
        }
    }
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or("?")
}

/// Whether an SPDX expression of OR, AND and parentheses (`/` is an old OR) can be met.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<String> = Vec::new();
    for word in spaced.split_whitespace() {
        let after_with = words.last().is_some_and(|w| w.ends_with(" WITH"));
        match words.last_mut() {
            Some(last) if word == "WITH" || after_with => *last = format!("{last} {word}"),
            _ => words.push(word.to_owned()),
        }
    }
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

// Each reads its part off the front of `words`; `None` when an operand is missing.

fn any_of(words: &mut &[String]) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while take(words, "OR") {
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

fn all_of(words: &mut &[String]) -> Option<bool> {
    let mut allowed = one(words)?;
    while take(words, "AND") {
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut &[String]) -> Option<bool> {
    if take(words, "(") {
        let allowed = any_of(words)?;
        return take(words, ")").then_some(allowed);
    }
    let (word, rest) = words.split_first()?;
    *words = rest;
    Some(ALLOWED.contains(&word.as_str()))
}

fn take(words: &mut &[String], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-2.0", "MIT OR", "(MIT", "MIT MIT"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn a_package_with_another_licence_is_found() {
        let text = r#"{"packages": [{"name": "a", "version": "1.0.0", "license": "AGPL-3.0"},
            {"name": "b", "version": "1.0.0", "license": "ISC"},
            {"name": "c", "version": "1.0.0", "license": null}]}"#;
        let metadata = serde_json::from_str(text).ok();
        let mut found = Findings::default();
        check(&Tree { files: Vec::new(), metadata }, &mut found);
        assert_eq!(found.problems.len(), 2);
        assert!(found.problems[0].message.starts_with("a 1.0.0 has AGPL-3.0"));
    }
}
