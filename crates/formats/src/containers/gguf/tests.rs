//! What is written reads back: metadata of every type, tensors, any alignment, both versions, parts.

use crate::encodings::by_name;
use crate::{Array, Checkpoint, GgufWriter, Metadata, TensorDecl, Value};
use proptest::prelude::*;
use std::path::Path;

/// A tensor to write, with its bytes.
type Filled = (TensorDecl, Vec<u8>);

fn decl(name: &str, shape: &[usize], encoding: &str) -> TensorDecl {
    let encoding = by_name(encoding).unwrap();
    TensorDecl { name: name.into(), shape: shape.to_vec(), encoding }
}

fn filled(name: &str, shape: &[usize], encoding: &str) -> Filled {
    let decl = decl(name, shape, encoding);
    let n_bytes = decl.n_bytes().unwrap();
    let bytes = (0..n_bytes).map(|i| (i as u8).wrapping_mul(name.len() as u8 | 1)).collect();
    (decl, bytes)
}

/// Writes each tensor in pieces of `piece` bytes.
fn write(path: &Path, metadata: &Metadata, tensors: &[Filled], piece: usize) {
    let decls = tensors.iter().map(|(decl, _)| decl.clone()).collect();
    let mut writer = GgufWriter::create(path, metadata, decls).unwrap();
    for (decl, bytes) in tensors {
        assert_eq!(writer.next_tensor(), Some(decl.name.as_str()));
        bytes.chunks(piece).for_each(|chunk| writer.write_tensor(chunk).unwrap());
    }
    writer.finish().unwrap();
}

fn assert_reads(checkpoint: &Checkpoint, metadata: &Metadata, tensors: &[Filled]) {
    assert_eq!(&checkpoint.metadata, metadata);
    assert_eq!(checkpoint.tensors.len(), tensors.len());
    for (decl, bytes) in tensors {
        let info = checkpoint.tensor(&decl.name).unwrap();
        assert_eq!(info.shape, decl.shape);
        assert_eq!(checkpoint.encoding(info).unwrap(), decl.encoding);
        assert_eq!(checkpoint.bytes(info), bytes);
    }
}

fn sample() -> Vec<Filled> {
    vec![
        filled("token_embd.weight", &[5, 32], "Q8_0"),
        filled("a", &[3], "F32"),
        filled("blk.0.ffn_up.weight", &[2, 3, 2, 256], "Q4_K"),
        filled("half", &[7, 3], "F16"),
    ]
}

fn number(bits: u64) -> impl Strategy<Value = Value> {
    // Bits are varied by the caller's strategy; floats avoid NaN, which equals nothing.
    let finite = f64::from_bits(bits);
    let finite = if finite.is_finite() { finite } else { 0.5 };
    proptest::sample::select(vec![
        Value::U8(bits as u8),
        Value::I8(bits as i8),
        Value::U16(bits as u16),
        Value::I16(bits as i16),
        Value::U32(bits as u32),
        Value::I32(bits as i32),
        Value::F32(finite as f32),
        Value::Bool(bits & 1 == 1),
        Value::U64(bits),
        Value::I64(bits as i64),
        Value::F64(finite),
    ])
}

