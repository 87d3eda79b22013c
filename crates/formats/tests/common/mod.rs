//! Small good files, made so that a test can break them at any place it likes.
#![allow(dead_code, reason = "each test program uses its own part of these")]

pub mod counting;

use std::path::PathBuf;

/// A GGUF file as its parts; [`RawGguf::bytes`] writes whatever they say.
#[derive(Clone)]
pub struct RawGguf {
    pub version: u32,
    /// The counts in the header, where they should differ from the truth.
    pub n_tensors: Option<u64>,
    pub n_pairs: Option<u64>,
    /// Key, type number, the value's bytes.
    pub pairs: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub infos: Vec<RawInfo>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

/// A tensor info as it stands in the file (innermost dimension first).
#[derive(Clone)]
pub struct RawInfo {
    pub name: Vec<u8>,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

impl RawInfo {
    pub fn new(name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        Self { name: name.into(), dims: dims.to_vec(), kind, offset }
    }
}

/// A string as GGUF has it.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array's bytes: the element type, the count, the elements.
pub fn array(kind: u32, n: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &n.to_le_bytes(), elements].concat()
}

impl RawGguf {
    /// Three keys and three tensors: F32, F16, Q8_0, each 64 bytes or a little more.
    pub fn good() -> Self {
        let mut good = Self {
            version: 3,
            n_tensors: None,
            n_pairs: None,
            pairs: Vec::new(),
            infos: vec![
                RawInfo::new("norm.weight", &[16], 0, 0),
                RawInfo::new("half.weight", &[8, 4], 1, 64),
                RawInfo::new("blk.0.up.weight", &[32, 2], 8, 128),
            ],
            alignment: 32,
            data: [vec![0x3f; 64], vec![0x3c; 64], vec![1; 68], vec![0; 28]].concat(),
        };
        good.pair("general.architecture", 8, &string("llama"));
        good.pair("llama.block_count", 4, &1u32.to_le_bytes());
        let words = [string("a"), string("b")].concat();
        good.pair("tokenizer.ggml.tokens", 9, &array(8, 2, &words));
        good
    }

    pub fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.pairs.push((key.into(), kind, value.to_vec()));
    }

    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    /// Part `no` of `count`, whose set has `n_tensors` in all.
    pub fn part(no: u16, count: u16, n_tensors: i32) -> Self {
        let name = format!("part{no}.weight");
        let infos = vec![RawInfo::new(&name, &[16], 0, 0)];
        let mut part = Self { pairs: vec![], infos, data: vec![0; 64], ..Self::good() };
        part.pair("split.no", 2, &no.to_le_bytes());
        part.pair("split.count", 2, &count.to_le_bytes());
        part.pair("split.tensors.count", 5, &n_tensors.to_le_bytes());
        part
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.infos.len() as u64).to_le_bytes());
        out.extend(self.n_pairs.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.pairs {
            out.extend(string(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for info in &self.infos {
            out.extend(string(&info.name));
            out.extend((info.dims.len() as u32).to_le_bytes());
            info.dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(info.kind.to_le_bytes());
            out.extend(info.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}

/// A safetensors file with this header text and that many data bytes.
pub fn safetensors(header: &str, n_data: usize) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &vec![0; n_data]].concat()
}

/// A good safetensors file: two tensors of known types, one of another.
pub fn good_safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},
        "a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
        "b.weight":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},
        "c.ids":{"dtype":"I64","shape":[1,2],"data_offsets":[32,48]}}"#;
    safetensors(header, 48)
}

/// The seven numbers of a good llama2.c file: dim, hidden_dim, n_layers, n_heads, n_kv_heads,
/// vocab_size, seq_len.
pub const LLAMA2C: [i32; 7] = [8, 12, 2, 2, 1, 5, 6];

/// The weights that belong to [`LLAMA2C`].
pub const LLAMA2C_WEIGHTS: usize = 5 * 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 3 * 96) + 8 + 2 * 6 * 2;

/// A llama2.c file of these numbers and that many weights.
pub fn llama2c(numbers: [i32; 7], n_weights: usize) -> Vec<u8> {
    let header = numbers.iter().flat_map(|n| n.to_le_bytes());
    let weights = (0..n_weights).flat_map(|i| (i as f32 * 0.5).to_le_bytes());
    header.chain(weights).collect()
}

/// A llama2.c tokenizer of five tokens.
pub fn llama2c_tokenizer() -> Vec<u8> {
    let tokens = ["<unk>", "\n<s>\n", "\n</s>\n", "<0x0A>", " a"];
    let mut out = 7i32.to_le_bytes().to_vec();
    for (id, token) in tokens.iter().enumerate() {
        out.extend((-(id as f32)).to_le_bytes());
        out.extend((token.len() as i32).to_le_bytes());
        out.extend(token.as_bytes());
    }
    out
}

/// Writes files into a new directory.
pub fn directory(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
}
