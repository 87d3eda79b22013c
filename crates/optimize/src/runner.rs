//! The real engine: models run by the runtime, as they will be for users.

use crate::engine::{Engine, Loaded, See, Timed};
use crate::error::{OptimizeError, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sterna_measure::clock::RealClock;
use sterna_measure::quality::logits::argmax;
use sterna_measure::{Clock, LanguageModel};
use sterna_model::{Graph, WeightSource};
use sterna_runtime::flags::{FLAGS, Flags};
use sterna_runtime::profile::Detail;
use sterna_runtime::{
    Chunk, KvEncoding, Logits, Means, Program, Runner, RuntimeError, SequenceId, Settings,
};

/// Logits that one call hands over at most: 64 MiB of floats.
const MAX_LOGITS: usize = 16 << 20;
/// Rows that one call hands over at most.
const MAX_ROWS: usize = 512;
/// Memory that scorers of one worker each may take together besides the weights. Larger models
/// have longer steps, on which a team is as good, and it needs the memory once.
const MAX_SCORERS_BYTES: usize = 256 << 20;

/// Optimizations that one sequence of a model in memory shows, and that Plans may switch off: not
/// those of several sequences, of weights still on the disk, of numbers, or of what was tuned.
pub const MEASURED: [&str; 2] = ["ultra_fusion", "memory_pooling"];

/// Rows whose values are all kept at once while they are looked at.
const OBSERVED_ROWS: usize = 128;
/// The same where memory is short.
const OBSERVED_ROWS_ASIDE: usize = 64;

/// Runs models with the runtime, all with the same settings.
#[derive(Debug, Clone)]
pub struct RuntimeEngine {
    settings: Settings,
    isa: &'static str,
    stop: Option<&'static AtomicBool>,
    /// The folder for files that weights are read from as steps need them.
    aside: Option<PathBuf>,
}

impl RuntimeEngine {
    /// An engine; `settings.context_len` bounds the documents that can be measured.
    ///
    /// # Errors
    /// When the CPU lacks the ISA, or a number is zero.
    pub fn new(settings: Settings) -> Result<Self> {
        let bad = |error: RuntimeError| OptimizeError::Input(error.to_string());
        settings.check().map_err(bad)?;
        let isa = settings.level().map_err(bad)?.name();
        Ok(Self { settings, isa, stop: None, aside: None })
    }

    /// Has models fail when this is set, so that Ctrl-C takes effect within a long text.
    #[must_use]
    pub fn stopped_by(self, stop: &'static AtomicBool) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Has no model's weights be in memory as a whole: they are read from files of that folder as
    /// steps need them. Numbers stay what they are; times say little then.
    #[must_use]
    pub fn aside(self, folder: PathBuf) -> Self {
        Self { aside: Some(folder), ..self }
    }

    /// The same with keys and values kept otherwise.
    ///
    /// # Errors
    /// When there is no such encoding.
    pub fn keeping(&self, kv: &str) -> Result<Self> {
        let settings = Settings { kv: kv_encoding(kv)?, ..self.settings.clone() };
        Ok(Self { settings, ..self.clone() })
    }

    /// The same with some optimizations off.
    ///
    /// # Errors
    /// When there is no such optimization.
    pub fn less(&self, names: &[String]) -> Result<Self> {
        if let Some(name) = names.iter().find(|name| !MEASURED.contains(&name.as_str())) {
            let known = MEASURED.join(", ");
            let why = format!("{name:?} is no optimization that a Plan switches off; {known} are");
            return Err(OptimizeError::Input(why));
        }
        let settings = Flags::without(&self.settings, names.iter().map(String::as_str));
        Ok(Self { settings: settings.map_err(OptimizeError::Input)?, ..self.clone() })
    }

    /// A runner of its own for a model.
    fn runner(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        settings: &Settings,
        doing: &'static str,
    ) -> Result<Runner> {
        let means = Means { aside: self.aside.as_deref(), ..Means::default() };
        let program = Program::compile_with(graph, weights, settings, means);
        let runner = program.and_then(|program| Runner::new(Arc::new(program)));
        runner.map_err(|error| OptimizeError::failed(doing, error))
    }
}

impl Engine for RuntimeEngine {
    fn load(&self, graph: &Graph, weights: &dyn WeightSource) -> Result<Box<dyn Loaded>> {
        let runner = self.runner(graph, weights, &self.settings, "preparing the model")?;
        Ok(Box::new(Running { stop: self.stop, ..Running::new(runner) }))
    }

    fn observe(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        documents: &[&[u32]],
        see: See<'_>,
        told: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        // An encoder reads a document at once.
        let (logits, max_batch_rows) = match graph.is_encoder() {
            true => (Logits::AllHidden, self.settings.context_len),
            false => {
                let most = if self.aside.is_some() { OBSERVED_ROWS_ASIDE } else { OBSERVED_ROWS };
                (Logits::All, self.settings.max_batch_rows.min(most))
            }
        };
        let settings =
            Settings { fuse: false, pool: false, max_batch_rows, ..self.settings.clone() };
        let doing = "running the model";
        let failed = |error| OptimizeError::failed(doing, error);
        let mut runner = self.runner(graph, weights, &settings, doing)?;
        for (n_before, document) in documents.iter().enumerate() {
            let sequence = runner.new_sequence();
            for tokens in document.chunks(max_batch_rows) {
                let chunk = Chunk { sequence, tokens, logits };
                runner.forward(&[chunk]).map_err(failed)?;
                for (matrices, len, rows) in runner.linear_inputs() {
                    see(matrices, len, rows);
                }
            }
            runner.free(sequence).map_err(failed)?;
            told(n_before + 1)?;
        }
        Ok(())
    }

    fn optimizations(&self) -> Vec<String> {
        let flags = Flags::of(&self.settings);
        let is_measured = |name| MEASURED.contains(&name);
        let on = FLAGS.iter().filter(|flag| is_measured(flag.name) && (flag.get)(&flags));
        on.map(|flag| flag.name.to_owned()).collect()
    }

    fn without(&self, names: &[String]) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.less(names)?))
    }

    fn kv(&self) -> String {
        self.settings.kv.name().to_uppercase()
    }

    fn with_kv(&self, kv: &str) -> Result<Box<dyn Engine>> {
        Ok(Box::new(self.keeping(kv)?))
    }

    fn context_len(&self) -> usize {
        self.settings.context_len
    }

    fn n_threads(&self) -> usize {
        self.settings.n_workers()
    }

    fn choices(&self) -> String {
        let hash = blake3::hash(format!("{:?}", self.settings).as_bytes());
        hash.to_hex()[..16].to_owned()
    }

    fn isa(&self) -> String {
        self.isa.to_owned()
    }
}

