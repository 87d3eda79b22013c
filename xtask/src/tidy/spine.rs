//! The spine: the files that explain the whole in an afternoon, together at most 3,000 lines.

use super::{Findings, Tree};

const MAX_LINES: usize = 3000;

/// Reading order. A file may be `x.rs` or `x/mod.rs`.
const SPINE: &[&str] = &[
    "ARCHITECTURE.md",
    "crates/formats/src/encodings/mod.rs",
    "crates/formats/src/encodings/q4_0.rs",
    "crates/model/src/graph.rs",
    "crates/model/src/plan.rs",
    "crates/model/src/artifact.rs",
    "crates/model/src/archs/llama.rs",
    "crates/optimize/src/draft.rs",
    "crates/optimize/src/passes/mod.rs",
    "crates/optimize/src/passes/rtn.rs",
    "crates/kernels/src/isa/mod.rs",
    "crates/kernels/src/dot/q4_0.rs",
    "crates/kernels/src/table.rs",
    "crates/runtime/src/lower.rs",
    "crates/runtime/src/exec.rs",
    "crates/engine/src/schedule.rs",
    "crates/cli/src/main.rs",
];

/// Reports missing spine files and a spine that has grown too long; prints its length.
pub fn check(tree: &Tree, found: &mut Findings) {
    let mut n_lines = 0;
    for path in SPINE {
        let as_folder = path.replace(".rs", "/mod.rs");
        match tree.file(path).or_else(|| tree.file(&as_folder)) {
            Some(file) => n_lines += file.text.lines().count(),
            None => {
                let fix = "is part of the spine and does not exist; if it moved, update \
                           xtask/src/tidy/spine.rs and ARCHITECTURE.md";
                found.problem(path, 0, fix);
            }
        }
    }
    found.notes.push(format!("{n_lines} lines in {} files, limit {MAX_LINES}", SPINE.len()));
    if n_lines > MAX_LINES {
        let message = format!("the spine has {n_lines} lines, the limit is {MAX_LINES}");
        found.problem("ARCHITECTURE.md", 0, message + "; move detail out of its longest files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_file_and_too_many_lines_are_found() {
        let texts: Vec<_> = SPINE.iter().map(|p| (*p, "x\n".to_owned())).collect();
        let problems = |texts: &[(&str, String)]| {
            let files: Vec<_> = texts.iter().map(|(p, t)| (*p, t.as_str())).collect();
            let mut found = Findings::default();
            check(&Tree::of(&files), &mut found);
            found.problems.into_iter().map(|p| p.path).collect::<Vec<_>>()
        };
        assert!(problems(&texts).is_empty());
        assert_eq!(problems(&texts[..SPINE.len() - 1]), ["crates/cli/src/main.rs"]);
        let mut long = texts.clone();
        long[3].1 = "x\n".repeat(MAX_LINES);
        assert_eq!(problems(&long), ["ARCHITECTURE.md"]);
    }
}
