//! A teacher's cache: what it returns, what it keeps, and what it survives.

#[path = "../../cli/tests/cli/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use sterna_model::{Model, Tokenizer};
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, Settings};
use sterna_train::teacher::{CacheSettings, Statistics, Teacher};

const WINDOW: usize = 8;

/// A model, a cache's folder, and windows that differ.
struct Bench {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = tiny::write(folder.path(), "teacher.gguf", &tiny::SMALL);
        Self { folder, model }
    }

    fn cache(&self, max_bytes: u64) -> CacheSettings {
        CacheSettings { folder: self.folder.path().join("cache"), max_bytes }
    }

    fn teacher(&self, max_bytes: u64) -> Teacher {
        Teacher::open(&self.model, &self.cache(max_bytes), Some(1)).expect("a tiny model")
    }

    fn entries(&self) -> Vec<PathBuf> {
        let list = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).expect("a folder");
            entries.map(|e| e.expect("readable").path()).collect()
        };
        let folders = list(&self.folder.path().join("cache"));
        let mut files: Vec<PathBuf> =
            folders.iter().filter(|f| f.is_dir()).flat_map(|f| list(f)).collect();
        files.sort();
        files
    }

    fn bytes(&self) -> u64 {
        self.entries().iter().map(|f| f.metadata().expect("there").len()).sum()
    }
}

fn windows(n: usize) -> Vec<Vec<u32>> {
    (0..n).map(|w| (0..WINDOW).map(|i| ((w * 37 + i * 11 + 3) % 289) as u32).collect()).collect()
}

fn slices(windows: &[Vec<u32>]) -> Vec<&[u32]> {
    windows.iter().map(Vec::as_slice).collect()
}

/// Bytes of one window's entry: 48 of header, halves, 32 of checksum.
const ENTRY: u64 = 48 + 2 * (WINDOW * 289) as u64 + 32;

#[test]
fn logits_are_the_runtimes_whether_computed_or_read_back() {
    let bench = Bench::new();
    let windows = windows(3);
    let model = Model::open(&bench.model).expect("a tiny model");
    let settings =
        Settings { threads: Some(1), kv: KvEncoding::F32, context_len: 64, ..Settings::default() };
    let program = Program::compile(&model.graph, &model, &settings, None).expect("it compiles");
    let mut runner = Runner::new(program.into()).expect("it runs");
    let mut wanted = Vec::new();
    for window in &windows {
        let sequence = runner.new_sequence();
        let chunk = Chunk { sequence, tokens: window, logits: Logits::All };
        wanted.extend(runner.forward(&[chunk]).expect("it fits").to_vec());
        runner.free(sequence).expect("it is there");
    }

    let mut teacher = bench.teacher(1 << 20);
    let computed = teacher.logits(&slices(&windows)).expect("it answers");
    assert_eq!(computed.len(), 3 * WINDOW * teacher.vocab_len());
    for (got, wanted) in computed.iter().zip(&wanted) {
        assert!((got - wanted).abs() <= wanted.abs() / 2048.0 + 1e-7, "{got} {wanted}");
    }
    let misses = Statistics { n_misses: 3, bytes_written: 3 * ENTRY, ..Statistics::default() };
    assert_eq!(teacher.statistics(), misses);

    let mut again = bench.teacher(1 << 20);
    assert_eq!(again.logits(&slices(&windows)).expect("it answers"), computed);
    let hits = Statistics { n_hits: 3, bytes_read: 3 * ENTRY, ..Statistics::default() };
    assert_eq!(again.statistics(), hits);
    assert!(again.take_reports().is_empty());
    assert!(again.logits(&[]).expect("no windows").is_empty());
}

#[test]
fn the_cache_never_grows_beyond_its_limit() {
    let bench = Bench::new();
    let windows = windows(4);
    let mut teacher = bench.teacher(2 * ENTRY + 100);
    let first = teacher.logits(&slices(&windows)).expect("it answers");
    assert_eq!((bench.entries().len(), bench.bytes()), (2, 2 * ENTRY));
    assert_eq!(teacher.statistics().n_not_kept, 2);
    assert_eq!(teacher.logits(&slices(&windows)).expect("it answers"), first);
    assert_eq!((teacher.statistics().n_hits, bench.bytes()), (2, 2 * ENTRY));

    let mut lower = bench.teacher(ENTRY);
    assert_eq!(bench.entries().len(), 1, "a lowered limit holds at once");
    assert_eq!(lower.logits(&slices(&windows)).expect("it answers"), first);
    let mut without = bench.teacher(0);
    assert_eq!(without.logits(&slices(&windows)).expect("it answers"), first);
    assert_eq!((without.statistics().n_hits, bench.entries().len()), (0, 0));
}

#[test]
fn another_teachers_entries_make_room() {
    let bench = Bench::new();
    let windows = windows(2);
    bench.teacher(2 * ENTRY).logits(&slices(&windows)).expect("it answers");
    let before = bench.entries();
    let other = tiny::write(bench.folder.path(), "other.gguf", &tiny::WIDE);
    let mut other = Teacher::open(&other, &bench.cache(2 * ENTRY), Some(1)).expect("a tiny model");
    other.logits(&slices(&windows)).expect("it answers");
    assert_eq!(other.statistics().n_misses, 2, "another model's logits are not its own");
    assert_eq!(bench.bytes(), 2 * ENTRY);
    assert!(bench.entries().iter().all(|entry| !before.contains(entry)));
}

