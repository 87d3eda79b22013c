//! Every Rust file opens with `//!`: what it holds, what comes in, what goes out, why it is here.

use super::{Findings, Tree};

/// Reports Rust files whose first line is not a module comment.
pub fn check(tree: &Tree, found: &mut Findings) {
    for file in tree.rust().filter(|f| !f.text.starts_with("//!")) {
        let fix = "does not open with `//!`; say in a sentence what this file holds and why";
        found.problem(&file.path, 1, fix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_header_is_found() {
        let mut found = Findings::default();
        check(&Tree::of(&[("a.rs", "//! A.\n"), ("b.rs", "use x;\n//! B.\n")]), &mut found);
        assert_eq!(found.problems.len(), 1);
        assert_eq!(found.problems[0].path, "b.rs");
    }
}
