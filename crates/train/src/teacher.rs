//! A teacher's logits: any model file run by `runtime`, kept on disk for the next epoch.
//!
//! In: a model and windows of tokens. Out: the logits after every token, rounded to half precision
//! whether they were computed or read back, so that a run with a warm cache gives the same bits as
//! one without. A teacher is asked first whether its vocabulary is the student's.

mod store;

use half::f16;
use half::slice::HalfFloatSliceExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_formats::FormatError;
use sterna_model::{Model, Tokenizer, content_hash};
use sterna_runtime::{Chunk, KvEncoding, Logits, Program, Runner, RuntimeError, Settings};
use store::{Found, Store};

/// Logits that one call of the runtime hands over at most: 64 MiB of floats.
const MAX_LOGITS: usize = 16 << 20;

/// Where logits are kept, and how much of them.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// The folder; it may be shared by teachers and by runs at the same time.
    pub folder: PathBuf,
    /// What all entries in it may take together; windows beyond it are computed each time.
    pub max_bytes: u64,
}

/// Why a teacher cannot teach.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The model cannot be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Its tokens are not the student's.
    #[error("{path}: {problem}; distill from a teacher of the student's own tokenizer")]
    Vocabulary {
        /// The teacher.
        path: String,
        /// The first difference.
        problem: String,
    },
    /// It cannot take such a window, or has no number for it.
    #[error("{path}: {problem}")]
    Window {
        /// The teacher.
        path: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// What was computed and what was not, since the teacher was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Windows read from the cache.
    pub n_hits: u64,
    /// Windows computed.
    pub n_misses: u64,
    /// Of those, the ones whose entry was there but damaged.
    pub n_damaged: u64,
    /// Of those, the ones that the cache has no room for.
    pub n_not_kept: u64,
    /// Bytes of entries read.
    pub bytes_read: u64,
    /// Bytes of entries written.
    pub bytes_written: u64,
}

/// A model that answers with logits.
pub struct Teacher {
    path: PathBuf,
    tokenizer: Tokenizer,
    context_len: usize,
    runner: Runner,
    /// Of its weights, its config and how they are run.
    identity: blake3::Hash,
    store: Store,
    statistics: Statistics,
    reports: Vec<String>,
}

impl Teacher {
    /// Opens and prepares a model: GGUF, Hugging Face directory, or whatever else `model` reads.
    /// `threads` as in the runtime's [`Settings`].
    ///
    /// # Errors
    /// When the model or its tokenizer cannot be read or run, or the cache's folder not be used.
    pub fn open(
        path: &Path,
        cache: &CacheSettings,
        threads: Option<usize>,
    ) -> Result<Self, TeacherError> {
        let model = Model::open(path)?;
        let tokenizer = model.tokenizer()?.clone();
        let context_len = model.config.context_len;
        // Exact keys and values: what is kept should not depend on a setting for serving.
        let settings =
            Settings { threads, context_len, kv: KvEncoding::F32, ..Settings::default() };
        let program = Program::compile(&model.graph, &model, &settings, None)?;
        let identity = identity(&model);
        let store = Store::open(cache, &identity)?;
        let reports = program.warnings().to_vec();
        let runner = Runner::new(Arc::new(program))?;
        let statistics = Statistics::default();
        let path = path.to_owned();
        Ok(Self { path, tokenizer, context_len, runner, identity, store, statistics, reports })
    }

    /// A hash of its weights, its config and how it is run.
    pub fn identity(&self) -> blake3::Hash {
        self.identity
    }

    /// Entries of the vocabulary: logits per token.
    pub fn vocab_len(&self) -> usize {
        self.runner.program().n_outputs()
    }

    /// Tokens that a window may have.
    pub fn context_len(&self) -> usize {
        self.context_len
    }

    /// Refuses a student whose tokens have other meanings; to be asked before any work.
    ///
    /// # Errors
    /// When the vocabularies differ: names the first token that does.
    pub fn check_vocabulary(&self, student: &Tokenizer) -> Result<(), TeacherError> {
        let n_both = self.tokenizer.vocab_len().min(student.vocab_len());
        let meaning = |tokenizer: &Tokenizer, id| {
            (tokenizer.token(id).map(str::to_owned), tokenizer.token_bytes(id).into_owned())
        };
        let differs = |id: &u32| meaning(&self.tokenizer, *id) != meaning(student, *id);
        let problem = if let Some(id) = (0..n_both as u32).find(differs) {
            let [its, ours] = [&self.tokenizer, student].map(|t| t.token(id).unwrap_or_default());
            format!("its token {id} is {its:?} and the student's is {ours:?}")
        } else if self.vocab_len() != student.vocab_len() {
            let (its, ours) = (self.vocab_len(), student.vocab_len());
            let next = [&self.tokenizer, student].iter().find_map(|t| t.token(n_both as u32));
            let next = next.map_or(String::new(), |token| format!(", beginning with {token:?}"));
            format!("it has {its} tokens and the student {ours}{next}; the others agree")
        } else {
            return Ok(());
        };
        Err(TeacherError::Vocabulary { path: self.path.display().to_string(), problem })
    }

