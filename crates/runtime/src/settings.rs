//! What a caller decides about running a model. Nothing here changes which numbers come out, except
//! the precision of the KV cache, a budget for packing float weights in 8 bits, and bf16 dots.

use crate::RuntimeError;
use crate::team::cpus;
use crate::tuning::Tuning;
use sterna_kernels::Level;
use sterna_kernels::attention::KvEncoding;
pub use sterna_kernels::attention::PAGE_LEN;

/// How a program is compiled and run.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Workers; by default the physical cores that affinity mask and cgroup give the process.
    pub threads: Option<usize>,
    /// `scalar`, `avx2`, `avx512` or `amx`; by default the best the CPU has.
    pub isa: Option<String>,
    /// Positions a sequence may have.
    pub context_len: usize,
    /// Rows (tokens of all sequences) computed at once; longer calls run in several batches.
    pub max_batch_rows: usize,
    /// Positions of all sequences together, rounded up to pages; by default one whole context.
    pub kv_positions: Option<usize>,
    /// Whether weights that the program cache maps are copied into huge pages of this process: they
    /// are read faster then, and no longer shared with other processes.
    pub own_weights: bool,
    /// How keys and values are kept.
    pub kv: KvEncoding,
    /// Whether the graph is rewritten and steps are fused. The numbers are the same.
    pub fuse: bool,
    /// Whether values share the arena by their lives; else each has memory of its own.
    pub pool: bool,
    /// Whether chunks of several sequences are computed in one batch; else one after another.
    pub batch: bool,
    /// Whether the weights of the next steps are asked for from the disk while a step computes,
    /// until all have been read once. Only weights in a file of the program cache can be.
    pub overlap: bool,
    /// Float matrices whose relative error stays within this are packed in 8 bits; `None` keeps
    /// all as they are. Changes numbers.
    pub precision_budget: Option<f32>,
    /// BF16 matrices meet activations rounded to bf16, where the ISA multiplies such pairs. Changes
    /// numbers.
    pub bf16_dot: bool,
    /// Whether calls may ask for the states of rows before the head, for embeddings.
    pub hidden: bool,
    /// Rows of logits that calls are planned to ask for; those that ask for more take more memory.
    pub logits_rows: usize,
    /// How the work is cut. The numbers are the same.
    pub tuning: Tuning,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            isa: None,
            context_len: 2048,
            max_batch_rows: 512,
            kv_positions: None,
            own_weights: false,
            kv: KvEncoding::default(),
            fuse: true,
            pool: true,
            batch: true,
            overlap: true,
            precision_budget: None,
            bf16_dot: false,
            hidden: false,
            logits_rows: 1,
            tuning: Tuning::default(),
        }
    }
}

impl Settings {
    /// The ISA to run on.
    ///
    /// # Errors
    /// When the name is unknown, the CPU lacks it, or it lacks bf16 dots that are asked for.
    pub fn level(&self) -> Result<Level, RuntimeError> {
        let level = match &self.isa {
            Some(name) => Level::by_name(name).map_err(RuntimeError::Isa)?,
            None => Level::detect(),
        };
        if self.bf16_dot && !level.has_bf16_dots() {
            return Err(RuntimeError::Bf16Dots { isa: level.name() });
        }
        Ok(level)
    }

    /// Whether what linear layers read can be seen after a call: nothing is fused, and no value
    /// takes another's memory.
    pub fn keeps_inputs(&self) -> bool {
        !self.fuse && !self.pool
    }

    /// The number of workers to run with.
    pub fn n_workers(&self) -> usize {
        self.threads.unwrap_or_else(cpus::default_workers)
    }

    /// Pages of the KV cache.
    pub fn n_pages(&self) -> usize {
        self.kv_positions.unwrap_or(self.context_len).div_ceil(PAGE_LEN)
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// When one of them is zero, or the budget is no share.
    pub fn check(&self) -> Result<(), RuntimeError> {
        let fields = [
            ("threads", self.threads.unwrap_or(1)),
            ("context_len", self.context_len),
            ("max_batch_rows", self.max_batch_rows),
            ("kv_positions", self.kv_positions.unwrap_or(1)),
            ("logits_rows", self.logits_rows),
            ("claims", self.tuning.claims),
            ("few_rows", self.tuning.few_rows),
        ];
        match fields.into_iter().find(|&(_, value)| value == 0) {
            None => self.check_budget(),
            Some((field, value)) => {
                Err(RuntimeError::Setting { field, value, reason: "must be at least 1".into() })
            }
        }
    }

    fn check_budget(&self) -> Result<(), RuntimeError> {
        match self.precision_budget {
            Some(budget) if !(budget > 0.0 && budget < 1.0) => Err(RuntimeError::Budget(budget)),
            _ => Ok(()),
        }
    }
}
