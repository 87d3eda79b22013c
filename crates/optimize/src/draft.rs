//! A draft: a model under edit. Source weights, and an overlay of edits, each with its provenance.
//!
//! In: a graph and the source of its weights. Out: a [`WeightSource`] like any other, so that a
//! draft is run, measured and written exactly as an unedited model is. Edits are lazy: a weight is
//! encoded anew when it is asked for, so that a draft costs no memory and editing costs no time;
//! only what a [`Shelf`] was given for is kept.

mod reading;
mod rounding;
pub mod scaling;

use crate::error::{OptimizeError, Result};
use crate::fit;
use crate::importance::Importance;
use crate::shelf::Shelf;
use scaling::Scaling;
use std::collections::BTreeMap;
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_model::config::Config;
use sterna_model::plan::{Distilled, Rounding};
use sterna_model::{Graph, WeightDecl, WeightId, WeightSource};

/// What becomes of one weight.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The encoding it gets.
    pub encoding: EncodingRef,
    /// Its bytes, where a pass rounded it itself.
    pub bytes: Option<Arc<[u8]>>,
    /// Who decided this and why, e.g. `mixed: knapsack under 220 KB`.
    pub provenance: String,
}

/// A model under edit.
#[derive(Clone)]
pub struct Draft<'a> {
    source: &'a dyn WeightSource,
    graph: Graph,
    config: Option<Config>,
    edits: BTreeMap<WeightId, Edit>,
    notes: Vec<String>,
    importance: Option<Arc<Importance>>,
    scaling: Scaling,
    shelf: Option<Arc<Shelf>>,
    /// How it was rounded before it learned, and how it learned.
    taught: Option<(Rounding, Distilled)>,
}

impl<'a> Draft<'a> {
    /// A draft without edits.
    pub fn new(graph: &Graph, source: &'a dyn WeightSource) -> Self {
        Self {
            source,
            graph: graph.clone(),
            config: None,
            edits: BTreeMap::new(),
            notes: Vec::new(),
            importance: None,
            scaling: Scaling::default(),
            shelf: None,
            taught: None,
        }
    }

    /// The graph as edited.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The hyper-parameters, where a pass changed them.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// Says that the graph follows other hyper-parameters now.
    pub fn set_config(&mut self, config: Config) {
        self.config = Some(config);
    }

    /// What the passes had to say, in order.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds a remark for the report.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The edits by weight.
    pub fn edits(&self) -> impl Iterator<Item = (WeightId, &Edit)> {
        self.edits.iter().map(|(id, edit)| (*id, edit))
    }

    /// The matrices: what may take another encoding.
    pub fn matrices(&self) -> impl Iterator<Item = (WeightId, &WeightDecl)> {
        let all = self.graph.weight_ids().map(|id| (id, self.graph.decl(id)));
        all.filter(|(_, decl)| fit::is_matrix(decl))
    }

    /// Gives a weight another encoding. Its source encoding removes the edit.
    ///
    /// # Errors
    /// When its rows do not fit the encoding, or Sterna cannot encode it.
    pub fn encode(&mut self, id: WeightId, edit: Edit) -> Result<()> {
        let (decl, encoding) = (self.graph.decl(id), edit.encoding);
        let cols = fit::cols_of(decl);
        let problem = if !encoding.fits(cols) {
            format!("rows of {cols} values do not divide into blocks of {}", encoding.block_len())
        } else if !encoding.can_encode() && encoding != self.source.encoding(id) {
            "Sterna can read this encoding but not write it".to_owned()
        } else {
            self.edits.insert(id, edit);
            return Ok(());
        };
        let (name, encoding) = (&decl.name, encoding.name());
        Err(OptimizeError::Input(format!("tensor {name} as {encoding}: {problem}; choose another")))
    }

    /// A copy with a plan's encodings.
    ///
    /// # Errors
    /// As [`Draft::encode`].
    pub fn planned(&self, plan: &[(WeightId, EncodingRef)], provenance: &str) -> Result<Self> {
        let mut draft = self.clone();
        for &(id, encoding) in plan {
            let provenance = provenance.to_owned();
            draft.encode(id, Edit { encoding, bytes: None, provenance })?;
        }
        Ok(draft)
    }

    /// Takes a weight's edit back.
    pub fn restore(&mut self, id: WeightId) {
        self.edits.remove(&id);
    }

    /// Forgets the edits of all encodings, keeping the graph.
    pub fn clear_encodings(&mut self) {
        self.edits.clear();
    }

    /// Replaces the graph by one whose weights are the same by index, possibly longer: rows and
    /// values that the source lacks read as zero.
    ///
    /// # Panics
    /// When weights were removed, renamed or made smaller: that is not an edit a draft can express.
    pub fn set_graph(&mut self, graph: Graph) {
        assert_eq!(graph.weights.len(), self.graph.weights.len(), "weights are edited in place");
        for (old, new) in self.graph.weights.iter().zip(&graph.weights) {
            assert_eq!(old.name, new.name);
            assert!(old.shape.iter().zip(&new.shape).all(|(a, b)| a <= b), "{}", old.name);
        }
        self.graph = graph;
        // Its bytes have the rows of the graph before.
        self.empty_shelf();
    }

    /// Bytes of all weights as the draft encodes them.
    pub fn weight_bytes(&self) -> usize {
        let bytes = |id| fit::bytes_of(self.graph.decl(id), self.encoding(id));
        self.graph.weight_ids().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests;