    /// The logits after every token of every window, each of which begins a sequence of its own:
    /// `[n_windows, window_len, vocab_len]`. The windows are of one length.
    ///
    /// # Errors
    /// When a window is longer than the teacher's context or has a token outside its vocabulary,
    /// or a logit is no number.
    pub fn logits(&mut self, windows: &[&[u32]]) -> Result<Vec<f32>, TeacherError> {
        let window_len = windows.first().map_or(0, |w| w.len());
        assert!(windows.iter().all(|w| w.len() == window_len), "windows are of one length");
        self.check_window(window_len)?;
        let n_values = window_len * self.vocab_len();
        let mut all = vec![0.0; windows.len() * n_values];
        if n_values == 0 {
            return Ok(all);
        }
        for (window, out) in windows.iter().zip(all.chunks_exact_mut(n_values)) {
            self.one(window)?.convert_to_f32_slice(out);
        }
        Ok(all)
    }

    /// What was computed and what was not.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// What did not go as it should since the last call, as sentences for the user: damaged
    /// entries, a cache that cannot be written.
    pub fn take_reports(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reports)
    }

    fn check_window(&self, window_len: usize) -> Result<(), TeacherError> {
        if window_len <= self.context_len {
            return Ok(());
        }
        Err(self.refused(format!(
            "it was made for {} tokens at once and cannot take windows of {window_len}; train \
             with shorter windows, or choose another teacher",
            self.context_len
        )))
    }

    fn refused(&self, problem: String) -> TeacherError {
        TeacherError::Window { path: self.path.display().to_string(), problem }
    }

    /// One window's logits, from the cache or computed and put there.
    fn one(&mut self, window: &[u32]) -> Result<Vec<f16>, TeacherError> {
        let key = self.key(window);
        match self.store.get(&key, window.len() * self.vocab_len()) {
            Found::Whole(values) => {
                self.statistics.n_hits += 1;
                self.statistics.bytes_read += store::entry_bytes(values.len());
                return Ok(values);
            }
            Found::Damaged(problem) => {
                self.statistics.n_damaged += 1;
                self.reports.push(format!("{problem}; it is computed again"));
            }
            Found::Missing => {}
        }
        self.statistics.n_misses += 1;
        let values = self.compute(window)?;
        match self.store.put(&key, &values) {
            Ok(true) => self.statistics.bytes_written += store::entry_bytes(values.len()),
            Ok(false) => self.statistics.n_not_kept += 1,
            Err(problem) => {
                self.statistics.n_not_kept += 1;
                self.reports.push(format!("the teacher's logits are not kept: {problem}"));
                self.store.stop_writing();
            }
        }
        Ok(values)
    }

    fn compute(&mut self, window: &[u32]) -> Result<Vec<f16>, TeacherError> {
        let vocab_len = self.vocab_len();
        let mut values = vec![f16::ZERO; window.len() * vocab_len];
        let n_rows = (MAX_LOGITS / vocab_len).max(1);
        let sequence = self.runner.new_sequence();
        let pieces = window.chunks(n_rows).zip(values.chunks_mut(n_rows * vocab_len));
        let mut outcome = Ok(());
        for (tokens, out) in pieces {
            let chunk = Chunk { sequence, tokens, logits: Logits::All };
            match self.runner.forward(&[chunk]) {
                Ok(logits) => out.convert_from_f32_slice(logits),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.runner.free(sequence)?;
        outcome?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(self.refused(format!(
                "its logit of token {} after token {} of a window is no number that half \
                 precision can hold; the model is damaged",
                at % vocab_len,
                at / vocab_len
            ))),
        }
    }

    /// What a window's entry is called.
    fn key(&self, window: &[u32]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(self.identity.as_bytes());
        hasher.update(bytemuck::cast_slice(window));
        hasher.finalize()
    }
}

/// What changes when the logits may: the weights, what the graph does with them, and how exactly
/// keys and values are kept.
fn identity(model: &Model) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(content_hash(&model.graph, model).as_bytes());
    hasher.update(format!("{} {:?} kv f32", model.arch.name(), model.config).as_bytes());
    hasher.finalize()
}
