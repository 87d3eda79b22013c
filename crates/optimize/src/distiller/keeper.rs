//! What was learned stays in a file until the artifact is there, so that a run that is resumed need
//! not learn it again.
//!
//! In: whoever has models learn, and a file. Out: the same, who looks into the file first. It is a
//! GGUF of the weights that learned, under a key of all that they follow from; one that is of
//! something else, or damaged, is as none.

use super::{Distiller, Learned, Lessons, hash_of};
use crate::error::Result;
use std::path::Path;
use sterna_formats::{Checkpoint, FormatError, GgufWriter, Metadata, TensorDecl, Value};
use sterna_model::plan::Distilled;
use sterna_model::{Graph, WeightId, WeightSource};

/// The file in the output folder.
const NAME: &str = "learned.gguf";
/// Its metadata: what it is of, and how that learned.
const KEY: &str = "sterna.learned.key";
const HOW: &str = "sterna.learned.how";

/// A distiller with a file.
pub struct Keeper<'a> {
    /// Has models learn.
    pub distiller: &'a dyn Distiller,
    /// The folder of the file.
    pub folder: &'a Path,
    /// Whether the file may be read.
    pub resume: bool,
}

/// Removes what a finished run has no more use for.
pub fn forget(folder: &Path) {
    // What is not there is as good as removed; what stays is read only where it serves.
    let _ = std::fs::remove_file(folder.join(NAME));
}

impl Distiller for Keeper<'_> {
    fn check(&self, graph: &Graph) -> Result<()> {
        self.distiller.check(graph)
    }

    fn lacks(&self, graph: &Graph, documents: &[&[u32]]) -> Option<String> {
        self.distiller.lacks(graph, documents)
    }

    fn learn(&self, lessons: Lessons<'_>) -> Result<Learned> {
        let (graph, stored, path) = (lessons.graph, lessons.stored, self.folder.join(NAME));
        let key = key(&lessons);
        let known = self.resume.then(|| read(&path, &key, graph, stored)).flatten();
        if let Some(known) = known {
            return Ok(known);
        }
        let learned = self.distiller.learn(lessons)?;
        // What was cut may have more time when it is resumed.
        if learned.how.done == learned.how.steps {
            // Without a file it is learned again.
            let _ = write(&path, &key, &learned, stored);
        }
        Ok(learned)
    }
}

/// A hash of all that learning follows from.
fn key(lessons: &Lessons<'_>) -> String {
    let Lessons { graph, stored, original, documents, seed, .. } = lessons;
    let mut hasher = blake3::Hasher::new();
    let head = format!("{} {seed} {}", env!("CARGO_PKG_VERSION"), hash_of(documents));
    hasher.update(head.as_bytes());
    for (id, source) in graph.weight_ids().flat_map(|id| [(id, *stored), (id, *original)]) {
        let view = source.weight(id);
        let shape = format!("{} {} {};", view.encoding.name(), view.rows, view.cols);
        hasher.update(shape.as_bytes()).update(&view.bytes);
    }
    hasher.finalize().to_hex().to_string()
}

fn write(
    path: &Path,
    key: &str,
    learned: &Learned,
    stored: &dyn WeightSource,
) -> std::result::Result<(), FormatError> {
    let mut metadata = Metadata::default();
    metadata.set(KEY, Value::Str(key.to_owned()));
    metadata.set(HOW, Value::Str(serde_json::to_string(&learned.how).expect("plain data")));
    let decl = |id: WeightId| {
        let view = stored.weight(id);
        let shape = vec![view.rows, view.cols];
        TensorDecl { name: name(id), shape, encoding: view.encoding }
    };
    let decls = learned.weights.iter().map(|(id, _)| decl(*id)).collect();
    let mut writer = GgufWriter::create(path, &metadata, decls)?;
    learned.weights.iter().try_for_each(|(_, bytes)| writer.write_tensor(bytes))?;
    writer.finish()
}

/// What the file has, if it is of this and whole.
fn read(path: &Path, key: &str, graph: &Graph, stored: &dyn WeightSource) -> Option<Learned> {
    let checkpoint = Checkpoint::open(path).ok()?;
    let text = |of| checkpoint.metadata.str(of);
    if text(KEY) != Some(key) {
        return None;
    }
    let how: Distilled = serde_json::from_str(text(HOW)?).ok()?;
    let mut weights = Vec::new();
    for id in graph.weight_ids() {
        let Some(tensor) = checkpoint.tensor(&name(id)) else { continue };
        let bytes = checkpoint.bytes(tensor);
        let is_same = checkpoint.encoding(tensor).is_ok_and(|e| e == stored.encoding(id));
        if !is_same || bytes.len() != stored.weight(id).bytes.len() {
            return None;
        }
        weights.push((id, bytes.to_vec()));
    }
    (weights.len() == checkpoint.tensors.len() && how.is_sensible())
        .then_some(Learned { weights, how })
}

/// Names that are short, whatever the model's are.
fn name(id: WeightId) -> String {
    format!("weight.{}", id.0)
}
