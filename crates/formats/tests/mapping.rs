//! A checkpoint costs what is touched of it, and opening touches no tensor.
// proves P-3

use std::fs::File;
use std::path::Path;
use sterna_formats::encodings::by_name;
use sterna_formats::{Checkpoint, GgufWriter, Metadata, TensorDecl};

const TENSOR_LEN: u64 = 256 << 20;
const N_TENSORS: u64 = 8;
/// The kernel maps a little around each page that is touched, and the header is read.
const SLACK: u64 = 4 << 20;

/// A GGUF file of 2 GiB, sparse: the header, then a hole.
fn big_file(path: &Path) {
    let decls = (0..N_TENSORS).map(|i| TensorDecl {
        name: format!("blk.{i}.ffn_up.weight"),
        shape: vec![1, 16],
        encoding: by_name("F32").unwrap(),
    });
    let mut writer = GgufWriter::create(path, &Metadata::default(), decls.collect()).unwrap();
    (0..N_TENSORS).for_each(|_| writer.write_tensor(&[0; 64]).unwrap());
    writer.finish().unwrap();
    // The same header with larger tensors: the second dimension and the offsets change in place.
    let mut bytes = std::fs::read(path).unwrap();
    let mut at = 24;
    for i in 0..N_TENSORS {
        at += 8 + format!("blk.{i}.ffn_up.weight").len() + 4 + 8;
        bytes[at..at + 8].copy_from_slice(&(TENSOR_LEN / 64).to_le_bytes());
        at += 8 + 4;
        bytes[at..at + 8].copy_from_slice(&(i * TENSOR_LEN).to_le_bytes());
        at += 8;
    }
    std::fs::write(path, &bytes).unwrap();
    let end = (at as u64).next_multiple_of(32) + N_TENSORS * TENSOR_LEN;
    File::options().write(true).open(path).unwrap().set_len(end).unwrap();
}

/// How much of the file this process has resident, in bytes.
fn resident(path: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let rss = maps.lines().skip_while(|line| !line.ends_with(name)).find(|l| l.starts_with("Rss:"));
    let kib: u64 = rss.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
#[cfg(target_os = "linux")]
fn opening_touches_nothing_and_dropped_pages_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big-for-mapping.gguf");
    big_file(&path);
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.summary().total.n_bytes, N_TENSORS * TENSOR_LEN);
    assert!(resident(&path) < SLACK, "{} bytes after opening", resident(&path));

    let part = &checkpoint.tensors[3];
    let bytes = &checkpoint.bytes(part)[..64 << 20];
    assert_eq!(bytes.iter().map(|&b| u64::from(b)).sum::<u64>(), 0);
    let touched = resident(&path);
    assert!(
        (64 << 20..(64 << 20) + SLACK).contains(&touched),
        "{touched} bytes after reading 64 MiB"
    );

    checkpoint.drop_pages(part);
    assert!(resident(&path) < SLACK, "{} bytes after dropping", resident(&path));
    assert_eq!(bytes[12345], 0, "dropped pages read again");

    let file = checkpoint.file_of(part);
    assert!(file.advise_sequential(part.offset..part.offset + part.n_bytes));
    assert!(file.advise_will_need(part.offset..part.offset + 4096));
    assert!(
        file.advise_sequential(usize::MAX - 1..usize::MAX),
        "past the end there is nothing to do"
    );
}
