//! What the user capped, as a Plan records it.

use serde::{Deserialize, Serialize};

/// What the user capped; what is absent was free.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Quality loss that may be paid, as a fraction: 0.01 is 1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// Bytes of the artifact's tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Bytes of the running model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// Median time between tokens of one sequence, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_itl_ms: Option<f64>,
    /// 95th percentile of it, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_itl_p95_ms: Option<f64>,
    /// Median time to the first token, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttft_ms: Option<f64>,
    /// Average bits per weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_bpw: Option<f64>,
}

impl Budget {
    /// The caps that are no whole numbers, by their keys.
    pub fn numbers(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("max_drop", self.max_drop),
            ("target_bpw", self.target_bpw),
            ("max_itl_ms", self.max_itl_ms),
            ("max_itl_p95_ms", self.max_itl_p95_ms),
            ("max_ttft_ms", self.max_ttft_ms),
        ]
    }
}
