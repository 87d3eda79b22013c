//! The trained model as a file.
//!
//! In: full-precision weights and how each is stored. Out: a GGUF file that any engine loads, whose
//! numbers are exactly those that the forward pass saw at the end.

use crate::quant::Quantizer;
use std::borrow::Cow;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::float32::F32;
use sterna_model::{Graph, WeightId, WeightSource, WeightView};

/// Trained weights, encoded as they are asked for.
pub struct Trained<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Full-precision weights in its order.
    pub weights: &'a [Vec<f32>],
    /// How the quantized ones are stored.
    pub quantizer: &'a Quantizer,
    /// How other matrices are stored; vectors stay F32.
    pub float: EncodingRef,
}

impl WeightSource for Trained<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (rows, cols) = self.graph.decl(id).matrix();
        let encoding = self.encoding(id);
        let values = &self.weights[id.0];
        let bytes = self.quantizer.encode(id, values, cols).unwrap_or_else(|| {
            let mut bytes = vec![0; rows * encoding.row_bytes(cols)];
            encoding.encode(values, None, &mut bytes);
            bytes
        });
        WeightView { encoding, rows, cols, bytes: Cow::Owned(bytes) }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        if self.quantizer.applies(id) {
            self.quantizer.encoding(id)
        } else if self.graph.decl(id).role.is_matrix() {
            self.float
        } else {
            &F32
        }
    }
}
