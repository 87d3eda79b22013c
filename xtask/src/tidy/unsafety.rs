//! Unsafe has an address: it is allowed under a few paths, and each use says why it is sound.

use super::{Findings, Source, Tree};

/// Files and folders (ending in `/`) that may hold unsafe code.
const ADDRESSES: &[&str] = &[
    "crates/kernels/src/isa/",
    "crates/kernels/src/table.rs",
    "crates/formats/src/mmap.rs",
    "crates/formats/tests/common/counting.rs",
    "crates/runtime/src/team/",
    "crates/runtime/tests/common/counting.rs",
];

/// Reports `unsafe` elsewhere, and without a `SAFETY:` comment.
pub fn check(tree: &Tree, found: &mut Findings) {
    for file in tree.rust() {
        let at_home = ADDRESSES.iter().any(|a| match a.strip_suffix('/') {
            Some(_) => file.path.starts_with(a),
            None => file.path == *a,
        });
        for (i, code) in file.code.lines().enumerate().filter(|(_, l)| has_unsafe(l)) {
            if !at_home {
                let homes = ADDRESSES.join(", ");
                let message = format!("unsafe code may stand only in {homes}; move it there");
                found.problem(&file.path, i + 1, message);
            } else if !is_type(code) && !is_explained(file, i) {
                let fix = "unsafe without `// SAFETY:` above it; say why it is sound";
                found.problem(&file.path, i + 1, fix);
            }
        }
    }
}

/// Whether `unsafe` stands in the code as a word of its own.
fn has_unsafe(code: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

/// `unsafe fn(..)` as a function pointer type asks nothing of the reader here.
fn is_type(code: &str) -> bool {
    code.contains("unsafe fn(") || code.contains("unsafe extern \"C\" fn(")
}

/// Whether the line, or the comments and attributes above its statement, give the reason.
fn is_explained(file: &Source, line: usize) -> bool {
    let lines: Vec<&str> = file.text.lines().collect();
    let says = |l: &str| l.contains("SAFETY:") || l.contains("# Safety");
    if says(lines[line]) {
        return true;
    }
    let mut statement_lines_left = 4;
    for above in lines[..line].iter().rev().map(|l| l.trim()) {
        if above.starts_with("//") {
            if says(above) {
                return true;
            }
        } else if !above.starts_with("#[") {
            let ends = above.is_empty() || above.ends_with([';', '}', '{']);
            if ends || statement_lines_left == 0 {
                return false;
            }
            statement_lines_left -= 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homeless_and_unexplained_unsafe_is_found() {
        let explained = "//! Team.\n// SAFETY: x is alive.\nlet y =\n    unsafe { *x };\n";
        let doc = "/// # Safety\n/// The CPU has it.\n#[inline]\npub unsafe fn f() {}\n";
        let bare = "let a = 1;\nlet y = unsafe { *x };\n";
        let mut found = Findings::default();
        let tree = Tree::of(&[
            ("crates/runtime/src/team/mod.rs", explained),
            ("crates/kernels/src/isa/avx2.rs", doc),
            ("crates/kernels/src/isa/avx512.rs", bare),
            ("crates/model/src/lib.rs", explained),
            ("crates/model/src/ok.rs", "#![forbid(unsafe_code)] // unsafe\n"),
        ]);
        check(&tree, &mut found);
        let places: Vec<_> = found.problems.iter().map(|p| (p.path.as_str(), p.line)).collect();
        assert_eq!(
            places,
            [("crates/kernels/src/isa/avx512.rs", 2), ("crates/model/src/lib.rs", 4)]
        );
    }
}
