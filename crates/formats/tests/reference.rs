//! Compares every encoding with the reference implementations: the PyPI `gguf` package, and ggml.
//!
//! Opt-in: `STERNA_PEERS` names a Python that has `gguf` and `numpy`; `STERNA_LIBGGML`, optional, a
//! `libggml-base.so`. Without them the test prints why it is skipped. With `--nocapture` it prints
//! each encoding's error relative to ggml's.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;
use std::process::Command;

use sterna_formats::encodings::{ENCODINGS, EncodingRef};

const ROW: usize = 1024;
const N_ROWS: usize = 256;

/// Encodings whose bytes are pinned to the reference's.
const SAME_BYTES: &[&str] =
    &["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ2_0", "TQ1_0"];

/// The largest error an encoder that searches may have relative to ggml's.
const WORST_RATIO: f64 = 1.01;

#[test]
fn decoding_and_encoding_agree_with_the_references() {
    let Some(python) = std::env::var_os("STERNA_PEERS") else {
        println!("skipped: STERNA_PEERS does not name a Python with gguf and numpy");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let inputs = write_inputs(folder.path());
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.py")).arg(folder.path());
    match std::env::var_os("STERNA_LIBGGML") {
        Some(library) => _ = command.arg(library),
        None => println!("errors are not compared: STERNA_LIBGGML does not name libggml-base.so"),
    }
    assert!(command.status().unwrap().success(), "reference.py failed");
    for &encoding in ENCODINGS {
        compare_decoded(folder.path(), encoding);
        for (name, values) in &inputs {
            compare_encoded(folder.path(), encoding, name, values);
        }
    }
}

fn write_inputs(folder: &Path) -> BTreeMap<&'static str, Vec<f32>> {
    let mut random = Random(2026);
    for &encoding in ENCODINGS {
        let bytes: Vec<u8> =
            (0..encoding.row_bytes(ROW) * N_ROWS).map(|_| (random.next() >> 56) as u8).collect();
        std::fs::write(folder.join(format!("{}.bytes", encoding.name())), bytes).unwrap();
    }
    let n = ROW * N_ROWS;
    let gaussian: Vec<f32> = (0..n).map(|_| random.gaussian() as f32 * 0.02).collect();
    let heavy = (0..n).map(|_| random.student_t3() as f32 * 0.02).collect();
    let ternary = (0..n).map(|_| (random.next() % 3) as f32 * 0.75 - 0.75).collect();
    let importance: Vec<f32> = (0..ROW).map(|_| random.gaussian().powi(2) as f32 + 0.01).collect();
    write_f32(&folder.join("gaussian.importance"), &importance);
    write_f32(&folder.join("heavy.importance"), &importance);
    let zeros = vec![0.0; n];
    let inputs = BTreeMap::from([
        ("gaussian", gaussian),
        ("heavy", heavy),
        ("ternary", ternary),
        ("zeros", zeros),
    ]);
    for (name, values) in &inputs {
        write_f32(&folder.join(format!("{name}.values")), values);
    }
    inputs
}

fn compare_decoded(folder: &Path, encoding: EncodingRef) {
    let file = |suffix| folder.join(format!("{}.{suffix}", encoding.name()));
    let bytes = std::fs::read(file("bytes")).unwrap();
    let expected = read_f32(&file("decoded"));
    let mut values = vec![0.0; ROW * N_ROWS];
    encoding.decode(&bytes, &mut values);
    assert_eq!(values.len(), expected.len());
    for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
        let same = value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan());
        assert!(same, "{encoding:?} value {i}: decoded {value}, gguf says {expected}");
    }
}

fn compare_encoded(folder: &Path, encoding: EncodingRef, name: &str, values: &[f32]) {
    if !encoding.can_encode() {
        return;
    }
    let file = |suffix| folder.join(format!("{}.{name}.{suffix}", encoding.name()));
    let bytes = encode(encoding, values, None);
    if let Ok(expected) = std::fs::read(file("gguf")) {
        assert!(bytes == expected, "{encoding:?} on {name}: other bytes than gguf's");
    } else {
        assert!(!SAME_BYTES.contains(&encoding.name()), "gguf no longer encodes {encoding:?}");
    }
    if name == "ternary" || name == "zeros" || SAME_BYTES[..3].contains(&encoding.name()) {
        return;
    }
    if let Ok(reference) = std::fs::read(file("ggml")) {
        let ratio = rmse(encoding, &bytes, values, None) / rmse(encoding, &reference, values, None);
        println!("{:8} {name:8} rmse / ggml's          {ratio:.4}", encoding.name());
        let pinned = SAME_BYTES.contains(&encoding.name());
        assert!(pinned || ratio <= WORST_RATIO, "{encoding:?} on {name}: {ratio}");
    }
    if let Ok(reference) = std::fs::read(file("weighted")) {
        let weights = read_f32(&folder.join(format!("{name}.importance")));
        let bytes = encode(encoding, values, Some(&weights));
        let ratio = rmse(encoding, &bytes, values, Some(&weights))
            / rmse(encoding, &reference, values, Some(&weights));
        println!("{:8} {name:8} weighted rmse / ggml's {ratio:.4}", encoding.name());
        assert!(ratio <= WORST_RATIO, "{encoding:?} on {name}, weighted: {ratio}");
    }
}

fn encode(encoding: EncodingRef, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; encoding.row_bytes(values.len())];
    let rows = bytes.chunks_exact_mut(encoding.row_bytes(ROW));
    for (row, values) in rows.zip(values.chunks_exact(ROW)) {
        encoding.encode(values, importance, row);
    }
    bytes
}

fn rmse(encoding: EncodingRef, bytes: &[u8], values: &[f32], weights: Option<&[f32]>) -> f64 {
    let mut decoded = vec![0.0; values.len()];
    encoding.decode(bytes, &mut decoded);
    let squares = values.iter().zip(&decoded).enumerate().map(|(i, (a, b))| {
        f64::from(a - b).powi(2) * f64::from(weights.map_or(1.0, |weights| weights[i % ROW]))
    });
    (squares.sum::<f64>() / values.len() as f64).sqrt()
}

fn read_f32(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

fn write_f32(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}

/// A seeded generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// Student's t with 3 degrees of freedom: tails as heavy as trained weights get.
    fn student_t3(&mut self) -> f64 {
        let chi2: f64 = (0..3).map(|_| self.gaussian().powi(2)).sum();
        self.gaussian() / (chi2 / 3.0).sqrt()
    }
}
