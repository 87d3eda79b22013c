//! The program cache: the same numbers mapped as packed, and no damaged file is trusted.

mod common;

use common::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_runtime::{Cache, Program, Runner};

fn logits(model: &Tiny, cache: Option<&Cache>, shared: bool) -> Vec<f32> {
    let program = Program::compile(&model.graph, model, &settings(), cache).unwrap();
    assert_eq!(program.is_shared(), shared, "{:?}", program.warnings());
    all_logits(&mut Runner::new(Arc::new(program)).unwrap(), &tokens(12, 1))
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn models() -> (Tiny, Tiny) {
    let shape = Shape { tied: true, ..SMALL };
    let encodings = ["Q4_0", "F16", "Q6_K"];
    (tiny(shape, &encodings, 1), tiny(shape, &encodings, 2))
}

#[test]
fn mapped_weights_are_the_packed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let wanted = logits(&model, None, false);
    let cache = Cache::new(folder.path(), b"model", b"1");
    assert_bits(&logits(&model, Some(&cache), true), &wanted, "written");
    let file = only_file(folder.path());
    let written = file.metadata().unwrap().modified().unwrap();
    assert_bits(&logits(&model, Some(&cache), true), &wanted, "read");
    assert_eq!(only_file(folder.path()).metadata().unwrap().modified().unwrap(), written);
}

#[test]
fn a_changed_source_replaces_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = models();
    logits(&old, Some(&Cache::new(folder.path(), b"model", b"1")), true);
    let changed = Cache::new(folder.path(), b"model", b"2");
    assert_bits(&logits(&new, Some(&changed), true), &logits(&new, None, false), "new");
    only_file(folder.path());
}

/// Changes the bytes of a file.
type Damage = Box<dyn Fn(&mut Vec<u8>)>;

#[test]
fn a_damaged_file_is_packed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let cache = Cache::new(folder.path(), b"model", b"1");
    let wanted = logits(&model, Some(&cache), true);
    let path = only_file(folder.path());
    let good = std::fs::read(&path).unwrap();
    let damages: Vec<(&str, Damage)> = vec![
        ("empty", Box::new(Vec::clear)),
        ("magic", Box::new(|b| b[0] ^= 1)),
        ("version", Box::new(|b| b[8] ^= 1)),
        ("length", Box::new(|b| b[16] ^= 1)),
        ("key", Box::new(|b| b[30] ^= 1)),
        ("checksum", Box::new(|b| b[60] ^= 1)),
        ("header padding", Box::new(|b| b[4000] ^= 1)),
        ("first line", Box::new(|b| b[4096] ^= 1)),
        ("trailer", Box::new(|b| *b.last_mut().unwrap() ^= 1)),
        ("cut by a line", Box::new(|b| b.truncate(b.len() - 64))),
        ("cut in half", Box::new(|b| b.truncate(b.len() / 2))),
        ("too long", Box::new(|b| b.push(0))),
    ];
    for (what, damage) in damages {
        let mut bytes = good.clone();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        assert_bits(&logits(&model, Some(&cache), true), &wanted, what);
        assert!(std::fs::read(&path).unwrap() == good, "{what} was repaired");
    }
}

#[test]
fn files_are_told_apart_by_size_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    std::fs::write(&file, "abc").unwrap();
    let of = || Cache::of_files(folder.path(), &[&file]).unwrap();
    let first = of();
    assert_eq!(of(), first);
    std::fs::write(&file, "abcd").unwrap();
    assert_ne!(of(), first);
    let message =
        Cache::of_files(folder.path(), &[Path::new("/nowhere/x")]).unwrap_err().to_string();
    assert!(message.contains("/nowhere/x"), "{message}");
}

#[test]
fn an_unwritable_folder_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("occupied");
    std::fs::write(&file, "").unwrap();
    let (model, _) = models();
    let cache = Cache::new(&file, b"model", b"1");
    let program = Program::compile(&model.graph, &model, &settings(), Some(&cache)).unwrap();
    assert!(!program.is_shared());
    let [warning] = program.warnings() else { panic!("one warning") };
    assert!(warning.contains("not cached") && warning.contains("occupied"), "{warning}");
}
