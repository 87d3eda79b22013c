//! How a Plan's artifact learned from its source.

use serde::{Deserialize, Serialize};

/// Distillation into the quantized model: codes and factors of its blocks follow the gradient of
/// the divergence from the source (Adam, steps that end at nothing), in an order of documents
/// that the Plan's seed decides. Its documents are others of the calibration's file than those that
/// plans are judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distilled {
    /// `blake3:` and 64 hexadecimal digits, over the bytes of all documents.
    pub hash: String,
    /// Documents.
    pub documents: u64,
    /// Tokens that they have.
    pub tokens: u64,
    /// Documents per step.
    pub batch: u64,
    /// Steps planned.
    pub steps: u64,
    /// Steps done, fewer where no time was left; what was learned depends on the machine's speed
    /// then.
    pub done: u64,
    /// The largest step of factors, as a part of them.
    pub factor_rate: f64,
    /// The largest step of what is rounded to codes, in codes.
    pub code_rate: f64,
}

impl Distilled {
    /// Whether its numbers can be.
    pub fn is_sensible(&self) -> bool {
        let rates = [self.factor_rate, self.code_rate];
        self.done <= self.steps && rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0)
    }
}
