//! The program cache: the same numbers mapped as packed, and no damaged file is trusted.

mod common;

use common::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_runtime::cache::{file, shelf};
use sterna_runtime::{Cache, Means, Program, Runner};

fn logits(model: &Tiny, cache: Option<&Cache>, shared: bool) -> Vec<f32> {
    let program = Program::compile(&model.graph, model, &settings(), cache).unwrap();
    assert_eq!(program.is_shared(), shared, "{:?}", program.warnings());
    all_logits(&mut Runner::new(Arc::new(program)).unwrap(), &tokens(12, 1))
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<PathBuf> =
        files.into_iter().filter(|f| f.extension().unwrap() != "lock").collect();
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
fn weights_that_pass_through_memory_are_the_packed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let aside = folder.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    // Of a process that was killed while it packed.
    std::fs::write(aside.join(".weights-0.4194305.tmp"), "part").unwrap();
    let means = Means { aside: Some(&aside), ..Means::default() };
    let compile = || Program::compile_with(&model.graph, &model, &settings(), means).unwrap();
    let (one, other) = (compile(), compile());
    assert!(one.is_passing() && std::fs::read_dir(&aside).unwrap().next().is_none(), "no name");
    for program in [one, other] {
        let mut runner = Runner::new(Arc::new(program)).unwrap();
        for _ in 0..2 {
            let seen = all_logits(&mut runner, &tokens(12, 1));
            assert_bits(&seen, &logits(&model, None, false), "aside");
        }
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let means = Means { aside: Some(&file), ..Means::default() };
    assert!(Program::compile_with(&model.graph, &model, &settings(), means).is_err());
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

// proves P-9
#[test]
fn a_damaged_file_is_packed_again_with_a_note() {
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
        let program = Program::compile(&model.graph, &model, &settings(), Some(&cache)).unwrap();
        let [note] = program.notes() else { panic!("{what}: one note") };
        assert!(note.contains("packed again") && note.contains(".program"), "{what}: {note}");
        assert!(program.is_shared() && program.warnings().is_empty());
        let logits = all_logits(&mut Runner::new(Arc::new(program)).unwrap(), &tokens(12, 1));
        assert_bits(&logits, &wanted, what);
        assert!(std::fs::read(&path).unwrap() == good, "{what} was repaired");
    }
}

// What loading does not look at is found by reading everything.
#[test]
fn every_flipped_bit_is_found_by_verifying() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    logits(&model, Some(&Cache::new(folder.path(), b"model", b"1")), true);
    let path = only_file(folder.path());
    let good = std::fs::read(&path).unwrap();
    assert_eq!(file::verify(&path), Ok(()));
    let mut rng = Rng(5);
    for _ in 0..200 {
        let mut bytes = good.clone();
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
        std::fs::write(&path, &bytes).unwrap();
        assert!(file::verify(&path).is_err(), "byte {at}");
    }
    let [checked] = &shelf::verify_all(folder.path())[..] else { panic!("one entry") };
    assert!(checked.problem.is_some() && !path.exists(), "the damaged one is removed");
}

// proves P-9
#[test]
fn a_second_start_packs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let cache = Cache::new(folder.path(), b"model", b"1");
    let packed = std::cell::Cell::new(0);
    let start = |settings: &sterna_runtime::Settings| {
        let progress = |_, _| packed.set(packed.get() + 1);
        let means = Means { cache: Some(&cache), progress: Some(&progress), ..Means::default() };
        packed.set(0);
        drop(Program::compile_with(&model.graph, &model, settings, means).unwrap());
        packed.get()
    };
    assert!(start(&settings()) > 0, "the caller is told");
    assert_eq!(start(&settings()), 0, "a hit");
    for isa in levels() {
        let settings = sterna_runtime::Settings { isa: Some(isa.into()), ..settings() };
        assert_eq!(start(&settings), 0, "{isa}: an image is the same on every ISA");
    }
}

