//! What to train, as TOML: model, data, schedule, quantization, teacher, run.
//!
//! In: a text, and `key=value` settings laid over it. Out: a [`Config`] whose numbers are in range,
//! or one sentence that names the key (and the nearest known one). Paths in a file are relative to
//! the file's folder.

mod check;
#[cfg(test)]
mod tests;

use crate::TrainError;
use crate::forms::Precision;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sterna_measure::level::Level;

/// Everything a training run depends on. Same config, same data, same machine: same losses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is trained.
    pub model: Model,
    /// What it is trained on.
    pub data: Data,
    /// How long and how fast.
    pub schedule: Schedule,
    /// Quantization-aware training; off without an encoding.
    pub quantize: Quantize,
    /// Distillation; off without a model.
    pub teacher: Teacher,
    /// Where and on what it runs.
    pub run: Run,
}

/// What is trained: a preset, a model file, or an architecture with its shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// A named shape, e.g. `llama-4m`. The other keys of this section change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model whose weights training starts from (and whose tokenizer it keeps).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// What the result is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Features of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Features inside the MLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffn_dim: Option<usize>,
    /// Query heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Key and value heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Positions the model is said to be made for; at least the data's sequence length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// What it is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Text files, plain or `.gz`, joined by the tokenizer's end token.
    pub text: Vec<PathBuf>,
    /// Text that is never trained on; without it, the last part of `text` is held out.
    pub held_out: Vec<PathBuf>,
    /// The part of the text that is held out when there is no `held_out`.
    pub held_out_fraction: f64,
    /// A `tokenizer.json` or a model file; without it, that of `model.init` or of the teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens per sequence.
    pub seq_len: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            held_out: Vec::new(),
            held_out_fraction: 0.05,
            tokenizer: None,
            seq_len: 256,
        }
    }
}

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine down to the final rate.
    Cosine,
    /// A straight line down to the final rate.
    Linear,
    /// The same rate to the end.
    Constant,
}

/// How long and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Optimizer steps.
    pub steps: usize,
    /// Sequences per forward pass.
    pub batch: usize,
    /// Forward passes per step, whose gradients are averaged.
    pub accumulate: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub decay: Decay,
    /// The part of the steps in which the rate rises from zero.
    pub warmup: f64,
    /// The rate at the end, as a part of the highest.
    pub final_rate: f64,
    /// Decoupled weight decay of matrices (AdamW).
    pub weight_decay: f64,
    /// Decay rates of the first and second moments.
    pub betas: [f64; 2],
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub clip_norm: f64,
    /// The part of the target that is spread over the whole vocabulary.
    pub label_smoothing: f64,
    /// Stop after so many evaluations without a better held-out loss; 0 never.
    pub early_stopping: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch: 8,
            accumulate: 1,
            learning_rate: 2e-3,
            decay: Decay::Cosine,
            warmup: 0.05,
            final_rate: 0.1,
            weight_decay: 0.1,
            betas: [0.9, 0.95],
            clip_norm: 1.0,
            label_smoothing: 0.0,
            early_stopping: 0,
        }
    }
}

/// Quantization-aware training: the forward pass sees weights as the encoding will store them, and
/// gradients go straight through to the full-precision weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quantize {
    /// Encoding of the layers' matrices, e.g. `TQ2_0` (ternary, absmean), `Q1_0` (signs), `Q4_0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// Encoding of token embedding and head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<String>,
    /// Use sign(W) x mean|W| (1-bit) in a ternary encoding.
    pub binary: bool,
    /// The part of the steps over which weights blend from full precision to the encoding (the
    /// lambda warm-up).
    pub blend: f64,
    /// Steepness at which ternary steps start, as a tanh's temperature; annealed to hard steps over
    /// the `blend` part. 0 has hard steps from the start.
    pub temperature: f64,
}

impl Default for Quantize {
    fn default() -> Self {
        Self { encoding: None, embedding: None, binary: false, blend: 0.0, temperature: 0.0 }
    }
}

/// Distillation from another model of the same vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Teacher {
    /// Any model file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Both distributions are softened by it.
    pub temperature: f64,
    /// The part of the loss that is the divergence from the teacher; the rest is cross-entropy.
    pub weight: f64,
    /// Weight of the mean squared difference of the last hidden states (same width only).
    pub hidden_weight: f64,
    /// Where the teacher's logits are kept; a folder beside the run without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// The most bytes kept there.
    pub cache_bytes: u64,
}

impl Default for Teacher {
    fn default() -> Self {
        Self {
            model: None,
            temperature: 2.0,
            weight: 0.7,
            hidden_weight: 0.0,
            cache: None,
            cache_bytes: 2 << 30,
        }
    }
}

/// Where and on what it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// The folder of the result, its checkpoints and its curve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Seed of weights and data order.
    pub seed: u64,
    /// `cpu`, `vulkan` or `cuda`, where built in.
    pub backend: String,
    /// The numbers of matrix products: `f32`, or `bf16` where the backend has it (mixed precision:
    /// everything else stays f32). On the CPU bf16 is not faster.
    pub precision: Precision,
    /// How matrices are written that no quantization was trained for: `F32`, `F16` or `BF16`.
    pub save_as: String,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Compute activations twice and keep fewer (gradient checkpointing).
    pub checkpointing: bool,
    /// Steps between evaluations on the held-out text; 0 only at the end.
    pub eval_every: usize,
    /// The most held-out windows per evaluation during training; the last one sees all.
    pub eval_windows: usize,
    /// Steps between saved checkpoints; 0 only at the end or on Ctrl-C.
    pub save_every: usize,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            out: None,
            seed: 1,
            backend: "cpu".into(),
            precision: Precision::F32,
            save_as: "F16".into(),
            threads: 0,
            checkpointing: false,
            eval_every: 100,
            eval_windows: 32,
            save_every: 100,
        }
    }
}

impl Config {
    /// Reads a file, lays `settings` (`section.key=value`) over it, and checks the numbers. Without
    /// a file, the settings stand alone. Where neither says anything, the level does.
    ///
    /// # Errors
    /// One sentence with the key and the fix.
    pub fn read(
        level: Level,
        path: Option<&Path>,
        settings: &[String],
    ) -> Result<Self, TrainError> {
        check::read(Self::at(level), path, settings)
    }

    /// The defaults of a level (spec 5.1.1): `development` is for trying things out, one pass per
    /// step and no smoothing; `balanced` averages two passes per step; `production` averages four,
    /// trains longest, smooths labels and stops when the held-out loss no longer falls.
    pub fn at(level: Level) -> Self {
        let mut config = Self::default();
        config.schedule.steps = level.choose([300, 2000, 10_000]);
        config.schedule.accumulate = level.choose([1, 2, 4]);
        config.schedule.label_smoothing = level.choose([0.0, 0.0, 0.1]);
        config.schedule.early_stopping = level.choose([0, 0, 10]);
        config.run.eval_every = level.choose([50, 100, 250]);
        config
    }

    /// The whole configuration as TOML, defaults included.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a config is plain data")
    }
}