/// A model in a runner, one sequence at a time; or where it is small, several in runners of one
/// worker each.
pub struct Running {
    runner: Runner,
    vocab_len: usize,
    /// Made when first asked for.
    scorers: Vec<Running>,
    /// Texts are left unfinished when it is set.
    stop: Option<&'static AtomicBool>,
}

impl Running {
    /// Over a runner of its own.
    pub fn new(runner: Runner) -> Self {
        let vocab_len = runner.program().n_outputs();
        Self { runner, vocab_len, scorers: Vec::new(), stop: None }
    }

    /// The runner, to extend sequences of one's own.
    pub fn runner(&mut self) -> &mut Runner {
        &mut self.runner
    }

    /// Runs `work` on a fresh sequence, which ends whatever comes of it.
    fn with_sequence(
        &mut self,
        work: impl FnOnce(&mut Runner, SequenceId) -> std::result::Result<(), RuntimeError>,
    ) -> std::result::Result<(), String> {
        let sequence = self.runner.new_sequence();
        let outcome = work(&mut self.runner, sequence);
        let freed = self.runner.free(sequence);
        outcome.and(freed).map_err(|error| error.to_string())
    }
}

impl LanguageModel for Running {
    fn vocab_len(&self) -> usize {
        self.vocab_len
    }

    fn context_len(&self) -> usize {
        self.runner.program().settings().context_len
    }

