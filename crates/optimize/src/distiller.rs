//! Who has a quantized model learn from what it was made of: a seam between searches and training.
//!
//! In: a model as it is stored, as it was before rounding, documents, and the source's logits. Out:
//! bytes of the same length. The one that trains is in `cli`, over `sterna_train`; tests have their
//! own.

pub mod keeper;

use crate::error::Result;
use sterna_model::plan::{Distilled, hash_text};
use sterna_model::{Graph, WeightId, WeightSource};

/// Has models learn.
pub trait Distiller: Send + Sync {
    /// Refuses a graph that cannot learn, before any work.
    ///
    /// # Errors
    /// Why it cannot.
    fn check(&self, graph: &Graph) -> Result<()>;
    /// Why this machine has not the memory to have a graph learn from such documents, if so.
    fn lacks(&self, graph: &Graph, documents: &[&[u32]]) -> Option<String>;
    /// Has a model learn.
    ///
    /// # Errors
    /// When it cannot, or whoever is told wants no more.
    fn learn(&self, lessons: Lessons<'_>) -> Result<Learned>;
}

/// What learns, and from what.
pub struct Lessons<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its weights as they are stored.
    pub stored: &'a dyn WeightSource,
    /// The same before they were rounded.
    pub original: &'a dyn WeightSource,
    /// Documents, each a sequence of its own.
    pub documents: Vec<&'a [u32]>,
    /// The source's logits after each token of the document of that number but its last:
    /// `[tokens - 1, vocabulary]`.
    pub teacher: &'a mut dyn FnMut(usize) -> Result<Vec<f32>>,
    /// The seed of the order of documents.
    pub seed: u64,
    /// Told steps done, of how many, and the divergence before the last one; says how many there
    /// are to be, of which more than at first change nothing.
    pub told: &'a mut dyn FnMut(usize, usize, f64) -> Result<usize>,
}

/// The hash of documents, as Plans have it; each begins with its length, so that no two lists read
/// the same.
pub fn hash_of(documents: &[&[u32]]) -> String {
    let numbers = documents.iter().flat_map(|document| {
        std::iter::once(document.len() as u32).chain(document.iter().copied())
    });
    let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    hash_text(&bytes)
}

/// What was learned.
pub struct Learned {
    /// The weights that are others now, with their bytes.
    pub weights: Vec<(WeightId, Vec<u8>)>,
    /// How.
    pub how: Distilled,
}
