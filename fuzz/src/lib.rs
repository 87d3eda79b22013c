//! What the targets share: a place for the bytes, and a reader that touches all that opens.
//!
//! To add a target: `fuzz_targets/x.rs` with a `fuzz_target!`, and a `[[bin]]` in `Cargo.toml`.

#![forbid(unsafe_code)]

use sterna_formats::Checkpoint;
use std::path::PathBuf;
use std::sync::LazyLock;

/// One directory per process; in memory where the system has such a place.
static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
});

/// Puts the bytes into a file of that name.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = DIR.path().join(name);
    // A new file each time: the old one's mapping may be alive, and cutting it would be a SIGBUS.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).expect("room for the input");
    path
}

/// Opens the file and reads whatever opens to the last byte.
pub fn walk(path: &std::path::Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    for tensor in &checkpoint.tensors {
        let sum: u64 = checkpoint.bytes(tensor).iter().map(|&b| u64::from(b)).sum();
        std::hint::black_box(sum);
        assert!(checkpoint.tensor(&tensor.name).is_some());
        let _ = checkpoint.validate([tensor]);
    }
    std::hint::black_box(checkpoint.summary());
}

/// Uses a tokenizer in every way.
pub fn exercise(tokenizer: &sterna_model::Tokenizer) {
    for parse_special in [false, true] {
        let mut ids = tokenizer.encode_special("Hi, wörld <s> 12\n\n  a", true, parse_special);
        ids.extend([0, 1, 2, 255, 256, 257, u32::MAX]);
        let mut decoder = tokenizer.decoder();
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        assert_eq!(text, tokenizer.decode(&ids));
    }
    std::hint::black_box(tokenizer.to_metadata().is_ok());
}
