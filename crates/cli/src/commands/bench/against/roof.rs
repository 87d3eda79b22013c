//! What the machine allows a model: the bytes and operations that a token costs, against what the
//! machine can read and compute.

use crate::scoring::Cost;
use std::path::Path;
use sterna_measure::latency::BenchTest as Test;
use sterna_model::Model;
use sterna_runtime::Settings;

/// Measures a ceiling by name, per second.
pub type Probes<'p> = dyn Fn(&str) -> anyhow::Result<f64> + 'p;

/// The ceiling that weights and KV cache are read against.
pub const BANDWIDTH: &str = "memory_read";

/// Prompts are read in runs of so many tokens, each of which reads the weights once.
const BATCH_ROWS: usize = 512;

/// What a model costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Roof {
    /// Its architecture, size and main encoding.
    pub model: String,
    /// Weight bytes read by a step that generates.
    pub weight_bytes: f64,
    /// KV bytes of one position.
    pub kv_bytes: f64,
    /// Operations of the linear layers without the head, per token.
    pub linear_ops: f64,
    /// Operations of the head, which a prompt pays once.
    pub head_ops: f64,
    /// The ceiling of its arithmetic, such as `int8_peak`.
    pub arithmetic: &'static str,
}

/// What one token of a test costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bytes read.
    pub bytes: f64,
    /// Operations, a multiply-add counting as two.
    pub ops: f64,
}

impl Roof {
    /// Of a file, run with these settings.
    ///
    /// # Errors
    /// When it is no model.
    pub fn of(path: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let model = Model::open(path)?;
        let cost = Cost::of(&model);
        Ok(Self {
            model: crate::scoring::describe(&model),
            weight_bytes: cost.read_bytes_per_token as f64,
            kv_bytes: model.graph.kv_bytes_per_token(settings.kv.number_bytes()),
            linear_ops: 2.0 * cost.linear_macs_per_token,
            head_ops: 2.0 * cost.head_macs_per_token,
            arithmetic: cost.peak(settings).name(),
        })
    }

    /// The cost of a token: a prompt's are its linear layers, and a generated one reads all weights
    /// (shared by the sequences of a batch) and its sequence's keys and values so far.
    pub fn work(&self, test: Test) -> Work {
        if test.n_prompt > 0 {
            let rows = test.n_prompt.min(BATCH_ROWS) as f64;
            return Work { bytes: self.weight_bytes / rows, ops: self.linear_ops };
        }
        let positions = test.n_depth as f64 + test.n_gen as f64 / 2.0;
        Work {
            bytes: self.weight_bytes / test.n_sequences as f64 + self.kv_bytes * positions,
            ops: self.linear_ops + self.head_ops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_compute_and_generation_reads() {
        let roof = Roof {
            model: "llama".into(),
            weight_bytes: 1e9,
            kv_bytes: 1e4,
            linear_ops: 2e9,
            head_ops: 1e8,
            arithmetic: "int8_peak",
        };
        let none = Test { n_prompt: 0, n_gen: 0, n_depth: 0, n_sequences: 1 };
        let prompt = roof.work(Test { n_prompt: 500, ..none });
        assert_eq!(prompt, Work { bytes: 2e6, ops: 2e9 });
        let generate = Test { n_gen: 100, n_depth: 950, ..none };
        assert_eq!(roof.work(generate), Work { bytes: 1e9 + 1e7, ops: 2.1e9 });
        let batch = Test { n_sequences: 4, ..generate };
        assert_eq!(roof.work(batch).bytes, 2.5e8 + 1e7);
    }
}
