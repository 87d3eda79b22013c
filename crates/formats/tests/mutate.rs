//! A little fuzzing that every run of the tests does: good files, broken at random by a fixed seed.
//! Each either opens and can be read to its last byte, or is refused with a sentence; none panics
//! or makes the reader hold much more than the file. `fuzz/` does the same with coverage.
// proves "It loads hostile files" (containers)

mod common;

use common::counting::peak_of;
use common::*;
use std::path::Path;
use sterna_formats::{Checkpoint, Stored};

const ROUNDS: u64 = 1500;

/// SplitMix64 (Steele, Lea, Flood 2014): seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers that parsers trip over.
const EDGES: [u64; 8] = [0, 1, 31, 0x7fff_ffff, 0xffff_ffff, 1 << 60, 1 << 63, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, donor: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let n = [4, 8][random.below(2)].min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&edge[..n]);
            }
            4 => {
                let from = random.below(donor.len());
                let n = random.below(64).min(donor.len() - from);
                bytes.splice(at..at, donor[from..from + n].iter().copied());
            }
            _ => {
                let n = random.below(64).min(bytes.len() - at);
                bytes.drain(at..at + n);
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Opens, and reads whatever opened to the last byte. Whether it opened.
fn walk(path: &Path) -> bool {
    let checkpoint = match Checkpoint::open(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            assert!(!error.problem.is_empty() && !error.fix.is_empty());
            return false;
        }
    };
    for tensor in &checkpoint.tensors {
        let bytes = checkpoint.bytes(tensor);
        assert_eq!(bytes.len(), tensor.n_bytes);
        std::hint::black_box(bytes.iter().map(|&b| u64::from(b)).sum::<u64>());
        if let Stored::Known(encoding) = tensor.stored {
            assert_eq!(tensor.n_bytes * encoding.block_len(), {
                tensor.n_values() * encoding.block_bytes()
            });
        }
        assert!(std::ptr::eq(checkpoint.tensor(&tensor.name).unwrap(), tensor));
        let _ = checkpoint.validate([tensor]);
    }
    std::hint::black_box(checkpoint.summary());
    true
}

/// Breaks the first of `files` again and again; the others stay beside it. Opens
/// `opened_name`, which is one of them.
fn fuzz(files: &[(&str, Vec<u8>)], opened_name: &str, seed: u64) {
    let (_dir, dir) = directory(files);
    let (name, good) = &files[0];
    let path = dir.join(name);
    let donor = RawGguf::good().bytes();
    let mut random = Random(seed);
    let mut opened = 0;
    for round in 0..ROUNDS {
        let mut bytes = good.clone();
        mutate(&mut bytes, &donor, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        println!("{name}: seed {seed}, round {round}");
        let (ok, peak) = peak_of(|| walk(&dir.join(opened_name)));
        opened += u64::from(ok);
        let n_bytes = bytes.len() + files[1..].iter().map(|(_, b)| b.len()).sum::<usize>();
        // Beside the file: one buffer of `validate`.
        assert!(peak <= 12 * n_bytes + (4 << 16) + (16 << 10), "held {peak} for {n_bytes}");
    }
    // A mutation that changes only weights leaves the file good: both ways must have been walked.
    assert!(opened > 0 && opened < ROUNDS, "{opened} of {ROUNDS} opened");
}

#[test]
fn broken_gguf() {
    fuzz(&[("m.gguf", RawGguf::good().bytes())], "m.gguf", 1);
}

#[test]
fn broken_part() {
    let part = |no| RawGguf::part(no, 2, 2).bytes();
    fuzz(
        &[("s-00002-of-00002.gguf", part(1)), ("s-00001-of-00002.gguf", part(0))],
        "s-00001-of-00002.gguf",
        2,
    );
}

#[test]
fn broken_safetensors() {
    fuzz(&[("m.safetensors", good_safetensors())], "m.safetensors", 3);
}

#[test]
fn broken_index() {
    let map = r#"{"weight_map":{"a.weight":"m.safetensors","b.weight":"m.safetensors"}}"#;
    let shard = ("m.safetensors", good_safetensors());
    fuzz(&[("model.safetensors.index.json", map.into()), shard], "model.safetensors.index.json", 4);
}

#[test]
fn broken_llama2c() {
    fuzz(&[("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS))], "m.bin", 5);
}

#[test]
fn broken_llama2c_tokenizer() {
    let model = ("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS));
    fuzz(&[("tokenizer.bin", llama2c_tokenizer()), model], "m.bin", 6);
}
