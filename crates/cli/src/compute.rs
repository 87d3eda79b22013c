//! Flags that say how to compute, shared by every command that runs a model.

use crate::levels::{OptArgs, Optimizations};
use crate::probes;
use crate::show::{self, bad_input};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use sterna_formats::MappedFile;
use sterna_kernels::Level;
use sterna_measure::machine::Tuned;
use sterna_model::Model;
use sterna_optimize::budget::parse_bytes;
use sterna_runtime::cache::Cache;
use sterna_runtime::flags::{Flag, OptLevel};
use sterna_runtime::{KvEncoding, Settings};

/// Which kernels and how many threads.
#[derive(clap::Args, Clone, Debug)]
pub struct LevelArgs {
    /// Instruction set: scalar, avx2, avx512 or amx [default: the best this CPU has].
    #[arg(long, env = "STERNA_ISA")]
    isa: Option<String>,
    /// Threads [default: the CPUs this process may use].
    #[arg(short = 't', long, env = "STERNA_THREADS")]
    threads: Option<usize>,
}

impl LevelArgs {
    /// The ISA.
    ///
    /// # Errors
    /// When it is unknown or missing.
    pub fn level(&self) -> anyhow::Result<Level> {
        match &self.isa {
            Some(name) => Level::by_name(name).map_err(bad_input),
            None => Ok(Level::detect()),
        }
    }

    /// The threads asked for.
    ///
    /// # Errors
    /// When zero or absurd.
    pub fn threads(&self) -> anyhow::Result<Option<usize>> {
        match self.threads {
            Some(0) => Err(bad_input("--threads must be at least 1")),
            Some(n) if n > 1024 => Err(bad_input("--threads is at most 1024")),
            n => Ok(n),
        }
    }

    /// The same choices as flags, for a process that this one starts.
    pub fn as_flags(&self) -> Vec<OsString> {
        let isa = self.isa.iter().flat_map(|isa| ["--isa".into(), isa.into()]);
        let threads = self.threads.map(|n| ["--threads".into(), n.to_string().into()]);
        isa.chain(threads.into_iter().flatten()).collect()
    }

    /// The runtime's settings with all else at its defaults.
    ///
    /// # Errors
    /// As [`LevelArgs::level`] and [`LevelArgs::threads`].
    pub fn settings(&self, context_len: usize) -> anyhow::Result<Settings> {
        let isa = Some(self.level()?.name().to_owned());
        Ok(Settings { threads: self.threads()?, isa, context_len, ..Settings::default() })
    }
}

/// How to run a model.
#[derive(clap::Args, Clone, Debug)]
pub struct ComputeArgs {
    #[command(flatten)]
    level: LevelArgs,
    #[command(flatten)]
    optimize: OptArgs,
    /// Tokens a sequence may have [default: the model's own, at most 4096].
    #[arg(short = 'c', long = "ctx-size", visible_alias = "max-model-len", value_name = "N")]
    context: Option<usize>,
    /// Tokens computed at once while reading a prompt [default: 512, or what the level says].
    #[arg(short = 'b', long, value_name = "N")]
    batch_size: Option<usize>,
    /// How the KV cache stores numbers [default: as an artifact's Plan says, else f16]. q8_0 halves
    /// the memory of f16 and rounds keys, values and queries to int8: `sterna eval --baseline-kv
    /// f16` shows what that changes.
    #[arg(long = "kv-cache-dtype", visible_alias = "kv", value_parser = kv_encodings())]
    pub kv: Option<KvEncoding>,
    /// Multiply BF16 weights by activations rounded to bf16, where the CPU has instructions for it:
    /// reading prompts gets faster, and logits differ by about a thousandth.
    #[arg(long)]
    bf16_dot: bool,
    /// Whether calls may ask for states before the head.
    #[arg(skip)]
    pub hidden: bool,
    /// Rows of logits that calls are planned to ask for, as far as a batch has them; else one.
    #[arg(skip)]
    pub logits_rows: Option<usize>,
    /// The tokenizer file, for models that keep it apart (tokenizer.bin, tokenizer.json).
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Keep no prepared weights on disk, and use none.
    #[arg(long, visible_alias = "no-cache")]
    no_program_cache: bool,
    /// Disk space for the prepared weights of all models; the least recently used make room.
    #[arg(long, env = "STERNA_PROGRAM_CACHE_SIZE", default_value = "20GB", value_name = "SIZE")]
    program_cache_size: String,
}

/// Parses the name of a KV encoding.
pub fn kv_encodings() -> impl TypedValueParser<Value = KvEncoding> {
    PossibleValuesParser::new(KvEncoding::ALL.map(KvEncoding::name))
        .map(|name| KvEncoding::by_name(&name).expect("it is one of the names"))
}

/// The context when the model allows more and the user says nothing.
const DEFAULT_CONTEXT: usize = 4096;

/// Weights below this are packed anew each time: it takes no time.
const CACHE_FROM_BYTES: usize = 64 << 20;