fn array() -> impl Strategy<Value = Array> {
    let bytes = proptest::collection::vec(any::<u64>(), 0..6);
    let leaf = (bytes, 0..12usize, "\\PC{0,8}").prop_map(|(bits, kind, text)| {
        let n = |f: fn(u64) -> f64| bits.iter().map(|&b| f(b)).collect::<Vec<_>>();
        match kind {
            0 => Array::U8(bits.iter().map(|&b| b as u8).collect()),
            1 => Array::I8(bits.iter().map(|&b| b as i8).collect()),
            2 => Array::U16(bits.iter().map(|&b| b as u16).collect()),
            3 => Array::I16(bits.iter().map(|&b| b as i16).collect()),
            4 => Array::U32(bits.iter().map(|&b| b as u32).collect()),
            5 => Array::I32(bits.iter().map(|&b| b as i32).collect()),
            6 => Array::F32(bits.iter().map(|&b| b as f32).collect()),
            7 => Array::Bool(bits.iter().map(|&b| b & 1 == 1).collect()),
            8 => Array::Str(bits.iter().map(|b| format!("{text}{b}")).collect()),
            9 => Array::U64(bits),
            10 => Array::I64(bits.iter().map(|&b| b as i64).collect()),
            _ => Array::F64(n(|b| b as f64)),
        }
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        proptest::collection::vec(inner, 0..3).prop_map(Array::Nested)
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let value = prop_oneof![
        any::<u64>().prop_flat_map(number),
        "\\PC{0,20}".prop_map(Value::Str),
        array().prop_map(Value::Array),
    ];
    proptest::collection::vec(("[a-z]{1,6}(\\.[a-z]{1,6}){0,2}", value), 0..12).prop_map(|pairs| {
        let mut metadata = Metadata::default();
        pairs.into_iter().for_each(|(key, value)| metadata.set(key, value));
        metadata
    })
}

fn tensors() -> impl Strategy<Value = Vec<Filled>> {
    const ENCODINGS: &[&str] = &["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "TQ2_0"];
    let one = (proptest::sample::select(ENCODINGS), 1..4usize, 1..3usize, 0..3usize);
    proptest::collection::vec(one, 0..6).prop_map(|specs| {
        let make = |(i, (encoding, blocks, rows, outer)): (usize, (&&str, usize, usize, usize))| {
            let cols = blocks * by_name(encoding).unwrap().block_len();
            let shape = [vec![2; outer], vec![rows, cols]].concat();
            filled(&format!("blk.{i}.weight"), &shape, encoding)
        };
        specs.iter().map(|(e, b, r, o)| (e, *b, *r, *o)).enumerate().map(make).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_reads_back(
        metadata in metadata(),
        tensors in tensors(),
        alignment in proptest::option::of(0..13u32),
        piece in 1..700usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        let mut metadata = metadata;
        if let Some(power) = alignment {
            metadata.set("general.alignment", Value::U32(1 << power));
        }
        write(&path, &metadata, &tensors, piece);
        assert_reads(&Checkpoint::open(&path).unwrap(), &metadata, &tensors);
        let first = std::fs::read(&path).unwrap();
        write(&path, &metadata, &tensors, usize::MAX);
        prop_assert_eq!(first, std::fs::read(&path).unwrap(), "the pieces do not show");
    }

    #[test]
    fn any_part_opens_the_whole_set(
        tensors in tensors(),
        n_parts in 2..5usize,
        given in 0..4usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut metadata = Metadata::default();
        metadata.set("general.name", Value::Str("parts".into()));
        let part_path = |no| dir.path().join(format!("m-{:05}-of-{n_parts:05}.gguf", no + 1));
        let per_part = tensors.len().div_ceil(n_parts).max(1);
        for no in 0..n_parts {
            let mut own = if no == 0 { metadata.clone() } else { Metadata::default() };
            own.set("split.no", Value::U16(no as u16));
            own.set("split.count", Value::U16(n_parts as u16));
            own.set("split.tensors.count", Value::I32(tensors.len() as i32));
            let start = (no * per_part).min(tensors.len());
            let end = (start + per_part).min(tensors.len());
            write(&part_path(no), &own, &tensors[start..end], 1000);
        }
        let checkpoint = Checkpoint::open(&part_path(given % n_parts)).unwrap();
        assert_reads(&checkpoint, &metadata, &tensors);
        prop_assert_eq!(checkpoint.files().len(), n_parts);
    }
}

#[test]
fn version_2_reads_like_version_3() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, &Metadata::default(), &sample(), 100);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 2;
    std::fs::write(&path, bytes).unwrap();
    assert_reads(&Checkpoint::open(&path).unwrap(), &Metadata::default(), &sample());
}

#[test]
fn unknown_types_are_kept_raw() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let tensors = [filled("x", &[64], "Q8_0"), filled("y", &[8], "F32"), filled("z", &[4], "F32")];
    write(&path, &Metadata::default(), &tensors, 100);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(1).position(|w| w == b"x").unwrap() + 1 + 4 + 8;
    assert_eq!(bytes[at], 8, "Q8_0's number");
    bytes[at] = 99;
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let x = checkpoint.tensor("x").unwrap();
    assert_eq!(x.n_bytes, 96, "68 bytes and the padding before y");
    assert_eq!(&checkpoint.bytes(x)[..68], tensors[0].1);
    let error = checkpoint.encoding(x).unwrap_err().to_string();
    assert!(error.contains("tensor x is stored as GGUF type 99"), "{error}");
    assert_eq!(checkpoint.bytes(checkpoint.tensor("y").unwrap()), tensors[1].1);
}

#[test]
fn a_dropped_writer_leaves_the_old_file_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, &Metadata::default(), &sample(), 100);
    let old = std::fs::read(&path).unwrap();
    let other = vec![decl("other", &[4], "F32")];
    let mut writer = GgufWriter::create(&path, &Metadata::default(), other).unwrap();
    writer.write_tensor(&[0; 7]).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), old);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn impossible_declarations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |decls: Vec<TensorDecl>, says: &str| {
        let path = dir.path().join("m.gguf");
        let error = GgufWriter::create(&path, &Metadata::default(), decls).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    check(vec![decl("a", &[2, 33], "Q8_0")], "33 values, which do not divide into Q8_0's blocks");
    check(vec![decl("a", &[1], "F32"), decl("a", &[1], "F32")], "a is declared twice");
    check(vec![decl(&"n".repeat(64), &[1], "F32")], "has a name of 64 bytes");
    check(vec![decl("a", &[1, 1, 1, 1, 1], "F32")], "has 5 dimensions");
    check(vec![decl("a", &[0], "F32")], "has no values");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
