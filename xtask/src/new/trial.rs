//! The trial of the templates: a copy of the working tree with one new entry of each kind compiles.
//! It is what keeps CONTRIBUTING.md's "how to add" pages true.

use super::{KINDS, add};
use crate::root;
use crate::tidy::tracked_files;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Copies the tree, adds one entry of each kind, and runs `cargo check` there. True when it passes.
///
/// # Errors
/// When the copy cannot be made or a template does not fit its list any more.
pub fn run() -> Result<bool> {
    let copy = root::target_dir().join("trial");
    let _ = fs::remove_dir_all(&copy);
    copy_tree(&copy).with_context(|| format!("cannot copy the tree to {}", copy.display()))?;
    for kind in KINDS {
        let name = format!("trial_{}", kind.what);
        add(&copy, kind, &name).with_context(|| format!("xtask new {} {name}", kind.what))?;
    }
    let mut check = root::cargo();
    check.current_dir(&copy).args(["check", "--quiet", "--workspace", "--all-targets"]);
    let status = check.env("CARGO_TARGET_DIR", root::target_dir()).status();
    // In one build folder Cargo takes the copy's crates and the tree's for the same; with the copy
    // gone, the next `cargo check` sees that it must look at the tree's.
    fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    Ok(status.context("cannot start cargo check")?.success())
}

fn copy_tree(to: &Path) -> Result<()> {
    for path in tracked_files()? {
        let from = root::root().join(&path);
        if from.is_file() {
            let to = to.join(&path);
            fs::create_dir_all(to.parent().expect("a file has a folder"))?;
            fs::copy(&from, &to).with_context(|| path.clone())?;
        }
    }
    Ok(())
}