    fn score(
        &mut self,
        tokens: &[u32],
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> std::result::Result<(), String> {
        let vocab_len = self.vocab_len;
        let n_rows = (MAX_LOGITS / vocab_len.max(1)).clamp(1, MAX_ROWS);
        let stop = self.stop;
        self.with_sequence(|runner, sequence| {
            for (piece, tokens) in tokens.chunks(n_rows).enumerate() {
                if is_set(stop) {
                    return Err(RuntimeError::Stopped);
                }
                let chunk = Chunk { sequence, tokens, logits: Logits::All };
                let logits = runner.forward(&[chunk])?;
                for (row, logits) in logits.chunks_exact(vocab_len).enumerate() {
                    sink(piece * n_rows + row, logits);
                }
            }
            Ok(())
        })
    }

    fn at_once(&mut self) -> Vec<&mut (dyn LanguageModel + Send)> {
        let program = self.runner.program();
        // Each would wait for the same weights, and let go of what another one reads.
        if program.is_passing() {
            return Vec::new();
        }
        let memory = program.memory();
        let each = memory.total() - memory.weights + MAX_ROWS * self.vocab_len * size_of::<f32>();
        let n_workers = program.n_workers();
        if n_workers > 1 && n_workers * each <= MAX_SCORERS_BYTES && self.scorers.is_empty() {
            let stop = self.stop;
            let alone = |_| {
                let runner = Runner::with_workers(program.clone(), 1)?;
                Ok::<_, RuntimeError>(Running { stop, ..Running::new(runner) })
            };
            // Where memory or threads run out, the team does it.
            let all: std::result::Result<Vec<_>, _> = (0..n_workers).map(alone).collect();
            self.scorers = all.unwrap_or_default();
        }
        self.scorers.iter_mut().map(|scorer| scorer as _).collect()
    }
}

impl Loaded for Running {
    fn generate(
        &mut self,
        prompt: &[u32],
        n: usize,
        on_token: &mut dyn FnMut(),
    ) -> std::result::Result<(), String> {
        let stop = self.stop;
        self.with_sequence(|runner, sequence| {
            let mut next = Vec::new();
            for _ in 0..n {
                if is_set(stop) {
                    return Err(RuntimeError::Stopped);
                }
                let tokens = if next.is_empty() { prompt } else { &next };
                let chunk = Chunk { sequence, tokens, logits: Logits::Last };
                next = vec![argmax(runner.forward(&[chunk])?) as u32];
                on_token();
            }
            Ok(())
        })
    }

    fn profile(&mut self, prompt: &[u32], n: usize) -> std::result::Result<Option<Timed>, String> {
        let (clock, steps) = (RealClock::new(), RealClock::new());
        let mut timed = Timed::default();
        self.with_sequence(|runner, sequence| {
            let chunk = Chunk { sequence, tokens: prompt, logits: Logits::Last };
            let mut next = argmax(runner.forward(&[chunk])?) as u32;
            runner.start_profile(Box::new(move || steps.now()), Detail::Sums);
            for _ in 0..n {
                let start = clock.now();
                let chunk = Chunk { sequence, tokens: &[next], logits: Logits::Last };
                next = argmax(runner.forward(&[chunk])?) as u32;
                timed.tokens.push(clock.now() - start);
            }
            timed.steps = steps_of(runner);
            Ok(())
        })?;
        Ok(Some(timed))
    }

    fn profile_prompt(&mut self, prompt: &[u32]) -> std::result::Result<Option<Timed>, String> {
        let (clock, steps) = (RealClock::new(), RealClock::new());
        let mut timed = Timed::default();
        self.with_sequence(|runner, sequence| {
            runner.start_profile(Box::new(move || steps.now()), Detail::Sums);
            let start = clock.now();
            let chunk = Chunk { sequence, tokens: prompt, logits: Logits::Last };
            let outcome = runner.forward(&[chunk]).map(argmax);
            timed.tokens.push(clock.now() - start);
            timed.steps = steps_of(runner);
            outcome.map(|_| ())
        })?;
        Ok(Some(timed))
    }
}

/// An encoding of keys and values by a Plan's name for it.
///
/// # Errors
/// When there is none.
pub fn kv_encoding(name: &str) -> Result<KvEncoding> {
    let known = KvEncoding::by_name(&name.to_lowercase());
    known.ok_or_else(|| OptimizeError::Input(format!("{name} is no encoding of keys and values")))
}

/// Whether somebody wants models to stop.
fn is_set(stop: Option<&AtomicBool>) -> bool {
    stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// Ends a profile: times by the name of the node that a step belongs to.
fn steps_of(runner: &mut Runner) -> Vec<(String, Duration)> {
    let steps = runner.end_profile().steps.into_iter();
    steps.map(|step| (step.name, step.time)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_model;

    #[test]
    fn a_model_stops_within_a_text_and_between_tokens() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let settings = Settings { threads: Some(1), context_len: 64, ..Settings::default() };
        let engine = RuntimeEngine::new(settings).unwrap().stopped_by(&STOP);
        let tiny = tiny_model(3);
        let mut model = engine.load(&tiny.graph, &tiny).unwrap();
        let mut n_tokens = 0;
        let outcome = model.generate(&[1, 2], 20, &mut || {
            n_tokens += 1;
            STOP.store(n_tokens == 3, Ordering::Relaxed);
        });
        assert!(outcome.is_err() && n_tokens == 3, "{outcome:?} after {n_tokens}");
        let mut n_rows = 0;
        assert!(model.score(&[1, 2, 3], &mut |_, _| n_rows += 1).is_err() && n_rows == 0);
        STOP.store(false, Ordering::Relaxed);
        assert!(model.score(&[1, 2, 3], &mut |_, _| n_rows += 1).is_ok() && n_rows == 3);
    }
}