impl ComputeArgs {
    /// The runtime's settings for a model of this context, with notes on standard error about what
    /// could not be as asked.
    ///
    /// # Errors
    /// When a number is out of range or a name unknown.
    pub fn settings(&self, model_context: usize) -> anyhow::Result<Settings> {
        let settings = self.quiet_settings(model_context)?;
        if settings.context_len > model_context {
            show::warn(&format!(
                "--ctx-size {} is beyond the {model_context} tokens the model was trained for",
                settings.context_len
            ));
        }
        if self.optimizations()?.flags.kernel_optimization && self.tuned()?.is_none() {
            show::note(
                "nothing is tuned on this machine yet, so kernel_optimization does nothing; run \
                 `sterna tune`",
            );
        }
        Ok(settings)
    }

    /// The same without a word.
    ///
    /// # Errors
    /// As [`ComputeArgs::settings`].
    pub fn quiet_settings(&self, model_context: usize) -> anyhow::Result<Settings> {
        let context_len = self.context.unwrap_or(model_context.min(DEFAULT_CONTEXT));
        if context_len == 0 || self.batch_size == Some(0) {
            return Err(bad_input("--ctx-size and --batch-size must be at least 1"));
        }
        let Optimizations { level, flags, .. } = self.optimizations()?;
        let explicit = self.level.settings(context_len)?;
        let tuned = if flags.kernel_optimization { self.tuned()? } else { None };
        let knobs = tuned.iter().flat_map(|tuned| &tuned.knobs);
        let knobs = knobs.map(|(name, value)| (name.as_str(), *value));
        let settings = flags.settings(level, explicit.clone(), knobs);
        // What the user says outright holds, whatever was tuned; and there may be fewer CPUs now.
        let max_batch_rows = self.batch_size.unwrap_or(settings.max_batch_rows);
        let settings = Settings {
            threads: explicit.threads.or(settings.threads.map(|n| n.min(explicit.n_workers()))),
            max_batch_rows,
            kv: self.kv.unwrap_or_default(),
            bf16_dot: self.bf16_dot,
            hidden: self.hidden,
            logits_rows: self.logits_rows.unwrap_or(1).min(max_batch_rows),
            ..settings
        };
        settings.level().map_err(|error| bad_input(error.to_string()))?;
        Ok(settings)
    }

    /// Makes batches as large as the longest text of an encoder, which is read at once, where the
    /// user has not said how large they are to be.
    pub fn fit_texts(&self, model: &Model, settings: &mut Settings) {
        if model.graph.is_encoder() && self.batch_size.is_none() {
            settings.max_batch_rows = settings.max_batch_rows.max(settings.context_len);
        }
    }

    /// Which optimizations are on.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn optimizations(&self) -> anyhow::Result<Optimizations> {
        self.optimize.read()
    }

    /// The same choices with another KV cache.
    #[must_use]
    pub fn with_kv(&self, kv: KvEncoding) -> Self {
        Self { kv: Some(kv), ..self.clone() }
    }

    /// The same choices with the context and the KV cache's encoding left to others.
    #[must_use]
    pub fn with_any_context(&self) -> Self {
        Self { context: None, kv: None, ..self.clone() }
    }

    /// The same choices with one optimization switched.
    #[must_use]
    pub fn with_flag(&self, flag: &Flag, on: bool) -> Self {
        Self { optimize: self.optimize.with(flag, on), ..self.clone() }
    }

    /// The same choices at another level.
    #[must_use]
    pub fn at_level(&self, level: OptLevel) -> Self {
        Self { optimize: self.optimize.at(level), ..self.clone() }
    }

    /// What was tuned on this machine for the ISA in use.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn tuned(&self) -> anyhow::Result<Option<Tuned>> {
        probes::tuned(self.level.level()?)
    }

    /// The same choices as flags, for a process that this one starts.
    pub fn as_flags(&self) -> Vec<OsString> {
        let mut flags = self.level.as_flags();
        flags.extend(self.optimize.as_flags().into_iter().map(OsString::from));
        let mut add = |flag: &str, value: Option<OsString>| {
            flags.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        };
        let number = |n: usize| OsString::from(n.to_string());
        add("--kv-cache-dtype", self.kv.map(|kv| kv.name().into()));
        add("--ctx-size", self.context.map(number));
        add("--batch-size", self.batch_size.map(number));
        add("--tokenizer", self.tokenizer.as_ref().map(OsString::from));
        add("--program-cache-size", Some(self.program_cache_size.clone().into()));
        if self.bf16_dot {
            flags.push("--bf16-dot".into());
        }
        if self.no_program_cache {
            flags.push("--no-program-cache".into());
        }
        flags
    }

    /// Where the prepared weights of a model are kept, if it is large enough to keep them.
    ///
    /// # Errors
    /// When one of its files cannot be looked at, or the size is no size.
    pub fn program_cache(&self, model: &Model) -> anyhow::Result<Option<Cache>> {
        let limit = parse_bytes(&self.program_cache_size)?;
        let files = model.checkpoint().files();
        let bytes: usize = files.iter().map(|file| file.bytes().len()).sum();
        let is_wanted = !self.no_program_cache && bytes >= CACHE_FROM_BYTES;
        let Some(folder) = probes::program_folder().filter(|_| is_wanted) else { return Ok(None) };
        let paths: Vec<&Path> = files.iter().map(MappedFile::path).collect();
        Ok(Some(Cache::of_files(&folder, &paths)?.with_limit(limit)))
    }
}
