//! Broken files, each with the one sentence it earns: file, place, fix. None panics, and none makes
//! the reader hold more than a small multiple of the file's own size. The sentences are in
//! `golden/hostile/`, one a line, in the order of the cases here; `UPDATE_EXPECT=1` writes them.
// proves "It loads hostile files" (containers)

mod common;

use common::counting::peak_of;
use common::*;
use expect_test::expect_file;
use std::path::Path;
use sterna_formats::{Checkpoint, FormatError};

/// What is held per byte of file at most, beside a fixed part for paths, messages and tables. The
/// dearest honest content is an empty metadata key (13 bytes) that becomes an entry and its name.
const MAX_HELD_PER_BYTE: usize = 12;
const FIXED: usize = 16 << 10;

/// The sentences of a group of broken files.
#[derive(Default)]
struct Table {
    sentences: String,
}

impl Table {
    /// Opens the first of `files`.
    fn open(&mut self, files: &[(&str, Vec<u8>)]) {
        self.case(files, files[0].0, FIXED, |path| Checkpoint::open(path).map(|_| ()));
    }

    /// Opens the directory with the files.
    fn directory(&mut self, files: &[(&str, Vec<u8>)]) {
        self.case(files, "", FIXED, |path| Checkpoint::open(path).map(|_| ()));
    }

    /// The good GGUF file after an edit.
    fn gguf(&mut self, edit: impl FnOnce(&mut RawGguf)) {
        self.open(&[("m.gguf", RawGguf::good().with(edit).bytes())]);
    }

    /// The good GGUF file, cut after `n` bytes.
    fn cut(&mut self, n: usize) {
        self.open(&[("m.gguf", RawGguf::good().bytes()[..n].to_vec())]);
    }

    /// A safetensors file with this header and that many data bytes.
    fn safetensors(&mut self, header: &str, n_data: usize) {
        self.open(&[("m.safetensors", safetensors(header, n_data))]);
    }

    fn case(
        &mut self,
        files: &[(&str, Vec<u8>)],
        name: &str,
        fixed: usize,
        work: impl Fn(&Path) -> Result<(), FormatError>,
    ) {
        let (_dir, dir) = directory(files);
        let path = if name.is_empty() { dir.clone() } else { dir.join(name) };
        let (result, peak) = peak_of(|| work(&path));
        let message = result.expect_err("a broken file").to_string();
        let message = message.replace(&format!("{}/", dir.display()), "");
        let message = message.replace(&dir.display().to_string(), "DIR");
        assert!(!message.contains('\n') && message.len() < 300, "one sentence: {message}");
        let n_bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(peak <= MAX_HELD_PER_BYTE * n_bytes + fixed, "held {peak} for {n_bytes} bytes");
        self.sentences += &format!("{message}\n");
    }

