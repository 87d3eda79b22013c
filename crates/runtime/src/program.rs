//! A program: a graph compiled for this machine, shared by all runners of the model.

use crate::cache::{Cache, Image, Packed, aside, load_or_pack};
use crate::lower::{Lowered, lower};
use crate::pack::{Form, Packing, Progress};
use crate::precision::{Adaptive, Choice};
use crate::{RuntimeError, Settings};
use std::path::Path;
use std::sync::Arc;
use sterna_kernels::{Level, Line};
use sterna_model::rewrites::{REWRITES, rewritten};
use sterna_model::{Graph, WeightSource};

/// A compiled graph with its packed weights.
pub struct Program {
    pub(crate) lowered: Lowered,
    pub(crate) settings: Settings,
    pub(crate) level: Level,
    pub(crate) n_workers: usize,
    pub(crate) scratch_lines: usize,
    weights: Arc<Image>,
    warnings: Vec<String>,
    notes: Vec<String>,
    choices: Vec<Choice>,
}

/// What compiling may use besides the model.
#[derive(Clone, Copy, Default)]
pub struct Means<'a> {
    /// A file that keeps the packed weights for the next time.
    pub cache: Option<&'a Cache>,
    /// Told how far packing is; not called where nothing is packed.
    pub progress: Option<&'a Progress<'a>>,
    /// Another program of the same weights: where both pack them alike, they share them.
    pub twin: Option<&'a Program>,
    /// A folder for a file that weights are read from as steps need them, instead of all else: the
    /// program takes the memory of its largest weights then, and more time.
    pub aside: Option<&'a Path>,
}

/// The bytes of a program and one runner of it, all planned before the first token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Packed weights.
    pub weights: usize,
    /// Rotation tables.
    pub tables: usize,
    /// Values between steps.
    pub arena: usize,
    /// The workers' own scratch.
    pub scratch: usize,
    /// Pages of keys and values; resident only once used.
    pub kv: usize,
    /// Logits, and states before the head, that calls may ask for without more memory; resident
    /// only once used.
    pub logits: usize,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> usize {
        self.weights + self.tables + self.arena + self.scratch + self.kv + self.logits
    }
}

impl Program {
    /// Compiles a graph: rewrites, lowers, packs. `cache` is a file that keeps the packed weights
    /// for the next time.
    ///
    /// # Errors
    /// When a setting, an op, a weight or memory does not fit.
    pub fn compile(
        graph: &Graph,
        source: &dyn WeightSource,
        settings: &Settings,
        cache: Option<&Cache>,
    ) -> Result<Self, RuntimeError> {
        Self::compile_with(graph, source, settings, Means { cache, ..Means::default() })
    }

    /// The same with more means.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile_with(
        graph: &Graph,
        source: &dyn WeightSource,
        settings: &Settings,
        means: Means<'_>,
    ) -> Result<Self, RuntimeError> {
        let level = settings.level()?;
        let graph = &prepared(graph, settings)?;
        let adaptive = settings.precision_budget.map(|b| Adaptive::choose(graph, source, b));
        let source = adaptive.as_ref().map_or(source, |adaptive| adaptive);
        let lowered = lower(graph, source, settings)?;
        let (weights, warning, note) = weights(&lowered, source, settings, means)?;
        let has_bf16 = lowered.layout.sections.iter().any(|s| s.form == Form::PackedBf16);
        let idle = (settings.bf16_dot && !has_bf16)
            .then(|| "bf16 dots change nothing: no matrix of this model is BF16".to_owned());
        Ok(Self {
            scratch_lines: scratch_lines(&lowered, settings),
            lowered,
            settings: settings.clone(),
            level,
            n_workers: settings.n_workers(),
            weights,
            warnings: warning.into_iter().chain(idle).collect(),
            notes: note.into_iter().collect(),
            choices: adaptive.map(|adaptive| adaptive.choices()).unwrap_or_default(),
        })
    }

    /// The settings it was compiled with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The ISA it runs on.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Workers of each runner's team.
    pub fn n_workers(&self) -> usize {
        self.n_workers
    }

    /// Logits per row; an encoder has none.
    pub fn n_outputs(&self) -> usize {
        self.lowered.n_logits
    }

    /// Whether it reads texts and writes none: a text is one chunk then, and has states only.
    pub fn is_encoder(&self) -> bool {
        self.lowered.is_encoder()
    }

    /// Features of the states before the head, where they are kept.
    pub fn hidden_len(&self) -> Option<usize> {
        self.lowered.hidden.map(|hidden| hidden.len)
    }

    /// Lines of the logits that a runner begins with.
    pub(crate) fn logits_lines(&self) -> usize {
        logits_lines(&self.settings, &self.lowered)
    }

    /// Lines of the states before the head that it begins with.
    pub(crate) fn hidden_lines(&self) -> usize {
        hidden_lines(&self.lowered, &self.settings)
    }

    /// Entries of the vocabulary that tokens come from.
    pub fn vocabulary(&self) -> usize {
        self.lowered.vocabulary
    }

    /// The steps, for people: name, kind and the rows each runs on.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.lowered.steps.iter().map(|s| (s.name.as_str(), s.step.kind()))
    }

    /// Whether the packed weights are a file that other processes share.
    pub fn is_shared(&self) -> bool {
        self.weights.is_shared()
    }

    /// Whether weights are in memory only while a step reads them.
    pub fn is_passing(&self) -> bool {
        self.weights.is_passing()
    }

    /// The file of the cache that the packed weights were loaded from.
    pub fn cache_file(&self) -> Option<&std::path::Path> {
        self.weights.path()
    }

    /// What did not go as asked, as sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What was found and mended on the way, as sentences.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What adaptive precision measured and chose; empty where it is off.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The bytes of this program and one runner.
    pub fn memory(&self) -> Memory {
        memory(&self.lowered, &self.settings)
    }

    /// The bytes that a program of this graph and one runner of it would take. No weight is read
    /// for it, unless adaptive precision has to look at them.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn memory_of(
        graph: &Graph,
        source: &dyn WeightSource,
        settings: &Settings,
    ) -> Result<Memory, RuntimeError> {
        let graph = &prepared(graph, settings)?;
        let adaptive = settings.precision_budget.map(|b| Adaptive::choose(graph, source, b));
        let source = adaptive.as_ref().map_or(source, |adaptive| adaptive);
        Ok(memory(&lower(graph, source, settings)?, settings))
    }

    pub(crate) fn weights(&self) -> &[Line] {
        self.weights.lines()
    }

    pub(crate) fn image(&self) -> &Image {
        &self.weights
    }
}

