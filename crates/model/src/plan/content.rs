//! The identity of weights: a hash over names, encodings, shapes and bytes, in file order.

use crate::{Graph, WeightDecl, WeightSource, WeightView};

/// A content hash being taken, weight by weight.
#[derive(Default)]
pub struct ContentHasher(blake3::Hasher);

/// Characters of a finished hash: `blake3:` and 64 digits.
pub const HASH_LEN: usize = 71;

impl ContentHasher {
    /// Adds a weight.
    pub fn add(&mut self, decl: &WeightDecl, weight: &WeightView<'_>) {
        let shape: Vec<String> = decl.shape.iter().map(usize::to_string).collect();
        let head = format!("{}\n{}\n{}\n", decl.name, weight.encoding.name(), shape.join("x"));
        self.0.update(&(head.len() as u64).to_le_bytes());
        self.0.update(head.as_bytes());
        self.0.update(&weight.bytes);
    }

    /// `blake3:` and 64 hexadecimal digits.
    pub fn finish(&self) -> String {
        format!("blake3:{}", self.0.finalize().to_hex())
    }
}

/// The hash of all weights of a graph; reads every byte once and keeps none in memory.
pub fn content_hash(graph: &Graph, source: &dyn WeightSource) -> String {
    let mut hasher = ContentHasher::default();
    for id in graph.weight_ids() {
        hasher.add(graph.decl(id), &source.weight(id));
        source.release(id);
    }
    hasher.finish()
}
