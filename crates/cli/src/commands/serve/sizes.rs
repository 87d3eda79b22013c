//! What an engine may use, as flags: `serve` and `capacity` have the same.

use crate::embedder;
use clap::builder::TypedValueParser;
use std::time::Duration;
use sterna_engine::{AnswerLimits, Limits};
use sterna_measure::machine::Machine;
use sterna_model::Model;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{KvEncoding, Program, Settings};

/// The flags.
#[derive(clap::Args)]
pub struct SizeArgs {
    /// Sequences computed at once; further requests wait.
    #[arg(long, visible_aliases = ["np", "max-num-seqs"], default_value_t = 128, value_name = "N",
          value_parser = at_least_one())]
    pub(super) parallel: usize,
    /// Requests that may wait, for a model and for its load; further ones get 503.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(super) max_queue: usize,
    /// Memory for keys and values of each model, of sequences and of prefixes that are kept
    /// [default: a quarter of the machine's, and no more than all sequences can use].
    #[arg(long, visible_alias = "cache-ram", value_name = "SIZE")]
    kv_size: Option<String>,
    /// How long a step may take while somebody waits for the next token: longer prompts are read in
    /// smaller parts then, and no more sequences are begun than steps are in time with. 0s sets no
    /// target.
    #[arg(long, default_value = "0.5s", value_name = "TIME")]
    itl_target: String,
    /// Memory for answers of each model that would be the same again: of requests at temperature 0
    /// or with a seed. 0 keeps none.
    #[arg(long, default_value = "64MB", value_name = "SIZE")]
    response_cache: String,
    /// How long an answer is kept, where its request says nothing else.
    #[arg(long, default_value = "5m", value_name = "TIME")]
    response_cache_ttl: String,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=4096).map(|n| n as usize)
}

/// What an engine may use.
pub struct Sizes {
    /// Sequences at once.
    pub max_running: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Bytes of keys and values of each model.
    pub kv_bytes: Option<u64>,
    /// Bytes of all models together.
    pub memory_bytes: Option<u64>,
    /// What a step may take while somebody waits for a token.
    pub itl_target: Option<Duration>,
    /// What the response cache keeps.
    pub answers: AnswerLimits,
}

/// No machine has more memory, and sums of it stay far from where they overflow.
const MOST: u64 = 1 << 50;

/// Keys and values may take this part of the memory where nothing is said.
const KV_SHARE: u64 = 4;

impl SizeArgs {
    /// What they say.
    ///
    /// # Errors
    /// When a size or a time is none.
    pub fn read(&self) -> anyhow::Result<Sizes> {
        let kv_bytes = match &self.kv_size {
            Some(text) => Some(sterna_optimize::budget::parse_bytes(text)?),
            None => None,
        };
        let target = sterna_optimize::budget::parse_duration(&self.itl_target)?;
        let itl_target = (target > Duration::ZERO).then_some(target);
        let (max_running, max_queue) = (self.parallel, self.max_queue);
        let answers = AnswerLimits {
            bytes: sterna_optimize::budget::parse_bytes(&self.response_cache)?.min(MOST) as usize,
            ttl: sterna_optimize::budget::parse_duration(&self.response_cache_ttl)?,
        };
        Ok(Sizes { max_running, max_queue, kv_bytes, memory_bytes: None, itl_target, answers })
    }
}

impl Sizes {
    /// Positions of keys and values that fit the memory, of all sequences together.
    pub fn positions(&self, model: &Model, settings: &Settings) -> usize {
        // A number of q8_0 has its share of a scale.
        let number_bytes = match settings.kv {
            KvEncoding::F32 => 4.0,
            KvEncoding::F16 => 2.0,
            KvEncoding::Q8_0 => 1.125,
        };
        let position_bytes = model.graph.kv_bytes_per_token(number_bytes).max(1.0);
        if model.graph.is_encoder() {
            // They are let go of after it.
            return embedder::positions_at_once(settings, self.max_running);
        }
        let fitting = |bytes: u64| (bytes as f64 / position_bytes) as usize / PAGE_LEN * PAGE_LEN;
        let most = self.max_running * settings.context_len;
        match self.kv_bytes {
            Some(bytes) => fitting(bytes),
            None => {
                let memory = Machine::detect().usable_memory_bytes().unwrap_or(4 << 30);
                let memory = self.memory_bytes.map_or(memory, |most| most.min(memory));
                fitting(memory / KV_SHARE).min(most)
            }
        }
    }

    /// What an engine on this program shares out.
    pub fn limits(&self, program: &Program) -> Limits {
        let settings = program.settings();
        Limits {
            n_pages: settings.n_pages(),
            context_len: settings.context_len,
            max_rows: settings.max_batch_rows,
            max_running: self.max_running,
            max_queue: self.max_queue,
            vocabulary: program.vocabulary(),
            reads_whole: program.is_encoder(),
            itl_target: self.itl_target,
            answers: self.answers,
        }
    }
}
