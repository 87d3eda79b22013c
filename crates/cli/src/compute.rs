//! Flags that say how to compute, shared by every command that runs a model.

use crate::probes;
use crate::show::bad_input;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use sterna_formats::MappedFile;
use sterna_kernels::Level;
use sterna_model::Model;
use sterna_runtime::cache::Cache;
use sterna_runtime::{KvEncoding, Settings};

/// Which kernels and how many threads.
#[derive(clap::Args, Clone, Debug)]
pub struct LevelArgs {
    /// Instruction set: scalar, avx2 or avx512 [default: the best this CPU has].
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
    /// Tokens a sequence may have [default: the model's own, at most 4096].
    #[arg(short = 'c', long = "ctx-size", visible_alias = "max-model-len", value_name = "N")]
    context: Option<usize>,
    /// Tokens computed at once while reading a prompt.
    #[arg(short = 'b', long, default_value_t = 512, value_name = "N")]
    batch_size: usize,
    /// How the KV cache stores numbers.
    #[arg(long = "kv-cache-dtype", visible_alias = "kv", default_value = "f16",
          value_parser = ["f16", "f32"])]
    kv: String,
    /// The tokenizer file, for models that keep it apart (tokenizer.bin, tokenizer.json).
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Keep no prepared weights on disk, and use none.
    #[arg(long)]
    no_cache: bool,
}

/// The context when the model allows more and the user says nothing.
const DEFAULT_CONTEXT: usize = 4096;

/// Weights below this are packed anew each time: it takes no time.
const CACHE_FROM_BYTES: usize = 64 << 20;

impl ComputeArgs {
    /// The runtime's settings for a model of this context.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn settings(&self, model_context: usize) -> anyhow::Result<Settings> {
        let context_len = self.context.unwrap_or(model_context.min(DEFAULT_CONTEXT));
        if context_len == 0 || self.batch_size == 0 {
            return Err(bad_input("--ctx-size and --batch-size must be at least 1"));
        }
        if context_len > model_context {
            eprintln!(
                "warning: --ctx-size {context_len} is beyond the {model_context} tokens the model \
                 was trained for"
            );
        }
        Ok(Settings {
            max_batch_rows: self.batch_size,
            kv: if self.kv == "f32" { KvEncoding::F32 } else { KvEncoding::F16 },
            ..self.level.settings(context_len)?
        })
    }

    /// The same choices as flags, for a process that this one starts.
    pub fn as_flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec!["--kv-cache-dtype".into(), self.kv.clone().into()];
        let mut add = |flag: &str, value: Option<OsString>| {
            flags.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        };
        let number = |n: usize| OsString::from(n.to_string());
        add("--isa", self.level.isa.as_ref().map(OsString::from));
        add("--threads", self.level.threads.map(number));
        add("--ctx-size", self.context.map(number));
        add("--batch-size", Some(number(self.batch_size)));
        add("--tokenizer", self.tokenizer.as_ref().map(OsString::from));
        if self.no_cache {
            flags.push("--no-cache".into());
        }
        flags
    }

    /// Where the prepared weights of a model are kept, if it is large enough to keep them.
    ///
    /// # Errors
    /// When one of its files cannot be looked at.
    pub fn program_cache(&self, model: &Model) -> anyhow::Result<Option<Cache>> {
        let files = model.checkpoint().files();
        let bytes: usize = files.iter().map(|file| file.bytes().len()).sum();
        let folder = probes::cache_folder().filter(|_| !self.no_cache && bytes >= CACHE_FROM_BYTES);
        let Some(folder) = folder else { return Ok(None) };
        let paths: Vec<&Path> = files.iter().map(MappedFile::path).collect();
        Ok(Some(Cache::of_files(&folder.join("programs"), &paths)?))
    }
}
