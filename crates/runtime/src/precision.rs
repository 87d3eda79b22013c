//! Adaptive precision: float matrices packed in 8 bits where they lose little.
//!
//! In: a graph, the bytes of its weights, and the relative error a matrix may have. Out: a source
//! of weights that encodes the chosen ones anew, and a log of what was measured. The error is that
//! of the weights: `|W - Q(W)| / |W|` over up to 256 rows spread over the matrix. What also changes
//! is the input of a chosen layer, which integer kernels round to 8 bits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_model::ops::{Activations, Linear};
use sterna_model::{Graph, WeightId, WeightSource, WeightView};

/// Rows of a matrix that are measured.
const SAMPLE_ROWS: usize = 256;

/// The encodings that may give way.
const FLOATS: [&str; 3] = ["F32", "F16", "BF16"];

/// What was measured of one matrix, and decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The weight's GGUF name.
    pub name: String,
    /// The encoding it came in.
    pub from: &'static str,
    /// The relative error that 8 bits would make.
    pub error: f64,
    /// Whether it is packed so.
    pub is_chosen: bool,
}

/// A source of weights, some of which are encoded anew.
pub struct Adaptive<'a> {
    source: &'a dyn WeightSource,
    choices: BTreeMap<usize, Choice>,
    to: EncodingRef,
}

impl<'a> Adaptive<'a> {
    /// Measures every float matrix that only linear layers of float input read.
    pub fn choose(graph: &Graph, source: &'a dyn WeightSource, budget: f32) -> Self {
        let to = by_name("Q8_0").expect("it is registered");
        let mut choices = BTreeMap::new();
        for id in graph.weight_ids().filter(|&id| may_change(graph, source, id, to)) {
            let view = source.weight(id);
            let error = relative_error(&view, to);
            source.release(id);
            let (name, from) = (graph.decl(id).name.clone(), view.encoding.name());
            let is_chosen = error <= f64::from(budget);
            choices.insert(id.0, Choice { name, from, error, is_chosen });
        }
        Self { source, choices, to }
    }

    /// The log, in the graph's order.
    pub fn choices(&self) -> Vec<Choice> {
        self.choices.values().cloned().collect()
    }

    fn is_chosen(&self, id: WeightId) -> bool {
        self.choices.get(&id.0).is_some_and(|choice| choice.is_chosen)
    }
}

impl WeightSource for Adaptive<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let view = self.source.weight(id);
        if !self.is_chosen(id) {
            return view;
        }
        let mut bytes = vec![0; view.rows * self.to.row_bytes(view.cols)];
        let mut values = vec![0.0; view.cols];
        for (row, to) in bytes.chunks_exact_mut(self.to.row_bytes(view.cols)).enumerate() {
            view.encoding.decode(view.row_bytes(row..row + 1), &mut values);
            self.to.encode(&values, None, to);
        }
        WeightView { encoding: self.to, bytes: Cow::Owned(bytes), ..view }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        if self.is_chosen(id) { self.to } else { self.source.encoding(id) }
    }

    fn release(&self, id: WeightId) {
        self.source.release(id);
    }
}

/// Whether a weight is a float matrix whose readers are all linear layers that see floats.
fn may_change(graph: &Graph, source: &dyn WeightSource, id: WeightId, to: EncodingRef) -> bool {
    let decl = graph.decl(id);
    let &[_, cols] = decl.shape.as_slice() else { return false };
    let reads_floats = |node: sterna_model::NodeId| {
        let linear = graph.nodes[node.0].op.as_any().downcast_ref::<Linear>();
        linear.is_some_and(|linear| linear.activations == Activations::Float)
    };
    decl.role.is_matrix()
        && to.fits(cols)
        && FLOATS.contains(&source.encoding(id).name())
        && graph.readers(id).next().is_some()
        && graph.readers(id).all(reads_floats)
}

/// The relative error of a matrix in another encoding, over rows spread over it.
fn relative_error(view: &WeightView<'_>, to: EncodingRef) -> f64 {
    let n = view.rows.min(SAMPLE_ROWS);
    let (mut values, mut again) = (vec![0.0; view.cols], vec![0.0; view.cols]);
    let mut bytes = vec![0; to.row_bytes(view.cols)];
    let (mut wrong, mut whole) = (0.0, 0.0);
    for row in (0..n).map(|i| i * view.rows / n) {
        view.encoding.decode(view.row_bytes(row..row + 1), &mut values);
        to.encode(&values, None, &mut bytes);
        to.decode(&bytes, &mut again);
        for (&x, &y) in values.iter().zip(&again) {
            wrong += f64::from(x - y).powi(2);
            whole += f64::from(x).powi(2);
        }
    }
    // A matrix of zeros loses nothing.
    if whole == 0.0 { 0.0 } else { (wrong / whole).sqrt() }
}