/// The graph as it is lowered, for settings that can be.
fn prepared(graph: &Graph, settings: &Settings) -> Result<Graph, RuntimeError> {
    settings.check()?;
    if !settings.fuse {
        return Ok(graph.clone());
    }
    let names = REWRITES.iter().map(|rewrite| rewrite.name());
    rewritten(graph, names).map_err(RuntimeError::Rewrite)
}

/// Lines of scratch of each worker. A spare one keeps a worker's last line and the next one's first
/// apart.
fn scratch_lines(lowered: &Lowered, settings: &Settings) -> usize {
    let (rows, context_len) = (settings.max_batch_rows, settings.context_len);
    let lines = lowered.steps.iter().map(|s| s.step.scratch_lines(rows, context_len));
    lines.max().unwrap_or(0) + 2
}

fn memory(lowered: &Lowered, settings: &Settings) -> Memory {
    let lines = |n: usize| n * size_of::<Line>();
    let tables = lowered.tables.iter().map(|t| (t.cos.len() + t.sin.len()) * 4).sum();
    Memory {
        weights: lowered.layout.bytes(),
        tables,
        arena: lines(lowered.arena_len.div_ceil(16)),
        scratch: lines(scratch_lines(lowered, settings) * settings.n_workers()),
        kv: lines(settings.n_pages() * lowered.kv.page_lines),
        logits: lines(logits_lines(settings, lowered) + hidden_lines(lowered, settings)),
    }
}

/// Lines of the logits that calls are planned to ask for.
fn logits_lines(settings: &Settings, lowered: &Lowered) -> usize {
    (lowered.n_logits * settings.logits_rows).div_ceil(16)
}

/// Lines of the states before the head: a batch may want those of all rows.
fn hidden_lines(lowered: &Lowered, settings: &Settings) -> usize {
    lowered.hidden.map_or(0, |hidden| (hidden.len * settings.max_batch_rows).div_ceil(16))
}

/// The packed weights, with a warning and a note.
type Weights = (Arc<Image>, Option<String>, Option<String>);

/// The packed weights of a lowered graph: the twin's, the cache's, or new ones, perhaps aside.
fn weights(
    lowered: &Lowered,
    source: &dyn WeightSource,
    settings: &Settings,
    means: Means<'_>,
) -> Result<Weights, RuntimeError> {
    let job = Packing {
        layout: &lowered.layout,
        source,
        n_workers: settings.n_workers(),
        progress: means.progress.unwrap_or(&|_, _| {}),
    };
    if let Some(folder) = means.aside {
        return Ok((Arc::new(aside::pack(folder, &job)?), None, None));
    }
    if let Some(twin) = means.twin
        && twin.lowered.layout.is_like(&lowered.layout)
        && !(settings.own_weights && twin.weights.is_shared())
    {
        return Ok((twin.weights.clone(), None, None));
    }
    let Packed { image, warning, note } = load_or_pack(means.cache, &job)?;
    let image = if settings.own_weights { image.into_own()? } else { image };
    Ok((Arc::new(image), warning, note))
}
