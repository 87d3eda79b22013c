//! Weights: what they do ([`Role`]) and where their bytes come from ([`WeightSource`]).

use crate::WeightId;
use std::borrow::Cow;
use sterna_formats::EncodingRef;

/// What a weight does; passes, cost models and memory accounting ask this instead of parsing names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Role {
    TokenEmbedding,
    PositionEmbedding,
    TypeEmbedding,
    AttentionQuery,
    AttentionKey,
    AttentionValue,
    AttentionOutput,
    MlpGate,
    MlpUp,
    MlpDown,
    Norm,
    Bias,
    RopeFactors,
    Head,
}

impl Role {
    /// Whether the weight is a matrix that may take a block encoding.
    pub fn is_matrix(self) -> bool {
        !matches!(self, Role::Norm | Role::Bias | Role::RopeFactors | Role::TypeEmbedding)
    }
}

/// A weight's numbers, encoded. Rows are the outermost dimension; a vector has one row.
#[derive(Clone, Debug)]
pub struct WeightView<'a> {
    /// How the bytes are to be read.
    pub encoding: EncodingRef,
    /// Output features (or vocabulary entries).
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// `rows * encoding.row_bytes(cols)` bytes, rows one after the other.
    pub bytes: Cow<'a, [u8]>,
}

impl WeightView<'_> {
    /// All values, decoded.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        self.encoding.decode(&self.bytes, &mut values);
        values
    }

    /// The encoded bytes of some rows.
    pub fn row_bytes(&self, rows: std::ops::Range<usize>) -> &[u8] {
        let n = self.encoding.row_bytes(self.cols);
        &self.bytes[rows.start * n..rows.end * n]
    }
}

/// Where the bytes of a graph's weights come from: a Model's files, or a Draft's overlay.
pub trait WeightSource: Sync {
    /// The encoded weight. Borrowed from the mapping where the file has it in the graph's layout.
    fn weight(&self, id: WeightId) -> WeightView<'_>;
    /// Its encoding, without touching the bytes.
    fn encoding(&self, id: WeightId) -> EncodingRef;
    /// Says that the weight's bytes are not needed for now, so that work which streams over all
    /// weights keeps little in memory. The bytes can be asked for again.
    fn release(&self, id: WeightId) {
        let _ = id;
    }
}
