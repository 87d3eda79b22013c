//! `cargo xtask tidy`: the rules of the house that a machine can check, one file each in `tidy/`.
//!
//! In: the tracked and new files of the working tree, and `cargo metadata`. Out: problems, each
//! with file, line and fix, and notes that do not fail. To add a check: a file and a line here.

mod changelog;
mod edges;
mod fuzz;
mod glossary;
mod headers;
mod licences;
mod paths;
mod ratchet;
mod readme;
pub mod registries;
mod spine;
mod tree;
mod unsafety;

use anyhow::Result;
pub use tree::{Source, Tree, tracked_files};

/// Something that breaks a rule: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path from the root.
    pub path: String,
    /// 1-based; 0 when it concerns the whole file.
    pub line: usize,
    /// A sentence that ends with the fix.
    pub message: String,
}

/// What a check found.
#[derive(Default)]
pub struct Findings {
    /// These fail the check.
    pub problems: Vec<Problem>,
    /// These do not.
    pub notes: Vec<String>,
}

impl Findings {
    /// Adds a problem; `line` 0 means the whole file.
    pub fn problem(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), line, message: message.into() });
    }
}

/// A rule.
struct Check {
    name: &'static str,
    run: fn(&Tree, &mut Findings),
}

/// Every rule, in the order of their reports.
const CHECKS: &[Check] = &[
    Check { name: "edges", run: edges::check },
    Check { name: "headers", run: headers::check },
    Check { name: "ratchet", run: ratchet::check },
    Check { name: "unsafety", run: unsafety::check },
    Check { name: "registries", run: registries::check },
    Check { name: "spine", run: spine::check },
    Check { name: "paths", run: paths::check },
    Check { name: "glossary", run: glossary::check },
    Check { name: "licences", run: licences::check },
    Check { name: "fuzz", run: fuzz::check },
    Check { name: "changelog", run: changelog::check },
    Check { name: "readme", run: readme::check },
];

/// Runs every check and prints what it found. True when there is no problem.
///
/// # Errors
/// When the working tree cannot be read.
pub fn run() -> Result<bool> {
    let tree = Tree::of_repository()?;
    let mut n_problems = 0;
    for check in CHECKS {
        let mut found = Findings::default();
        (check.run)(&tree, &mut found);
        n_problems += found.problems.len();
        for note in &found.notes {
            println!("note [{}] {note}", check.name);
        }
        for Problem { path, line, message } in &found.problems {
            let place = if *line == 0 { path.clone() } else { format!("{path}:{line}") };
            println!("{place}: [{}] {message}", check.name);
        }
    }
    let names = CHECKS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
    println!("tidy: {n_problems} problems in {} files ({names})", tree.files.len());
    Ok(n_problems == 0)
}
