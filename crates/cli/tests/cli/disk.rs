//! A disk that is full: what was there before stays as it was, and a sentence says what happened.

use super::{ok, tiny};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const OPTIMIZE: [&str; 9] = [
    "optimize",
    "tiny.gguf",
    "--calib",
    "text.txt",
    "--max-drop",
    "5%",
    "--level",
    "development",
    "-o",
];

/// Every file of a finished optimization, by name; the state of the search is its own.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("state.jsonl") {
                files.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    files
}

/// Files longer than so many bytes cannot be written, as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_artifact_as_it_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    std::fs::write(at.join("text.txt"), tiny::text(60)).expect("writable");
    ok(at, &[&OPTIMIZE[..], &["best"]].concat());
    let before = files(&at.join("best"));
    let artifact = before.keys().find(|name| name.ends_with(".sterna.gguf")).expect("it was made");
    let n_blocks = before[artifact].len() / 512 - 4;
    // Who ignores the signal that comes with the limit gets an error from the write.
    let script = format!("trap '' XFSZ; ulimit -f {n_blocks}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_sterna")])
        .args(OPTIMIZE)
        .arg("best")
        .current_dir(at)
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: ") && said.contains("best/tiny.sterna"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(files(&at.join("best")) == before, "a file changed, came or went");
}
