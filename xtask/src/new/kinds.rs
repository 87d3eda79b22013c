//! What can be scaffolded: for each kind, what its file starts from and which lines name it.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// What the new file starts from.
pub enum Start {
    /// A text with `{{snake}}`, `{{Camel}}`, `{{UPPER}}` and `{{kebab}}` for the name.
    Template(&'static str),
    /// An existing file with replacements, each of which must occur.
    Copy { of: &'static str, replace: &'static [(&'static str, &'static str)] },
}

impl Start {
    /// The text, read from the working tree under `root` where it is a copy.
    ///
    /// # Errors
    /// When the copied file has changed too much.
    pub fn text(&self, root: &Path) -> Result<String> {
        match self {
            Start::Template(text) => Ok((*text).to_owned()),
            Start::Copy { of, replace } => {
                let text = fs::read_to_string(root.join(of));
                let mut text = text.with_context(|| format!("cannot read {of}"))?;
                for (from, to) in *replace {
                    let fix = "mend xtask/src/new/kinds.rs";
                    ensure!(text.contains(from), "{of} has no `{from}`; {fix}");
                    text = text.replace(from, to);
                }
                Ok(text)
            }
        }
    }
}

/// A kind of entry that can be scaffolded.
pub struct Kind {
    /// The registry's `what`.
    pub what: &'static str,
    /// Its file.
    pub start: Start,
    /// The line in the list.
    pub entry: &'static str,
    /// Further lines: `(file, text of the line before, line)`.
    pub lines: &'static [(&'static str, &'static str, &'static str)],
    /// What is left to do, for people.
    pub next: &'static str,
}

const TABLE: &str = "crates/kernels/src/table.rs";

/// Every kind.
pub const KINDS: &[Kind] = &[
    Kind {
        what: "encoding",
        start: Start::Template(include_str!("../../templates/encoding.rs")),
        entry: "shared::of::<{{snake}}::{{Camel}}>()",
        lines: &[],
        next: "write its layout; `cargo test -p sterna-formats` already compares its parts with \
               each other. For speed, later: a file in crates/kernels/src/dot/.",
    },
    Kind {
        what: "op",
        start: Start::Template(include_str!("../../templates/op.rs")),
        entry: "&{{snake}}::{{Camel}}",
        lines: &[],
        next: "write its shapes, cost and eval; then its lowering in crates/runtime/src/lower.rs.",
    },
    Kind {
        what: "arch",
        start: Start::Template(include_str!("../../templates/arch.rs")),
        entry: "&{{snake}}::{{Camel}}",
        lines: &[],
        next: "correct its GGUF name, Hugging Face classes, keys and graph; then give it a tiny \
               golden model in crates/model/tests/.",
    },
    Kind {
        what: "pass",
        start: Start::Template(include_str!("../../templates/pass.rs")),
        entry: "&{{snake}}::{{Camel}}",
        lines: &[],
        next: "write what it does to the draft, and put its line where it is to run.",
    },
    Kind {
        what: "command",
        start: Start::Template(include_str!("../../templates/command.rs")),
        entry: "/// What it does, in a line of `--help`.\n    {{Camel}}({{snake}}::Args)",
        lines: &[(
            "crates/cli/src/commands/mod.rs",
            "match command {",
            "        Command::{{Camel}}(args) => {{snake}}::run(args),",
        )],
        next: "write it, and its line in README.md's tour.",
    },
    Kind {
        what: "isa",
        // Whatever the vocabulary is by then, the scalar definition has all of it.
        start: Start::Copy { of: "crates/kernels/src/isa/scalar.rs", replace: ISA_FROM_SCALAR },
        entry: "\"{{snake}}\"",
        lines: &[
            (TABLE, "    Scalar(Scalar),", "    {{Camel}}(crate::isa::{{snake}}::{{Camel}}),"),
            (
                TABLE,
                "\"scalar\" => Some(",
                "            \"{{snake}}\" => \
                 crate::isa::{{snake}}::{{Camel}}::detect().map(Token::{{Camel}}),",
            ),
            (
                TABLE,
                "Token::Scalar(_) => \"scalar\"",
                "            Token::{{Camel}}(_) => \"{{snake}}\",",
            ),
            (TABLE, "Token::Scalar(_) => &[]", "            Token::{{Camel}}(_) => &[],"),
            (
                TABLE,
                "Token::Scalar(isa) =>",
                "            Token::{{Camel}}(isa) => isa.run(kernel),",
            ),
        ],
        next: "override the operations, name its features in crates/kernels/src/table.rs, and put \
               it into `Level::detect` where it is the best.",
    },
];

/// The edits that make a new ISA of the scalar one.
const ISA_FROM_SCALAR: &[(&str, &str)] = &[
    (
        "//! The vocabulary in plain Rust: what every other ISA's operations are defined by.",
        "//! {{UPPER}}: which CPUs have it, and what one of its vectors holds.
//!
//! Starts as the plain definition; override the operations by the CPU's own, `dot` first. Tests
//! hold all of them and every kernel against `Scalar`, bit for bit.",
    ),
    ("/// Always there.", "/// Exists only on a CPU with the instructions."),
    (
        "pub struct Scalar;",
        "pub struct {{Camel}}(());

impl {{Camel}} {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        // Ask here for each CPU feature that the operations use, as avx2.rs does.
        Some(Self(()))
    }
}",
    ),
    ("for Scalar {", "for {{Camel}} {"),
];