#[test]
fn of_starts_at_once_one_packs() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let wanted = logits(&model, None, false);
    let cache = Cache::new(folder.path(), b"model", b"1");
    let packers = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let progress = |done: usize, total: usize| {
                    packers
                        .fetch_add(usize::from(done == total), std::sync::atomic::Ordering::SeqCst);
                };
                let means =
                    Means { cache: Some(&cache), progress: Some(&progress), ..Means::default() };
                let program =
                    Program::compile_with(&model.graph, &model, &settings(), means).unwrap();
                assert!(program.is_shared() && program.warnings().is_empty());
                let mut runner = Runner::new(Arc::new(program)).unwrap();
                assert_bits(&all_logits(&mut runner, &tokens(12, 1)), &wanted, "at once");
            });
        }
    });
    assert_eq!(packers.into_inner(), 1);
    only_file(folder.path());
}

#[test]
fn the_least_recently_used_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let of = |name: &[u8], limit: u64| Cache::new(folder.path(), name, b"1").with_limit(limit);
    let names = || -> Vec<PathBuf> {
        shelf::entries(folder.path()).into_iter().map(|entry| entry.path).collect()
    };
    // The clock of file systems may tick only every few milliseconds.
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    for name in [b"a", b"b", b"c"] {
        logits(&model, Some(&of(name, u64::MAX)), true);
        pause();
    }
    let [a, b, c] = &names()[..] else { panic!("three entries") };
    let each = a.metadata().unwrap().len();
    logits(&model, Some(&of(b"a", u64::MAX)), true);
    assert_eq!(names(), [b.clone(), c.clone(), a.clone()], "use counts, not age");
    pause();
    logits(&model, Some(&of(b"d", 3 * each)), true);
    let kept = names();
    assert!(kept.len() == 3 && !kept.contains(b) && kept.contains(a), "{kept:?}");
    assert!(!b.with_extension("lock").exists(), "nothing of it is left");
    let program =
        Program::compile(&model.graph, &model, &settings(), Some(&of(b"e", each - 1))).unwrap();
    let [warning] = program.warnings() else { panic!("one warning") };
    assert!(!program.is_shared() && warning.contains("--program-cache-size"), "{warning}");
    assert_eq!(names(), kept, "nothing makes room for what cannot fit");
}

#[test]
fn what_killed_packers_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = models();
    let cache = Cache::new(folder.path(), b"model", b"1");
    let left = [".00ff.program.1.tmp", ".x.program.4294967294.tmp"];
    for name in left {
        std::fs::write(folder.path().join(name), "part").unwrap();
    }
    std::fs::write(folder.path().join(".mine.tmp"), "of somebody else").unwrap();
    logits(&model, Some(&cache), true);
    assert!(left.iter().all(|name| !folder.path().join(name).exists()));
    assert!(folder.path().join(".mine.tmp").exists());
}

#[test]
fn programs_of_one_model_share_their_weights() {
    let (model, _) = models();
    let base = Program::compile(&model.graph, &model, &settings(), None).unwrap();
    let means = Means { twin: Some(&base), ..Means::default() };
    let means = Means { progress: Some(&|_, _| panic!("packed")), ..means };
    let other = sterna_runtime::Settings { max_batch_rows: 3, ..settings() };
    let program = Program::compile_with(&model.graph, &model, &other, means).unwrap();
    let wanted = logits(&model, None, false);
    let mut runner = Runner::new(Arc::new(program)).unwrap();
    assert_bits(&all_logits(&mut runner, &tokens(12, 1)), &wanted, "shared");
}

#[test]
fn files_are_told_apart_by_size_time_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    std::fs::write(&file, "abc").unwrap();
    let of = || Cache::of_files(folder.path(), &[&file]).unwrap();
    let first = of();
    assert_eq!(of(), first);
    std::fs::write(&file, "abcd").unwrap();
    let longer = of();
    assert_ne!(longer, first);
    let time = file.metadata().unwrap().modified().unwrap();
    std::fs::write(&file, "abce").unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_ne!(of(), longer, "the same size and time, another content");
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