    fn check(self, golden: &str) {
        let path = format!("{}/tests/golden/hostile/{golden}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_file![path].assert_eq(&self.sentences);
    }
}

#[test]
fn the_good_files_are_good() {
    let (_dir, path) = directory(&[
        ("m.gguf", RawGguf::good().bytes()),
        ("m.safetensors", good_safetensors()),
        ("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS)),
        ("tokenizer.bin", llama2c_tokenizer()),
        ("s-00001-of-00002.gguf", RawGguf::part(0, 2, 2).bytes()),
        ("s-00002-of-00002.gguf", RawGguf::part(1, 2, 2).bytes()),
    ]);
    for (name, n_tensors) in
        [("m.gguf", 3), ("m.safetensors", 3), ("m.bin", 20), ("s-00002-of-00002.gguf", 2)]
    {
        let checkpoint = Checkpoint::open(&path.join(name)).unwrap();
        assert_eq!(checkpoint.tensors.len(), n_tensors, "{name}");
    }
}

#[test]
fn cut_gguf() {
    let mut t = Table::default();
    t.cut(0);
    t.cut(3);
    t.cut(6);
    t.cut(20);
    t.cut(24);
    t.cut(50);
    t.cut(170);
    t.cut(300);
    t.cut(450);
    t.check("cut_gguf");
}

#[test]
fn gguf_versions() {
    let mut t = Table::default();
    t.gguf(|g| g.version = 1);
    t.gguf(|g| g.version = 77);
    t.gguf(|g| g.version = 3u32.swap_bytes());
    t.check("gguf_versions");
}

#[test]
fn gguf_counts_and_lengths() {
    let mut t = Table::default();
    t.gguf(|g| g.n_tensors = Some(1 << 60));
    t.gguf(|g| g.n_pairs = Some(u64::MAX));
    t.gguf(|g| g.n_pairs = Some(4));
    let long = (1u64 << 63).to_le_bytes();
    t.gguf(|g| g.pair("general.name", 8, &long));
    t.gguf(|g| g.pair("a.list", 9, &array(4, 1 << 62, &[])));
    t.gguf(|g| g.pair("a.list", 9, &array(8, 40, &[])));
    t.check("gguf_counts_and_lengths");
}

#[test]
fn gguf_values() {
    let mut t = Table::default();
    t.gguf(|g| g.pair("a.value", 13, &[0; 8]));
    t.gguf(|g| g.pair("a.list", 9, &array(200, 1, &[0; 8])));
    t.gguf(|g| g.pair("a.flag", 7, &[2]));
    t.gguf(|g| g.pair("general.architecture", 8, &string("bert")));
    t.gguf(|g| g.pair("general.name", 8, &string(b"caf\xe9")));
    t.gguf(|g| g.pairs[1].0 = b"\xff\xfe".to_vec());
    let bomb = (0..1000).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    t.gguf(|g| g.pair("a.bomb", 9, &bomb));
    t.check("gguf_values");
}

#[test]
fn gguf_alignment() {
    let mut t = Table::default();
    for bad in [0u32, 3, 1 << 31] {
        t.gguf(|g| g.pair("general.alignment", 4, &bad.to_le_bytes()));
    }
    t.gguf(|g| g.pair("general.alignment", 8, &string("32")));
    t.check("gguf_alignment");
}

#[test]
fn gguf_tensors() {
    let mut t = Table::default();
    t.gguf(|g| g.infos[1].offset = 32);
    t.gguf(|g| g.infos[1].offset = 63);
    t.gguf(|g| g.infos[2].offset = 1 << 40);
    t.gguf(|g| g.infos[2].offset = u64::MAX - 31);
    t.gguf(|g| g.infos[2].dims = vec![33, 2]);
    t.gguf(|g| g.infos[2].dims = vec![32, 0]);
    t.gguf(|g| g.infos[2].dims = vec![32, 1 << 40, 1 << 40]);
    t.gguf(|g| g.infos[2].dims = vec![32, u64::MAX]);
    t.gguf(|g| g.infos[2].dims = vec![32; 5]);
    t.gguf(|g| g.infos[2].dims = vec![32, 500]);
    t.gguf(|g| g.infos[2].name = b"norm.weight".to_vec());
    t.gguf(|g| g.infos[2].name = b"\xc3\x28".to_vec());
    let unknown_at_end = |g: &mut RawGguf| {
        g.infos[2].kind = 1000;
        g.infos[2].offset = 224;
    };
    t.gguf(unknown_at_end);
    t.check("gguf_tensors");
}

#[test]
fn gguf_parts() {
    let mut t = Table::default();
    let name = |no: usize| ["s-00001-of-00003.gguf", "s-00002-of-00003.gguf"][no];
    let part = |no| RawGguf::part(no, 3, 3).bytes();
    t.open(&[(name(0), part(0)), (name(1), part(1))]);
    // Part 2 is part 1 again: a cycle for a reader that follows the metadata.
    let last = "s-00003-of-00003.gguf";
    t.open(&[(name(0), part(0)), (name(1), part(0)), (last, part(2))]);
    t.open(&[(name(0), part(0)), (name(1), RawGguf::good().bytes())]);
    t.open(&[("renamed.gguf", part(0))]);
    let of_four = RawGguf::part(1, 4, 3).bytes();
    t.open(&[(name(0), part(0)), (name(1), of_four)]);
    let double = RawGguf::part(1, 3, 3).with(|g| g.infos[0].name = b"part0.weight".to_vec());
    t.open(&[(name(0), part(0)), (name(1), double.bytes()), (last, part(2))]);
    let total = RawGguf::part(0, 3, 9).bytes();
    t.open(&[(name(0), total), (name(1), part(1)), (last, part(2))]);
    t.open(&[(name(0), part(0)), (name(1), b"<html>".to_vec())]);
    t.check("gguf_parts");
}

#[test]
fn safetensors_headers() {
    let mut t = Table::default();
    t.open(&[("m.safetensors", vec![1, 2, 3])]);
    let huge = [&(1u64 << 60).to_le_bytes()[..], b"{}"].concat();
    t.open(&[("m.safetensors", huge)]);
    let past = [&(1u64 << 20).to_le_bytes()[..], b"{}"].concat();
    t.open(&[("m.safetensors", past)]);
    t.safetensors("{\"a\":", 0);
    t.safetensors("{\"a\":{\"dtype\":\"F32\"}}", 0);
    t.safetensors(&format!("{{\"a\":{}", "[".repeat(5000)), 0);
    let not_utf8 = [&8u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}"].concat();
    t.open(&[("m.safetensors", not_utf8)]);
    let odd = r#"{"a":{"dtype":"F12","shape":[1],"data_offsets":[0,4]}}"#;
    t.safetensors(odd, 4);
    t.check("safetensors_headers");
}

#[test]
fn safetensors_tensors() {
    let mut t = Table::default();
    // The second tensor's shape and offsets; the first is bytes 0 to 8.
    let cases = [
        ("[2]", 4, 12, 12),
        ("[2]", 12, 20, 20),
        ("[3]", 8, 16, 16),
        ("[2]", 8, 16, 12),
        ("[2]", 8, 16, 99),
        ("[2]", 16, 8, 16),
        ("[4294967296,4294967296]", 8, 16, 16),
        ("[1152921504606846976]", 8, 8 + (1u64 << 62), 16),
    ];
    for (shape, start, end, n_data) in cases {
        let entry = |shape: &str, start: u64, end: u64| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
        };
        let (a, b) = (entry("[2]", 0, 8), entry(shape, start, end));
        t.safetensors(&format!(r#"{{"a":{a},"b":{b}}}"#), n_data);
    }
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    t.safetensors(twice, 8);
    t.check("safetensors_tensors");
}

#[test]
fn shards() {
    let mut t = Table::default();
    let index = |map: &str| format!(r#"{{"metadata":{{}},"weight_map":{{{map}}}}}"#).into_bytes();
    let name = "model.safetensors.index.json";
    let shard = || ("one.safetensors", good_safetensors());
    t.open(&[(name, index(r#""x":"two.safetensors""#)), shard()]);
    t.open(&[(name, index(r#""x":"one.safetensors""#)), shard()]);
    t.open(&[(name, index(r#""x":"../one.safetensors""#)), shard()]);
    t.open(&[(name, index(r#""x":"/etc/passwd""#)), shard()]);
    t.open(&[(name, index(r#""x":7"#)), shard()]);
    t.open(&[(name, b"{}".to_vec()), shard()]);
    let both = index(r#""a.weight":"one.safetensors","b.weight":"two.safetensors""#);
    t.open(&[(name, both), shard(), ("two.safetensors", good_safetensors())]);
    t.check("shards");
}

#[test]
fn directories() {
    let mut t = Table::default();
    t.case(&[], "none.gguf", FIXED, |path| Checkpoint::open(path).map(|_| ()));
    t.directory(&[]);
    t.directory(&[("m.gguf", RawGguf::good().bytes())]);
    let config = || ("config.json", b"{}".to_vec());
    t.directory(&[config()]);
    t.directory(&[config(), ("pytorch_model.bin", vec![1])]);
    let (a, b) = (("a.safetensors", good_safetensors()), ("b.safetensors", good_safetensors()));
    t.directory(&[config(), a, b]);
    t.directory(&[("config.json", b"{\"a\":}".to_vec())]);
    t.directory(&[("config.json", "[".repeat(100_000).into_bytes())]);
    t.directory(&[("config.json", vec![b' '; 5 << 20])]);
    t.check("directories");
}

#[test]
fn llama2c_numbers() {
    let mut t = Table::default();
    let edited = |at: usize, number: i32| {
        let mut numbers = LLAMA2C;
        numbers[at] = number;
        vec![("m.bin", llama2c(numbers, LLAMA2C_WEIGHTS))]
    };
    t.open(&edited(0, -8));
    t.open(&edited(2, 0));
    t.open(&edited(2, 3));
    t.open(&edited(3, 3));
    t.open(&edited(4, 2_000_000_000));
    t.open(&edited(5, i32::MIN));
    t.open(&edited(5, -5));
    t.open(&[("m.bin", llama2c([1 << 24; 7], 10))]);
    t.open(&[("m.bin", vec![1; 20])]);
    t.open(&[("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS - 1))]);
    t.check("llama2c_numbers");
}

#[test]
fn llama2c_tokenizers() {
    let mut t = Table::default();
    let model = || ("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS));
    let tokenizer = llama2c_tokenizer();
    let mut check = |bytes: Vec<u8>| t.open(&[model(), ("tokenizer.bin", bytes)]);
    check(tokenizer[..3].to_vec());
    check(tokenizer[..tokenizer.len() - 1].to_vec());
    check([tokenizer.clone(), vec![0; 9]].concat());
    let mut negative = tokenizer.clone();
    negative[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    check(negative);
    let mut not_utf8 = tokenizer;
    *not_utf8.last_mut().unwrap() = 0xff;
    check(not_utf8);
    t.check("llama2c_tokenizers");
}

#[test]
fn what_is_no_model() {
    let mut t = Table::default();
    let mut check = |name: &str, bytes: &[u8]| t.open(&[(name, bytes.to_vec())]);
    check("m.gguf", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n");
    check("m.gguf", b"\n<!DOCTYPE html><html><body>Sign in</body></html>");
    check("pytorch_model.bin", b"PK\x03\x04 archive/data.pkl and more of it here");
    check("resnet.th", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M");
    check("m.zip", b"PK\x03\x04 something else, long enough");
    check("m.gguf.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0");
    check("m.onnx", b"\x08\x07\x12\x07pytorch");
    check("ggml-model.bin", b"tjgg\x03\0\0\0\0}\0\0");
    check("m.bin", &[&b"24ka\x01\0\0\0"[..], &[0; 40]].concat());
    check("config.json", b"{\"architectures\": []}");
    check("m.gguf", b"NOPE, this is something else entirely.");
    check("m.gguf", &[0; 64]);
    t.check("what_is_no_model");
}

#[test]
fn values_that_are_no_numbers() {
    let mut t = Table::default();
    let mut check = |edit: fn(&mut RawGguf)| {
        let files = [("m.gguf", RawGguf::good().with(edit).bytes())];
        // Validation decodes through one buffer of 64 Ki values, whatever the file's size.
        t.case(&files, "m.gguf", (4 << 16) + FIXED, |path| {
            let checkpoint = Checkpoint::open(path)?;
            checkpoint.validate(&checkpoint.tensors)
        });
    };
    check(|g| g.data[162..164].copy_from_slice(&[0x00, 0x7e]));
    check(|g| g.data[60..64].copy_from_slice(&f32::INFINITY.to_le_bytes()));
    check(|g| g.infos[0].kind = 77);
    t.check("values_that_are_no_numbers");
}

#[test]
fn dear_but_honest_content_stays_within_the_bound() {
    let peak_per_byte = |edit: &dyn Fn(&mut RawGguf)| {
        let bytes = RawGguf::good().with(edit).bytes();
        let (_dir, path) = directory(&[("m.gguf", bytes.clone())]);
        let (result, peak) = peak_of(|| Checkpoint::open(&path.join("m.gguf")));
        assert!(result.is_ok(), "{:?}", result.err());
        assert!(peak <= MAX_HELD_PER_BYTE * bytes.len(), "{peak} for {}", bytes.len());
    };
    peak_per_byte(&|g| {
        (0..50_000).for_each(|i| g.pair(&format!("{i:x}"), 7, &[1]));
    });
    peak_per_byte(&|g| g.pair("a.list", 9, &array(8, 100_000, &string("").repeat(100_000))));
    let empty = array(0, 0, &[]);
    peak_per_byte(&|g| g.pair("a.list", 9, &array(9, 100_000, &empty.repeat(100_000))));
    peak_per_byte(&|g| {
        g.infos.clear();
        (0..20_000).for_each(|i| g.infos.push(RawInfo::new(&format!("{i:x}"), &[1], 0, i * 32)));
        g.data = vec![0; 20_000 * 32];
    });
}