#[test]
fn damaged_entries_are_reported_and_computed_again() {
    let bench = Bench::new();
    let windows = windows(1);
    let whole = bench.teacher(1 << 20).logits(&slices(&windows)).expect("it answers");
    let path = bench.entries().remove(0);
    let good = std::fs::read(&path).expect("written");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let (end, cut) = (good.len() - 1, good.len() / 2);
    let longer = [&good[..], b"more"].concat();
    let cases = [flipped(0), flipped(9), flipped(44), flipped(100), flipped(end), longer, vec![]];
    for bytes in cases.into_iter().chain([good[..cut].to_vec()]) {
        std::fs::write(&path, &bytes).expect("writable");
        let mut teacher = bench.teacher(1 << 20);
        assert_eq!(teacher.logits(&slices(&windows)).expect("it answers"), whole);
        let Statistics { n_hits, n_misses, n_damaged, .. } = teacher.statistics();
        assert_eq!((n_hits, n_misses, n_damaged), (0, 1, 1));
        let reports = teacher.take_reports();
        assert!(reports.len() == 1 && reports[0].contains("damaged"), "{reports:?}");
        assert!(reports[0].contains(".logits") && teacher.take_reports().is_empty());
        assert_eq!(std::fs::read(&path).expect("written"), good, "the entry is whole again");
    }
}

#[test]
fn runs_at_the_same_time_share_a_cache_within_its_limit() {
    let bench = Bench::new();
    let windows = windows(24);
    let wanted = bench.teacher(0).logits(&slices(&windows)).expect("it answers");
    let limit = 10 * ENTRY + 7;
    std::thread::scope(|scope| {
        for start in 0..4 {
            let (bench, windows, wanted) = (&bench, &windows, &wanted);
            scope.spawn(move || {
                let mut teacher = bench.teacher(limit);
                for i in 0..windows.len() {
                    let at = (i + start * 6) % windows.len();
                    let logits = teacher.logits(&[windows[at].as_slice()]).expect("it answers");
                    let n = logits.len();
                    assert!(logits == wanted[at * n..(at + 1) * n]);
                }
                assert_eq!(teacher.statistics().n_damaged, 0);
            });
        }
    });
    assert_eq!(bench.bytes(), 10 * ENTRY);
    // A run that was killed while it wrote, and a count that was lost.
    let leftover = bench.entries()[0].with_file_name(".x.logits.1.tmp");
    std::fs::write(&leftover, "half").expect("writable");
    std::fs::write(bench.folder.path().join("cache/usage"), "???").expect("writable");
    bench.teacher(limit).logits(&slices(&windows)).expect("it answers");
    assert!(!leftover.exists());
    assert_eq!(bench.bytes(), 10 * ENTRY);
}

#[test]
fn another_vocabulary_is_refused_with_the_first_token_that_differs() {
    let bench = Bench::new();
    let teacher = bench.teacher(0);
    let model = Model::open(&bench.model).expect("a tiny model");
    let student = model.tokenizer().expect("it has one").clone();
    teacher.check_vocabulary(&student).expect("its own");
    let mut longer = student.clone();
    longer.pad(300);
    let said = teacher.check_vocabulary(&longer).expect_err("more tokens").to_string();
    assert!(said.contains("289 tokens and the student 300"), "{said}");
    assert!(said.contains("[PAD289]") && said.contains("teacher.gguf"), "{said}");
    let settings =
        sterna_train::tokenizer::Settings { vocab_size: 289, min_frequency: 1, specials: vec![] };
    let text = tiny::text(4);
    let json = sterna_train::tokenizer::train(&[&text], &settings, &mut |_| {}).expect("trained");
    let other = Tokenizer::from_json_text(&json).expect("ours");
    let said = teacher.check_vocabulary(&other).expect_err("other tokens").to_string();
    assert!(said.contains("its token 0 is \"<unk>\" and the student's is \"!\""), "{said}");
}

#[test]
fn what_a_teacher_cannot_do_is_a_sentence() {
    let bench = Bench::new();
    let mut teacher = bench.teacher(1 << 20);
    assert_eq!((teacher.vocab_len(), teacher.context_len()), (289, 512));
    let long = vec![1; 513];
    let said = teacher.logits(&[&long]).expect_err("too long").to_string();
    assert!(said.contains("513") && said.contains("512 tokens"), "{said}");
    let said = teacher.logits(&[&[1, 289]]).expect_err("no such token").to_string();
    assert!(said.contains("289"), "{said}");
    assert_eq!(teacher.logits(&[&[1, 2]]).expect("it goes on").len(), 2 * 289);
    let missing = Teacher::open(Path::new("none.gguf"), &bench.cache(0), None);
    assert!(missing.err().expect("missing").to_string().contains("none.gguf"));
    let file = CacheSettings { folder: bench.model.clone(), max_bytes: 1 };
    let said = Teacher::open(&bench.model, &file, Some(1)).err().expect("a file").to_string();
    assert!(said.contains("teacher.gguf"), "{said}");
}
